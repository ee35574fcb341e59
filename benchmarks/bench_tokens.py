"""Token preparation side by side: the same rows, tokenizer, context and machine, in one run.

koala-ray:      what the token step does (render, tokenize, mask, pack, write shards of one epoch), in two processes
                that do what one Ray task does; and the whole step through Ray, its start-up stated apart.
TRL:            SFTTrainer's constructor with packing (best-fit decreasing) and the loss on the learnt answers only,
                under a chat template that gives Koala's text; the best of its settings.
datasets.map:   batched tokenization of texts rendered before; no mask, no packing. The best of 1 and 2 processes.
the floor:      the tokenizer alone on texts rendered before, a batch on all cores, and one text at a time.

Medians of the rounds, taken in turn. TRL: pip install -r benchmarks/requirements.txt -c constraints.txt
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from corpus import FILES, default_data, make_corpus
from measure import Spread, cpu_seconds, llama_tokenizer, machine_line, markdown

from koala_ray.curate.ledger import EXAMPLES, Ledger
from koala_ray.models.resolve import resolve
from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe import Recipe
from koala_ray.recipe_file import load_recipe
from koala_ray.records import Example, example_schema
from koala_ray.sources.raw import RawRow, read_rows
from koala_ray.sources.registry import examples
from koala_ray.steps import run_step
from koala_ray.tables import PartWriter, groups_of, part_files
from koala_ray.tokens.pack import pack
from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.shards import write_shards
from koala_ray.tokens.step import tokenize
from koala_ray.tokens.template import END, MARKERS, as_text
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_group

CONTEXT = 2048
PROCESSES = 2
ROWS_IN = {"hc3": Fraction(2, 5), "hh": Fraction(1, 8)}
"""Which part of the corpus gives 32,768 dialogues, with some to spare."""
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{{ (OPENING if loop.first else '') + 'USER: ' + message.content + ' ' + message.marker }}"
    "{% elif message.unlearnt %}{{ message.content + eos_token }}"
    "{% else %}{% generation %}{{ message.content + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
"""Koala's text as a chat template. A user's message carries the marker that follows it."""

Result = dict[str, int]
"""What a way made: tokens, and learnt tokens and packed rows where it gives them."""
Way = Callable[[], Result]


def read_dialogues(source: str, folder: Path, limit: int) -> list[Example]:
    """The first dialogues that a source's reader gives from the corpus."""
    found = []
    for file in FILES:
        if file.source == source:
            for row in read_rows(str(folder / file.name)):
                assert isinstance(row, RawRow)
                found += [item for item in examples(source, file.name, row, seed=0) if isinstance(item, Example)]
                if len(found) >= limit:
                    return found[:limit]
    raise SystemExit(f"{folder} holds only {len(found):,} dialogues of {source}")


def ours(parts: Sequence[str], rows: int, recipe: Recipe, pool: Pool, folder: Path) -> Result:
    """What the token step does with the parts of a curated folder, without Ray."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    task = partial(tokenize_group, base=recipe.model.base, tokens=recipe.tokens, data=recipe.data)
    scratch = Scratch(folder, "train")
    for table in pool.imap(task, [{"uri": [parts[part]], "group": [group]} for part, group in groups_of(rows)]):
        scratch.add(table.filter(pc.is_null(table["filter"])))
    dialogues, _ = scratch.dialogues()
    packs = pack(dialogues.lengths.tolist(), CONTEXT)
    packed = write_shards(str(folder / "shards"), dialogues, packs, epochs=1, seed=0)
    return {"tokens": scratch.tokens, "learnt": int(dialogues.learnt.sum()), "packs": packed}


def through_ray(curated: Any, recipe: Recipe, folder: Path) -> Result:
    """The token step itself."""
    shutil.rmtree(folder, ignore_errors=True)
    counts = tokenize(recipe, curated, str(folder)).manifest.counts
    return {"tokens": counts["tokens"], "learnt": counts["learnt_tokens"], "packs": counts["packs"]}


def trl_trainer(
    messages: Any, model: Any, tokenizer: Any, folder: Path, processes: int | None, assistant_only: bool
) -> Result:
    """TRL's SFTTrainer up to where it would train."""
    from trl import SFTConfig, SFTTrainer

    use_threads(processes is None)
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        packing=True,
        packing_strategy="bfd",
        max_length=CONTEXT,
        assistant_only_loss=assistant_only,
        dataset_num_proc=processes,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    prepared = SFTTrainer(model=model, args=config, train_dataset=messages, processing_class=tokenizer).train_dataset
    table = prepared.with_format("arrow")[:]
    labels = pc.list_flatten(table["labels"])
    tokens = pc.sum(pc.list_value_length(table["input_ids"])).as_py()
    return {"tokens": tokens, "learnt": pc.sum(pc.not_equal(labels, -100)).as_py(), "packs": table.num_rows}


def datasets_map(texts: Any, tokenizer: Any, processes: int | None) -> Result:
    """Batched tokenization with datasets."""

    def tokenized(batch: dict[str, list[str]]) -> dict[str, Any]:
        return {"input_ids": tokenizer(batch["text"], add_special_tokens=False)["input_ids"]}

    use_threads(processes is None)
    done = texts.map(tokenized, batched=True, num_proc=processes, remove_columns=["text"])
    return {"tokens": pc.sum(pc.list_value_length(done.with_format("arrow")[:]["input_ids"])).as_py()}


def use_threads(wanted: bool) -> None:
    """Let tokenizers use threads or not, which forked processes must not.

    It is said for each way: datasets turns them off when it forks, and leaves them off.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if wanted else "false"


def at_once(texts: list[str], encode: Callable[[list[str]], list[list[int]]]) -> Result:
    """The tokenizer on all texts at once, and on all cores."""
    use_threads(True)
    return {"tokens": sum(map(len, encode(texts)))}


def one_by_one(texts: list[str], encode: Callable[[list[str]], list[list[int]]]) -> Result:
    """The tokenizer on one text after the other."""
    use_threads(True)
    return {"tokens": sum(len(encode([text])[0]) for text in texts)}


class Bench:
    """One table: the rows of one source under one tokenizer."""

    def __init__(self, source: str, base: str, rows: Sequence[Example], folder: Path, with_ray: bool) -> None:
        self.rows, self.folder, self.with_ray = rows, folder, with_ray
        sets = [f"model.base={base}", f"tokens.context={CONTEXT}", "train.epochs=1", "data.heldout=0"]
        self.recipe = load_recipe("tiny", sets)
        self.tokenizer = Tokenizer.load(base)
        curated = folder / "curated"
        with PartWriter(str(curated), EXAMPLES, example_schema()) as writer:
            writer.add(pa.Table.from_pylist([row.as_row() for row in rows], schema=example_schema()))
        self.parts = part_files(str(curated), EXAMPLES)
        ledger = Ledger.of([source])
        ledger.keep(source, len(rows))

        def build(step: str) -> dict[str, Any]:
            shutil.copytree(curated, step, dirs_exist_ok=True)
            return ledger.as_json() | {"prompts": {}}

        self.curated = run_step("curate", str(folder), settings={}, inputs={}, build=build)
        self.texts = [as_text(row.turns).replace(END, "") for row in rows]
        self.peers = self._peers(resolve(base))

    def _peers(self, base: str) -> dict[str, dict[str, Way]]:
        """The peers' ways with all their settings; of each the quickest is measured."""
        import datasets
        from transformers import AutoTokenizer

        datasets.disable_caching()
        datasets.disable_progress_bars()
        fast = AutoTokenizer.from_pretrained(base)
        texts = datasets.Dataset.from_dict(
            {"text": [as_text(row.turns).replace(END, fast.eos_token) for row in self.rows]}
        )
        ways: dict[str, dict[str, Way]] = {
            "datasets.map": {
                f"num_proc={processes or 1}": partial(datasets_map, texts, fast, processes)
                for processes in (None, PROCESSES)
            }
        }
        if importlib.util.find_spec("trl") is None:
            print("TRL is absent: pip install -r benchmarks/requirements.txt -c constraints.txt\n")
            return ways
        from transformers import AutoModelForCausalLM, LlamaConfig
        from trl import SFTTrainer  # noqa: F401  here, so that the first of its ways doesn't pay for it

        logging.getLogger("trl").setLevel(logging.ERROR)
        fast.pad_token = fast.pad_token or fast.eos_token
        bos = fast.bos_token if self.tokenizer.bos_id is not None else ""
        fast.chat_template = TEMPLATE.replace("OPENING", repr(f"{bos}BEGINNING OF CONVERSATION: "))
        small = LlamaConfig(
            vocab_size=len(fast), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1
        )
        model = AutoModelForCausalLM.from_config(small)
        said = [_messages(row) for row in self.rows]
        shown = fast.apply_chat_template(said[0], tokenize=False)
        assert shown == bos + texts["text"][0], shown
        whole = datasets.Dataset.from_list([{"messages": messages} for messages in said])
        parted = datasets.Dataset.from_list([{"prompt": turns[:-1], "completion": turns[-1:]} for turns in said])
        ways["TRL"] = {
            f"{name}, num_proc={processes or 1}": partial(
                trl_trainer, rows, model, fast, self.folder, processes, assistant_only
            )
            for name, rows, assistant_only in (
                ("assistant_only_loss", whole, True),
                ("completion_only_loss", parted, False),
            )
            for processes in (None, PROCESSES)
        }
        return ways

    def ways(self, pool: Pool) -> dict[str, Way]:
        """All ways by name, ours first, each peer with its best setting."""
        encode = self.tokenizer.encode
        chosen: dict[str, Way] = {
            "koala-ray, 2 processes": partial(ours, self.parts, len(self.rows), self.recipe, pool, self.folder / "ours")
        }
        for peer, settings in reversed(self.peers.items()):
            seconds = {setting: timed(way)[0] for setting, way in settings.items()}
            best = min(seconds, key=lambda setting: seconds[setting])
            chosen[f"{peer} ({best})"] = settings[best]
        chosen["tokenizer alone, all at once"] = partial(at_once, self.texts, encode)
        chosen["tokenizer alone, one text at a time"] = partial(one_by_one, self.texts, encode)
        return chosen

    def measure(self, rounds: int) -> str:
        """The table."""
        seconds: dict[str, list[float]] = {}
        cpu: dict[str, list[float]] = {}
        made: dict[str, Result] = {}
        note = ""
        # New processes, told of one CPU each, as Ray's are.
        os.environ["OMP_NUM_THREADS"] = "1"
        use_threads(True)
        first = ({"uri": [self.parts[0]], "group": [0]}, self.recipe.model.base, self.recipe.tokens, self.recipe.data)
        with get_context("spawn").Pool(PROCESSES, tokenize_group, first) as pool:
            del os.environ["OMP_NUM_THREADS"]
            ways = self.ways(pool)
            next(iter(ways.values()))()  # both processes have loaded the tokenizer by now
            for _, (name, way) in itertools.product(range(rounds), ways.items()):
                taken, busy, made[name] = timed(way)
                seconds.setdefault(name, []).append(taken)
                cpu.setdefault(name, []).append(busy)
        if self.with_ray:
            name = "koala-ray, the step through Ray"
            way = partial(through_ray, self.curated, self.recipe, self.folder / "step")
            started = time.perf_counter()
            ray_start()
            up = time.perf_counter() - started
            beginning, _, made[name] = timed(way)
            seconds[name] = [timed(way)[0] for _ in range(rounds)]
            more = beginning - Spread(tuple(seconds[name])).median
            note = f"\n\nRay: {up:.1f} s to start, and {more:.1f} s more in the first step."
        ours_median = Spread(tuple(seconds["koala-ray, 2 processes"])).median
        lines = []
        for name, rounds_taken in seconds.items():
            spread, result = Spread(tuple(rounds_taken)), made[name]
            lines.append(
                [
                    name,
                    f"{len(self.rows) / spread.median:,.0f}",
                    f"{spread.median:.2f}",
                    spread.range(),
                    f"{spread.median / ours_median:.2f}×",
                    f"{Spread(tuple(cpu[name])).median:.2f}" if name in cpu else "",
                    f"{result['tokens']:,}",
                    f"{result['learnt']:,}" if "learnt" in result else "",
                    f"{result['packs']:,}" if "packs" in result else "",
                ]
            )
        head = ["way", "rows/s", "seconds", "min–max", "time to ours", "CPU s", "tokens", "learnt", "packed rows"]
        return markdown(head, lines) + note


def _messages(row: Example) -> list[dict[str, Any]]:
    turns = row.turns
    return [
        {
            "role": turn.role,
            "content": turn.text,
            "marker": MARKERS[turns[place + 1].marker] if turn.role == "user" else "",
            "unlearnt": not turn.learn,
        }
        for place, turn in enumerate(turns)
    ]


def ray_start() -> None:
    """Start the private Ray that the token step uses."""
    from koala_ray.session import connect

    connect()


def timed(way: Way) -> tuple[float, float, Result]:
    """The seconds that a way takes, its processor seconds, and what it made."""
    gc.collect()
    started, before = time.perf_counter(), cpu_seconds()
    result = way()
    return time.perf_counter() - started, cpu_seconds() - before, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32768, help="dialogues of each source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", choices=sorted(ROWS_IN), default=sorted(ROWS_IN))
    parser.add_argument("--tokenizers", nargs="+", choices=["smollm2", "llama"], default=["smollm2", "llama"])
    parser.add_argument("--data", type=Path, default=default_data(), help="the folder with real rows")
    parser.add_argument("--without-ray", action="store_true", help="leave out the step through Ray")
    options = parser.parse_args()
    set_switches()
    quiet_transformers()
    warnings.simplefilter("ignore", FutureWarning)
    print(machine_line("datasets", "tokenizers", "sentencepiece", "transformers", "trl", "ray"))
    print(f"{options.rows:,} dialogues a source, context {CONTEXT}, {options.rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="koala-ray-bench-") as scratch:
        folder = Path(scratch)
        bases = {"smollm2": "smollm2-135m", "llama": llama_tokenizer(folder / "llama")}
        for source in options.sources:
            make_corpus(folder / source, options.data, ROWS_IN[source], sources=[source])
            rows = read_dialogues(source, folder / source, options.rows)
            characters = sum(len(turn.text) for row in rows for turn in row.turns) / len(rows)
            for name in options.tokenizers:
                work = folder / f"{source}-{name}"
                work.mkdir()
                bench = Bench(source, bases[name], rows, work, not options.without_ray)
                size = bench.tokenizer.size
                print(f"\n{source}, {characters:.0f} characters a dialogue, {size:,} pieces ({name})\n")
                print(bench.measure(options.rounds), flush=True)


if __name__ == "__main__":
    main()
