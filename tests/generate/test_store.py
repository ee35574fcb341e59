"""Answers that are kept: by what was asked, whole or not there, also where the storage is S3."""

from __future__ import annotations

import pytest

from koala_ray import storage
from koala_ray.generate import store
from koala_ray.generate.store import AnswerStore, key_of
from koala_ray.records import Answer


def answer(text: str) -> Answer:
    return Answer("", "asked", text, [1, 2], 3, 3, "stop", "m", sampling={"stop": ["x"]}, step=4)


def test_what_is_added_is_there_again(root):
    kept = AnswerStore(root)
    given = {key_of([1, place], 0): answer(f"line\u2028{place}\n") for place in range(5)}
    for key, one in given.items():
        kept.add(key, one)
    assert {key: kept.get(key) for key in given} == given
    kept.flush()
    again = AnswerStore(root)
    assert len(again) == 5
    assert {key: again.get(key) for key in given} == given
    assert again.get(key_of([9], 0)) is None


def test_a_part_is_due_when_it_is_full_or_late_and_written_once(root, monkeypatch):
    monkeypatch.setattr(store, "PART_ANSWERS", 2)
    kept = AnswerStore(root)
    due = []
    for place in range(5):
        kept.add(str(place), answer("a"))
        due.append(kept.due)
        if kept.due:
            kept.flush()
    assert due == [False, True, False, True, False]
    assert len(AnswerStore(root)) == 4
    monkeypatch.setattr(store, "PART_SECONDS", 0.0)
    assert kept.due
    kept.flush()
    assert not kept.due
    kept.flush()
    assert len(storage.list_files(root, [store.PARTS])) == 3
    assert len(AnswerStore(root)) == 5


def test_answers_that_come_while_a_part_is_written_make_the_next_one(tmp_path, monkeypatch):
    kept = AnswerStore(str(tmp_path))
    kept.add("first", answer("a"))
    write = storage.write_atomic

    def slowly(uri: str, data: bytes) -> None:
        kept.add("second", answer("b"))
        write(uri, data)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_atomic", slowly)
        kept.flush()
    assert len(AnswerStore(str(tmp_path))) == 1
    kept.flush()
    assert len(AnswerStore(str(tmp_path))) == 2


def test_two_jobs_may_write_the_same(root):
    first, second = AnswerStore(root), AnswerStore(root)
    first.add("k", answer("a"))
    second.add("k", answer("a"))
    first.flush()
    second.flush()
    assert len(AnswerStore(root)) == 1


@pytest.mark.parametrize("other", [([1, 2], 1), ([1, 2, 3], 0), ([12], 0)])
def test_a_key_is_what_is_asked(other):
    assert key_of([1, 2], 0) == key_of((1, 2), 0)
    assert key_of([1, 2], 0) != key_of(*other)
