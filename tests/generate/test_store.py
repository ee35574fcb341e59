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


def test_a_part_is_written_when_it_is_full_and_once(root, monkeypatch):
    monkeypatch.setattr(store, "PART_ANSWERS", 2)
    kept = AnswerStore(root)
    for place in range(5):
        kept.add(str(place), answer("a"))
    assert len(AnswerStore(root)) == 4
    kept.flush()
    kept.flush()
    assert len(storage.list_files(root, [store.PARTS])) == 3
    assert len(AnswerStore(root)) == 5


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
