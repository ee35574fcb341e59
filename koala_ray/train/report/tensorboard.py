"""TensorBoard files below the run's folder.

Written by torch's writer on the tensorboard package: its ``flush`` returns when everything is in the file, which
tensorboardX's doesn't (its queue may still hold events), and an object store gets copies of the file at flushes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from koala_ray import storage
from koala_ray.train.report.scalars import Record, Status, scalars

FOLDER = "tensorboard"


class TensorboardSink:
    """Writes scalars, sampled answers, incidents and the settings."""

    def __init__(self, folder: str, first_step: int, settings: Mapping[str, Any]) -> None:
        """Open a file below ``folder``/tensorboard; what earlier attempts wrote of the steps to come is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        self._target = storage.join(storage.absolute(folder), FOLDER)
        self._copied = tempfile.TemporaryDirectory(prefix="koala-tensorboard-") if "://" in self._target else None
        self._local = Path(self._copied.name if self._copied else self._target)
        # A fresh run may follow one that was killed before its first checkpoint: nothing of that one is left.
        self._writer = SummaryWriter(str(self._local), purge_step=first_step + 1 if first_step else 0)
        self._writer.add_text("recipe", fenced(yaml.safe_dump(dict(settings), sort_keys=False)), first_step)

    def write(self, record: Record, status: Status) -> None:
        """Add a record's figures and texts."""
        step = record["step"]
        for name, value in scalars(record, status).items():
            self._writer.add_scalar(name, value, step)
        if record["kind"] == "evaluation" and record["samples"]:
            self._writer.add_text("samples", samples_text(record), step)
        elif record["kind"] in ("start", "incident"):
            self._writer.add_text(record["kind"], fenced(yaml.safe_dump(dict(record), sort_keys=False)), step)

    def flush(self) -> None:
        """Write everything to the file; on an object store, put a copy of it there."""
        self._writer.flush()
        if self._copied:
            storage.copy_tree(str(self._local), self._target)

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._writer.close()
        if self._copied:
            self._copied.cleanup()


def samples_text(record: Record) -> str:
    """An evaluation's sampled answers as Markdown in which nothing of theirs is read as Markdown."""
    pairs = (f"**Prompt**\n\n{fenced(s['prompt'])}\n\n**Answer**\n\n{fenced(s['answer'])}" for s in record["samples"])
    return "\n\n".join(pairs)


def fenced(text: str) -> str:
    """A text as an indented Markdown block: no fence of its own can end it early."""
    return "\n".join(f"    {line}" for line in text.splitlines())
