"""Guards: a step whose loss or gradient looks wrong is judged before it is taken.

:class:`Guards` judges by figures that every worker has alike, so all workers decide alike. :class:`Gate` keeps a
step from being taken: DeepSpeed knows the gradient's norm only inside its own step, and at every ZeRO stage that
step ends in the step of the torch optimizer below, where the gate stands. A worker that waits in vain for another
one is told apart by :func:`explain_hang`.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import pyarrow as pa
import torch
import torch.distributed as dist

from koala_ray.errors import KoalaError
from koala_ray.recipe import GuardSettings
from koala_ray.train.retries import LostWorker

What = Literal["nonfinite", "spike", "grad_norm"]
Action = Literal["note", "skip", "stop"]
SEVERITY: dict[Action, int] = {"note": 0, "skip": 1, "stop": 2}
ROWS_SHOWN = 8
"""Row indices in an error's text; the incident has them all."""

WAITED = (
    "Timed out waiting",  # gloo
    "Application timeout caused pair closure",  # gloo, every call after that one
    "Watchdog caught collective operation timeout",  # NCCL
    "timed out in blocking wait",  # NCCL with TORCH_NCCL_BLOCKING_WAIT
    "wait timeout after",  # the store through which workers meet
)
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a step, and what becomes of it."""

    what: What
    action: Action
    finding: str
    """The fault in words, with its figures."""
    exhausted: bool = False
    """Whether it stops the run because skipping did not help."""


class Guards:
    """Judges each step by its loss and gradient norm, against the steps taken before it."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._losses: deque[float] = deque(maxlen=settings.window)
        self._grad_norms: deque[float] = deque(maxlen=settings.window)
        self._skipped = 0

    @classmethod
    def from_state(cls, settings: GuardSettings, state: Mapping[str, Any]) -> Guards:
        """Guards that judge on where :meth:`state` was taken; an empty state is that of a new run."""
        guards = cls(settings)
        guards._losses.extend(state.get("losses", ()))
        guards._grad_norms.extend(state.get("grad_norms", ()))
        guards._skipped = state.get("skipped", 0)
        return guards

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run judges alike: plain lists of at most ``window`` numbers."""
        return {"losses": list(self._losses), "grad_norms": list(self._grad_norms), "skipped": self._skipped}

    def judge(self, loss: float, grad_norm: float) -> Verdict | None:
        """Judge the step that is about to be taken; None if nothing is wrong.

        The history is that of the steps taken, noted ones among them: the median bears with them, and where the
        loss stays at a new level that level becomes the norm. Skipping half a window of steps in a row stops
        the run, whatever the recipe says: it costs money and trains nothing.

        Args:
            loss: mean loss per learnt token of the global batch.
            grad_norm: the gradient's global norm before clipping.
        """
        verdict = max(self._findings(loss, grad_norm), key=lambda found: SEVERITY[found.action], default=None)
        if verdict is None or verdict.action == "note":
            self._skipped = 0
            self._losses.append(loss)
            self._grad_norms.append(grad_norm)
        elif verdict.action == "skip":
            self._skipped += 1
            if 2 * self._skipped >= self._settings.window:
                finding = f"{verdict.finding}, and {self._skipped} steps in a row were skipped"
                return replace(verdict, action="stop", finding=finding, exhausted=True)
        return verdict

    def _findings(self, loss: float, grad_norm: float) -> Iterator[Verdict]:
        settings = self._settings
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            finding = f"the loss is {loss:.4g} and the gradient's norm {grad_norm:.4g}"
            yield Verdict("nonfinite", settings.nonfinite, finding)
            return
        if 2 * len(self._losses) < settings.window:
            return
        usual = median(self._losses)
        if loss > settings.spike_factor * usual:
            finding = f"the loss is {loss:.4g}, where the last {len(self._losses)} steps had {usual:.4g}"
            yield Verdict("spike", settings.spike, finding)
        usual = median(self._grad_norms)
        if grad_norm > settings.grad_norm_factor * usual:
            finding = (
                f"the gradient's norm is {grad_norm:.4g}, where the last {len(self._losses)} steps had {usual:.4g}"
            )
            yield Verdict("grad_norm", settings.grad_norm, finding)


class Gate:
    """Stands before the torch optimizer's step: lets it pass, or keeps weights, moments and step counts as they are.

    Use: :meth:`expect`, ``engine.step()``, then :meth:`incident` and :meth:`raise_if_stopped`, on every worker.
    """

    def __init__(self, engine: Any, guards: Guards, written: str) -> None:
        self.guards = guards
        self._engine, self._written = engine, written
        self._expected: _Expected | None = None
        self._withheld: list[tuple[torch.Tensor, torch.Tensor | None]] = []

    def expect(self, step: int, loss: float, rows: pa.Table, grad_norm: float | None = None) -> None:
        """Say what the next ``engine.step()`` takes.

        Args:
            step: steps taken before it.
            loss: mean loss per learnt token of the global batch, the same on all workers.
            rows: this worker's packed rows.
            grad_norm: the gradient's norm where the loop clips; left out, DeepSpeed's own is read.
        """
        self._expected = _Expected(step, loss, rows, grad_norm)

    def incident(self) -> dict[str, Any] | None:
        """What was wrong with the step, None if nothing; every worker must ask, since they gather their rows.

        Returns:
            ``what``, ``action``, ``loss``, ``grad_norm`` (None where not finite), ``rows`` (global indices of the
            packed rows of the whole global batch) and ``examples`` (the ids of the dialogues in them).
        """
        step = self._asked()
        if not step.judged:
            # The optimizer was never asked: DeepSpeed by itself leaves out a step whose gradient isn't finite.
            self._judge(step, math.inf)
        if step.verdict and step.incident is None:
            rows, examples = gather(step.rows)
            step.incident = {
                "what": step.verdict.what,
                "action": step.verdict.action,
                "loss": step.loss if math.isfinite(step.loss) else None,
                "grad_norm": step.grad_norm if math.isfinite(step.grad_norm or 0.0) else None,
                "rows": rows,
                "examples": examples,
            }
        return step.incident

    def raise_if_stopped(self) -> None:
        """End the run if the step's incident says so; to be called after :meth:`incident`.

        Raises:
            KoalaError: what was wrong, at which step, with which rows, and where that is written down.
        """
        step = self._asked()
        if step.verdict and step.incident and step.verdict.action == "stop":
            raise refusal(step.verdict, step.step, step.incident["rows"], self._written)

    def _asked(self) -> _Expected:
        if self._expected is None:
            raise RuntimeError("the gate needs expect() before the engine's step")
        return self._expected

    def before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """The optimizer's pre-hook: judges the step, and takes the gradients away if it isn't to be taken."""
        step = self._asked()
        if not step.judged:  # ZeRO steps once for each group of weights: the first call judges, the others follow
            self._judge(step, self._engine.optimizer._global_grad_norm if step.grad_norm is None else step.grad_norm)
        if step.verdict and step.verdict.action != "note":
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            self._withheld = [(parameter, parameter.grad) for parameter in parameters]
            for parameter in parameters:
                parameter.grad = None  # AdamW passes over it: weight, moments and step count stay

    def after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """The optimizer's post-hook: puts the gradients back."""
        # With an offloaded optimizer the gradient is a buffer of DeepSpeed's, which it goes on to use.
        for parameter, grad in self._withheld:
            parameter.grad = grad
        self._withheld = []

    def _judge(self, step: _Expected, grad_norm: Any) -> None:
        step.grad_norm = float(grad_norm)
        step.verdict = self.guards.judge(step.loss, step.grad_norm)
        step.judged = True


@dataclass
class _Expected:
    step: int
    loss: float
    rows: pa.Table
    grad_norm: float | None
    judged: bool = False
    verdict: Verdict | None = None
    incident: dict[str, Any] | None = None


def arm(engine: Any, guards: Guards, written: str) -> Gate:
    """Set a gate before a DeepSpeed engine's optimizer.

    Args:
        engine: the DeepSpeed engine.
        guards: judge the steps.
        written: where incidents are written down, for the error that ends a run.
    """
    gate = Gate(engine, guards, written)
    engine.basic_optimizer.register_step_pre_hook(gate.before)
    engine.basic_optimizer.register_step_post_hook(gate.after)
    return gate


def gather(rows: pa.Table) -> tuple[list[int], list[str]]:
    """The global indices of all workers' packed rows, ascending, and the ids of the dialogues in them.

    Rows of weight zero, which fill up the last batch, are left out. Every worker must call it.
    """
    mine = [(row["gidx"], row["examples"]) for row in rows.select(["gidx", "examples"]).to_pylist() if row["examples"]]
    everyone: list[list[tuple[int, list[str]]]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, mine)
    together = sorted(row for part in everyone for row in part)
    return [gidx for gidx, _ in together], [example for _, examples in together for example in examples]


def refusal(verdict: Verdict, step: int, rows: Sequence[int], written: str) -> KoalaError:
    """The error that ends a run.

    Args:
        verdict: what was wrong.
        step: steps taken before the one that was not taken.
        rows: global indices of its packed rows.
        written: where the incident is written down.
    """
    shown = ", ".join(str(gidx) for gidx in rows[:ROWS_SHOWN])
    more = f", … ({len(rows)} in all)" if len(rows) > ROWS_SHOWN else ""
    look = f"look at its rows: koala-ray preview TOKENS_FOLDER --first {rows[0]}; " if rows else ""
    leave = f"leave such steps out with --set guards.{verdict.what}=skip, or "
    return KoalaError(
        f"training stopped before step {step + 1}: {verdict.finding}",
        where=f"rows {shown}{more}; written down in {written}",
        mend=f"{look}{'' if verdict.exhausted else leave}lower train.lr",
    )


def explain_hang(error: BaseException, seconds: float) -> LostWorker | None:
    """What a failed collective means, or None if the error is of another kind.

    gloo raises where it waits. NCCL's watchdog ends the whole process by default; then only the worker's log has
    its message, and this function never sees it.

    Args:
        error: what a worker raised.
        seconds: how long a worker waits for the others (``guards.hang_seconds``).
    """
    text = str(error)
    if not isinstance(error, RuntimeError):
        return None
    if any(sign in text for sign in WAITED):
        happened = f"waited {seconds:g} s for another worker, which hangs or is gone"
    elif any(sign in text for sign in LOST):
        peer = re.search(r"\[([^\[\]\s]+)\]:\d+", text)
        happened = f"lost another worker{f' on {peer[1]}' if peer else ''}: its process has ended"
    else:
        return None
    rank = f" {dist.get_rank()}" if dist.is_initialized() else ""
    return LostWorker(
        f"worker{rank} {happened}; see the other workers' logs, and `ray status` for machines that were taken away"
    )
