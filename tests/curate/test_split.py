from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.curate.split import split_of

PAIRS = [f"What is {line} times {line}?" for line in range(1, 5001)]
GOLDEN = [12, 35, 74, 79, 84, 86]


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9])
def test_about_the_part_asked_for_is_held_out(part: float) -> None:
    heldout = sum(split_of(pair, part, seed=0) == "heldout" for pair in PAIRS) / len(PAIRS)
    # Four standard errors: the hash is fixed, so this passes always or never.
    assert abs(heldout - part) < 4 * (part * (1 - part) / len(PAIRS)) ** 0.5


def test_nothing_or_nearly_everything() -> None:
    assert {split_of(pair, 0.0, seed=3) for pair in PAIRS} == {"train"}
    assert sum(split_of(pair, 0.999999, seed=3) == "train" for pair in PAIRS) <= 1


@settings(deadline=None)
@given(st.text(), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.integers())
def test_a_larger_part_holds_out_all_that_a_smaller_one_does(pair: str, one: float, other: float, seed: int) -> None:
    small, large = sorted([one, other])
    if split_of(pair, small, seed) == "heldout":
        assert split_of(pair, large, seed) == "heldout"
    assert split_of(pair, one, seed) == split_of(pair, one, seed)


def test_seeds_choose_differently() -> None:
    def chosen(seed: int) -> set[str]:
        return {pair for pair in PAIRS if split_of(pair, 0.1, seed) == "heldout"}

    assert len(chosen(0) & chosen(1)) < 0.2 * len(chosen(0))


def test_the_choice_is_the_same_on_every_machine_and_in_every_version() -> None:
    held = [line for line, pair in enumerate(PAIRS[:100], 1) if split_of(pair, 0.05, seed=0) == "heldout"]
    assert held == GOLDEN


def test_white_space_makes_no_other_question() -> None:
    for line in range(200):
        assert split_of(f"Why  is\n{line} odd? ", 0.5, 0) == split_of(f"Why is {line} odd?", 0.5, 0)
