"""Stanford Alpaca: one JSON array of ``instruction``, ``input``, ``output``.

Koala's way to ask: the instruction, and after a space the input where there is one; no "### Instruction".
"""

from __future__ import annotations

from collections.abc import Iterator

from koala_ray.sources.base import Found, Source, record, single_turn, text_field


def parse(value: object) -> Iterator[Found]:
    """One row → one dialogue."""
    row = record(value)
    asked = " ".join(part for part in (text_field(row, "instruction"), text_field(row, "input", optional=True)) if part)
    yield "", single_turn(asked, text_field(row, "output"))


SOURCE = Source(
    name="alpaca",
    title="Stanford Alpaca",
    licence="CC-BY-NC-4.0",
    published="about 52K rows",
    citation="Taori et al., Stanford Alpaca: An Instruction-following LLaMA model, 2023",
    suffixes=(".json", ".jsonl", ".json.gz", ".jsonl.gz"),
    parse=parse,
)
