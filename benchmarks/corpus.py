"""A raw corpus of the Koala mixture's published size, in the sources' own layouts, made from real rows.

    python benchmarks/corpus.py --to /tmp/corpus --part 1/16

Real rows (--data, by default $KOALA_DATA or ../shared/data) are taken again and again. Each time a fifth of the
content words, all numbers and a quarter of the answers' sentences are replaced by others of the same data, so that no
row is a duplicate of another and lengths stay what they are. Some rows are what filters are for: other languages,
answers that name their maker, HTML, prompts of evaluation sets. A row depends on the seed and its number alone, so a
part of the corpus is the beginning of the whole.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import IO

from measure import markdown
from seeds import Forge, Row, Seeds

MADE = "made.json"
CHUNK = 200
LONG = 8000
"""Characters after which ShareGPT's export goes on in a row of its own, ``ID_1``."""
FOREIGN, SELF_REFERENCE, MARKUP, FLAWED, CONTAMINATED = 0.10, 0.10, 0.03, 0.01, 0.001
"""Shares of ShareGPT's dialogues."""
NAMED = ("As an AI language model developed by OpenAI, ", "I am ChatGPT. ", "GPT-3 would say: ")


def sharegpt(forge: Forge) -> list[Row]:
    """One dialogue of ShareGPT's V3 layout: a row, or several where it is long."""
    rng, seeds = forge.rng, forge.seeds
    kind = rng.random()
    turns = min(30, 1 + int(rng.expovariate(1 / 2.8)))
    if kind < FOREIGN and seeds.foreign:
        language = rng.choice(seeds.foreign)
        said = [" ".join(rng.choices(language, k=count)) for _ in range(turns) for count in (4, 8)]
    else:
        said = [text for _ in range(turns) for text in forge.exchange()]
    kind -= FOREIGN
    place = 2 * rng.randrange(turns) + 1
    if 0 <= kind < SELF_REFERENCE:
        said[place] = rng.choice(NAMED) + said[place]
    kind -= SELF_REFERENCE
    if 0 <= kind < MARKUP:
        said[place] = f'<div class="markdown prose"><p>{said[place]}</p></div>\n\npython\nCopy code\nprint("done")\n'
    kind -= MARKUP
    if 0 <= kind < CONTAMINATED and seeds.prompts:
        said[0] = rng.choice(seeds.prompts)
    kind -= CONTAMINATED
    messages = [{"from": ("human", "gpt")[turn % 2], "value": text} for turn, text in enumerate(said)]
    if 0 <= kind < FLAWED:
        flaw = rng.randrange(3)
        if flaw == 0:
            messages[place]["value"] = ""
        elif flaw == 1:
            messages = messages[:1]
        else:
            messages.insert(0, {"from": "system", "value": "Share your conversations."})
    parts: list[list[dict[str, str]]] = []
    size = LONG
    for message in messages:
        if size >= LONG:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += len(message["value"])
    name = f"{rng.getrandbits(48):012x}"
    return [{"id": f"{name}_{number}", "conversations": part} for number, part in enumerate(parts)]


def hc3(forge: Forge) -> list[Row]:
    """One question with 1–4 answers by people, as long as those of its Reddit part, and mostly one by ChatGPT."""
    rng, seeds = forge.rng, forge.seeds

    def human() -> str:
        return " ".join(forge.answer(rng.choice(seeds.human), seeds.human) for _ in range(rng.randint(1, 6)))

    replies = rng.choices((0, 1, 2), (3, 82, 15))[0]
    row = {
        "question": forge.query(rng.choice(seeds.questions)),
        "human_answers": [human() for _ in range(rng.randint(1, 4))],
        "chatgpt_answers": [forge.answer(rng.choice(seeds.assistant), seeds.assistant) for _ in range(replies)],
        "source": "open_qa",
    }
    return [row]


def alpaca(forge: Forge) -> list[Row]:
    """One instruction, with or without an input."""
    instruction, given, output = forge.rng.choice(forge.seeds.instructions)
    other = forge.rng.choice(forge.seeds.instructions)[2]
    asked = forge.query(instruction)
    if forge.rng.random() < CONTAMINATED and forge.seeds.prompts:
        asked = forge.rng.choice(forge.seeds.prompts)
    return [{"instruction": asked, "input": forge.answer(given, [given]), "output": forge.answer(output, [other])}]


def school_problem(forge: Forge) -> list[Row]:
    """One word problem of OIG."""
    problem, solution = forge.rng.choice(forge.seeds.problems)
    solutions = [forge.rng.choice(forge.seeds.problems)[1]]
    return [_oig("grade-school-math", [(forge.query(problem), forge.answer(solution, solutions))])]


def poem(forge: Forge) -> list[Row]:
    """One exchange of OIG's poems and songs, in short lines."""
    question, answer = forge.exchange()
    return [_oig("poetry-to-songs", [(question, answer.replace(". ", ".\n").replace(", ", ",\n"))])]


def scene(forge: Forge) -> list[Row]:
    """A dialogue of OIG's plots and scenes."""
    exchanges = [forge.exchange() for _ in range(forge.rng.randint(1, 6))]
    return [_oig("plot-screenplay-books-dialogue", exchanges)]


def _oig(name: str, exchanges: Sequence[tuple[str, str]]) -> Row:
    text = "\n".join(f"<human>: {question}\n<bot>: {answer}" for question, answer in exchanges)
    return {"text": text, "metadata": {"source": name}}


def hh(forge: Forge) -> list[Row]:
    """One preference of Anthropic HH."""
    turns, chosen, rejected = forge.rng.choice(forge.seeds.pairs)
    other = forge.rng.choice(forge.seeds.pairs)
    said = [
        forge.query(turn) if place % 2 == 0 else forge.answer(turn, other[0][1::2] or [turn])
        for place, turn in enumerate(turns)
    ]
    shared = "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(said))
    sides = {"chosen": forge.answer(chosen, [other[1]]), "rejected": forge.answer(rejected, [other[2]])}
    return [{name: f"{shared}\n\nAssistant: {answer}" for name, answer in sides.items()}]


def webgpt(forge: Forge) -> list[Row]:
    """One comparison of two answers with quotations; a quarter are ties."""
    rng, seeds = forge.rng, forge.seeds
    score = 0.0 if rng.random() < 0.25 else rng.choice((-1.0, -0.5, -0.25, 0.25, 0.5, 1.0))
    name = f"{rng.getrandbits(64):016x}"
    asked = forge.query(rng.choice(seeds.questions))
    row: Row = {"question": {"dataset": "eli5", "id": name, "full_text": asked}}
    for side in (0, 1):
        extracts = [forge.answer(rng.choice(seeds.human), seeds.human) for _ in range(rng.randint(1, 4))]
        marks = "".join(f"[{number}]" for number in range(1, len(extracts) + 1))
        row[f"answer_{side}"] = forge.answer(rng.choice(seeds.assistant), seeds.assistant) + f" {marks}"
        row[f"quotes_{side}"] = {"title": [f"{text[:40]} (site.example)" for text in extracts], "extract": extracts}
        ids = [rng.randrange(50257)] * 150
        row[f"tokens_{side}"] = {"prefix": ids * 4, "completion": ids}
        row[f"score_{side}"] = -score if side else score
    return [row]


def summarize(forge: Forge) -> list[Row]:
    """One comparison of two summaries of a post."""
    rng, human = forge.rng, forge.seeds.human
    paragraphs = [forge.answer(rng.choice(human), human) for _ in range(rng.randint(4, 9))]
    drawn = [rng.choice(rng.choice(human)) for _ in range(2)]
    row = {
        "info": {
            "id": f"t3_{rng.getrandbits(40):010x}",
            "post": "\n\n".join(paragraphs),
            "title": forge.query(rng.choice(forge.seeds.questions)),
            "subreddit": rng.choice(("relationships", "legaladvice", "AskReddit", "tifu")),
        },
        "summaries": [
            {"text": f" {forge.query([sentence])}", "policy": policy, "note": None}
            for sentence, policy in zip(drawn, ("sup4", "ref"), strict=True)
        ],
        "choice": rng.randrange(2),
        "worker": f"worker{rng.randrange(80)}",
        "batch": f"batch{rng.randrange(20)}",
        "split": "train",
        "extra": {"confidence": rng.randint(1, 9)},
    }
    return [row]


@dataclass(frozen=True)
class RawFile:
    """A file of the corpus."""

    name: str
    """Below the corpus, as ``SOURCE/FILE``; the ending says how rows are written."""
    items: int
    """Dialogues, questions or comparisons at the published size."""
    make: Callable[[Forge], list[Row]]

    @property
    def source(self) -> str:
        """The source's name."""
        return self.name.partition("/")[0]


FILES = (
    RawFile("sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json", 60_000, sharegpt),
    RawFile("hc3/all.jsonl", 24_000, hc3),
    RawFile("oig/unified_grade_school_math_instructions.jsonl", 9_000, school_problem),
    RawFile("oig/unified_poetry_2_song.jsonl", 12_000, poem),
    RawFile("oig/unified_plot_screenplay_books_dialog.jsonl", 9_000, scene),
    RawFile("alpaca/alpaca_data.json", 52_000, alpaca),
    RawFile("hh/harmless-base-train.jsonl.gz", 42_400, hh),
    RawFile("hh/helpful-base-train.jsonl.gz", 43_600, hh),
    RawFile("hh/helpful-online-train.jsonl.gz", 21_900, hh),
    RawFile("hh/helpful-rejection-sampled-train.jsonl.gz", 52_100, hh),
    RawFile("webgpt/comparisons.jsonl", 20_000, webgpt),
    RawFile("summarize/comparisons.jsonl", 93_000, summarize),
)

_seeds: Seeds | None = None
"""A process's seeds: set before the pool forks, so that they are read once."""


def _chunk(task: tuple[int, int, int, int]) -> tuple[int, bytes]:
    """A pool's task: some rows of a file, as they are written."""
    assert _seeds is not None
    file, seed, first, end = task
    rows = [
        row
        for number in range(first, end)
        for row in FILES[file].make(Forge(_seeds, f"{seed}/{FILES[file].name}/{number}"))
    ]
    between = ",\n" if FILES[file].name.endswith(".json") else "\n"
    return len(rows), between.join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def make_corpus(
    folder: Path, data: Path, part: Fraction = Fraction(1), seed: int = 0, sources: Sequence[str] = ()
) -> dict[str, dict[str, int]]:
    """Write the corpus below a folder, unless it is there already.

    Args:
        folder: where; the data's prompt sets are copied beside it, as ``prompts/``.
        data: the folder with real rows.
        part: the part of the published size.
        seed: seeds all rows.
        sources: only these; all by default.

    Returns:
        Rows and bytes of each source.
    """
    global _seeds
    made = folder / MADE
    settings = {"part": str(part), "seed": seed, "sources": list(sources)}
    if made.exists() and (found := json.loads(made.read_text()))["settings"] == settings:
        return dict(found["sources"])
    shutil.rmtree(folder, ignore_errors=True)
    if (data / "prompts").is_dir():
        shutil.copytree(data / "prompts", folder / "prompts")
    _seeds = Seeds.read(data)
    written: dict[str, dict[str, int]] = {}
    with get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        for place, file in enumerate(FILES):
            if sources and file.source not in sources:
                continue
            items = max(1, round(file.items * part))
            tasks = [(place, seed, first, min(first + CHUNK, items)) for first in range(0, items, CHUNK)]
            path = folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with _open(path) as out:
                rows = _write(out, pool.imap(_chunk, tasks), file.name.endswith(".json"))
            counts = written.setdefault(file.source, {"rows": 0, "bytes": 0})
            counts["rows"] += rows
            counts["bytes"] += path.stat().st_size
    made.write_text(json.dumps({"settings": settings, "sources": written}, indent=1))
    return written


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.GzipFile(path, "wb", compresslevel=5, mtime=0)  # type: ignore[return-value]
    return open(path, "wb")


def _write(out: IO[bytes], chunks: Iterator[tuple[int, bytes]], array: bool) -> int:
    total = 0
    for rows, data in chunks:
        if array:
            out.write(b",\n" if total else b"[\n")
        out.write(data)
        if not array:
            out.write(b"\n")
        total += rows
    if array:
        out.write(b"\n]\n")
    return total


def table(written: dict[str, dict[str, int]]) -> str:
    """Rows and bytes of each source and of all, as Markdown."""
    total = {name: sum(counts[name] for counts in written.values()) for name in ("rows", "bytes")}
    return markdown(
        ["source", "rows", "MB"],
        [
            [name, f"{counts['rows']:,}", f"{counts['bytes'] / 1e6:,.1f}"]
            for name, counts in [*written.items(), ("all", total)]
        ],
    )


def default_data() -> Path:
    """``$KOALA_DATA``, or ``shared/data`` beside the repository."""
    return Path(os.environ.get("KOALA_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True, help="the folder to write to; what is there is replaced")
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--part", type=Fraction, default=Fraction(1), help="the part of the size, e.g. 1/16")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(table(make_corpus(options.to, options.data, options.part, options.seed)))


if __name__ == "__main__":
    main()
