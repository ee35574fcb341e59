"""Decontamination against the 512 evaluation prompts: are the verdicts sacrebleu's, and what does a turn cost?

verify: pairs of a turn and a prompt are judged by koala-ray and by sacrebleu, on all cores: real turns and changed
        prompts (words dropped, doubled, replaced, cut off) with all prompts, and changed prompts with their own, which
        puts many near the limit. Prints the counts; a disagreement fails the run.
speed:  CPU microseconds for a turn on one core, tokenization included, source by source. Each round takes other turns:
        real ones with words dropped, doubled and replaced, 3 in 100 words being new, so that nothing is met twice.
        Beside it, from a sample of pairs: sacrebleu.sentence_bleu, and sacrebleu's parts with the prompts tokenized
        once and a turn's n-grams counted once. Then the time for the published rows, which is a projection.

Needs real rows: --data, or KOALA_DATA, or ../shared/data from the project's root (layout: see tests).
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import platform
import random
import re
import statistics
import string
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import sacrebleu
from sacrebleu.metrics import BLEU

from koala_ray.curate.decontaminate import Contamination
from koala_ray.prompts import load_prompts

ROOT = Path(__file__).resolve().parent.parent
SETS = ("koala", "self-instruct", "vicuna")
LIMIT = 20.0
NEAR = 5
"""Scores that differ from the limit by less are counted as near it."""
PUBLISHED_ROWS = {
    "sharegpt": 30_000,
    "hc3": 87_000,
    "oig": 30_000,
    "alpaca": 52_000,
    "hh": 160_000,
    "webgpt": 20_000,
    "summarize": 93_000,
}
STAND_IN = {"webgpt": "summarize"}
"""Sources without real rows here, and the one whose turns are taken for theirs."""


def read_turns(data: Path) -> dict[str, list[list[str]]]:
    """Source → the user's turns of each of its rows."""
    sources = data / "sources"

    def lines(name: str) -> list[dict]:
        opened = gzip.open if name.endswith(".gz") else open
        with opened(sources / name, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def array(name: str) -> list[dict]:
        return json.loads((sources / name).read_text(encoding="utf-8"))

    human = re.compile(r"\n\nHuman: ?(.*?)(?=\n\nAssistant:|\Z)", re.DOTALL)
    return {
        "sharegpt": [
            [message["value"] for message in row["conversations"] if message["from"] in ("human", "user")]
            for row in array("sharegpt_layout_oasst.json")
        ],
        "hc3": [[row["question"]] for row in lines("hc3_open_qa.jsonl")],
        "oig": [[row["text"].split("\n<bot>:")[0]] for row in lines("oig_grade_school_math.jsonl")],
        "alpaca": [[f"{row['instruction']} {row['input']}".strip()] for row in array("alpaca_cleaned_1000.json")],
        "hh": [human.findall(row["chosen"]) for row in lines("hh_harmless.jsonl.gz")],
        "summarize": [[row["info"]["post"]] for row in lines("summarize_comparisons.jsonl")],
    }


def near_prompt(prompt: str, chance: random.Random) -> str:
    """A prompt with so many words changed that its BLEU is often near 20 %."""
    words = prompt.split()
    share = chance.uniform(0.1, 0.7)
    out: list[str] = []
    for word in words:
        changed = chance.random() < share
        out += chance.choice([[], [], ["zebra"], [word, word], [chance.choice(words)]]) if changed else [word]
    return " ".join(out[: chance.choice([len(out), len(out), 1 + len(out) // 3])])


def like(turn: str, chance: random.Random) -> str:
    """A new turn about as long as a real one: one word in ten is dropped or doubled, 3 in 100 are new words."""
    out: list[str] = []
    for word in re.split(r"(?<= )", turn):
        fate = chance.random()
        if fate < 0.03:
            out.append("".join(chance.choices(string.ascii_lowercase, k=7)) + " ")
        elif fate >= 0.08:
            out += [word, word] if fate < 0.13 else [word]
    return "".join(out)


@cache
def judges(data: Path) -> tuple[tuple[str, ...], Contamination, BLEU]:
    prompts = tuple(prompt.text for name in SETS for prompt in load_prompts(name, data=str(data)).prompts)
    return prompts, Contamination(prompts, LIMIT), BLEU(effective_order=True)


def check(task: tuple[Path, str, range]) -> tuple[int, int, int, int]:
    """One turn against the prompts at some places: pairs, pairs near the limit, hits, disagreements."""
    data, turn, places = task
    prompts, index, metric = judges(data)
    found = set(index.hits(turn)) & set(places)
    # What sentence_bleu does, less making a new BLEU for each pair.
    scores = {place: metric.sentence_score(prompts[place], [turn]).score for place in places}
    expected = {place for place, score in scores.items() if score > LIMIT}
    near = sum(abs(score - LIMIT) < NEAR for score in scores.values())
    return len(scores), near, len(expected), len(expected ^ found)


def verify(data: Path, real: list[str], pairs: int) -> int:
    """Compare the verdicts on so many pairs; the disagreements."""
    prompts, _, _ = judges(data)
    chance = random.Random(0)
    # One pair in five is a changed prompt with its own prompt; the others are turns with all prompts.
    tasks = []
    for number in range(pairs // 5):
        place = number % len(prompts)
        tasks.append((data, near_prompt(prompts[place], chance), range(place, place + 1)))
    each = -(-(pairs - len(tasks)) // len(prompts) // 2)
    turns = chance.sample(real, min(each, len(real)))
    turns += [near_prompt(chance.choice(prompts), chance) for _ in range(each)]
    tasks += [(data, turn, range(len(prompts))) for turn in turns]
    chance.shuffle(tasks)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started = time.perf_counter()
    with multiprocessing.Pool(cores) as pool:
        results = list(pool.imap_unordered(check, tasks, chunksize=64))
    judged, near, hits, wrong = (sum(column) for column in zip(*results, strict=True))
    print(
        f"verify: {judged:,} pairs of {len(tasks):,} turns, {near:,} pairs within {NEAR} of the limit:"
        f" {hits:,} hits, {wrong} disagreements with sacrebleu {sacrebleu.__version__}"
        f" ({time.perf_counter() - started:.0f} s on {cores} cores)"
    )
    return wrong


def cpu_microseconds(work: Callable[..., object], *arguments: object, per: int) -> float:
    started = time.process_time()
    work(*arguments)
    return (time.process_time() - started) / per * 1e6


def judge_all(index: Contamination, turns: list[str]) -> None:
    for turn in turns:
        index.hits(turn)


def plain(pairs: list[tuple[str, str]]) -> None:
    for prompt, turn in pairs:
        sacrebleu.sentence_bleu(prompt, [turn])


def counted_once(metric: BLEU, tokenized: list[str], turns: list[str]) -> None:
    # The parts of sentence_score; its own cache of references serves a corpus, not one reference for many.
    for turn in turns:
        counted = metric._extract_reference_info([metric._preprocess_segment(turn)])
        for prompt in tokenized:
            metric._compute_score_from_stats(metric._compute_segment_statistics(prompt, counted))


def median_and_range(values: list[float]) -> str:
    return f"{statistics.median(values):10.1f}  (min {min(values):.1f}, max {max(values):.1f})"


def speed(prompts: tuple[str, ...], sources: dict[str, list[list[str]]], per_source: int, rounds: int) -> None:
    chance = random.Random(1)
    started = time.process_time()
    index = Contamination(prompts, LIMIT)
    print(f"\nspeed: index of {len(prompts)} prompts in {time.process_time() - started:.2f} s; CPU µs a turn, one core")
    cost: dict[str, float] = {}
    seen = 0
    for source, rows in sources.items():
        turns = list(dict.fromkeys(turn for row in rows for turn in row))
        times = []
        for _ in range(rounds):
            fresh: set[str] = set()
            while len(fresh) < per_source:
                fresh.add(like(chance.choice(turns), chance))
            times.append(cpu_microseconds(judge_all, index, sorted(fresh), per=per_source))
            seen += per_source
        words = statistics.mean(len(turn.split()) for turn in turns)
        cost[source] = statistics.median(times)
        print(f"  {source:<24} {words:4.0f} words a turn {median_and_range(times)}  {1e6 / cost[source]:8,.0f} turns/s")

    turns = [turn for rows in sources.values() for row in rows for turn in row]
    metric = BLEU(effective_order=True)
    tokenized = [metric._preprocess_segment(prompt) for prompt in prompts]
    ours, with_plain, with_cache = [], [], []
    for _ in range(rounds):
        sample = chance.sample(turns, 1000)
        ours.append(cpu_microseconds(judge_all, index, sample, per=len(sample)))
        pairs = [(chance.choice(prompts), turn) for turn in sample]
        with_plain.append(cpu_microseconds(plain, pairs, per=len(pairs)) * len(prompts))
        with_cache.append(cpu_microseconds(counted_once, metric, tokenized, sample[:10], per=10))
    print(f"beside peers, on the same real turns of all sources ({seen:,} distinct turns above, {rounds} rounds):")
    names = {"koala-ray": ours, "sacrebleu, counted once": with_cache, "sacrebleu.sentence_bleu": with_plain}
    for name, times in names.items():
        ratio = statistics.median(times) / statistics.median(ours)
        print(f"  {name:<24} {median_and_range(times)}  {ratio:10,.1f}×")
    print("  (the peers extrapolated from 1,000 pairs and 10 turns a round)")

    print("projection to the published rows:")
    total_rows, total_turns, seconds = 0, 0.0, 0.0
    for source, published in PUBLISHED_ROWS.items():
        taken = STAND_IN.get(source, source)
        per_row = statistics.mean(len(row) for row in sources[taken])
        total_rows += published
        total_turns += published * per_row
        seconds += published * per_row * cost[taken] / 1e6
        note = f" (as {taken})" if taken != source else ""
        print(f"  {source:<10} {published:8,} rows × {per_row:4.2f} turns × {cost[taken]:6.1f} µs{note}")
    print(
        f"  {total_rows:,} rows, {total_turns / total_rows:.2f} turns a row, {total_turns:,.0f} turns:"
        f" {seconds:.0f} s on one core, {seconds / 2:.0f} s on two (projected, not run)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("KOALA_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="folder with sources/ and prompts/")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs to verify; 0 leaves it out")
    parser.add_argument("--turns", type=int, default=20_000, help="turns of each source in a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the speed measurement; 0 leaves it out")
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"no real data at {options.data}: name its folder with --data or KOALA_DATA")
    prompts, _, _ = judges(options.data)
    sources = read_turns(options.data)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, limit {LIMIT:g}")
    wrong = 0
    if options.pairs:
        real = sorted({turn for rows in sources.values() for row in rows for turn in row})
        wrong = verify(options.data, real, options.pairs)
    if options.rounds:
        speed(prompts, sources, options.turns, options.rounds)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
