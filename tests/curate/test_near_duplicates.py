from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.curate.near_duplicates import HASHES, RECALL, NearDuplicates, rows_in_band, signature
from koala_ray.records import Turn

WORDS = [f"word{number}" for number in range(400)]
GOLDEN = "ebe8182558e73e0ca42087d6a9fb8671f79ec091be57460d17675d014de6134c"


def dialogue(question: str, answer: str = "") -> tuple[Turn, ...]:
    return Turn("user", question), Turn("assistant", answer, "positive", learn=True)


def shingles(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False))


def similarity(one: bytes, other: bytes) -> float:
    return float((np.frombuffer(one, "<u2") == np.frombuffer(other, "<u2")).mean())


@pytest.mark.parametrize("changed", [0, 1, 3, 10, 40])
def test_the_estimate_is_near_the_jaccard_index(changed: int) -> None:
    errors = []
    for trial in range(20):
        first = [f"{word}t{trial}" for word in WORDS[:200]]
        second = [f"new{place}" if place % 5 == 2 and place < 5 * changed else word for place, word in enumerate(first)]
        exact = len(shingles(first) & shingles(second)) / len(shingles(first) | shingles(second))
        errors.append(similarity(signature(dialogue(" ".join(first))), signature(dialogue(" ".join(second)))) - exact)
    # The hashes are fixed, so this passes always or never; four standard errors of one and of their mean.
    assert max(map(abs, errors)) <= 4 * 0.5 / HASHES**0.5
    assert abs(np.mean(errors)) <= 4 * 0.5 / (HASHES * len(errors)) ** 0.5


def test_case_and_punctuation_do_not_matter() -> None:
    text = "What is the largest animal that has ever lived on this earth?"
    assert signature(dialogue(text)) == signature(dialogue(text.upper().replace("?", " !")))


def test_questions_and_answers_both_count() -> None:
    question, answers = " ".join(WORDS[:40]), (" ".join(WORDS[100:140]), " ".join(WORDS[200:240]))
    one, other = (signature(dialogue(question, answer)) for answer in answers)
    assert 0.1 < similarity(one, other) < 0.6


SHORT = ["", "a", "b", "ok", "no", "?!", "...", "👍", "2+2", "2+3", "What is 2+2?", "What is 7*8?", "你好", "谢谢你"]
SHORT += ["Tell me a joke", "Write a poem", "Name three colours", "Who was Ada Lovelace?", "a b c d e f g h"]


def test_short_texts_do_not_collide() -> None:
    near = NearDuplicates(0.8)
    assert [text for text in SHORT if near.seen(signature((Turn("user", text),)), owner=text)] == []
    assert all(near.seen(signature((Turn("user", text),)), owner="another") for text in SHORT)


def test_one_changed_word_of_forty_is_a_near_duplicate() -> None:
    near = NearDuplicates(0.8)
    assert not near.seen(signature(dialogue(" ".join(WORDS[:40]))), "one")
    assert near.seen(signature(dialogue(" ".join([*WORDS[:20], "other", *WORDS[21:40]]))), "two")
    assert not near.seen(signature(dialogue(" ".join(WORDS[25:65]))), "three")


def test_the_dialogues_of_one_owner_are_never_duplicates_of_each_other() -> None:
    near, same = NearDuplicates(0.8), signature(dialogue(" ".join(WORDS[:40])))
    assert [near.seen(same, owner) for owner in ("pair", "pair", "other", "other", "pair")] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_a_duplicate_is_not_remembered() -> None:
    """So a chain of small changes does not pull in everything: each is held against what was kept."""
    near = NearDuplicates(0.8)
    chain = [signature(dialogue(" ".join([*WORDS[200 : 200 + n], *WORDS[n:60]]))) for n in (0, 5, 10, 20)]
    seen = [near.seen(link, str(place)) for place, link in enumerate(chain)]
    assert seen == [False, True, False, False]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_what_stands_clearly_above_the_threshold_is_found_and_below_is_not(threshold: float) -> None:
    rng = np.random.default_rng(0)
    near, originals = NearDuplicates(threshold), rng.integers(0, 2**16, (300, HASHES)).astype("<u2")
    for place, original in enumerate(originals):
        assert not near.seen(original.tobytes(), f"original {place}")
    margin = 0.05
    found = {}
    for wanted in (min(1.0, threshold + margin), threshold - margin):
        copies = originals.copy()
        for copy in copies:
            copy[rng.permutation(HASHES)[round(wanted * HASHES) :]] += 1
        found[wanted] = sum(near.seen(copy.tobytes(), "pair of copies") for copy in copies)
    above, below = found.values()
    assert above >= 0.9 * len(originals)
    assert below == 0


@given(st.floats(0.01, 1.0))
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    rows = rows_in_band(threshold)
    assert 1 <= rows <= HASHES
    assert rows == 1 or 1 - (1 - threshold**rows) ** (HASHES // rows) >= RECALL


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NearDuplicates(threshold)


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_text_has_a_signature_that_finds_itself(texts: list[str]) -> None:
    turns = tuple(Turn("user", text) for text in texts)
    near = NearDuplicates(1.0)
    assert len(signature(turns)) == 2 * HASHES
    assert not near.seen(signature(turns), "one")
    assert near.seen(signature(turns), "two")


def test_signatures_are_the_same_in_every_process() -> None:
    script = (
        "import hashlib; from koala_ray.curate.near_duplicates import signature; from koala_ray.records import Turn\n"
        "texts = ['What is the largest animal on earth, and how long does it live?', 'Hi!', '', '你好']\n"
        "print(hashlib.sha256(b''.join(signature((Turn('user', text),)) for text in texts)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {GOLDEN}, "signatures changed: FORMAT of the curation step must be raised"


def test_real_answers_that_are_nearly_the_same_are_found(real_data) -> None:
    """Some of HC3's questions ask the same in other words and have the same answer."""
    near, found = NearDuplicates(0.8), []
    for number, line in enumerate((real_data / "sources/hc3_open_qa.jsonl").open()):
        row = json.loads(line)
        for answer in row["human_answers"]:
            if near.seen(signature(dialogue(row["question"], answer)), str(number)):
                found.append(row["question"])
    assert "how many muscles in the human body" in found
    assert len(found) < 0.02 * 1187
