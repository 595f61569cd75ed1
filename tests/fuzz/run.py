"""Coverage-guided fuzzing by atheris (libFuzzer), see `targets`. Options of libFuzzer follow the target's name."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["jnd_jax"]):
    from tests.fuzz import targets


def main() -> None:
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options, str(targets.CORPUS / name)], lambda data: targets.check(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
