"""Packing side by side: the same dialogues into rows of the same context, in one run.

koala-ray:             the token step's packing, long dialogues dealt out over all rows, gaps closed by short ones.
best-fit decreasing:   the longest first, each into the row with the least space that takes it (TRL's way).
first-fit decreasing:  the longest first, each into the first row that takes it (Axolotl's way).
in order:              the next row begins where a dialogue doesn't fit any more; nothing is sorted.

Of real rows as they are, and of a corpus with the mixture's published proportions that is made from them. Variation
is the standard deviation ÷ the mean: of a row's dialogues, of its learnt tokens, and of the learnt tokens of batches
of 2 and 32 rows, in the orders of 8 epochs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from corpus import default_data, make_corpus
from measure import machine_line, markdown

from koala_ray.quiet import set_switches
from koala_ray.recipe import DataSettings, TokenSettings
from koala_ray.records import Example
from koala_ray.sources.raw import RawRow, read_rows
from koala_ray.sources.registry import SOURCES, examples, find_files
from koala_ray.tokens.pack import epoch_order, fill, pack
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_examples

EPOCHS = 8
BATCHES = (2, 32)
AT_ONCE = 5000
"""Dialogues that are tokenized together."""
Packing = list[list[int]]


def decreasing(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def best_fit_decreasing(lengths: Sequence[int], context: int) -> Packing:
    rows: Packing = []
    spaces: list[tuple[int, int]] = []
    for index in decreasing(lengths):
        place = bisect_left(spaces, (lengths[index], -1))
        if place < len(spaces):
            space, row = spaces.pop(place)
        else:
            space, row = context, len(rows)
            rows.append([])
        rows[row].append(index)
        if space > lengths[index]:
            insort(spaces, (space - lengths[index], row))
    return rows


def first_fit_decreasing(lengths: Sequence[int], context: int) -> Packing:
    """With a tree over the rows that knows the most space among those below each node."""
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    most = [context] * (2 * leaves)
    rows: Packing = []
    for index in decreasing(lengths):
        node = 1
        while node < leaves:
            node = 2 * node if most[2 * node] >= lengths[index] else 2 * node + 1
        if node - leaves == len(rows):
            rows.append([])
        rows[node - leaves].append(index)
        most[node] -= lengths[index]
        while node > 1:
            node //= 2
            most[node] = max(most[2 * node], most[2 * node + 1])
    return rows


def in_order(lengths: Sequence[int], context: int) -> Packing:
    rows: Packing = []
    space = 0
    for index, length in enumerate(lengths):
        if length > space:
            rows.append([])
            space = context
        rows[-1].append(index)
        space -= length
    return rows


WAYS: dict[str, Callable[[Sequence[int], int], Packing]] = {
    "koala-ray": pack,
    "best-fit decreasing": best_fit_decreasing,
    "first-fit decreasing": first_fit_decreasing,
    "in order": in_order,
}


def read_dialogues(folder: Path) -> Iterator[Example]:
    """All dialogues below a folder, source by source."""
    data = DataSettings(root=str(folder))
    for source, files in find_files(data).items():
        for file in files:
            for row in read_rows(file.uri, SOURCES[source].group):
                if isinstance(row, RawRow):
                    found = examples(source, file.relative, row, data.seed)
                    yield from (item for item in found if isinstance(item, Example))


def measure_tokens(folder: Path, tokenizer: Tokenizer, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and learnt tokens of each dialogue as it is packed: long ones in pieces."""
    dialogues = read_dialogues(folder)
    tables = []
    while chunk := list(islice(dialogues, AT_ONCE)):
        table = tokenize_examples(chunk, tokenizer, TokenSettings(context=context), DataSettings())
        kept = table.filter(pc.is_null(table["filter"]))
        tables.append(pa.table({"tokens": pc.list_value_length(kept["ids"]), "learnt": kept["learnt"]}))
    joined = pa.concat_tables(tables)
    return joined["tokens"].to_numpy(), joined["learnt"].to_numpy()


def variation(values: np.ndarray) -> float:
    return float(values.std() / values.mean())


def batch_variation(learnt: np.ndarray, size: int) -> float:
    """Over the full batches of all epochs; of the one batch, if rows are few, nothing varies."""
    order = np.array([row for epoch in range(EPOCHS) for row in epoch_order(len(learnt), 0, epoch)])
    full = order[: len(order) // size * size]
    return variation(learnt[full].reshape(-1, size).sum(axis=1))


def compare(tokens: np.ndarray, learnt: np.ndarray, context: int) -> str:
    """The table of all ways."""
    lengths = tokens.tolist()
    lines = []
    for name, way in WAYS.items():
        started = time.perf_counter()
        rows = way(lengths, context)
        seconds = time.perf_counter() - started
        dialogues = np.array([len(row) for row in rows])
        learnt_in = np.array([learnt[row].sum() for row in rows])
        lines.append(
            [
                name,
                f"{len(rows):,}",
                f"{fill(lengths, len(rows), context):.2%}",
                f"{variation(dialogues):.3f}",
                f"{variation(learnt_in):.3f}",
                *(f"{batch_variation(learnt_in, size):.3f}" for size in BATCHES),
                f"{seconds:.2f}",
            ]
        )
    batches = [f"learnt tokens, {size} rows" for size in BATCHES]
    return markdown(["way", "rows", "fill", "dialogues a row", "learnt tokens a row", *batches, "seconds"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--part", type=Fraction, default=Fraction(1, 32), help="the part of the mixture's size")
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 2048])
    options = parser.parse_args()
    set_switches()
    tokenizer = Tokenizer.load("smollm2-135m")
    print(machine_line("numpy", "tokenizers"))
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as made:
        make_corpus(Path(made), options.data, options.part)
        for title, folder in (("real rows", options.data), (f"the mixture, {options.part}", Path(made))):
            for context in options.contexts:
                tokens, learnt = measure_tokens(folder, tokenizer, context)
                least = -(-int(tokens.sum()) // context)
                print(f"\n{title}: {len(tokens):,} dialogues, context {context}, at least {least:,} rows\n")
                print(compare(tokens, learnt, context), flush=True)


if __name__ == "__main__":
    main()
