"""The plan as people see it: terminal and page."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from html_reader import Reader

from koala_ray.plan.figures import memory_figure, money_figure, step_figure
from koala_ray.plan.grids import dollars, hours
from koala_ray.plan.page import page
from koala_ray.plan.plan import plan
from koala_ray.plan.text import text
from koala_ray.recipe_file import load_recipe


@pytest.fixture(scope="module")
def thirteen() -> dict[str, Any]:
    return plan(load_recipe("koala-all-13b"), "8xA100-80GB", 1.5, tokens=227_532_407)


@pytest.fixture(scope="module")
def too_large() -> dict[str, Any]:
    sets = ["train.micro_rows=4", "train.activation_checkpointing=false"]
    return plan(load_recipe("koala-all-13b", sets), "8xA100-40GB", 1.0, tokens=1_000_000)


def test_the_terminal_shows_what_is_decided_on(thirteen: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = text(thirteen)
    for value in (dollars(thirteen["expected_dollars_with_reclaims"]), hours(thirteen["hours"]), "ZeRO-2 (best)"):
        assert value in shown
    assert "Koala's claim" in shown
    assert "llm-foundry" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_what_doesnt_fit_is_said_with_what_helps(too_large: dict[str, Any]) -> None:
    for shown in (text(too_large), page(too_large)):
        assert "doesn" in shown
        assert too_large["advice"][0].split("  ")[0] in shown


def test_devices_without_work_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found = plan(load_recipe("koala-smol"), "8xA100-80GB", 1.0, tokens=1_000_000)
    for shown in (text(found), html.unescape(page(found))):
        assert " ".join(shown.split()).count(found["notes"][0]) == 1


@pytest.mark.parametrize("name", ["thirteen", "too_large"])
def test_the_page_stands_alone(name: str, request: pytest.FixtureRequest) -> None:
    made = page(request.getfixturevalue(name))
    assert not [found for _, found in Reader(made).tags if {"src", "href"} & set(found)], "nothing is fetched"
    assert "<script" not in made
    assert made.count("<svg") == 3
    assert page(request.getfixturevalue(name)) == made


def test_the_page_says_the_bill_and_its_sources(thirteen: dict[str, Any]) -> None:
    words = re.sub(r"<[^>]*>", " ", page(thirteen))
    for item in thirteen["assumptions"]:
        assert item["name"] in words.replace("&#x27;", "'")
    assert dollars(thirteen["dollars"]) in words


@pytest.mark.parametrize("figure", [memory_figure, money_figure, step_figure])
def test_figures_are_sound_and_say_themselves(figure: Any, thirteen: dict[str, Any]) -> None:
    element = ElementTree.fromstring(figure(thirteen))
    assert len(element.attrib["aria-label"]) > 30
    assert "var(--" in figure(thirteen), "colours follow the page's light or dark"


def test_bars_stay_inside_their_figure(too_large: dict[str, Any]) -> None:
    for figure in (memory_figure(too_large), money_figure(too_large)):
        width = float(re.search(r'viewBox="0 0 (\S+)', figure)[1])  # type: ignore[index]
        places = [
            float(x) for path in re.findall(r'd="M([^"]*)"', figure) for x in re.findall(r"(-?[\d.]+) -?[\d.]+", path)
        ]
        assert places
        assert max(places) <= width + 1
        assert min(places) >= -1


def test_amounts_are_readable() -> None:
    assert [dollars(value) for value in (0.5, 87.3, 14707929, None)] == ["$0.50", "$87", "$14,707,929", "never ends"]
    assert [hours(value) for value in (0.25, 8.08, None)] == ["15.0 min", "8.1 h", "never ends"]
