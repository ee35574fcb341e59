"""OpenAI's summarization comparisons: JSON lines of ``info``, two ``summaries`` and the ``choice`` between them.

``info`` holds a forum ``post`` or, in the CNN/DM batches, a news ``article``, and its ``title``.
"""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.records import Marker
from koala_ray.sources.base import Found, PublicFile, RowRejected, Source, record, single_turn, text_field
from koala_ray.sources.comparison import SIDES, reject_both, told_apart
from koala_ray.sources.phrases import SUMMARIZE, choose


def parse(value: object, seed: int) -> Iterator[Found]:
    """One comparison → a dialogue for each summary, the better one first."""
    summaries = record(value).get("summaries")
    if summaries is None:
        raise RowRejected("missing field: summaries")
    if not isinstance(summaries, list):
        raise RowRejected("not a list: summaries")
    if len(summaries) != 2:
        raise RowRejected("not two summaries")
    try:
        if record(value).get("split", "train") != "train":
            raise RowRejected("not of the publishers' training split")
        better = _choice(record(value))
        post = _post(record(value).get("info"))
    except RowRejected as rejected:
        yield from reject_both(rejected.reason)
        return
    asked = choose(SUMMARIZE, seed, post).format(post=post)
    sides = zip(SIDES.items(), (better, 1 - better), strict=True)
    yield from told_apart(*(_side(side, marker, asked, summaries, place) for (side, marker), place in sides))


def _side(side: str, marker: Marker, asked: str, summaries: list[object], place: int) -> Found:
    try:
        summary = summaries[place]
        if not isinstance(summary, dict):
            raise RowRejected(f"not a JSON object: summaries.{place}")
        name = f"summaries.{place}.text"
        return Found(side, single_turn(asked, text_field({name: summary.get("text")}, name), marker))
    except RowRejected as rejected:
        return Found(side, None, rejected.reason)


def _choice(row: dict[str, object]) -> int:
    choice = row.get("choice")
    if choice is None:
        raise RowRejected("missing field: choice")
    if isinstance(choice, bool) or not isinstance(choice, int) or choice not in (0, 1):
        raise RowRejected("choice is neither 0 nor 1")
    return choice


def _post(info: object) -> str:
    """What is to be summarized, under its title where it has one."""
    if info is None:
        raise RowRejected("missing field: info")
    if not isinstance(info, dict):
        raise RowRejected("not a JSON object: info")
    fields: dict[str, object] = {f"info.{name}": info.get(name) for name in ("title", "post", "article")}
    no_post = info.get("post") in (None, "") and info.get("article") is not None
    post = text_field(fields, "info.article" if no_post else "info.post")
    if not post:
        raise RowRejected("empty post")
    title = text_field(fields, "info.title", optional=True)
    return f"{title}\n\n{post}" if title else post


def refused(value: object) -> str | None:
    """What a row of the publishers' axis evaluations is; None for a comparison."""
    if isinstance(value, dict) and isinstance(value.get("summary"), dict) and "axes" in value["summary"]:
        return "axis evaluations of single summaries, not comparisons"
    return None


ADDRESS = "https://openaipublic.blob.core.windows.net/summarize-from-feedback/dataset/comparisons"
BATCHES = (
    *(f"batch{number}" for number in (*range(3, 21), 22)),
    "batch0_cnndm",
    "cnndm0",
    "cnndm2",
    "edit_b2_eval_test",
)

SOURCE = Source(
    name="summarize",
    title="OpenAI summarization comparisons",
    licence="CC-BY-4.0",
    citation="Stiennon et al., Learning to summarize from human feedback, 2020",
    home="https://github.com/openai/summarize-from-feedback",
    published="about 93K comparisons, so 186K summaries (the training split; the files hold 86K comparisons more)",
    published_rows=186_000,
    published_kept=None,
    files=tuple(PublicFile(f"{ADDRESS}/{batch}.json", f"summarize/{batch}.json") for batch in BATCHES),
    parse=parse,
    refused=refused,
    many_answers=True,
)
