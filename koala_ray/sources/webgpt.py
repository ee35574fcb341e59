"""OpenAI WebGPT comparisons: two answers to a question, each with its own quotations and a score.

Two layouts: the original, a list of two objects of ``question``, ``quotes``, ``answer``, ``score`` on each
line; and the flat one of converted copies, ``question``, ``answer_0``, ``quotes_0``, ``score_0``, ``answer_1``, …
"""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.records import Marker
from koala_ray.sources.base import Found, PublicFile, RowRejected, Source, record, single_turn, text_field
from koala_ray.sources.comparison import SIDES, reject_both, told_apart
from koala_ray.sources.phrases import ANSWER_FROM_QUOTES, choose


def parse(value: object, seed: int) -> Iterator[Found]:
    """One comparison → a dialogue for each answer, the better one first; a tie gives none."""
    if isinstance(value, list):
        if len(value) != 2:
            raise RowRejected("not two answers")
    elif not any(f"answer_{place}" in record(value) for place in (0, 1)):
        raise RowRejected("missing field: answer_0")
    try:
        row = _flat(value)
        question = _question(row)
        scores = [_score(row, place) for place in (0, 1)]
        if scores[0] == scores[1]:
            raise RowRejected("tie")
    except RowRejected as rejected:
        yield from reject_both(rejected.reason)
        return
    phrase = choose(ANSWER_FROM_QUOTES, seed, question)
    places = (0, 1) if scores[0] > scores[1] else (1, 0)
    sides = zip(SIDES.items(), places, strict=True)
    yield from told_apart(*(_side(side, marker, row, place, question, phrase) for (side, marker), place in sides))


def _side(side: str, marker: Marker, row: dict[str, object], place: int, question: str, phrase: str) -> Found:
    try:
        quotes = _quotes(row.get(f"quotes_{place}"), f"quotes_{place}")
        asked = phrase.format(question=question, quotes=quotes) if quotes else question
        return Found(side, single_turn(asked, text_field(row, f"answer_{place}"), marker))
    except RowRejected as rejected:
        return Found(side, None, rejected.reason)


def _flat(value: object) -> dict[str, object]:
    """Either layout as the flat one."""
    if not isinstance(value, list):
        return record(value)
    items = [record(item) for item in value]
    first, second = (_question(item) for item in items)
    if first != second:
        raise RowRejected("the answers are to different questions")
    both = {f"{name}_{place}": item[name] for place, item in enumerate(items) for name in item}
    return {**both, "question": first}


def _question(row: dict[str, object]) -> str:
    question = row.get("question")
    if isinstance(question, dict):
        question = _text(question.get("full_text"), "question.full_text")
    else:
        question = _text(question, "question")
    if not question:
        raise RowRejected("empty question")
    return question


def _score(row: dict[str, object], place: int) -> float:
    score = row.get(f"score_{place}")
    if score is None:
        raise RowRejected(f"missing field: score_{place}")
    if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
        raise RowRejected(f"not a number: score_{place}")
    return score


def _quotes(quotes: object, name: str) -> str:
    """The quotations as the answers cite them: ``[1] Title``, the extract below it; empty if there are none."""
    if quotes is None:
        return ""
    if isinstance(quotes, list):
        pairs = [(record(quote).get("title"), record(quote).get("extract")) for quote in quotes]
    else:
        columns = record(quotes)
        titles, extracts = (_list(columns, name, field) for field in ("title", "extract"))
        if len(titles) != len(extracts):
            raise RowRejected(f"titles and extracts differ in number: {name}")
        pairs = list(zip(titles, extracts, strict=True))
    texts = [(_text(title, f"{name}.title"), _text(extract, f"{name}.extract")) for title, extract in pairs]
    # A quotation that says nothing is left out, and the others keep the numbers by which they are cited.
    numbered = (
        "\n".join(part for part in (f"[{number}] {title}".rstrip(), extract) if part)
        for number, (title, extract) in enumerate(texts, 1)
        if title or extract
    )
    return "\n\n".join(numbered)


def _list(columns: dict[str, object], name: str, field: str) -> list[object]:
    values = columns.get(field)
    if values is None:
        raise RowRejected(f"missing field: {name}.{field}")
    if not isinstance(values, list):
        raise RowRejected(f"not a list: {name}.{field}")
    return values


def _text(value: object, name: str) -> str:
    return text_field({name: value}, name)


SOURCE = Source(
    name="webgpt",
    title="OpenAI WebGPT comparisons",
    licence="not stated",
    citation="Nakano et al., WebGPT: Browser-assisted question-answering with human feedback, 2021",
    home="https://huggingface.co/datasets/openai/webgpt_comparisons",
    published="about 20K comparisons, so 40K answers; ties are dropped",
    published_rows=40_000,
    published_kept=None,
    files=(
        PublicFile(
            "https://openaipublic.blob.core.windows.net/webgpt-answer-viewer/comparisons.jsonl",
            "webgpt/comparisons.jsonl",
        ),
    ),
    parse=parse,
    many_answers=True,
)
