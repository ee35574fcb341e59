"""The driver's view of a run: takes the workers' records as they come, shows them, and hands them on.

The records go to the terminal, to the run's ``metrics.jsonl`` (rewritten at each checkpoint and incident, so that a
run can be looked at while it goes on), to the sinks of the recipe (:mod:`koala_ray.train.report`), and to the meter.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from koala_ray import storage
from koala_ray.checkpoint.manifest import RECORDS, format_records
from koala_ray.progress import Progress, clock
from koala_ray.train.meter import Meter

POLL_SECONDS = 1.0


@contextmanager
def watch(
    folder: str, records: list[dict[str, Any]], last_step: int, meter: Meter, sinks: Sequence[Any]
) -> Iterator[Any]:
    """A board for the workers, watched for as long as the context lasts.

    Args:
        folder: the train step's.
        records: those of the steps taken in earlier attempts; new ones are added.
        last_step: where the run ends.
        meter: counts time and dollars.
        sinks: where each record goes besides.
    """
    import ray

    from koala_ray.train.board import start_board

    board = start_board()
    done = threading.Event()
    first_step = max((record["step"] for record in records), default=0)
    with Progress("train", last_step, "steps") as bar:
        bar.start_at(first_step)
        bar.update(first_step, "starting the workers")

        look = _Look(folder, records, last_step, meter, sinks, board, bar)

        def poll() -> None:
            failing = False
            while True:
                ended = done.wait(POLL_SECONDS)
                try:
                    look()
                    failing = False
                except Exception as error:  # training goes on by itself; what is missed is in its checkpoints
                    if not failing:
                        bar.remark(f"the run's figures can't be followed, trying on: {error}")
                    failing = True
                if ended:
                    return

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield board
        finally:
            done.set()
            thread.join()
            for sink in sinks:
                sink.close()
    ray.kill(board)


class _Look:
    """Takes what is new on the board."""

    def __init__(
        self,
        folder: str,
        records: list[dict[str, Any]],
        last_step: int,
        meter: Meter,
        sinks: Sequence[Any],
        board: Any,
        bar: Progress,
    ) -> None:
        self._folder, self._records, self._last_step = folder, records, last_step
        self._meter, self._sinks, self._board, self._bar = meter, sinks, board, bar
        self._place, self._unsaved = 0, False

    def __call__(self) -> None:
        import ray

        for message in ray.get(self._board.since.remote(self._place)):
            self._place += 1
            self._take(message)
        self._meter.beat()
        if self._unsaved:
            storage.write_atomic(storage.join(self._folder, RECORDS), format_records(self._records))
            for sink in self._sinks:
                sink.flush()
            self._unsaved = False

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "phase":
            self._bar.update(self._bar.done, message["text"])
        elif kind in ("notice", "checkpoint"):
            if text := news(message):
                self._bar.remark(text)
            self._meter.record(message)
            self._unsaved = True
        else:
            self._records.append(message)
            self._unsaved |= kind == "incident"  # no checkpoint follows one that ends the run
            self._meter.record(message)
            status = self._meter.status(self._last_step)
            for sink in self._sinks:
                sink.write(message, status)
            show(message, status, self._bar)


def news(message: dict[str, Any]) -> str:
    """What a worker tells besides its figures, if a person should know it."""
    if message["kind"] == "notice":
        return str(message["text"])
    failure = message.get("failure")
    return f"no checkpoint at step {message['step']}: {failure}; training goes on" if failure else ""


def show(record: dict[str, Any], status: dict[str, Any], bar: Progress) -> None:
    """Say on the terminal what a record tells."""
    kind = record["kind"]
    if kind == "start":
        bar.start_at(record["step"])
    elif kind == "evaluation":
        loss = record["heldout_loss"]
        bar.update(record["step"], "held-out loss not finite" if loss is None else f"held-out loss {loss:.3f}")
    elif kind == "incident":
        bar.update(record["step"], f"{record['what']}: {record['action']}")
    elif kind == "step":
        parts = [f"loss {record['loss']:.3f}" if record["loss"] is not None else "loss not finite"]
        if status["tokens_per_second"]:
            parts.append(f"{status['tokens_per_second']:,.0f} tokens/s")
        if status["mfu"]:
            parts.append(f"MFU {100 * status['mfu']:.0f} %")
        if status["dollars"] is not None:
            to_go = f", ${status['dollars_to_go']:.2f} to go" if status["dollars_to_go"] is not None else ""
            parts.append(f"${status['dollars']:.2f}{to_go}")
        elif status["hours_left"] is not None:
            parts.append(f"{clock(3600 * status['hours_left'])} to go")
        bar.update(record["step"], "  ".join(parts))
