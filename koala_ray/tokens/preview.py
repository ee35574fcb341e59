"""Packed rows in a terminal: what is learnt in colour, the dialogues apart, so that a mask can be seen."""

from __future__ import annotations

from typing import Any

from koala_ray import storage
from koala_ray.errors import KoalaError
from koala_ray.records import PackedRow
from koala_ray.steps import read_manifest
from koala_ray.tokens.shards import ShardReader, read_plan
from koala_ray.tokens.tokenizer import Tokenizer

LEARNT = "bold green"
READ = "default"


def preview(folder: str, rows: int = 3, first: int = 0, base: str = "") -> dict[str, Any]:
    """Print packed rows of a token step's folder.

    Args:
        folder: the token step's folder.
        rows: how many rows.
        first: the first row's global index.
        base: the base model whose tokenizer reads the ids; the folder's own by default.

    Raises:
        KoalaError: the folder is not a finished token step, or it has no such rows.
    """
    from rich.console import Console

    manifest = read_manifest(folder)
    if manifest.step != "tokens":
        raise KoalaError(
            f"this is the folder of a {manifest.step} step", where=folder, mend="give that of a tokens step"
        )
    shards = storage.join(storage.absolute(folder), "train")
    plan = read_plan(shards)
    if not 0 <= first < plan.rows:
        raise KoalaError(f"there is no row {first}", where=folder, mend=f"rows go from 0 to {plan.rows - 1}")
    tokenizer = Tokenizer.load(base or manifest.counts["base"])
    console = Console()
    shown = range(first, min(first + rows, plan.rows))
    reader = ShardReader(shards)
    for gidx in shown:
        show_row(console, reader.row(gidx), tokenizer, manifest.counts["context"])
    console.print(f"[{LEARNT}]learnt[/] · read only · ⏎ a line break · ▪ the end-of-sequence token", highlight=False)
    return {"rows": list(shown), "learnt": [int(plan.learnt[gidx]) for gidx in shown]}


def show_row(console: Any, row: PackedRow, tokenizer: Tokenizer, context: int) -> None:
    """Print one packed row: a rule with its figures, then each dialogue under its id and marker."""
    from rich.text import Text

    full = 100 * len(row.input_ids) / context
    console.rule(
        f"row {row.gidx}, epoch {row.epoch}: {len(row.input_ids)} of {context} tokens ({full:.0f} %), "
        f"{row.learnt} learnt, {len(row.lengths)} dialogues"
    )
    start = 0
    for length, name, group in zip(row.lengths, row.examples, row.groups, strict=True):
        marker = group.rpartition("/")[2]
        console.print(f"┌ {name}, marker {marker}, {length} tokens", style="dim", highlight=False, markup=False)
        text = Text("│ ", style="dim")
        for learn, ids in runs(row.input_ids[start : start + length], row.learn[start : start + length]):
            text.append(spelled(ids, tokenizer), style=LEARNT if learn else READ)
        console.print(text)
        start += length


def runs(ids: list[int], learn: list[bool]) -> list[tuple[bool, list[int]]]:
    """Neighbouring ids with the same mask, together: a text decodes better than its pieces."""
    grouped: list[tuple[bool, list[int]]] = []
    for token, learnt in zip(ids, learn, strict=True):
        if grouped and grouped[-1][0] == learnt:
            grouped[-1][1].append(token)
        else:
            grouped.append((learnt, [token]))
    return grouped


def spelled(ids: list[int], tokenizer: Tokenizer) -> str:
    """Ids as text, with line breaks and end-of-sequence tokens made visible."""
    pieces: list[str] = []
    waiting: list[int] = []
    for token in ids:
        if token == tokenizer.eos_id:
            pieces += [tokenizer.decode(waiting), "▪"]
            waiting = []
        else:
            waiting.append(token)
    pieces.append(tokenizer.decode(waiting))
    return "".join(pieces).replace("\n", "⏎\n")
