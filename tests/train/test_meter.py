"""The meter: dollars over all attempts and kills, time left, the budget held, what the time went to."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.recipe import CostSettings
from koala_ray.train.ledger import dollars, read_attempts
from koala_ray.train.meter import BEAT_SECONDS, Meter, mfu

START = {"kind": "start", "step": 0, "workers": 8, "flops_per_token": 6e9, "peak_flops": 1e15}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1.8e9

    def __call__(self) -> float:
        return self.seconds

    def goes(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def ledger(tmp_path) -> str:
    return str(tmp_path / "attempts.jsonl")


def step(number: int, seconds: float = 10.0, wait: float = 0.5, stall: float = 0.0, tokens: int = 1000) -> dict:
    times = {"seconds": seconds, "data_wait": wait, "checkpoint_stall": stall}
    return {"kind": "step", "step": number, "tokens": tokens, **times}


def take(meter: Meter, clock: Clock, *records: dict) -> None:
    """Let the time of each record pass, then hand it in."""
    for record in records:
        clock.goes(record.get("seconds", 0.0) + record.get("checkpoint_stall", 0.0))
        meter.record(record)


def test_a_run_of_two_attempts(root):
    ledger = storage.join(root, "attempts.jsonl")
    clock, cost = Clock(), CostSettings(price=1.5)
    meter = Meter.open(ledger, cost, nodes=1, gpus=8, now=clock)
    clock.goes(60)
    meter.record(START)
    take(meter, clock, {"kind": "evaluation", "step": 0, "seconds": 20}, step(1), step(2), step(3, stall=4))
    clock.goes(BEAT_SECONDS)
    meter.beat()
    assert meter.dollars() == pytest.approx((60 + 20 + 34 + BEAT_SECONDS) / 3600 * 8 * 1.5)
    # It is killed here; the machines come back an hour later, and the last checkpoint was at step 2.
    clock.goes(3600)
    meter = Meter.open(ledger, cost, nodes=1, gpus=8, now=clock)
    clock.goes(30)
    meter.record({**START, "step": 2})
    take(meter, clock, step(3, seconds=12), step(4))
    clock.goes(5)
    meter.close("finished")
    first, second = read_attempts(ledger)
    assert (first.first_step, first.last_step, first.ended) == (0, 3, None)
    assert (second.first_step, second.last_step, second.ended) == (2, 4, "finished")
    known = {"starting": 60, "evaluation": 20, "training": 28.5, "data_wait": 1.5, "checkpoint": 4}
    assert first.seconds == pytest.approx(known)
    assert second.seconds == pytest.approx(
        {"starting": 30, "repeated": 12, "training": 9.5, "data_wait": 0.5, "checkpoint": 0}
    )
    assert meter.dollars() == pytest.approx((114 + BEAT_SECONDS + 57) / 3600 * 8 * 1.5)


def test_workers_started_again_within_an_attempt(ledger):
    clock = Clock()
    meter = Meter.open(ledger, CostSettings(), nodes=1, gpus=0, now=clock)
    clock.goes(7)
    meter.record(START)
    take(meter, clock, step(1), step(2))
    clock.goes(25)  # a worker died; Ray starts them all again
    meter.record({**START, "step": 1})
    assert meter.status(10)["hours_left"] == pytest.approx(9 * 10 / 3600)
    take(meter, clock, step(2), step(3))
    meter.close("finished")
    assert meter.seconds() == pytest.approx(7 + 20 + 25 + 20)
    (attempt,) = read_attempts(ledger)
    assert attempt.first_step == 0
    assert attempt.seconds == pytest.approx(
        {"starting": 32, "training": 28.5, "data_wait": 1.5, "repeated": 10, "checkpoint": 0}
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0, BEAT_SECONDS - 1), max_size=12),
            st.booleans(),
            st.floats(0, 5),
            st.integers(0, 8),
            st.floats(0, 1e5),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_dollars_never_fall_and_add_up_whatever_is_killed(attempts):
    clock, exact, lost = Clock(), 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for waits, killed, price, gpus, idle in attempts:
            meter = Meter.open(f"{folder}/attempts.jsonl", CostSettings(price=price), nodes=2, gpus=gpus, now=clock)
            opened = before = meter.dollars()
            hourly = price * (gpus or 2)
            for wait in waits:
                clock.goes(wait)
                meter.beat()
                assert meter.dollars() >= before
                before = meter.dollars()
            assert before - opened == pytest.approx(sum(waits) / 3600 * hourly, abs=1e-6)
            exact += sum(waits) / 3600 * hourly
            if killed:
                lost += BEAT_SECONDS / 3600 * hourly
            else:
                meter.close("failed")
            spent = dollars(read_attempts(f"{folder}/attempts.jsonl"), price)
            assert exact - lost - 1e-6 <= spent <= exact + 1e-6
            clock.goes(idle)  # nothing is paid for between attempts


def test_a_clock_that_is_set_back_takes_no_dollars_back(ledger):
    clock = Clock()
    meter = Meter.open(ledger, CostSettings(price=1), nodes=1, gpus=0, now=clock)
    clock.goes(3600)
    assert meter.dollars() == pytest.approx(1)
    clock.goes(-60)
    assert meter.dollars() == pytest.approx(1)


def test_a_heartbeat_is_written_only_now_and_then(ledger):
    clock = Clock()
    meter = Meter.open(ledger, CostSettings(price=1), nodes=1, gpus=0, now=clock)
    clock.goes(BEAT_SECONDS - 1)
    meter.beat()
    assert read_attempts(ledger)[0].hours == 0
    clock.goes(1)
    meter.beat()
    assert read_attempts(ledger)[0].hours == pytest.approx(BEAT_SECONDS / 3600)


def test_status_foresees_evaluations_and_checkpoints(ledger):
    clock = Clock()
    meter = Meter.open(ledger, CostSettings(price=2), nodes=1, gpus=4, now=clock)
    assert meter.status(10) == {
        "tokens_per_second": None,
        "mfu": None,
        "hours_left": None,
        "dollars": 0,
        "dollars_to_go": None,
    }
    meter.record(START)
    take(meter, clock, {"kind": "evaluation", "step": 0, "seconds": 100})
    take(meter, clock, step(1), step(2, seconds=99), step(3), {"kind": "evaluation", "step": 3, "seconds": 6})
    take(meter, clock, step(4, stall=2))
    status = meter.status(10)
    # Six steps of 10 s, the median, and of what stood beside four steps: 6 s and 2 s. The one before them is past.
    assert status["hours_left"] == pytest.approx(6 * (10 + 8 / 4) / 3600)
    assert status["dollars_to_go"] == pytest.approx(status["hours_left"] * 8)
    assert status["tokens_per_second"] == pytest.approx(4000 / 129)
    assert status["mfu"] == pytest.approx(4000 * 6e9 / 129 / 1e15)


def test_without_a_price_there_are_no_dollars(ledger):
    meter = Meter.open(ledger, CostSettings(), nodes=1, gpus=0)
    status = meter.status(10)
    assert status["dollars"] is None
    assert status["dollars_to_go"] is None
    assert meter.dollars() is None
    assert meter.stop_at() is None


def test_a_budget_needs_a_price(ledger):
    with pytest.raises(KoalaError, match="needs a price") as refused:
        Meter.open(ledger, CostSettings(budget=100), nodes=1, gpus=0)
    assert "cost.price" in refused.value.mend
    assert read_attempts(ledger) == []


@pytest.mark.parametrize(("price", "budget"), [(1.0, 0.0), (0.0, 5.0)])
def test_no_budget_or_machines_for_nothing_never_end_a_run(ledger, price, budget):
    clock = Clock()
    meter = Meter.open(ledger, CostSettings(price=price, budget=budget), nodes=1, gpus=0, now=clock)
    clock.goes(1e6)
    assert meter.stop_at() is None


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1000), st.floats(0.1, 30), st.floats(0, 120), st.booleans())
def test_the_run_stops_before_its_budget_is_spent_and_not_much_before(extra, seconds, checkpoint, seen):
    clock, hourly = Clock(), 30 * 8
    budget = (3 * seconds + 2 * checkpoint + extra) / 3600 * hourly
    with tempfile.TemporaryDirectory() as folder:
        cost = CostSettings(price=30, budget=budget)
        expected = 0.0 if seen else checkpoint
        meter = Meter.open(f"{folder}/attempts.jsonl", cost, nodes=1, gpus=8, checkpoint_seconds=expected, now=clock)
        meter.record(START)
        number = 0
        while clock() < meter.stop_at():
            number += 1
            take(meter, clock, step(number, seconds, wait=0.0))
            if seen and number == 1:
                meter.record({"kind": "checkpoint", "step": 1, "seconds": checkpoint})
        clock.goes(checkpoint)
        meter.close("budget")
        assert budget - seconds / 3600 * hourly <= meter.dollars() + 1e-6
        assert meter.dollars() <= budget + 1e-6


def test_a_budget_that_is_spent_refuses_another_attempt(ledger):
    clock, cost = Clock(), CostSettings(price=1, budget=2)
    meter = Meter.open(ledger, cost, nodes=1, gpus=0, now=clock)
    clock.goes(2 * 3600)
    meter.close("budget")
    with pytest.raises(KoalaError, match=r"\$2.00 of its budget of \$2.00"):
        Meter.open(ledger, cost, nodes=1, gpus=0, now=clock)
    assert len(read_attempts(ledger)) == 1
    Meter.open(ledger, CostSettings(price=1, budget=4), nodes=1, gpus=0, now=clock)


def test_mfu_is_the_part_of_the_peak():
    # MPT-13B on 8 A100s: 18,097 tokens/s at 83.1 GFLOP a token is 60 % of 8 × 312 TFLOP/s.
    assert mfu(18_097, 1.0, 83.1e9, 8 * 312e12) == pytest.approx(0.6, abs=0.005)
    assert mfu(1000, 1.0, 1e9, None) is None
