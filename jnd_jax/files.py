"""Work over many files: which inputs give which outputs, done by several workers, each file whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from jnd_jax.arguments import at_least
from jnd_jax.errors import JndError

# What one file may fail with, while the others are done.
FAILURES = (JndError, OSError, MemoryError)


# How "-" stands in a plan; as an argument "./-" is a file of that name.
STDIN, STDOUT = Path("/dev/stdin"), Path("/dev/stdout")


def _line(text: str) -> str:
    """One line, of which a terminal obeys nothing: names may hold line ends and escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return "Not enough memory." if isinstance(error, MemoryError) else str(error)


def complain(what: str, error: BaseException) -> None:
    """Prints the one line on stderr that says what failed, and why."""
    print(_line(": ".join(filter(None, ("jnd-jax", what, _reason(error))))), file=sys.stderr, flush=True)


def warn(what: str, clauses: Sequence[str]) -> None:
    """Prints a line on stderr for each thing that was left out."""
    for clause in clauses:
        print(_line(f"jnd-jax: {what}: warning: {clause}"), file=sys.stderr, flush=True)


def cache_folder() -> Path | None:
    """Where results that can be made again are kept; None without a home that can be written."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    folder = Path(base) / "jnd_jax"
    if not folder.is_absolute():
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _inside(folder: Path) -> Iterator[Path]:
    """All below a folder that is not hidden, but for its folders. OSError for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise error

    found = list[Path]()
    for parent, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        found += [Path(parent, name) for name in (*names, *links) if not name.startswith(".")]
    return iter(sorted(found))


def _is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark: most files of clinical media have no suffix."""
    from jnd_jax.formats import dicom

    try:
        with path.open("rb") as file:
            return dicom.matches(file.read(132))
    except OSError:
        return False


def find(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files below a folder that have one of the suffixes, in order, and where .dcm is one, DICOM files of any name.

    Hidden ones are left out.
    """
    is_one = lambda path: path.suffix.lower() in suffixes or (".dcm" in suffixes and _is_dicom(path))
    return [path for path in _inside(folder) if path.is_file() and is_one(path)]


def skipped(inputs: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """What a plan leaves out of input folders: files of other suffixes, pipes, links to folders or to nothing."""
    folders = [Path(path) for path in inputs if path and Path(path).is_dir()]
    return [path for folder in folders for path in sorted({*_inside(folder)} - {*find(folder, suffixes)})]


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


def _folded(path: Path) -> str:
    """What paths have in common that some file systems take for one."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _is_special(path: Path) -> bool:
    """Whether a path is a pipe, a device or the like."""
    return path in (STDIN, STDOUT) or (path.exists() and not path.is_file() and not path.is_dir())


def plan(
    inputs: Sequence[str], output: str, sources: Sequence[str], targets: Sequence[str], suffix: str
) -> list[tuple[Path, Path]]:
    """Pairs of input and output file.

    One file goes to `output` itself, several and folders into the folder `output`, with `suffix`; files that
    differ in nothing but their suffix, or in case, keep it ("a.png.jnd"). "-" is standard input or output.

    Raises:
        JndError: names that fit no plan.
    """
    if not output or not all(inputs):
        raise JndError("A name is empty: name every input and the output.")
    several = len(inputs) > 1 or (inputs[0] != "-" and Path(inputs[0]).is_dir())
    if "-" in inputs and several:
        raise JndError("Standard input is one file: give no others beside -.")
    source = STDIN if inputs[0] == "-" else Path(inputs[0])
    folder = Path(output)
    if output == "-" or _is_special(folder):
        if several:
            raise JndError(f"Several files do not go into {output}: give a folder.")
        return [(source, STDOUT if output == "-" else folder)]
    named = folder.suffix.lower() in targets and not folder.is_dir()
    if not (several or folder.is_dir() or output.endswith(("/", os.sep))):
        if not named:
            raise JndError(
                f"Name the output with one of the suffixes {', '.join(targets)}, or a folder that "
                f"exists, not {output!r}."
            )
        return [(source, folder)]
    if named:
        raise JndError(f"Give a folder for the output of several files, not {output!r}.")
    if source == STDIN:
        raise JndError("Standard input has no name: name the output file.")
    files = _sources(inputs, sources)
    count = Counter(_folded(relative.with_suffix("")) for _, relative in files)

    def target(relative: Path) -> Path:
        alone = count[_folded(relative.with_suffix(""))] == 1
        return folder / (relative.with_suffix(suffix) if alone else relative.with_name(relative.name + suffix))

    return [(source, target(relative)) for source, relative in files]


def taken(pairs: Sequence[tuple[Path, Path]]) -> set[Path]:
    """The outputs of a plan that are there already, perhaps in another case."""
    there: dict[Path, set[str]] = {}
    pairs = [pair for pair in pairs if not _is_special(pair[1])]
    for _, target in pairs:
        if target.parent not in there:
            names = os.listdir(target.parent) if target.parent.is_dir() else ()
            there[target.parent] = {_folded(Path(name)) for name in names}
    return {target for _, target in pairs if _folded(Path(target.name)) in there[target.parent]}


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


def each(
    pairs: Sequence[tuple[Path, Path]],
    work: Callable[[Path, Path], str],
    workers: int = 1,
    *,
    skipped: Sequence[Path] = (),
    kept: Sequence[Path] = (),
) -> int:
    """Process all pairs with `workers` threads, print one line per file, and report failures.

    Args:
        pairs: input and output files.
        work: does one pair, and returns a line about it; raises one of `FAILURES`.
        workers: pairs at once.
        skipped: files that were left out, to be named.
        kept: outputs of further pairs, which are there already, to be counted.

    Returns:
        The exit status: 0, 1 where files were skipped or kept, 2 where files failed.
    """
    from jnd_jax.devices import spread

    first = {_folded(target): source for source, target in reversed(pairs)}

    def attempt(pair: tuple[Path, Path]) -> str | BaseException:
        source, target = pair
        try:
            if first[_folded(target)] is not source:
                raise JndError(f"Rename it: {target} is for another input of that name.")
            return work(source, target)
        except FAILURES as error:
            return error

    failed = 0
    with _progress(len(pairs)) as advance:
        for (source, target), outcome in zip(pairs, spread(attempt, pairs, workers)):
            if isinstance(outcome, BaseException):
                complain(str(source), outcome)
                failed += 1
            else:
                print(_line(outcome), flush=True, file=sys.stderr if target == STDOUT else None)
            advance()
    for path in skipped:
        warn(str(path), ["it is of another kind, and is skipped"])
    if len(skipped) > 1:
        print(f"jnd-jax: {len(skipped)} files skipped", file=sys.stderr)
    if kept:
        which = str(kept[0]) if len(kept) == 1 else f"{len(kept)} outputs ({kept[0]} and so on)"
        warn(which, [f"there already, and kept: give --overwrite to replace {'it' if len(kept) == 1 else 'them'}"])
    if failed and len(pairs) > 1:
        print(f"jnd-jax: {failed} of {len(pairs)} files failed", file=sys.stderr)
    return 2 if failed else int(bool(skipped or kept))


def each_of(
    args: argparse.Namespace,
    pairs: Sequence[tuple[Path, Path]],
    work: Callable[[Path, Path], tuple[bytes, str]],
    suffixes: Sequence[str],
    workers: int = 1,
) -> int:
    """`each` for a command's inputs, output and `--overwrite`: an output of its own name may be replaced, one in a folder only
    if asked. `work` returns what to write, and the line. What input folders hold of other suffixes is named.
    """
    replace = args.overwrite or (len(pairs) == 1 and Path(args.output) == pairs[0][1])
    there = set() if replace else taken(pairs)

    def written(source: Path, target: Path) -> str:
        data, line = work(source, target)
        write_bytes(target, data, replace=replace)
        return line

    return each(
        [pair for pair in pairs if pair[1] not in there],
        written,
        workers,
        skipped=skipped(args.inputs, suffixes),
        kept=sorted(there),
    )


def overwrite_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--overwrite` of commands that write into folders, see `each_of`."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that the output folder holds already")


def workers_argument(parser: argparse.ArgumentParser) -> None:
    """--workers, of the commands that use `each`."""
    parser.add_argument(
        "--workers",
        type=at_least(1),
        default=2,
        metavar="N",
        help="files at once; one for each GPU or two cores is a good number (default: %(default)s)",
    )


def read_bytes(path: str | Path) -> bytes:
    """What a file, a pipe, or standard input (`STDIN`) holds; raises JndError if the latter is closed."""
    return _open(sys.stdin, "input").read() if path == STDIN else Path(path).read_bytes()


def _open(stream: TextIO | None, name: str) -> BinaryIO:
    """A standard stream in binary; Python has None for one that was closed before it started."""
    if stream is None:
        raise JndError(f"Standard {name} is closed: name a file, or connect it.")
    return stream.buffer


def _place(temporary: Path, path: Path) -> None:
    """Gives a file its name; FileExistsError if there is a file of that name, by another program perhaps."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # A file system without hard links.
        if path.exists():
            raise FileExistsError from None
        os.replace(temporary, path)


def write_bytes(path: str | Path, data: bytes, replace: bool = True) -> None:
    """Writes a file, all of it or nothing, in a folder that is made if need be.

    What the path leads to is replaced as a whole: symbolic links stay, a file's permissions stay, other hard links keep
    the old content. A pipe or a device is written through, as is standard output (`STDOUT`).

    Raises:
        OSError: it cannot be written.
        JndError: without `replace`, there is such a file.
    """
    if path == STDOUT:
        stream = _open(sys.stdout, "output")
        stream.write(data)
        stream.flush()
        return
    if _is_special(Path(path).absolute()):  # Before links are followed: /dev/fd/1 may lead to a pipe without a name.
        Path(path).write_bytes(data)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".jnd-{secrets.token_hex(6)}")
    try:
        temporary.write_bytes(data)
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        if replace:
            os.replace(temporary, path)
        else:
            _place(temporary, path)
    except FileExistsError as error:
        raise JndError(f"{path} came there meanwhile, and is kept: give --overwrite to replace it.") from error
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` at the end of the block: all of it or nothing.

    Raises:
        JndError: there is something at `path`.
    """
    if path.exists():
        raise JndError(f"{path} exists already: name a folder that does not.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def keep_compiled() -> None:
    """Has jax keep what it compiles from one command to the next; to be called before jax is imported."""
    cache = cache_folder()
    if cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "xla"))
