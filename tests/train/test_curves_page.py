"""The page of runs: their facts, incidents and answers beside each other."""

from __future__ import annotations

import re

import pytest
from html_reader import Reader
from made_runs import GROUPS, evaluation, incident, records

from koala_ray.train.curves import curves_page

EVIL = "<script>alert(1)</script>\"'&\x1b[31m"


@pytest.fixture(scope="module")
def single() -> str:
    return curves_page({"train-0": records(steps=60, every=20)})


@pytest.fixture(scope="module")
def double() -> str:
    return curves_page({"train-0": records(steps=60, restart=20), "train-1": records(steps=40, seed=1)})


def test_a_runs_page_needs_nothing_but_itself(single: str) -> None:
    read = Reader(single)
    names = {tag for tag, _ in read.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    for _, attributes in read.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith("#")
    assert sum(tag == "svg" for tag, _ in read.tags) == 1 + len(GROUPS) + 4


def test_what_the_figures_refer_to_is_there_once_in_each_place(single: str) -> None:
    text = single
    defined = set(re.findall(r'\bid="([^"]+)"', text))
    assert set(re.findall(r'xlink:href="#([^"]+)"', text)) <= defined
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= defined


def test_the_facts_of_runs_stand_side_by_side(double: str) -> None:
    read = Reader(double)
    table = {row[0]: row[1:] for row in read.tables["What came of it, first → last"]}
    assert table[""] == ["train-0", "train-1"]
    assert table["steps"] == ["60", "40"]
    assert table["restarts"] == ["1", "0"]
    assert table["held-out loss"][0] == (
        f"{evaluation(0, 60)['heldout_loss']:.3f} → {evaluation(60, 60)['heldout_loss']:.3f}"
    )
    assert "2 runs" in read.texts


def test_incidents_say_which_rows_and_examples() -> None:
    many = incident(7, "nonfinite", None) | {"rows": list(range(20))}
    read = Reader(curves_page({"train-0": [*records(), many]}))
    rows = read.tables["Steps that a guard judged"]
    assert rows[1][:5] == ["train-0", "30", "spike: note", "7.500", "3.000"]
    assert rows[1][6] == "hc3/a.jsonl#30, hh/b.jsonl#2/chosen"
    assert rows[2][3] == "not finite"
    assert rows[2][5] == "0, 1, 2, 3, 4, 5, 6, 7 and 12 more"


def test_answers_stand_under_their_prompt_first_and_last_and_all(single: str) -> None:
    read = Reader(single)
    assert single.count('class="answer"') == 2
    assert "All 4 answers" in read.texts
    (answers,) = (rows for caption, rows in read.tables.items() if not caption)
    assert answers == [
        ["before training", "Answer 0 after 0 steps."],
        *([f"after {step} steps", f"Answer 0 after {step} steps."] for step in (20, 40, 60)),
    ]
    assert 'class="prompt">Question 0: why is\nthe sky &lt;blue&gt;?</p>' in single


def test_two_runs_answers_to_a_prompt_stand_together(double: str) -> None:
    assert double.count('class="prompt"') == 1
    assert double.count('class="answer"') == 4
    assert "train-1, after 40 steps" in double


def test_texts_of_others_are_texts() -> None:
    made = records(steps=4)
    for record in made:
        if record["kind"] == "evaluation":
            record["samples"] = [{"prompt": EVIL, "answer": EVIL}]
            record["groups"][EVIL] = {"loss": 1.0, "learnt": 1}
        if record["kind"] == "incident":
            record["examples"] = [EVIL]
    text = curves_page({EVIL: made, "other": records(steps=4)})
    read = Reader(text)
    assert "script" not in {tag for tag, _ in read.tags}
    assert "\x1b" not in text
    assert any("<script>alert(1)</script>" in shown for shown in read.texts)


@pytest.mark.parametrize("run", [[], [evaluation(0, 1)]])
def test_a_run_that_has_only_begun_has_a_page(run: list[dict]) -> None:
    read = Reader(curves_page({"train-0": run}))
    assert "Figures" in read.texts
    assert "Steps that a guard judged" not in read.tables


def test_equal_records_give_an_equal_page(single: str) -> None:
    assert curves_page({"train-0": records(steps=60, every=20)}) == single
