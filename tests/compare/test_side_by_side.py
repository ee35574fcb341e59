"""The page that shows two models' answers beside each other."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from html_reader import Reader

from koala_ray.compare.side_by_side import page
from koala_ray.records import Answer

EVIL = "<script>alert('x')</script><img src=x onerror=\"y\"> & </div></html>"
PNG = b"\x89PNG\r\n\x1a\n"


def answer(id_: str, text: str = "fine", **values: object) -> Answer:
    base = Answer(id_, f"prompt {id_}", text, [1], prompt_tokens=5, tokens=3, finish="stop", model="m")
    return replace(base, **values)  # type: ignore[arg-type]


def test_answers_stand_beside_each_other_in_order() -> None:
    base, tuned = [answer("1", "b1"), answer("2", "b2")], [answer("1", "t1"), answer("2", "t2")]
    read = Reader(page("tiny", "about it", {"steps": 5}, PNG, base, tuned))
    assert [text for text in read.texts if text in ("prompt 1", "b1", "t1", "prompt 2", "b2", "t2")] == [
        "prompt 1",
        "b1",
        "t1",
        "prompt 2",
        "b2",
        "t2",
    ]
    assert {"tiny", "about it", "steps", "5"} <= set(read.texts)


def test_everything_is_escaped() -> None:
    evil = answer("1", EVIL, prompt=EVIL)
    failed = answer("2", finish="failed", error=EVIL, prompt=EVIL)
    text = page(EVIL, EVIL, {EVIL: EVIL}, PNG, [evil, failed], [evil, failed])
    read = Reader(text)
    assert "script" not in [tag for tag, _ in read.tags]
    assert [attributes for tag, attributes in read.tags if tag == "img"] == [
        {"alt": "loss curve", "src": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}
    ]
    assert not [attributes for _, attributes in read.tags if any(name.startswith("on") for name in attributes)]
    # Title twice, about, figure's name and value, two prompts, four answers.
    assert read.texts.count(EVIL) == 11


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = page("t", "a", {}, PNG, [answer("1")], [answer("1")])
    assert "http" not in text
    assert "<script" not in text


def test_how_an_answer_ended_is_said() -> None:
    base = [answer("1"), answer("2", finish="length"), answer("3", "", finish="failed", error="no room")]
    text = page("t", "a", {}, PNG, base, [answer(id_) for id_ in "123"])
    for words in ("3 tokens, ended by itself", "3 tokens, cut at the token limit", "3 tokens, failed", "no room"):
        assert words in text


@pytest.mark.parametrize("other", ["", "1", "12 ", "21", "13", "123"])
def test_answers_to_other_prompts_are_refused(other: str) -> None:
    with pytest.raises(ValueError, match="different prompts"):
        page("t", "a", {}, PNG, [answer("1"), answer("2")], [answer(id_) for id_ in other])


def test_no_answers_still_make_a_page() -> None:
    assert Reader(page("t", "a", {}, PNG, [], [])).open == []
