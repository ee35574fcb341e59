"""OIG's components: JSON lines of ``text``, a dialogue as ``<human>: …\\n<bot>: …``, and ``metadata``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from koala_ray.records import Role
from koala_ray.sources.base import Found, PublicFile, RowRejected, Source, alternate, record, text_field

TAG = re.compile(r"^<(human|bot)>:", re.MULTILINE)
"""A role's tag: at the start of a line only."""
ROLES: dict[str, Role] = {"human": "user", "bot": "assistant"}


def parse(value: object, seed: int) -> Iterator[Found]:
    """One text → one dialogue with every answer learnt."""
    before, *tagged = TAG.split(text_field(record(value), "text"))
    if not tagged:
        raise RowRejected("no role tags")
    said = zip(tagged[::2], tagged[1::2], strict=True)
    dialogue, repairs = alternate((ROLES[name], text.strip()) for name, text in said)
    if before.strip():
        repairs = ("text before the first tag dropped", *repairs)
    yield Found("", dialogue, repairs=repairs)


ADDRESS = "https://huggingface.co/datasets/laion/OIG"
COMPONENTS = (
    "unified_grade_school_math_instructions",
    "unified_poetry_2_song",
    "unified_plot_screenplay_books_dialog",
)

SOURCE = Source(
    name="oig",
    title="Open Instruction Generalist, three components",
    licence="Apache-2.0",
    citation="LAION, Open Instruction Generalist (OIG), 2023",
    home=ADDRESS,
    published="about 30K dialogues of grade-school-math-instructions, poetry-to-songs and "
    "plot-screenplay-books-dialogue",
    published_rows=30_000,
    published_kept=None,
    files=tuple(PublicFile(f"{ADDRESS}/resolve/main/{name}.jsonl", f"oig/{name}.jsonl") for name in COMPONENTS),
    parse=parse,
)
