"""HC3 English: JSON lines of ``question``, ``human_answers[]``, ``chatgpt_answers[]``; each answer is an example."""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.sources.base import Found, RowRejected, Source, record, single_turn, text_field

SIDES = (("human", "human_answers"), ("chatgpt", "chatgpt_answers"))


def parse(value: object) -> Iterator[Found]:
    """One question → a dialogue for each of its answers, human and ChatGPT's alike."""
    row = record(value)
    question = text_field(row, "question")
    if not question:
        raise RowRejected("empty question")
    for side, name in SIDES:
        answers = row.get(name)
        if answers is None:
            yield side, RowRejected(f"missing field: {name}")
            continue
        if not isinstance(answers, list):
            yield side, RowRejected(f"not a list: {name}")
            continue
        for place, answer in enumerate(answers):
            try:
                yield f"{side}{place}", single_turn(question, text_field({name: answer}, name))
            except RowRejected as rejected:
                yield f"{side}{place}", rejected
    if all(row.get(name) == [] for _, name in SIDES):
        yield "", RowRejected("no answers")


SOURCE = Source(
    name="hc3",
    title="HC3 English",
    licence="CC-BY-SA-4.0",
    published="about 24K questions: about 60K human and 27K ChatGPT answers, 87K in all",
    citation="Guo et al., How Close is ChatGPT to Human Experts?, 2023",
    suffixes=(".jsonl", ".jsonl.gz"),
    parse=parse,
)
