"""Work over many files: which inputs give which outputs, done by several workers, each file whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jnd_jax.errors import JndError

# What one file may fail with, while the others are done.
FAILURES = (JndError, OSError, MemoryError)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return "not enough memory" if isinstance(error, MemoryError) else str(error)


def complain(what: str, error: BaseException) -> None:
    print(*filter(None, ("jnd-jax", what, _reason(error))), sep=": ", file=sys.stderr, flush=True)


def find(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files below a folder that have one of the suffixes, in order; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _sources(inputs: Sequence[str], suffixes: Sequence[str]) -> list[tuple[Path, Path]]:
    """The input files, each with its path relative to the folder it was found in."""
    found = []
    for path in map(Path, inputs):
        if not path.is_dir():
            found.append((path, Path(path.name)))
            continue
        inside = find(path, suffixes)
        if not inside:
            raise JndError(f"Give a folder with files of the suffixes {', '.join(suffixes)}: {path} holds none.")
        found += [(file, file.relative_to(path)) for file in inside]
    return found


def plan(
    inputs: Sequence[str], output: str, sources: Sequence[str], targets: Sequence[str], suffix: str
) -> list[tuple[Path, Path]]:
    """Pairs of input and output file.

    One file goes to `output` itself, several and folders into the folder `output`, with `suffix`; files that
    differ in nothing but their suffix keep it ("a.png.jnd").
    """
    folder = Path(output)
    named = folder.suffix.lower() in targets and not folder.is_dir()
    several = len(inputs) > 1 or Path(inputs[0]).is_dir()
    if not (several or folder.is_dir() or output.endswith(("/", os.sep))):
        if not named:
            raise JndError(
                f"Name the output with one of the suffixes {', '.join(targets)}, or a folder that "
                f"exists, not {output!r}."
            )
        return [(Path(inputs[0]), folder)]
    if named:
        raise JndError(f"Give a folder for the output of several files, not {output!r}.")
    files = _sources(inputs, sources)
    count = Counter(relative.with_suffix("") for _, relative in files)
    return [
        (
            source,
            folder
            / (
                relative.with_suffix(suffix)
                if count[relative.with_suffix("")] == 1
                else relative.with_name(relative.name + suffix)
            ),
        )
        for source, relative in files
    ]


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each file; draws a bar on a terminal for more than one file."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def each(pairs: Sequence[tuple[Path, Path]], work: Callable[[Path, Path], str], workers: int = 1) -> int:
    """Does all files, `workers` at once, prints what `work` says of each, reports failures; the exit status."""
    from jnd_jax.devices import spread

    first = {target: source for source, target in reversed(pairs)}

    def attempt(pair: tuple[Path, Path]) -> str | Exception:
        source, target = pair
        try:
            if first[target] is not source:
                raise JndError(f"Rename it: {target} is for another input of that name.")
            return work(source, target)
        except FAILURES as error:
            return error

    failed = 0
    with _progress(len(pairs)) as advance:
        for (source, _), outcome in zip(pairs, spread(attempt, pairs, workers)):
            if isinstance(outcome, Exception):
                complain(str(source), outcome)
                failed += 1
            else:
                print(outcome, flush=True)
            advance()
    if failed and len(pairs) > 1:
        print(f"jnd-jax: {failed} of {len(pairs)} files failed", file=sys.stderr)
    return 2 if failed else 0


def workers_argument(parser: argparse.ArgumentParser) -> None:
    """--workers, of the commands that use `each`."""
    parser.add_argument(
        "--workers",
        type=_count,
        default=2,
        metavar="N",
        help="files at once; one for each GPU or two cores is a good number (default: %(default)s)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"give a number of 1 or more, not {text!r}")
    return int(text)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file, all of it or nothing, in a folder that is made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
