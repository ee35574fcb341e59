"""Asking while the storage is slow or away; what replicas answer is made here, how they are asked is the product's."""

from __future__ import annotations

import threading

import pytest

from koala_ray import storage
from koala_ray.errors import KoalaError, StorageFailure
from koala_ray.generate import asking, store
from koala_ray.generate.asking import Asker, Dialogue
from koala_ray.generate.model import open_model
from koala_ray.generate.replica import Reply
from koala_ray.generate.store import AnswerStore
from koala_ray.recipe import GenerateSettings

COUNT = 40
DIALOGUES = [Dialogue((f"Count to {place}.",)) for place in range(COUNT)]


class Handle:
    """Answers what it is asked, one token each; what comes in its turn may be an error."""

    def __init__(self, meet=lambda asked: None) -> None:
        self.asked, self._meet = 0, meet

    @property
    def reply(self):
        return self

    async def remote(self, ask):
        self.asked += 1
        self._meet(self.asked)
        return Reply(ids=[65], ended=True, text="A", finish="stop", seconds=0.1)


@pytest.fixture
def asker(tmp_path, monkeypatch) -> Asker:
    monkeypatch.setattr(asking, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(store, "PART_ANSWERS", 1)
    settings = GenerateSettings(max_tokens=4, concurrent=2)
    return Asker(open_model("tiny", str(tmp_path), ""), settings, AnswerStore(str(tmp_path / "answers-x")))


def kept(tmp_path) -> int:
    return len(AnswerStore(str(tmp_path / "answers-x")))


def test_replicas_are_asked_while_a_part_is_being_written(asker, tmp_path, monkeypatch):
    """The first part is written only once all have been asked."""
    all_asked, write = threading.Event(), storage.write_atomic

    def slowly(uri: str, data: bytes) -> None:
        assert all_asked.wait(60)
        write(uri, data)

    monkeypatch.setattr(storage, "write_atomic", slowly)
    handle = Handle(lambda asked: all_asked.set() if asked == COUNT else None)
    asker.ask(handle, DIALOGUES)
    assert handle.asked == kept(tmp_path) == COUNT
    assert asker.missing(DIALOGUES) == []


def test_a_storage_that_stays_away_ends_the_job_with_its_own_error(asker, monkeypatch):
    def away(uri: str, data: bytes) -> None:
        raise StorageFailure("this storage can't be used", where=uri, mend="wait")

    monkeypatch.setattr(store, "outlast", lambda work, told: work())
    monkeypatch.setattr(storage, "write_atomic", away)
    with pytest.raises(StorageFailure, match="can't be used"):
        asker.ask(Handle(), DIALOGUES)


def test_what_came_before_an_interruption_is_kept(asker, tmp_path):
    def interrupt(asked: int) -> None:
        if asked == COUNT // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asker.ask(Handle(interrupt), DIALOGUES)
    assert 0 < kept(tmp_path) < COUNT


def test_a_refusal_is_an_answer_that_failed(asker):
    class Refusing(Handle):
        async def remote(self, ask):
            return KoalaError("too long", where="prompt", mend="shorten it")

    asker.ask(Refusing(), DIALOGUES[:1])
    (answer,) = asker.answers(DIALOGUES[0])
    assert answer.finish == "failed"
    assert answer.error == "too long (mend: shorten it)"
