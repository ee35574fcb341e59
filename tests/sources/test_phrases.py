"""The phrases that summaries and cited answers are asked for with, and what chooses among them."""

from __future__ import annotations

from collections import Counter

import pytest
from comparisons import HALF, compared, flat, parsed

from koala_ray.sources.phrases import ANSWER_FROM_QUOTES, SUMMARIZE, choose


@pytest.mark.parametrize(
    ("phrases", "fields"), [(SUMMARIZE, ["{post}"]), (ANSWER_FROM_QUOTES, ["{question}", "{quotes}"])]
)
def test_each_task_phrase_holds_each_text_once(phrases: tuple[str, ...], fields: list[str]) -> None:
    assert len(set(phrases)) == len(phrases) >= 12
    for phrase in phrases:
        assert [phrase.count(field) for field in fields] == [1] * len(fields)
        assert phrase.count("{") == len(fields)


def test_a_task_phrase_depends_on_the_seed_and_the_text_alone() -> None:
    chosen = [SUMMARIZE.index(choose(SUMMARIZE, seed, text)) for seed in (0, 1) for text in ("a", "b", "é")]
    assert chosen == [10, 1, 9, 12, 8, 9], "another choice would change every prepared data set"
    seen = Counter(choose(SUMMARIZE, 0, f"text {number}") for number in range(1300))
    assert set(seen) == set(SUMMARIZE)
    assert min(seen.values()) > 60
    choose(SUMMARIZE, 0, HALF)


def test_sides_of_a_comparison_are_asked_alike_under_any_seed() -> None:
    prompts = set()
    for seed in range(20):
        better, worse = parsed("summarize", compared(), seed)
        assert better.dialogue
        assert worse.dialogue
        assert better.dialogue[0] == worse.dialogue[0]
        prompts.add(better.dialogue[0].text)
        sides = parsed("webgpt", flat(quotes_1=flat()["quotes_0"]), seed)
        assert len({(side.dialogue or ())[0].text for side in sides}) == 1
    assert len(prompts) > 5
