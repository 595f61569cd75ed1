"""Train a codec: python train.py --config configs/base.py --workdir runs/base [--config.train.steps=20000]."""

from __future__ import annotations

import os

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, logs and the model go; resumes what is there.")
_PROFILE = flags.DEFINE_bool("profile", False, "Trace steps 10 to 15 for TensorBoard or Perfetto.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "Several hosts: host:port of process 0, or `auto` on a cluster.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many processes train together, with --coordinator=host:port.")
_PROCESS = flags.DEFINE_integer("process", 0, "Which of them this is.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # Orbax reports every file it writes
    import jax

    # Compiling the step takes a minute on a laptop; a resumed run finds it here.
    jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/jnd_jax/xla"))
    from jnd_jax.training.parallel import connect

    connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    from jnd_jax.training.loop import train_and_evaluate

    train_and_evaluate(_CONFIG.value, _WORKDIR.value, profile=_PROFILE.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
