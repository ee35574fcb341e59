"""Guards: what they find, what a step left out leaves behind under every ZeRO stage, and what a hang says.

Run as a script, this file is a worker: DeepSpeed and collectives that fail want processes of their own.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.errors import KoalaError
from koala_ray.recipe import GuardSettings, TrainSettings
from koala_ray.train.guards import Guards, Verdict, arm, explain_hang, refusal

NAN, INF = math.nan, math.inf
STRICT = GuardSettings(nonfinite="skip", spike="skip", grad_norm="stop", window=4)


def warm(settings: GuardSettings, steps: int | None = None) -> Guards:
    """Guards that have seen a window of steps with a loss of 2 and a norm of 1."""
    guards = Guards(settings)
    for _ in range(settings.window if steps is None else steps):
        assert guards.judge(2.0, 1.0) is None
    return guards


@pytest.mark.parametrize(
    ("loss", "grad_norm", "what", "action"),
    [
        (NAN, 1.0, "nonfinite", "skip"),
        (INF, 1.0, "nonfinite", "skip"),
        (2.0, INF, "nonfinite", "skip"),
        (NAN, NAN, "nonfinite", "skip"),
        (6.1, 1.0, "spike", "skip"),
        (2.0, 20.5, "grad_norm", "stop"),
        (6.1, 20.5, "grad_norm", "stop"),  # the worst action wins
    ],
)
def test_what_is_found(loss, grad_norm, what, action):
    verdict = warm(STRICT).judge(loss, grad_norm)
    assert (verdict.what, verdict.action) == (what, action)


def test_of_equal_actions_the_first_fault_is_told():
    verdict = warm(GuardSettings(window=4)).judge(100.0, 100.0)
    assert (verdict.what, verdict.action) == ("spike", "note")
    assert verdict.finding == "the loss is 100, where the last 4 steps had 2"


@pytest.mark.parametrize(("loss", "grad_norm"), [(5.9, 1.0), (2.0, 19.9), (0.001, 0.001)])
def test_what_is_within_bounds_passes(loss, grad_norm):
    assert warm(STRICT).judge(loss, grad_norm) is None


def test_nothing_but_nonfinite_is_judged_before_half_a_window():
    settings = GuardSettings(window=7)
    assert warm(settings, 3).judge(1000.0, 1000.0) is None
    assert warm(settings, 4).judge(1000.0, 1000.0).what == "spike"
    assert Guards(settings).judge(NAN, 1.0).what == "nonfinite"


def test_a_step_left_out_is_no_measure_for_later_ones():
    guards = warm(STRICT)
    before = guards.state()
    assert guards.judge(6.1, 1.0).action == "skip"
    after = guards.state()
    assert (after["losses"], after["grad_norms"]) == (before["losses"], before["grad_norms"])


def test_a_new_level_becomes_the_norm():
    guards = warm(GuardSettings(window=8))
    noted = [guards.judge(7.0, 1.0) is not None for _ in range(12)]
    assert noted == [True] * 4 + [False] * 8


def test_skipping_for_ever_stops_the_run():
    guards = Guards(GuardSettings(nonfinite="skip", window=6))
    assert [guards.judge(NAN, 1.0).action for _ in range(2)] == ["skip", "skip"]
    last = guards.judge(NAN, 1.0)
    assert last.action == "stop"
    assert "3 steps in a row were skipped" in last.finding
    assert "guards.nonfinite=skip" not in refusal(last, 7, [1], "metrics.jsonl").mend


def test_a_step_taken_ends_the_row_of_skipped_ones():
    guards = Guards(GuardSettings(nonfinite="skip", window=4))
    for _ in range(5):
        assert guards.judge(NAN, 1.0).action == "skip"
        assert guards.judge(2.0, 1.0) is None


figures = st.tuples(
    st.one_of(st.floats(0.1, 20), st.sampled_from([NAN, INF])), st.one_of(st.floats(0, 100), st.sampled_from([NAN]))
)


@given(st.lists(figures, max_size=40), st.integers(0, 40), st.sampled_from(["note", "skip"]))
def test_a_resumed_run_judges_alike(steps, place, action):
    settings = GuardSettings(nonfinite="skip", spike=action, grad_norm=action, window=5)
    whole = Guards(settings)
    expected = [whole.judge(*step) for step in steps]
    first = Guards(settings)
    got = [first.judge(*step) for step in steps[:place]]
    resumed = Guards.from_state(settings, json.loads(json.dumps(first.state())))
    got += [resumed.judge(*step) for step in steps[place:]]
    assert got == expected
    assert resumed.state() == whole.state()
    assert len(resumed.state()["losses"]) <= 5


def test_a_stop_says_what_where_and_what_to_do():
    error = refusal(Verdict("nonfinite", "stop", "the loss is nan"), 36, list(range(288, 300)), "run/metrics.jsonl")
    assert error.error == "training stopped before step 37: the loss is nan"
    assert (
        error.where == "rows 288, 289, 290, 291, 292, 293, 294, 295, … (12 in all); written down in run/metrics.jsonl"
    )
    assert "koala-ray preview TOKENS_FOLDER --first 288" in error.mend
    assert "--set guards.nonfinite=skip" in error.mend
    assert refusal(Verdict("spike", "stop", "x"), 0, [3, 5], "m").where == "rows 3, 5; written down in m"


# Under DeepSpeed. Each case takes five steps twice, once with two bad ones in between, in one process for all cases.

CASES = {
    "zero 0": {"zero_stage": 0},
    "zero 1": {"zero_stage": 1},
    "zero 2": {"zero_stage": 2},
    "zero 3": {"zero_stage": 3},
    "zero 0, bfloat16": {"zero_stage": 0, "precision": "bfloat16"},
    "zero 2, bfloat16": {"zero_stage": 2, "precision": "bfloat16"},
    "zero 3, bfloat16": {"zero_stage": 3, "precision": "bfloat16"},
    "zero 2, offload": {"zero_stage": 2, "offload_optimizer": True},
    "zero 3, offload": {"zero_stage": 3, "offload_optimizer": True, "offload_weights": True},
}
BATCH_ROWS = 2


def launch(folder: Path, world: int) -> list[subprocess.Popen]:
    """The workers of one process group; what a worker found out is the last line of its output."""
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / "store"), str(rank), str(world)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def found_by(worker: subprocess.Popen) -> Any:
    out, err = worker.communicate(timeout=300)
    assert out, err[-2000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def workers(tmp_path_factory) -> list[Any]:
    """What a worker alone and two workers together found out; they run at the same time."""
    launched = [*launch(tmp_path_factory.mktemp("one"), 1), *launch(tmp_path_factory.mktemp("two"), 2)]
    try:
        return [found_by(worker) for worker in launched]
    finally:
        for worker in launched:
            worker.kill()


@pytest.fixture(scope="module")
def under_deepspeed(workers) -> dict[str, dict[str, Any]]:
    return workers[0]


@pytest.fixture(scope="module")
def two_workers(workers) -> list[dict[str, Any]]:
    return workers[1:]


@pytest.mark.parametrize("case", CASES)
def test_a_skipped_step_leaves_no_trace(under_deepspeed, case):
    found = under_deepspeed[case]
    assert found["moved by an ordinary step"]
    assert found["kept over nan"]
    assert found["kept over a spike"]
    assert found["then as if nothing had been"]


@pytest.mark.parametrize("case", CASES)
def test_a_skipped_step_is_told_whoever_skipped_it(under_deepspeed, case):
    nan, spike = under_deepspeed[case]["incidents"]
    assert (nan["what"], nan["action"], nan["loss"]) == ("nonfinite", "skip", None)
    assert (spike["what"], spike["action"]) == ("spike", "skip")
    assert (spike["rows"], spike["examples"]) == ([0, 1], ["a#0", "a#1"])


@pytest.mark.parametrize("case", CASES)
def test_a_stop_takes_no_step_either(under_deepspeed, case):
    assert under_deepspeed[case]["kept over the stop"]
    assert "training stopped before step 8: the gradient's norm" in under_deepspeed[case]["stop"]


def test_two_workers_judge_alike_and_tell_all_rows(two_workers):
    first, second = (worker["steps"] for worker in two_workers)
    assert first == second
    assert first["kept over nan"]  # only the second worker's row is poisoned
    assert first["then as if nothing had been"]
    told = [(incident["what"], incident["rows"], incident["examples"]) for incident in first["incidents"]]
    assert told == [("nonfinite", [0, 1], ["a#0", "a#1"]), ("spike", [0, 1], ["a#0", "a#1"])]


def test_a_worker_that_hangs_and_one_that_is_gone_are_explained(two_workers):
    hung, hung_still, gone = two_workers[0]["told"]
    assert hung.startswith("worker 0 waited 3 s for another worker, which hangs or is gone")
    assert hung_still == hung  # gloo says something else from the second call on
    assert gone.startswith("worker 0 lost another worker on 127.0.0.1: its process has ended")
    for message in (hung, gone):
        assert "see the other workers' logs" in message
        assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ConnectionResetError("Connection reset by peer")],
)
def test_other_errors_are_left_alone(error):
    assert explain_hang(error, 300) is None


@pytest.mark.parametrize(
    "text",
    [
        "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE, NumelIn=1, "
        "NumelOut=1, Timeout(ms)=300000) ran for 300001 milliseconds before timing out.",
        "wait timeout after 300000ms, keys: /default_pg/0//cpu//0/1",
    ],
)
def test_nccl_and_the_store_are_explained_too(text):
    assert "waited 300 s" in str(explain_hang(RuntimeError(text), 300))


# The workers.


def prove(case: dict[str, Any]) -> dict[str, Any]:
    """What a case's bad steps leave behind."""
    import torch

    settings = TrainSettings(batch_rows=BATCH_ROWS, lr=1e-2, weight_decay=0.1, **case)
    guards = GuardSettings(nonfinite="skip", spike="skip", grad_norm="stop", window=6)
    guarded, clean = Trial(settings, guards), Trial(settings, guards)
    ordinary = torch.randn(6, BATCH_ROWS, 8, generator=torch.Generator().manual_seed(1))
    poisoned = ordinary[0].clone()
    poisoned[1, 0] = NAN
    before = guarded.held()
    for rows in ordinary[:3]:
        guarded.step(rows)
        clean.step(rows)
    found: dict[str, Any] = {"moved by an ordinary step": not same(guarded.held(), before)}
    before = guarded.held()
    incidents = [guarded.step(poisoned)]
    found["kept over nan"] = same(guarded.held(), before)
    incidents.append(guarded.step(ordinary[0], told=100.0))
    found["kept over a spike"] = same(guarded.held(), before)
    for rows in ordinary[3:5]:
        guarded.step(rows)
        clean.step(rows)
    found["then as if nothing had been"] = same(guarded.held(), clean.held())
    found["incidents"] = incidents
    before = guarded.held()
    try:
        guarded.step(ordinary[5], weight=1e3)
    except KoalaError as error:
        found["stop"] = error.error
    found["kept over the stop"] = same(guarded.held(), before)
    return found


class Trial:
    """A small model under an engine with a gate, stepped as the training loop does it."""

    def __init__(self, settings: TrainSettings, guards: GuardSettings) -> None:
        import deepspeed
        import torch
        from deepspeed.ops import __compatible_ops__ as ops

        from koala_ray.train.engine import clipped_by_the_loop, deepspeed_config

        ops["deepspeed_shm_comm"] = False
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
        self.settings = settings.model_copy(update={"workers": torch.distributed.get_world_size()})
        self.dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        self.clips = clipped_by_the_loop(settings)
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in model.to(self.dtype).parameters() if (p.ndim > 1) is matrices]}
                for matrices in (True, False)
            ],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        # torch's AdamW with an offloaded optimizer too: DeepSpeed's own takes minutes to compile.
        config = {**deepspeed_config(self.settings), "zero_force_ds_cpu_optimizer": False}
        self.engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.gate = arm(self.engine, Guards(guards), "metrics.jsonl")
        self.steps = 0

    def step(self, rows: Any, weight: float = 1.0, told: float | None = None) -> dict[str, Any] | None:
        """One global batch; ``weight`` scales its gradient alone, ``told`` is the loss that the gate hears of."""
        import torch
        import torch.distributed as dist

        share = BATCH_ROWS // dist.get_world_size()
        mine = range(dist.get_rank() * share, (dist.get_rank() + 1) * share)
        total = torch.zeros(())
        table = pa.table({"gidx": list(mine), "examples": [[f"a#{row}"] for row in mine]})
        for row in mine:
            loss = self.engine(rows[row : row + 1].to(self.dtype)).float().square().mean()
            total += loss.detach()
            self.engine.backward(loss * weight)
            if row < mine[-1]:
                self.engine.step()
        dist.all_reduce(total)
        loss = float(total) if told is None else told
        if self.clips:
            norm = torch.nn.utils.clip_grad_norm_(self.engine.module.parameters(), self.settings.clip)
            self.gate.expect(self.steps, loss, table, float(norm))
        else:
            self.gate.expect(self.steps, loss, table)
        self.engine.step()
        self.steps += 1
        incident = self.gate.incident()
        self.gate.raise_if_stopped()
        return incident

    def held(self) -> list[Any]:
        """Weights, master weights, moments and step counts."""
        optimizer = self.engine.optimizer
        tensors = [getattr(p, "ds_tensor", p) for p in self.engine.module.parameters()]
        for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat", "fp32_groups"):
            for group in getattr(optimizer, name, []):
                tensors += group if isinstance(group, list) else [group]
        states = self.engine.basic_optimizer.state.values()
        tensors += [state[key] for state in states for key in ("exp_avg", "exp_avg_sq", "step") if key in state]
        return [tensor.detach().clone() for tensor in tensors]


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two states are the same to the bit."""
    import torch

    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def fail(rank: int) -> list[str]:
    """What the first worker is told when the second one hangs, and when it is gone."""
    import torch
    import torch.distributed as dist

    impatient = [dist.new_group(timeout=timedelta(seconds=3)) for _ in range(2)]
    for group in impatient:
        dist.all_reduce(torch.ones(1), group=group)
    processes = [0, 0]
    dist.all_gather_object(processes, os.getpid())
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    told = [failure(impatient[0]), failure(impatient[0])]
    os.kill(processes[1], signal.SIGKILL)
    return [*told, failure(impatient[1])]


def failure(group: Any) -> str:
    """How a collective that must fail is explained."""
    import torch
    import torch.distributed as dist

    with pytest.raises(RuntimeError) as raised:
        dist.all_reduce(torch.ones(1), group=group)
    return str(explain_hang(raised.value, 3))


def main(store: str, rank: str, world: str) -> None:
    os.environ.update(DS_ACCELERATOR="cpu", RANK=rank, WORLD_SIZE=world, LOCAL_RANK=rank)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world))
    if world == "1":
        print(json.dumps({name: prove(case) for name, case in CASES.items()}), flush=True)
    else:
        found: dict[str, Any] = {"steps": prove(CASES["zero 2"])}
        if rank == "1":
            print(json.dumps(found), flush=True)
        print(json.dumps({**found, "told": fail(int(rank))}), flush=True)
    os._exit(0)  # a process group whose other worker is gone can't be taken down


if __name__ == "__main__":
    main(*sys.argv[1:])
