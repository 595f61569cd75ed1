"""What a run tells of itself: a progress line, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from tensorboardX import SummaryWriter

from jnd_jax.files import write_bytes

METRICS = "metrics.jsonl"


def read_metrics(workdir: Path) -> list[dict]:
    """The complete lines of a run's metrics.jsonl; none where there is no such file."""
    file = workdir / METRICS
    # A process that was killed may have left half a line.
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def scores(workdir: Path, last: int | None = None) -> dict[int, float]:
    """Validation scores by step, up to step `last`."""
    lines = [line for line in read_metrics(workdir) if line["kind"] == "eval"]
    return {line["step"]: line["score"] for line in lines if last is None or line["step"] <= last}


class Log:
    """A progress line, metrics.jsonl, TensorBoard scalars and pictures; silent on all processes but the first.

    Args:
        workdir: where the files go.
        step: from where the run goes on: what was logged of later steps is dropped.
        total: steps of the run.
    """

    def __init__(self, workdir: Path, step: int, total: int):
        self.total, self.active = total, jax.process_index() == 0
        if self.active:
            kept = [json.dumps(line) + "\n" for line in read_metrics(workdir) if line["step"] <= step]
            write_bytes(workdir / METRICS, "".join(kept).encode())
            self.file = open(workdir / METRICS, "a", buffering=1)
            self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics.jsonl and the scalars kind/name of TensorBoard."""
        if self.active:
            self.file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 1), **values}) + "\n")
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """(H, W, 3) uint8 pictures by name, for TensorBoard."""
        if self.active:
            for name, pixels in pictures.items():
                self.board.add_image(f"original_decode_error_visible_bits/{name}", pixels, step, dataformats="HWC")

    def line(self, text: str, passing: bool = False) -> None:
        """Print a line; a passing one is overwritten by the next on a terminal."""
        if self.active:
            tty = sys.stdout.isatty()
            print(("\r\033[K" if tty else "") + text, end="" if passing and tty else "\n", flush=True)

    def progress(self, step: int, m: Mapping[str, float]) -> None:
        """The progress line: means since the last one, speed, time left."""
        speed = ""
        if "steps_per_s" in m:
            left = int((self.total - step) / max(m["steps_per_s"], 1e-9))
            speed = f"  {m['images_per_s']:.1f} img/s  left {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        self.line(
            f"step {step}/{self.total}  loss {m['loss']:.4f}  bpp {m['bpp']:.4f}  psnr {m['psnr']:.2f}  "
            f"lr {m['lr']:.2e}{speed}" + (f"  skipped {m['skipped']:.0f}" if m["skipped"] else ""),
            passing=True,
        )

    def close(self) -> None:
        if self.active:
            self.file.close()
            self.board.close()
