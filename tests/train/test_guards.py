"""Guards: what they find in a step, what a stop says, and how errors of collectives are explained."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.recipe import GuardSettings
from koala_ray.train.guards import Guards, Verdict, explain_hang, refusal

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
