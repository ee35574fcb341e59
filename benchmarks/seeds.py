"""Real rows as material: texts whose words and sentences can be replaced by others, again and again."""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koala_ray.prompts import load_prompts

WORDS, SENTENCES = 0.2, 0.25
"""The shares of a text's content words, and of an answer's sentences, that are replaced."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Sentence:
    """A sentence in pieces: words, and what stands between them."""

    pieces: list[str]
    content: list[int]
    """The places of content words."""
    numbers: list[int]
    """The places of numbers."""
    gap: str
    """The white space after it."""


Text = list[Sentence]


def parse_text(text: str) -> Text:
    """A text as sentences whose words can be replaced; joined again they are the text, stripped."""
    sentences = []
    for match in re.finditer(r"(.+?(?:[.!?](?=\s)|(?=\n)|\Z))(\s*)", text.strip(), re.DOTALL):
        pieces = re.findall(r"\w+|\W+", match[1])
        content = [place for place, piece in enumerate(pieces) if is_content(piece)]
        numbers = [place for place, piece in enumerate(pieces) if piece.isdecimal()]
        sentences.append(Sentence(pieces, content, numbers, match[2]))
    return sentences


def is_content(word: str) -> bool:
    """Whether a word carries meaning, roughly: function words and names stay, and with them the language."""
    return len(word) > 3 and word.isascii() and word.isalpha() and word.islower()


@dataclass(frozen=True)
class Seeds:
    """The real rows of a folder."""

    exchanges: list[tuple[Text, Text]]
    """ShareGPT's questions and answers."""
    questions: list[Text]
    human: list[Text]
    assistant: list[Text]
    """HC3's answers by ChatGPT."""
    instructions: list[tuple[Text, Text, Text]]
    problems: list[tuple[Text, Text]]
    """OIG's questions and answers."""
    pairs: list[tuple[list[Text], Text, Text]]
    """HH's turns by human and assistant up to the last question, then the chosen and the rejected answer."""
    words: list[str]
    """What content words are replaced by."""
    foreign: list[list[str]]
    """Queries, one list for each language but English."""
    prompts: list[str]

    @classmethod
    def read(cls, data: Path) -> Seeds:
        """Read them below a folder with ``sources/``, and with ``languages/`` and ``prompts/`` where these are."""
        said = [[turn["value"] for turn in row["conversations"]] for row in _rows(data, "sources/sharegpt*.json")]
        exchanges = [pair for turns in said for pair in zip(turns[::2], turns[1::2], strict=False)]
        asked = list(_rows(data, "sources/hc3*.jsonl"))
        human = [text for row in asked for text in row["human_answers"] if text.strip()]
        assistant = [text for row in asked for text in row["chatgpt_answers"] if text.strip()]
        problems = [re.split(r"<(?:human|bot)>:", row["text"])[1:3] for row in _rows(data, "sources/oig*.jsonl")]
        languages = sorted((data / "languages").glob("*.jsonl"))
        return cls(
            exchanges=[(parse_text(question), parse_text(answer)) for question, answer in exchanges],
            questions=[parse_text(row["question"]) for row in asked],
            human=[parse_text(text) for text in human],
            assistant=[parse_text(text) for text in assistant],
            instructions=[
                (parse_text(row["instruction"]), parse_text(row["input"]), parse_text(row["output"]))
                for row in _rows(data, "sources/alpaca*.json")
            ],
            problems=[(parse_text(question), parse_text(answer)) for question, answer in problems],
            pairs=list(_pairs(_rows(data, "sources/hh*.jsonl.gz"))),
            words=_vocabulary([*human, *assistant, *(text for exchange in exchanges for text in exchange)]),
            foreign=[
                [row["query"] for row in _rows(data, f"languages/{path.name}")]
                for path in languages
                if not path.name.startswith("en")
            ],
            prompts=[
                prompt.text
                for path in sorted((data / "prompts").glob("*.jsonl"))
                for prompt in load_prompts(str(path)).prompts
            ],
        )


def _rows(data: Path, pattern: str) -> Iterator[Row]:
    """The raw rows of all files that match; there must be one."""
    paths = sorted(data.glob(pattern))
    if not paths:
        sys.exit(f"no {pattern} below {data}: name a folder with real rows with --data or KOALA_DATA")
    for path in paths:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        yield from json.loads(content) if path.suffix == ".json" else map(json.loads, content.splitlines())


def _pairs(rows: Iterable[Row]) -> Iterator[tuple[list[Text], Text, Text]]:
    """Pairs whose sides differ in the last answer alone, as nearly all do."""
    for row in rows:
        sides = [re.split(r"\n\n(?:Human|Assistant):", row[name])[1:] for name in ("chosen", "rejected")]
        chosen, rejected = ([parse_text(turn) for turn in side] for side in sides)
        if sides[0][:-1] == sides[1][:-1] and len(chosen) % 2 == 0 and all(chosen) and rejected[-1]:
            yield chosen[:-1], chosen[-1], rejected[-1]


def _vocabulary(texts: Iterable[str]) -> list[str]:
    """Content words that occur twice or more: the rare ones are slips and other languages."""
    counted = Counter(word for text in texts for word in re.findall(r"\w+", text) if is_content(word))
    return sorted(word for word, times in counted.items() if times > 1 and "gpt" not in word and "openai" not in word)


class Forge:
    """Makes the texts of one row; they depend on the seeds and the row's name alone."""

    def __init__(self, seeds: Seeds, name: str) -> None:
        self.seeds = seeds
        self.rng = random.Random(name)

    def query(self, text: Text) -> str:
        """The text with other words, two at least, so that hardly a query is asked twice."""
        room = next((sentence for sentence in text if len(sentence.content) > 1), None)
        pieces = []
        for sentence in text:
            count = max(2 if sentence is room else 0, self._count(sentence))
            pieces += [self._written(sentence, count), sentence.gap]
        if room is None:
            pieces += [" ", " ".join(self.rng.choices(self.seeds.words, k=3))]
        return "".join(pieces)

    def answer(self, text: Text, pool: Sequence[Text]) -> str:
        """The text with other words, and with some sentences of the pool's texts in place of its own."""
        pieces = []
        for sentence in text:
            chosen = sentence
            if self.rng.random() < SENTENCES:
                chosen = self.rng.choice(self.rng.choice(pool) or text)
            pieces += [self._written(chosen, self._count(chosen)), sentence.gap]
        return "".join(pieces)

    def exchange(self) -> tuple[str, str]:
        """A question and an answer of a dialogue."""
        (question, answer), (_, other) = self.rng.choice(self.seeds.exchanges), self.rng.choice(self.seeds.exchanges)
        return self.query(question), self.answer(answer, [other])

    def _count(self, sentence: Sentence) -> int:
        """How many words to replace, rounded at random, so that short sentences also change now and then."""
        return int(len(sentence.content) * WORDS + self.rng.random())

    def _written(self, sentence: Sentence, count: int) -> str:
        pieces = sentence.pieces.copy()
        for place in self.rng.sample(sentence.content, count):
            pieces[place] = self.rng.choice(self.seeds.words)
        for place in sentence.numbers:
            digits = min(len(pieces[place]), 6)
            pieces[place] = str(self.rng.randrange(10 ** (digits - 1), 10**digits))
        return "".join(pieces)
