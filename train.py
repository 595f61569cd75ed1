"""Train a codec: python train.py --config configs/base.py --workdir runs/base [--config.train.steps=20000]."""

from __future__ import annotations

from functools import partial

from absl import app, flags, logging
from ml_collections import config_flags

from jnd_jax.files import keep_compiled
from jnd_jax.training.commandline import fail, parse
from jnd_jax.training.memory import keep_memory

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, logs and the model go; resumes what is there.")
_PROFILE = flags.DEFINE_bool("profile", False, "Trace steps 11 to 15 for TensorBoard or Perfetto.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "Several hosts: host:port of process 0, or `auto` on a cluster.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many processes train together, with --coordinator=host:port.")
_PROCESS = flags.DEFINE_integer("process", 0, "Which of them this is.")
_TIMEOUT = flags.DEFINE_integer("timeout", 300, "Seconds in which all processes have to start.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        fail("train.py", f"{argv[1]!r} is no flag; flags begin with --.")
    logging.set_verbosity(logging.WARNING)  # Orbax reports every file it writes
    from jnd_jax.errors import JndError
    from jnd_jax.training.loop import train_and_evaluate
    from jnd_jax.training.parallel import connect

    try:
        connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value, _TIMEOUT.value)
        train_and_evaluate(_CONFIG.value, _WORKDIR.value, profile=_PROFILE.value)
    except (JndError, OSError) as error:
        fail("train.py", error)
    except KeyboardInterrupt:
        fail("train.py", "Stopped; the same command goes on from the last checkpoint.", 130)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    # Before the config is read, which imports jax.
    keep_compiled()
    keep_memory()
    app.run(main, flags_parser=partial(parse, "train.py"))
