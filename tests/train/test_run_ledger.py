"""The ledger of a run's attempts: what is written is read again, and what it costs is the sum over attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.train.ledger import Attempt, dollars, read_attempts, utc, write_attempts

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def attempt(hours: float, price: float | None, nodes: int = 1, gpus: int = 0) -> Attempt:
    return Attempt(START, START + timedelta(hours=hours), nodes=nodes, gpus=gpus, price=price)


def test_what_is_written_is_read_again(root):
    kept = attempt(1.5, 2.0, gpus=8)
    kept.first_step, kept.last_step, kept.ended = 0, 40, "failed"
    kept.add("training", 3000.25)
    kept.add("training", 0.5)
    attempts = [kept, attempt(0, None)]
    ledger = storage.join(root, "attempts.jsonl")
    write_attempts(ledger, attempts)
    assert read_attempts(ledger) == attempts
    assert read_attempts(ledger)[0].seconds == {"training": 3000.75}


def test_no_ledger_is_no_attempts(tmp_path):
    assert read_attempts(str(tmp_path / "attempts.jsonl")) == []


@pytest.mark.parametrize("data", [b"{", b'{"started": "yesterday"}\n', b"[1]\n", b"\xff\n"])
def test_a_damaged_ledger_is_refused_with_its_place(tmp_path, data):
    ledger = str(tmp_path / "attempts.jsonl")
    storage.write_atomic(ledger, data)
    with pytest.raises(KoalaError, match="ledger is damaged") as refused:
        read_attempts(ledger)
    assert refused.value.where == ledger


def test_gpus_are_paid_for_each_and_nodes_where_there_are_none():
    assert dollars([attempt(2, 1.5, nodes=2, gpus=16)], 9.0) == pytest.approx(2 * 16 * 1.5)
    assert dollars([attempt(2, 1.5, nodes=2)], 9.0) == pytest.approx(2 * 2 * 1.5)


def test_attempts_without_a_price_count_at_todays():
    assert dollars([attempt(1, None), attempt(1, 3.0)], 2.0) == pytest.approx(5.0)
    assert dollars([attempt(1, 3.0)], None) is None


@given(st.floats(0, 4e9))
def test_times_survive_the_ledger_to_the_microsecond(seconds):
    assert datetime.fromisoformat(utc(seconds).isoformat()) == utc(seconds)
