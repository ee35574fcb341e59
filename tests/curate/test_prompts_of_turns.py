"""Curation against prompts of several turns: each turn counts, and a prompt goes or stays as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from koala_ray.curate import step
from koala_ray.curate.step import curate
from koala_ray.curate.worker import FilterSettings, curate_rows, split_file
from koala_ray.errors import KoalaError
from koala_ray.prompts import Prompt, load_prompts
from koala_ray.recipe_file import load_recipe
from koala_ray.steps import StepResult

OPENING = "Compose a travel diary about a week on the islands of Hawaii."
FOLLOWING = "Rewrite that diary so that every sentence begins with the letter A."
FAR = "Quantify the salinity gradients near hydrothermal vents in the Pacific."
FARTHER = "Which of these gradients would a submarine's instruments miss?"
ANSWERED = ("Why is the sky blue in the morning?", OPENING, FOLLOWING)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray's tasks do is done here, in the same order."""

    def stream(tasks: list[dict[str, str]], settings: FilterSettings) -> Iterator[pa.Table]:
        for task in tasks:
            for table in split_file({name: np.array([value]) for name, value in task.items()}):
                yield curate_rows(table, settings)

    monkeypatch.setattr(step, "_stream", stream)


def curated(folder: Path, prompts: list[dict[str, Any]], *sets: str) -> StepResult:
    """Three Alpaca rows, two of which ask what a prompt of two turns asks, held against these prompts."""
    rows = [{"instruction": text, "input": "", "output": f"Answer {n}."} for n, text in enumerate(ANSWERED)]
    (folder / "alpaca.json").write_text(json.dumps(rows))
    (folder / "asked.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    against = f"curate.against=[{folder / 'asked.jsonl'}]"
    return curate(load_recipe("tiny", [against, *sets], str(folder)), str(folder / "out"))


@pytest.mark.parametrize("turns", [[OPENING, FOLLOWING], [FOLLOWING, OPENING], [FAR, FOLLOWING, FARTHER, OPENING]])
def test_a_row_goes_whichever_turn_it_asks(tmp_path: Path, turns: list[str]) -> None:
    ledger = curated(tmp_path, [{"id": "far", "prompt": FAR}, {"id": "both", "turns": turns}]).manifest.counts
    assert ledger["sources"]["alpaca"]["rows_kept"] == 1
    assert ledger["prompts"] == {"asked": {"prompts": 2, "contaminated": 1}}


def test_a_prompt_goes_if_one_of_its_turns_is_hit_and_the_others_stay_whole(tmp_path: Path) -> None:
    prompts = [
        {"id": "a", "turns": [FAR, FOLLOWING]},
        {"id": "b", "turns": [FAR, FARTHER]},
        {"id": "c", "prompt": OPENING},
        {"id": "d", "prompt": FARTHER},
    ]
    found = curated(tmp_path, prompts, "curate.decontaminate=prompts")
    assert found.manifest.counts["sources"]["alpaca"]["rows_kept"] == 3
    assert found.manifest.counts["prompts"] == {"asked": {"prompts": 4, "contaminated": 2}}
    left = load_prompts(f"{found.folder}/prompts/asked.jsonl").prompts
    assert left == (Prompt("b", FAR, (FARTHER,)), Prompt("d", FARTHER))


def test_a_step_against_prompts_of_one_turn_has_the_inputs_it_always_had(tmp_path: Path) -> None:
    one = curated(tmp_path, [{"id": "a", "prompt": OPENING}]).manifest.inputs
    assert one.keys() == {"files", "prompts"}
    listed = curated(tmp_path, [{"id": "a", "turns": [OPENING]}]).manifest
    assert listed.inputs == one
    several = curated(tmp_path, [{"id": "a", "turns": [OPENING, FAR]}]).manifest.inputs
    assert several.keys() == {"files", "prompts", "turns"}


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    """The ledger and the prompts that are left name each set once."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "asked.jsonl").write_text('{"id": "x", "prompt": "y"}\n')
    other = f"curate.against=[{tmp_path / 'asked.jsonl'}, {tmp_path / 'more' / 'asked.jsonl'}]"
    with pytest.raises(KoalaError, match="two prompt sets have the same name: asked"):
        curated(tmp_path, [{"id": "far", "prompt": FAR}], other)
