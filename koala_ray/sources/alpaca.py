"""Stanford Alpaca: one JSON array of ``instruction``, ``input``, ``output``.

Koala's way to ask: the instruction, and after a space the input where there is one; no "### Instruction".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from koala_ray.sources.base import Found, PublicFile, Source, record, single_turn, text_field

NO_INPUT = re.compile(r"[<\[(]?\s*no[\s_-]?input\s*[>\])]?\.?", re.IGNORECASE)
"""What stands in ``input`` where the generating model was told to say that there is none."""


def parse(value: object, seed: int) -> Iterator[Found]:
    """One row → one dialogue."""
    row = record(value)
    asked, given = text_field(row, "instruction"), text_field(row, "input", optional=True)
    repairs: tuple[str, ...] = ()
    if NO_INPUT.fullmatch(given):
        given, repairs = "", ("no-input marker dropped",)
    if given:
        asked = f"{asked} {given}" if asked else given
    yield Found("", single_turn(asked, text_field(row, "output")), repairs=repairs)


SOURCE = Source(
    name="alpaca",
    title="Stanford Alpaca",
    licence="CC-BY-NC-4.0",
    citation="Taori et al., Stanford Alpaca: An Instruction-following LLaMA model, 2023",
    home="https://github.com/tatsu-lab/stanford_alpaca",
    published="about 52K rows",
    published_rows=52_000,
    published_kept=None,
    files=(
        PublicFile(
            "https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/main/alpaca_data.json",
            "alpaca/alpaca_data.json",
        ),
    ),
    parse=parse,
)
