"""Ray metrics, which every node of a Ray cluster exports to Prometheus as ``ray_koala_train_…``."""

from __future__ import annotations

from koala_ray.train.report.scalars import OF_STATUS, OF_STEP, Record, Status, scalars

DESCRIPTIONS = {
    "train/loss": "Mean loss per learnt token of the last global batch.",
    "train/learning_rate": "The last step's learning rate.",
    "train/gradient_norm": "The gradient's global norm before clipping.",
    "train/data_wait_seconds": "Seconds of the last step spent waiting for rows.",
    "train/checkpoint_stall_seconds": "Seconds that the last checkpoint held training up.",
    "train/tokens_per_second": "Tokens trained on in a second, by all workers.",
    "train/mfu": "Model FLOPs utilisation: the part of the hardware's peak that the model's own FLOPs make up.",
    "train/dollars": "Dollars spent on the run so far, over all its attempts.",
    "train/dollars_to_go": "Dollars that the rest of the run will take.",
    "train/hours_left": "Hours that the rest of the run will take.",
}


def metric(name: str) -> str:
    """The Ray metric of a figure: ``koala_train_loss`` for ``train/loss``. Prometheus shows it with ``ray_`` before."""
    return f"koala_{name.replace('/', '_')}"


class PrometheusSink:
    """Sets gauges, tagged with the run's name. The driver must be connected to a Ray."""

    def __init__(self, run: str) -> None:
        """Make the gauges."""
        from ray.util.metrics import Gauge

        self._gauges = {
            name: Gauge(metric(name), DESCRIPTIONS[name], tag_keys=("run",)).set_default_tags({"run": run})
            for name in (*OF_STEP, *OF_STATUS)
        }

    def write(self, record: Record, status: Status) -> None:
        """Set what a step's record gives."""
        for name, value in scalars(record, status).items():
            if name in self._gauges:
                self._gauges[name].set(value)

    def flush(self) -> None:
        """Nothing to do: Ray exports its metrics every few seconds."""

    def close(self) -> None:
        """Nothing to let go of: the gauges end with the driver."""
