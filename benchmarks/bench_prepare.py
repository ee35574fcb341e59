"""Preparing the Koala mixture at the published size: time, memory of all processes, and how both grow.

    python benchmarks/bench_prepare.py --parts 1/16 1/4 1

Each part of the corpus (benchmarks/corpus.py) is curated, held against the three stored prompt sets, tokenized with a
SentencePiece model of 32,000 pieces and packed, by the command line as a user runs it. Memory is the most that all
processes of the command, Ray's daemons among them, held at one time, shared pages counted once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from corpus import default_data, make_corpus
from corpus import table as corpus_table
from measure import Cost, llama_tokenizer, machine_line, markdown, run_measured

RECIPE = "koala-all-13b"
SETS = ["tokens.context=2048", 'curate.against=["koala", "self-instruct", "vicuna"]']
"""Besides the base model, whose folder is made here."""


@dataclass(frozen=True)
class Run:
    """One part of the corpus, prepared."""

    part: Fraction
    raw_rows: int
    raw_bytes: int
    cost: Cost
    figures: dict[str, Any]
    steps: dict[str, float]
    """Seconds of each step, from its manifest."""


def prepare(part: Fraction, folder: Path, base: str, options: argparse.Namespace) -> Run:
    """Make the part's corpus if need be, and prepare it from nothing."""
    raw = folder / f"corpus-{part.numerator}-{part.denominator}"
    made = make_corpus(raw, options.data, part)
    print(f"\nThe raw rows of part {part}:\n\n{corpus_table(made)}", flush=True)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "koala_ray", "prepare", options.recipe]
    command += ["--data", str(raw), "--out", str(out), "--json"]
    for value in [f"model.base={base}", *SETS, *options.sets]:
        command += ["--set", value]
    log = folder / "stderr.log"
    cost = run_measured(command, log)
    if cost.returncode:
        sys.exit(f"{' '.join(command)}\nended with {cost.returncode}:\n{log.read_text()[-3000:]}\n{cost.output}")
    manifests = [json.loads(path.read_text()) for path in out.glob("*/manifest.json")]
    return Run(
        part,
        sum(counts["rows"] for counts in made.values()),
        sum(counts["bytes"] for counts in made.values()),
        cost,
        json.loads(cost.output.splitlines()[-1]),
        {found["step"]: found["seconds"] for found in sorted(manifests, key=lambda found: found["created"])},
    )


def report(runs: list[Run]) -> str:
    """The table of all parts: one column for each, and beside it the growth from the one before."""
    cores = len(os.sched_getaffinity(0))
    rows: list[tuple[str, list[float], str]] = [
        ("raw rows", [run.raw_rows for run in runs], ",.0f"),
        ("raw MB", [run.raw_bytes / 1e6 for run in runs], ",.0f"),
        ("rows in", [run.figures["rows_in"] for run in runs], ",.0f"),
        ("rows kept", [run.figures["rows_kept"] for run in runs], ",.0f"),
        ("tokens", [run.figures["tokens"] for run in runs], ",.0f"),
        ("packed rows", [run.figures["packs"] for run in runs], ",.0f"),
        ("seconds", [run.cost.seconds for run in runs], ",.1f"),
        *((f"— {step}", [run.steps[step] for run in runs], ",.1f") for step in runs[0].steps),
        ("— the rest (start, hashes, end)", [run.cost.seconds - sum(run.steps.values()) for run in runs], ",.1f"),
        ("CPU seconds", [run.cost.cpu_seconds for run in runs], ",.0f"),
        ("cores busy, %", [run.cost.cpu_seconds / run.cost.seconds / cores * 100 for run in runs], ".0f"),
        ("peak memory, GB", [run.cost.peak_bytes / 1e9 for run in runs], ".2f"),
        ("rows in/s", [run.figures["rows_in"] / run.cost.seconds for run in runs], ",.0f"),
        ("rows in/s a core", [run.figures["rows_in"] / run.cost.seconds / cores for run in runs], ",.0f"),
        ("tokens/s a core", [run.figures["tokens"] / run.cost.seconds / cores for run in runs], ",.0f"),
    ]
    head = [""]
    for run in runs:
        head += [f"{run.part}"] + (["growth"] if run is not runs[0] else [])
    lines = []
    for name, values, form in rows:
        cells = [name]
        for place, value in enumerate(values):
            cells.append(f"{value:{form}}")
            if place:
                cells.append(f"{value / values[place - 1]:.2f}×" if values[place - 1] else "")
        lines.append(cells)
    return markdown(head, lines)


def rejections(run: Run) -> str:
    """What the filters left out, by source."""
    lines = []
    for source, entry in run.figures["sources"].items():
        for reason, rows in entry["rejected"].items():
            lines.append([source, reason, f"{rows:,}", f"{100 * rows / entry['rows_in']:.2f} %"])
    return markdown(["source", "reason", "rows", "of the source"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", type=Fraction, default=[Fraction(1, 16), Fraction(1, 4), Fraction(1)])
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--work", type=Path, help="keep corpora and results here; a folder that goes away by default")
    options = parser.parse_args()
    print(machine_line("ray", "pyarrow", "sentencepiece"))
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        base = llama_tokenizer(folder / "llama")
        runs = [prepare(part, folder, base, options) for part in options.parts]
    print(f"\nLeft out of part {runs[-1].part}:\n\n{rejections(runs[-1])}\n\n{report(runs)}")


if __name__ == "__main__":
    main()
