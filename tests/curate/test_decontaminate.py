from __future__ import annotations

import gzip
import json
import math
import pickle
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sacrebleu.metrics.helpers import extract_all_word_ngrams
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from koala_ray.curate import decontaminate
from koala_ray.curate.decontaminate import CUT_TOKENS, Contamination, bleu, prompts_left, texts_of, tokenize
from koala_ray.errors import KoalaError
from koala_ray.prompts import Prompt, PromptSet, load_prompts

SETS = ("koala", "self-instruct", "vicuna")
LIMITS = st.sampled_from([20.0, 20.0, 20.0, 0.001, 1.0, 5.0, 12.5, 35.0, 50.0, 80.0, 99.9]) | st.floats(1e-6, 99.999)
WORDS = st.sampled_from(["a", "b", "c", "d", "the", "the,", "a.", "3.5", "4-", "it's", "&quot;b", "日本", "x-\ny"])
FEW_WORDS = st.sampled_from(["a", "b", "c"])
PIECES = ["<skipped>", "<skip", "ped>", "<", ">", "-", "&", "&amp;", "&quot;", "&lt;", "&gt;", "amp;", "lt;", "quot;"]
PIECES += [".", ",", "'", ":", "/", "0", "1", "2.5", "a", "Ab", "é", "日", "．", "\ud800"]
BLANKS = [" ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u0085", "\x1c", "-\n", ".\n"]
FRAGMENTS = st.sampled_from(PIECES + BLANKS)
"""What 13a treats in a way of its own, whole and in parts, and white space of every kind."""
NASTY = st.lists(FRAGMENTS, max_size=25).map("".join) | st.text(max_size=60)
SENTENCE = "Write a short story about a dog who learns to read the morning paper to his neighbours"


def texts(words: st.SearchStrategy[str], longest: int) -> st.SearchStrategy[str]:
    return st.lists(words, max_size=longest).map(" ".join)


TEXTS = texts(WORDS, 30) | texts(FEW_WORDS, 12) | texts(FEW_WORDS, 80) | NASTY


def verdicts(prompts: list[str], turn: str, limit: float) -> tuple[int, ...]:
    """What sacrebleu says, pair by pair."""
    scores = [sacrebleu.sentence_bleu(prompt, [turn]).score for prompt in prompts]
    return tuple(place for place, score in enumerate(scores) if score > limit)


@st.composite
def variants(draw: st.DrawFn, text: str) -> str:
    """The text with words dropped, doubled, swapped or made up: a turn that may lie near the limit."""
    words = text.split()
    for _ in range(draw(st.integers(0, 12))):
        place = draw(st.integers(0, len(words)))
        length = draw(st.integers(0, 4))
        part = draw(st.sampled_from([[], ["a"], ["zebra"], words[place : place + length][::-1]]))
        words[place : place + length] = part * draw(st.integers(1, 2))
    return " ".join(words)


@settings(deadline=None, max_examples=300)
@given(st.lists(TEXTS, max_size=6), TEXTS, LIMITS)
@example(["a b c d"], "d c b a", 20.0)
@example(["a a a a a a"], "a a", 20.0)
@example(["", " \n"], "", 20.0)
def test_hits_are_sacrebleus(prompts: list[str], turn: str, limit: float) -> None:
    assert Contamination(prompts, limit).hits(turn) == verdicts(prompts, turn, limit)


@settings(deadline=None, max_examples=200)
@given(st.data(), LIMITS)
def test_hits_are_sacrebleus_for_turns_made_from_a_prompt(data: st.DataObject, limit: float) -> None:
    length = data.draw(st.integers(1, 16))
    prompts = [SENTENCE, " ".join(SENTENCE.split()[:length]), " ".join(SENTENCE.split()[-length:])]
    turn = data.draw(variants(data.draw(st.sampled_from(prompts))))
    assert Contamination(prompts, limit).hits(turn) == verdicts(prompts, turn, limit)


@settings(deadline=None, max_examples=200)
@given(TEXTS, TEXTS)
def test_a_score_is_sacrebleus_to_the_last_bit_and_equal_to_the_limit_is_no_hit(prompt: str, turn: str) -> None:
    score = sacrebleu.sentence_bleu(prompt, [turn]).score
    assert bleu(prompt, turn) == score
    if 0 < score < 100:
        assert Contamination([prompt], score).hits(turn) == ()
        assert Contamination([prompt], math.nextafter(score, 0)).hits(turn) == (0,)


@settings(deadline=None, max_examples=500)
@given(NASTY | TEXTS)
@example("a <<skipped>skipped> b")
@example("<skip-\nped>")
@example("-<skipped>\nb -\n")
@example("1.a..5,.b 1,000. -3-4 &amp;lt;")
def test_tokens_are_sacrebleus(text: str) -> None:
    assert tokenize(text) == Tokenizer13a()(text.rstrip()).split()


def test_tokens_stay_right_when_the_words_kept_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decontaminate, "CACHED_WORDS", 3)
    monkeypatch.setattr(decontaminate, "CACHED_WORD_LENGTH", 6)
    text = "One, two. three four one, (two) neighbours' " * 3
    assert tokenize(text) == Tokenizer13a()(text.rstrip()).split()


@settings(deadline=None, max_examples=300)
@given(st.lists(FRAGMENTS, max_size=60).map("".join), st.data())
@example("&am-<skipped>\np;lt; x", None)
def test_the_start_of_a_text_has_hardly_more_tokens_than_the_whole(text: str, data: st.DataObject | None) -> None:
    cuts = range(len(text)) if data is None else [data.draw(st.integers(0, len(text)))]
    for cut in cuts:
        assert len(tokenize(text[:cut])) < len(tokenize(text)) + CUT_TOKENS // 3


@settings(deadline=None, max_examples=100)
@given(st.lists(texts(FEW_WORDS, 3), min_size=1, max_size=3), st.lists(FRAGMENTS, max_size=4).map("".join), st.data())
def test_turns_much_longer_than_the_prompts(prompts: list[str], fragment: str, data: st.DataObject) -> None:
    # Long in characters, but now and then short in tokens: then it may be a hit for all its length.
    blanks = data.draw(st.sampled_from([" ", "<skipped>", "-\n", "x", "-\n<skipped>"])) * data.draw(st.integers(0, 600))
    turn = data.draw(st.permutations([fragment, blanks, data.draw(st.sampled_from(prompts))]))
    assert Contamination(prompts).hits("".join(turn)) == verdicts(prompts, "".join(turn), 20.0)


def test_turns_about_as_long_as_a_hit_can_be() -> None:
    prompt = " ".join(f"w{place}" for place in range(200))
    # 200 · (1 + ln 5) is 521.9. The last word makes the turn so long that it is looked at from its start.
    for length, hit in [(201, True), (400, True), (500, True), (521, True), (522, False), (700, False)]:
        turn = prompt + " x" * (length - 201) + " " + "y" * 30_000
        assert Contamination([prompt]).hits(turn) == verdicts([prompt], turn, 20.0) == ((0,) if hit else ())


@pytest.mark.parametrize(
    ("prompt", "turn", "hit"),
    [
        pytest.param("one two three four", "four three two one", True, id="four tokens, no bigram: 22.6"),
        pytest.param("one two three four five", "five four three two one", False, id="five tokens, no bigram: 16.0"),
        pytest.param("one two three", "one", True, id="one of three tokens, by smoothing: 27.5"),
        pytest.param("one two three", "four five six", False, id="none of three tokens"),
        pytest.param("one two", "two", True, id="one of two tokens: 35.4"),
        pytest.param("one", "one two", True, id="one token, a turn of two: 36.8"),
        pytest.param("one", "one two three", False, id="one token, a turn of three: 13.5"),
        pytest.param("a b c d e f g h i j", "a b c d e f g h i j" + " x" * 16, True, id="brevity penalty 20.2"),
        pytest.param("a b c d e f g h i j", "a b c d e f g h i j" + " x" * 17, False, id="brevity penalty 18.3"),
        pytest.param("a a a a a a a a", "a a", False, id="clipping: two of eight"),
        pytest.param("a a a a a a a a", "a a a a a", True, id="clipping: five of eight"),
        pytest.param("", "one two", False, id="an empty prompt"),
        pytest.param(" \n\t", " \n\t", False, id="white space"),
        pytest.param("one two", "", False, id="an empty turn"),
        pytest.param("<skipped>", "<skipped>", False, id="nothing is left of it"),
        pytest.param("semi-\ncolon", "semicolon", True, id="a word broken at a line's end"),
        pytest.param("Say &quot;hi&quot;!", 'Say "hi"!', True, id="entities"),
        pytest.param("One two three four", "one two three four", True, id="case tells one token of four"),
    ],
)
def test_hard_cases(prompt: str, turn: str, hit: bool) -> None:
    expected = verdicts([prompt], turn, 20.0)
    assert Contamination([prompt]).hits(turn) == expected
    assert bool(expected) == hit


def test_places_are_those_of_the_prompts_given_doubles_and_empty_ones_included() -> None:
    prompts = ["", SENTENCE, "Something else altogether, is it?", SENTENCE, SENTENCE + " twice"]
    assert Contamination(prompts).hits(SENTENCE) == (1, 3, 4)
    assert Contamination([]).hits(SENTENCE) == ()


PROMPTS = st.builds(Prompt, st.uuids().map(str), FEW_WORDS, st.lists(FEW_WORDS, max_size=3).map(tuple))
PROMPT_LISTS = st.lists(st.lists(PROMPTS, max_size=4).map(tuple), max_size=3)


@settings(deadline=None, max_examples=100)
@given(PROMPT_LISTS, st.sets(FEW_WORDS))
def test_a_prompt_is_left_as_long_as_none_of_its_turns_was_hit(lists: list[tuple[Prompt, ...]], hit: set[str]) -> None:
    sets = [PromptSet(str(number), prompts) for number, prompts in enumerate(lists)]
    places = {place for place, text in enumerate(texts_of(sets)) if text in hit}
    left = list(prompts_left(sets, places))
    assert [found for found, _ in left] == sets
    for found, prompts in left:
        assert prompts == [prompt for prompt in found.prompts if not hit & {*prompt.turns}]


def test_the_limit_moves_the_verdict() -> None:
    turn = SENTENCE.replace("dog", "cat").replace("paper", "news")
    score = bleu(SENTENCE, turn)
    assert 20 < score < 100
    assert Contamination([SENTENCE], score - 1).hits(turn) == (0,)
    assert Contamination([SENTENCE], score + 1).hits(turn) == ()


@pytest.mark.parametrize("limit", [0, -1, 100, 250, math.nan])
def test_a_limit_out_of_range_is_refused(limit: float) -> None:
    with pytest.raises(KoalaError, match="limit"):
        Contamination([SENTENCE], limit)


def test_it_travels_to_other_processes() -> None:
    index = Contamination([SENTENCE, "a b c"], 33.0)
    copy = pickle.loads(pickle.dumps(index))
    turns = [SENTENCE, "a b c", "a b d", SENTENCE[:40], "nothing of it"]
    assert [copy.hits(turn) for turn in turns] == [index.hits(turn) for turn in turns]
    assert copy.hits("a b c") == (1,)


PARTS = ["word ", "!", "a. ", "&amp;", "-\n", "<skipped>", "日本。", "a" * 200_000 + "!" * 800_000]


@pytest.mark.parametrize("piece", PARTS, ids=lambda piece: repr(piece[:9]))
def test_a_turn_of_ten_million_characters_takes_a_moment(piece: str) -> None:
    index = Contamination([SENTENCE])
    turn = piece * (10_000_000 // len(piece))
    started = time.process_time()
    assert index.hits(turn) == ()
    # To tokenize all of it takes many times as long.
    assert time.process_time() - started < 5


def real_prompts(folder: Path) -> list[str]:
    return [prompt.text for name in SETS for prompt in load_prompts(name, data=str(folder)).prompts]


def real_turns(folder: Path) -> list[str]:
    """Real users' turns of four sources, in a fixed order that mixes them."""
    sources = folder / "sources"
    alpaca = json.loads((sources / "alpaca_cleaned_1000.json").read_text(encoding="utf-8"))
    turns = [f"{row['instruction']} {row['input']}".strip() for row in alpaca]
    for line in (sources / "hc3_open_qa.jsonl").read_text(encoding="utf-8").splitlines():
        turns.append(json.loads(line)["question"])
    for line in (sources / "oig_grade_school_math.jsonl").read_text(encoding="utf-8").splitlines():
        turns.append(json.loads(line)["text"].split("\n<bot>:")[0].removeprefix("<human>: "))
    with gzip.open(sources / "hh_harmless.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            turns += re.findall(r"\n\nHuman: (.*?)\n\nAssistant:", json.loads(line)["chosen"], re.DOTALL)
    return random.Random(0).sample(turns, len(turns))


def perturbed(prompt: str, chance: random.Random) -> str:
    """A prompt with so many words dropped, replaced, doubled or swapped that its BLEU is often near 20 %."""
    words = prompt.split()
    share = chance.uniform(0.1, 0.7)
    out: list[str] = []
    for word in words:
        if chance.random() > share:
            out.append(word)
        else:
            out += chance.choice([[], [], ["zebra"], [word, word], [chance.choice(words)]])
    return " ".join(out[: chance.choice([len(out), len(out), 1 + len(out) // 3])])


def ngrams(text: str) -> tuple[Counter[tuple[str, ...]], int]:
    """A text's n-grams and its tokens, by sacrebleu's own means."""
    return extract_all_word_ngrams(Tokenizer13a()(text.rstrip()), 1, 4)


def score(prompt: tuple[Counter, int], turn: tuple[Counter, int]) -> float:
    """BLEU of n-grams counted beforehand: sacrebleu counts them anew for every pair, at twenty times the cost."""
    (grams, length), (turn_grams, turn_length) = prompt, turn
    matches = [0] * 4
    for gram in grams.keys() & turn_grams.keys():
        matches[len(gram) - 1] += min(grams[gram], turn_grams[gram])
    totals = [max(0, length - below) for below in range(4)]
    return BLEU.compute_bleu(matches, totals, length, turn_length, "exp", effective_order=True).score


def test_every_verdict_on_real_prompts_and_turns_is_sacrebleus(real_data: Path) -> None:
    prompts = real_prompts(real_data)
    chance = random.Random(1)
    turns = real_turns(real_data)[:300] + [perturbed(prompt, chance) for prompt in chance.sample(prompts, 100)]
    index, metric = Contamination(prompts), BLEU(effective_order=True)
    counted = [ngrams(prompt) for prompt in prompts]
    hits = 0
    for turn in turns:
        turn_counted = ngrams(turn)
        scores = [score(prompt, turn_counted) for prompt in counted]
        expected = tuple(place for place, value in enumerate(scores) if value > 20)
        assert index.hits(turn) == expected, turn
        hits += len(expected)
        for place in chance.sample(range(len(prompts)), 3):
            assert metric.sentence_score(prompts[place], [turn]).score == scores[place]
    assert hits > 50


def test_every_verdict_on_a_real_prompt_and_its_perturbations_is_sacrebleus(real_data: Path) -> None:
    prompts = real_prompts(real_data)
    index, metric, chance = Contamination(prompts), BLEU(effective_order=True), random.Random(2)
    near = 0
    for place, prompt in enumerate(prompts):
        for _ in range(3):
            turn = perturbed(prompt, chance)
            score = metric.sentence_score(prompt, [turn]).score
            near += 15 < score < 25
            assert (place in index.hits(turn)) == (score > 20), turn
    assert near > 100
