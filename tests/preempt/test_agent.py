"""The agent: asks on when a source fails, tells Ray until Ray knows."""

from __future__ import annotations

import threading

import pytest

from koala_ray.errors import KoalaError
from koala_ray.preempt import agent as module
from koala_ray.preempt.agent import Agent
from koala_ray.preempt.sources import Notice

NOTICE = Notice("it ends", 2e9)


class Answers:
    """A source that gives one answer after the other."""

    name = "answers"

    def __init__(self, *answers) -> None:
        self.answers = list(answers)

    def look(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_failing_source_is_told_once_and_asked_again():
    said, drained = [], []
    source = Answers(None, OSError("gone"), OSError("gone"), ValueError("odd"), None, NOTICE)
    assert Agent([source], drained.append, said.append, every=0).run() == NOTICE
    assert drained == [NOTICE]
    assert [text for text in said if "can't be asked" in text] == ["answers can't be asked (gone); trying on"]


def test_a_notice_by_signal_wakes_the_agent():
    drained = []
    agent = Agent([], drained.append, lambda text: None, every=3600)
    thread = threading.Thread(target=agent.run)
    thread.start()
    agent.give_notice(NOTICE)
    thread.join(10)
    assert drained == [NOTICE]


def test_ray_is_told_until_it_takes_it(monkeypatch):
    waits, failures = [], [RuntimeError("no"), ConnectionError("down")]
    monkeypatch.setattr(module.time, "sleep", waits.append)

    def drain(notice: Notice) -> None:
        if failures:
            raise failures.pop()

    assert Agent([Answers(NOTICE)], drain, lambda text: None, every=0).run() == NOTICE
    assert waits == [0.5, 1.0]


def test_an_agent_that_can_tell_nobody_fails_aloud(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)

    def drain(notice: Notice) -> None:
        raise ConnectionError("down")

    with pytest.raises(KoalaError, match="couldn't be told"):
        Agent([Answers(NOTICE)], drain, lambda text: None, every=0).run()


def test_an_agent_that_is_stopped_gives_no_notice():
    agent = Agent([Answers(*[None] * 9)], lambda notice: None, lambda text: None, every=0)
    agent.stop()
    assert agent.run() is None
