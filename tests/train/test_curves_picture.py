from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_runs import GROUPS, records, start
from matplotlib.figure import Figure

from koala_ray.train.curves import curves_png
from koala_ray.train.curves.panels import COLOURS, COURSE, LOSS, RUN_COLOURS, Panel, group_panels, looks
from koala_ray.train.curves.picture import NARROW, WIDE, curves_svg
from koala_ray.train.curves.runs import Runs

XML = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
RUNS = {"one": records(restart=20), "two": records(seed=1)}
SEEING = {
    "all cones": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""Machado et al. 2009, severity 1, on linear RGB."""
PAGES = ("#ffffff", "#16191d")


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("seeing", SEEING)
def test_the_runs_colours_can_be_told_apart(theme: int, seeing: str) -> None:
    seen = [lab(np.array(SEEING[seeing]) @ linear(values[theme])) for values in RUN_COLOURS.values()]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) >= 15


@pytest.mark.parametrize("theme", [0, 1])
def test_the_runs_colours_stand_out_from_the_page(theme: int) -> None:
    for values in RUN_COLOURS.values():
        low, high = sorted((luminance(values[theme]), luminance(PAGES[theme])))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_no_two_of_the_first_36_runs_look_alike() -> None:
    found = looks({f"run {place}": [] for place in range(36)})
    assert len({(look.colour, look.mark) for look in found.values()}) == 36


def element(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", f"<svg {XML} ", 1))


@pytest.mark.parametrize("panel", [LOSS, *COURSE, group_panels(RUNS)[0]], ids=lambda panel: panel.title)
def test_a_panel_is_an_element_in_the_pages_colours(panel: Panel) -> None:
    svg = curves_svg(panel, RUNS, NARROW, "a <label>")
    found = element(svg)
    assert found.attrib["aria-label"] == "a <label>"
    assert not re.findall(r"(?:stroke|fill): #\w+", svg), "a colour that stays as it is in the dark"
    assert {"var(--run-0)", "var(--run-1)", "var(--faint)"} <= set(re.findall(r"var\(--[\w-]+\)", svg))
    assert "http" not in svg.replace("http://www.w3.org", "")


def drawn(panel: Panel, runs: Runs) -> Any:
    """The axes that a panel has drawn on."""
    axes = Figure().add_subplot()
    panel.draw(axes, runs)
    return axes


def test_losses_incidents_and_restarts_are_in_the_loss_panel() -> None:
    axes = drawn(LOSS, RUNS)
    lines = [(line.get_marker(), line.get_linestyle(), len(line.get_xdata())) for line in axes.get_lines()]
    each, smoothed, restart = ("None", "-", 60), ("None", "-", 60), ("None", ":", 2)
    one = [each, smoothed, ("o", "--", 4), restart, ("X", "None", 1)]
    two = [each, smoothed, ("s", "--", 4), ("X", "None", 1)]
    assert lines == [*one, *two]


def test_a_spike_does_not_flatten_the_rest() -> None:
    calm = [record for record in records(steps=200, every=50) if record["kind"] != "incident"]
    wild = [record | {"loss": 500.0} if record["kind"] == "step" and record["step"] == 7 else record for record in calm]
    assert drawn(LOSS, {"run": calm}).get_ylim()[1] < 5
    assert drawn(LOSS, {"run": wild}).get_ylim()[1] < 5


def test_the_groups_share_one_scale() -> None:
    panels = group_panels(RUNS)
    assert [panel.title for panel in panels] == sorted(GROUPS)
    spans = []
    for panel in panels:
        axes = drawn(panel, RUNS)
        low, high = axes.get_ylim()
        spans.append(high - low)
        values = [value for line in axes.get_lines() for value in line.get_ydata()]
        assert low < min(values)
        assert max(values) < high
    assert spans == pytest.approx([spans[0]] * len(spans))


def test_the_picture_is_a_png_with_the_same_bytes_each_time() -> None:
    picture = curves_png(RUNS)
    assert picture.startswith(b"\x89PNG\r\n")
    assert picture == curves_png(RUNS)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("run", [[start(0)], records(steps=1)], ids=["no step", "one step"])
def test_a_run_that_has_only_begun_can_be_drawn(run: list[dict[str, Any]]) -> None:
    assert curves_png({"run": run}).startswith(b"\x89PNG")


def test_a_users_own_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.weight: bold\nlines.linewidth: 9\n")
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from made_runs import records\n"
        "from koala_ray.train.curves.panels import LOSS\n"
        "from koala_ray.train.curves.picture import WIDE, curves_svg\n"
        "print(curves_svg(LOSS, {'one': records(restart=20), 'two': records(seed=1)}, WIDE, ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == curves_svg(LOSS, RUNS, WIDE, "") + "\n"


def test_every_colour_has_a_value_of_its_own() -> None:
    assert len({values[0] for values in COLOURS.values()}) == len(COLOURS)
