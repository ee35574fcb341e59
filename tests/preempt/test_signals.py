"""When workers save, leave and grow."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray.preempt.signals import MARGIN, Decider, Signals, Situation, Wish, explain

STEP, COMMIT, SETTLE = 2.0, 10.0, 10.0


def wishes(decider: Decider, situation: Situation, *times: float, commit: float = COMMIT) -> list[Wish]:
    return [decider.wish(situation, now, STEP, commit) for now in times]


def test_where_nothing_changes_there_is_nothing_to_do():
    assert wishes(Decider(4, 2, SETTLE), Situation(None, 4), 0, 100, 1e6) == [Wish.NOTHING] * 3


def test_with_other_machines_the_workers_leave_at_once():
    assert wishes(Decider(4, 2, SETTLE), Situation(120, 2), 0) == [Wish.LEAVE]


def test_where_no_checkpoint_fits_they_leave_without_one():
    assert wishes(Decider(4, 2, SETTLE), Situation(13, 4), 0) == [Wish.FLEE]
    assert wishes(Decider(4, 4, SETTLE), Situation(13, 3), 0) == [Wish.NOTHING]


def test_without_other_machines_they_save_at_once_and_again_as_late_as_is_safe():
    decider, situation = Decider(4, 4, SETTLE), Situation(120, 3)
    found = {now: decider.wish(situation, now, STEP, COMMIT) for now in range(0, 120, 2)}
    saves = [now for now, wish in found.items() if wish is Wish.SAVE]
    assert saves == [0, 92]
    assert 120 - saves[1] - STEP > MARGIN * COMMIT
    assert set(found.values()) == {Wish.SAVE, Wish.NOTHING}


def test_machines_that_come_while_others_go_are_taken():
    decider = Decider(4, 4, SETTLE)
    assert wishes(decider, Situation(120, 3), 0, 2) == [Wish.SAVE, Wish.NOTHING]
    assert wishes(decider, Situation(120, 4), 4) == [Wish.LEAVE]


def test_a_second_notice_with_an_earlier_deadline_saves_again():
    decider = Decider(2, 2, SETTLE)
    assert wishes(decider, Situation(120, 0), 0) == [Wish.SAVE]
    assert wishes(decider, Situation(60, 0), 10) == [Wish.SAVE]


def test_more_machines_are_taken_once_they_have_stayed_a_while():
    decider = Decider(1, 1, SETTLE)
    assert wishes(decider, Situation(None, 2), 0, 5) == [Wish.NOTHING] * 2
    assert wishes(decider, Situation(None, 1), 6) == [Wish.NOTHING]
    assert wishes(decider, Situation(None, 2), 8, 9, 8 + SETTLE) == [Wish.NOTHING, Wish.NOTHING, Wish.LEAVE]


@given(left=st.floats(0, 300), commit=st.floats(0, 200), held=st.integers(0, 4))
def test_no_checkpoint_is_begun_that_has_no_time(left, commit, held):
    wish = Decider(4, 2, SETTLE).wish(Situation(left, held), 0.0, STEP, commit)
    if wish in (Wish.SAVE, Wish.LEAVE):
        assert left - STEP > MARGIN * commit
    if held >= 2:
        assert wish in (Wish.LEAVE, Wish.FLEE)


@pytest.mark.parametrize("wish", [Wish.SAVE, Wish.LEAVE, Wish.FLEE])
def test_each_wish_is_explained(wish):
    assert "taken away" in explain(wish, Situation(math.inf, 1))
    assert "holds 3 workers" in explain(Wish.LEAVE, Situation(None, 3))


def test_what_was_heard_last_stands_while_nobody_answers():
    answers = [Situation(5, 1), RuntimeError("away"), Situation(7, 1)]
    heard = threading.Event()

    def look() -> Situation:
        if not answers:
            heard.set()
            return signals.situation
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    signals = Signals(look, Situation(None, 1), every=0.001)
    assert heard.wait(10)
    signals.close()
    assert signals.situation == Situation(7, 1)
