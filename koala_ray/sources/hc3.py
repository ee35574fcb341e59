"""HC3 English: JSON lines of ``question``, ``human_answers[]``, ``chatgpt_answers[]``; each answer is an example."""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.sources.base import Found, PublicFile, RowRejected, Source, record, single_turn, text_field

ERROR = "!\\n"
"""How the chat page's own messages begin ("!\\nnetwork error"), which were taken down as answers."""
SIDES = (("human", "human_answers"), ("chatgpt", "chatgpt_answers"))


def parse(value: object, seed: int) -> Iterator[Found]:
    """One question → a dialogue for each of its answers, human and ChatGPT's alike."""
    row = record(value)
    question = text_field(row, "question")
    if not question:
        raise RowRejected("empty question")
    for side, name in SIDES:
        answers = row.get(name)
        if answers is None:
            yield Found(side, None, f"missing field: {name}")
        elif not isinstance(answers, list):
            yield Found(side, None, f"not a list: {name}")
        else:
            for place, answer in enumerate(answers):
                yield _answer(f"{side}{place}", question, {name: answer}, name)
    if all(row.get(name) == [] for _, name in SIDES):
        yield Found("", None, "no answers")


def _answer(side: str, question: str, row: dict[str, object], name: str) -> Found:
    try:
        answer = text_field(row, name)
        if side.startswith("chatgpt") and answer.startswith(ERROR):
            raise RowRejected("an error message of the chat page")
        return Found(side, single_turn(question, answer))
    except RowRejected as rejected:
        return Found(side, None, rejected.reason)


SOURCE = Source(
    name="hc3",
    title="HC3 English",
    licence="CC-BY-SA-4.0",
    citation="Guo et al., How Close is ChatGPT to Human Experts?, 2023",
    home="https://huggingface.co/datasets/Hello-SimpleAI/HC3",
    published="about 24K questions: about 60K human and 27K ChatGPT answers, 87K in all",
    published_rows=87_000,
    published_kept=None,
    files=(PublicFile("https://huggingface.co/datasets/Hello-SimpleAI/HC3/resolve/main/all.jsonl", "hc3/all.jsonl"),),
    parse=parse,
)
