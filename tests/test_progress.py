from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from koala_ray import progress
from koala_ray.progress import Progress, clock


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    standing = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=standing.monotonic))
    return standing


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (-3, "0:00"),
        (0.4, "0:00"),
        (9, "0:09"),
        (59.6, "1:00"),
        (70, "1:10"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (3661, "1:01:01"),
        (360_000, "100:00:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_lines_say_total_percent_note_and_time_left(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", 40, "steps") as bar:
        time.advance(30)
        bar.update(12, "loss 2.31")
        time.advance(10)
        bar.update(40)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train     12/40 steps  30 %  loss 2.31  1:10 left",
        "train     40/40 steps  100 %  loss 2.31  0:40 taken",
    ]


def test_without_a_total_there_is_a_count(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("read", None) as bar:
        bar.update(12_345, "3 rejected")
    assert capsys.readouterr().err == "read      12,345 rows  3 rejected\n"


def test_large_numbers_are_grouped_and_the_percent_is_not_rounded_up(time: Clock) -> None:
    bar = Progress("read", 1_000_000)
    bar.update(999_999)
    assert bar.line().startswith("999,999/1,000,000 rows  99 %")


def test_lines_come_every_few_seconds_and_once_more_at_the_end(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("read", None) as bar:
        for done in range(1, 13):
            bar.update(done)
            time.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1", "6", "11", "12"]


def test_the_last_line_is_not_said_twice(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("read", None) as bar:
        bar.update(5)
    assert capsys.readouterr().err.splitlines() == ["read      5 rows"]


def test_a_note_stays_until_another_comes(time: Clock) -> None:
    bar = Progress("read", 10)
    bar.update(1, "slow")
    bar.update(2)
    assert "slow" in bar.line()
    bar.update(3, "fast")
    assert "slow" not in bar.line()


def test_a_resumed_run_counts_its_own_work_only(time: Clock) -> None:
    bar = Progress("train", 100, "steps")
    time.advance(60)  # starting up
    bar.start_at(90)
    assert bar.seconds_left() is None
    bar.update(90, "loading")
    assert bar.seconds_left() is None
    assert "left" not in bar.line()
    time.advance(20)
    bar.update(92)
    assert bar.seconds_left() == pytest.approx(80)
    assert "92/100 steps  92 %" in bar.line()
    assert bar.line().endswith("1:20 left")


def test_a_run_from_the_beginning_counts_from_its_start(time: Clock) -> None:
    bar = Progress("train", 100)
    assert bar.seconds_left() is None
    time.advance(10)
    bar.update(25)
    assert bar.seconds_left() == pytest.approx(30)


def test_a_failure_says_no_last_line(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress("read", 10)
    bar.update(1)
    with pytest.raises(ZeroDivisionError), bar:
        bar.update(2 // 0)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("train", 4, "steps") as bar:
        bar.update(1, "loss 2.31")
        bar.update(4, "loss 1.00")
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert "4/4 steps" in shown
    assert "loss 1.00" in shown
