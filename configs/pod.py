"""The default codec on a TPU pod slice such as v4-32 (16 chips on 4 hosts), each host reading its own share.

python train.py --config configs/pod.py --coordinator auto --workdir /shared/runs/pod --config.data.path=/shared/photos
(the same command on every host)
Result: not run. Estimate for 16 v4 chips and 4 hosts: at least 0.35 hours, 18 dollars; a third of it in the first stage, which waits
for its images, two fifths compiling (python -m bench.pod_cost; assumptions there, the table in docs/training.md).
"""

from ml_collections import ConfigDict

from configs import gpu


def get_config() -> ConfigDict:
    config = gpu.get_config()
    config.data.threads = 32
    config.train.stages = ((60_000, 128, 256), (40_000, 256, 128))
    # SOAP needs eigenvectors and QR decompositions, which a TPU computes slowly, one after the other; Muon needs products
    # of matrices alone.
    config.train.update(optimizer="muon", parallel="shard_map", learning_rate=2e-3, warmup=1_000, ema=0.999)
    config.checkpoint.update(every_steps=2_000)
    return config
