"""The loss curve of a run as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any


def draw(records: Sequence[dict[str, Any]], title: str) -> bytes:
    """A PNG of training and held-out loss over the steps.

    Args:
        records: a run's ``metrics.jsonl``: records of kind ``step`` and ``evaluation``.
        title: stands above the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    steps = [record for record in records if record["kind"] == "step"]
    heldout = [(record["step"], record["heldout_loss"]) for record in records if record.get("heldout_loss") is not None]
    figure, axes = pyplot.subplots(figsize=(7, 3.6), dpi=120)
    axes.plot(
        [r["step"] for r in steps],
        [r["loss"] for r in steps],
        label="training",
        color="#4c72b0",
        linewidth=1.4,
    )
    if heldout:
        axes.plot(*zip(*heldout, strict=True), "o-", label="held out", color="#dd8452", markersize=5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel("loss per learnt token")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": ""})
    pyplot.close(figure)
    return buffer.getvalue()
