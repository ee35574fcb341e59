from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from ledgers import BORDERS, EVIL, FILTERS, koala, ledger, ledgers, source, with_tokens

from koala_ray.curate.ledger_figures import WIDTH, length_bins, lengths_figure, mixture_figure, rows_figure
from koala_ray.pages import COLOURS

FIGURES = {"rows": rows_figure, "mixture": mixture_figure, "lengths": lengths_figure}


def bars(svg: str, colour: str) -> list[tuple[float, float, float, float]]:
    """Left, right, upper and lower edge of each bar of a colour, in the order in which they are drawn."""
    found = []
    for path in ElementTree.fromstring(svg).iter("path"):
        if path.attrib.get("style") == f"fill: var(--{colour})":
            points = [float(value) for value in re.findall(r"-?[\d.]+", path.attrib["d"])]
            found.append((min(points[::2]), max(points[::2]), min(points[1::2]), max(points[1::2])))
    return found


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def test_bars_are_as_long_as_the_shares_and_lie_end_to_end() -> None:
    lost = {"layout": {"a": 100, "b": 150}, "length": {"c": 250}}
    svg = rows_figure(ledger({"hc3": source(1000, lost)}))
    colours = ("kept", f"filter-{FILTERS.index('layout')}", f"filter-{FILTERS.index('length')}")
    kept, layout, length = (bars(svg, colour)[0] for colour in colours)
    assert kept[:2] == pytest.approx((0, WIDTH / 2))
    assert layout[:2] == pytest.approx((WIDTH / 2, WIDTH * 3 / 4))
    assert length[:2] == pytest.approx((WIDTH * 3 / 4, WIDTH))
    assert {"hc3", "50.0 % of 1,000 rows kept", "kept 500", "layout 250", "length 250"} <= set(texts(svg))


def test_a_filter_has_one_colour_for_all_sources() -> None:
    svg = rows_figure(ledger({"hc3": source(10, {"length": {"x": 5}}), "hh": source(10, {"read": {"y": 5}})}))
    assert len(bars(svg, "filter-0")) == len(bars(svg, "filter-9")) == 2  # the bar and its mark beside the count


def test_every_filter_has_a_colour_of_its_own() -> None:
    assert (
        len({values[0] for values in COLOURS.values()})
        == len({values[1] for values in COLOURS.values()})
        == len(COLOURS)
    )
    assert sum(name.startswith("filter-") for name in COLOURS) >= len(FILTERS)


def test_the_mixture_is_drawn_to_scale() -> None:
    made = koala()
    svg = mixture_figure(made)
    lengths = [right - left for left, right, *_ in bars(svg, "accent-soft")[1:]]  # the first is the legend's
    tokens = [made["sources"][name]["tokens"] for name in ("sharegpt", "hc3", "alpaca")]
    assert lengths[0] / lengths[1] == pytest.approx(tokens[0] / tokens[1], abs=1e-3)
    assert lengths[2] == 0
    learnt = [right - left for left, right, *_ in bars(svg, "accent")[1:]]
    assert learnt[0] / lengths[0] == pytest.approx(0.75, abs=1e-3)
    assert "0.0 % · 0 tokens" in texts(svg)


def test_lengths_are_drawn_to_scale_where_there_are_dialogues() -> None:
    svg = lengths_figure(koala())
    heights = [lower - upper for *_, upper, lower in bars(svg, "accent")]
    assert len(heights) == 2 * len(BORDERS)
    assert heights[0] == 0  # sharegpt has no dialogue below 32 tokens
    hc3 = heights[len(BORDERS) :]
    assert hc3[1] / max(hc3) == pytest.approx(9100 / 31_000, abs=1e-3)
    assert {"hc3", "sharegpt", "83,918 dialogues", "36.9"} <= set(texts(svg))
    assert "alpaca" not in texts(svg)


def test_bins_are_named_by_the_tokens_in_them() -> None:
    assert length_bins({"lengths": {"borders": [0, 32, 1024], "dialogues": [1, 2, 3]}}) == [
        ("0–31", 1),
        ("32–1,023", 2),
        ("1,024+", 3),
    ]
    with pytest.raises(ValueError, match="zip"):
        length_bins({"lengths": {"borders": [0, 32], "dialogues": [1]}})


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_leaves_the_picture(name: str) -> None:
    long = {f"filter {'x' * 80}": 1}
    made = koala()
    made["sources"]["a source with quite a name, in fact"] = made["sources"]["hc3"] | {"repaired": long}
    svg = FIGURES[name](made)
    height = float(svg.split('viewBox="0 0 360 ')[1].split('"')[0])
    for element in ElementTree.fromstring(svg).iter("text"):
        size = float(re.search(r"([\d.]+)px", element.attrib["style"])[1])  # type: ignore[index]
        wide = 0.55 * size * len(element.text or "")
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        anchor = element.attrib["style"].split("text-anchor: ")[1].split(";")[0]
        left = x - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
        assert left >= -1, element.text
        assert left + wide <= WIDTH + 1, element.text
        assert 0 < y <= height


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_what_it_shows_and_has_the_pages_colours_only(name: str) -> None:
    svg = FIGURES[name](koala())
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.attrib["role"] == "img"
    assert "sharegpt: " in root.attrib["aria-label"]
    assert not re.search(r"#[0-9a-f]{6}", svg)
    assert " id=" not in svg
    assert "http" not in svg


@settings(deadline=None, max_examples=6)
@given(ledgers())
def test_any_balanced_ledger_can_be_drawn(made: dict[str, Any]) -> None:
    for figure in FIGURES.values() if "tokens" in made else (rows_figure,):
        svg = figure(made)
        assert svg == figure(made)
        assert {element.tag for element in ElementTree.fromstring(svg).iter()} <= {"svg", "g", "path", "text"}


def test_a_source_that_gave_no_rows_says_so() -> None:
    svg = rows_figure(ledger({"hc3": source(0)}))
    assert texts(svg) == ["hc3", "no rows"]


def test_hostile_names_stay_texts() -> None:
    made = with_tokens(ledger({EVIL: source(5)}), {EVIL: [5, 0, 0, 0, 0, 0]})
    for figure in FIGURES.values():
        assert EVIL[:8] in "".join(texts(figure(made)))


def test_a_users_own_settings_of_matplotlib_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(
        "font.family: serif\nsvg.fonttype: path\naxes.facecolor: red\nfont.weight: bold\n"
    )
    code = "import sys; sys.path.insert(0, sys.argv[1])\nimport ledgers\nfrom koala_ray.curate import ledger_figures\n"
    code += "print(ledger_figures.rows_figure(ledgers.koala()))"
    drawn = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, "MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert drawn.stdout == rows_figure(koala()) + "\n"
