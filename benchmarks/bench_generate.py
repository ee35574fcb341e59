"""Answers from a model on a CPU: koala-ray's engine, the job through Ray Serve, and what users would run instead.

All answer the same prompts (the Koala test set's, below 700 tokens) with SmolLM2-135M, greedily, 64 tokens at most, on
the same two threads. A way is a process of its own; its start and loading don't count, one small answer warms it up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from measure import machine_line, markdown

MODEL = "smollm2-135m"
MAX_TOKENS = 64
LONGEST = 700
THREADS = 2
RUNS = int(os.environ.get("RUNS", "3"))
PROMPTS = 64
VLLM = Path(__file__).parent.parent / ".venv-vllm" / "bin" / "python"


def prompts(count: int) -> list[list[int]]:
    """The first so many prompts' ids; from the set again where it has fewer."""
    from koala_ray.prompts import load_prompts
    from koala_ray.records import Turn
    from koala_ray.tokens.template import prompt_ids
    from koala_ray.tokens.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(MODEL)
    ids = [prompt_ids([Turn("user", one.text)], tokenizer) for one in load_prompts("koala").prompts]
    short = [one for one in ids if len(one) < LONGEST]
    return [short[place % len(short)] for place in range(count)]


def static(ids: list[list[int]]) -> dict[str, float]:
    """A padded batch of 32 after the other through ``generate``, as most scripts do it."""
    import torch
    from transformers import AutoModelForCausalLM

    from koala_ray.models.resolve import resolve

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(resolve(MODEL)).eval()
    eos = 2

    def run(batches: list[list[list[int]]]) -> int:
        tokens = 0
        for batch in batches:
            longest = max(map(len, batch))
            padded = torch.tensor([[eos] * (longest - len(one)) + one for one in batch])
            mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in batch])
            found = model.generate(
                padded, attention_mask=mask, max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=eos
            )
            for row in found[:, longest:].tolist():
                tokens += row.index(eos) + 1 if eos in row else len(row)
        return tokens

    run([[ids[0][:20]]])
    return timed(lambda: run([ids[first : first + 32] for first in range(0, len(ids), 32)]))


def batching(ids: list[list[int]]) -> dict[str, float]:
    """transformers' continuous batching as it comes."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    from koala_ray.models.resolve import resolve

    torch.set_num_threads(THREADS)
    model: Any = AutoModelForCausalLM.from_pretrained(resolve(MODEL)).eval()
    settings = GenerationConfig(max_new_tokens=MAX_TOKENS, do_sample=False, eos_token_id=2, pad_token_id=2)
    room = ContinuousBatchingConfig(page_size=128, num_blocks=256, max_batch_tokens=512, max_requests_per_batch=32)

    def run(some: list[list[int]]) -> int:
        found = model.generate_batch(
            some, generation_config=settings, continuous_batching_config=room, progress_bar=False
        )
        return sum(len(one.generated_tokens) for one in found.values())

    run([ids[0][:20]])
    return timed(lambda: run(ids))


def bare(ids: list[list[int]], engine: Any = "transformers") -> dict[str, float]:
    """koala-ray's engine in this process."""
    import asyncio

    from koala_ray.generate.engine import EngineSettings, open_engine
    from koala_ray.generate.sampling import Sampling

    async def everything() -> dict[str, float]:
        opened = open_engine(engine, EngineSettings(MODEL, 32, THREADS))

        async def one(prompt: list[int]) -> int:
            return len([token async for token in opened.generate(prompt, Sampling(MAX_TOKENS), 2)])

        await one(ids[0][:20])
        started = time.monotonic()
        tokens = sum(await asyncio.gather(*map(one, ids)))
        seconds = time.monotonic() - started
        opened.close()
        return {"tokens": tokens, "seconds": seconds}

    return asyncio.run(everything())


def vllm(ids: list[list[int]]) -> dict[str, float]:
    """vLLM's CPU build in this process, through koala-ray's interface."""
    return bare(ids, "vllm")


def served(ids: list[list[int]], engine: Any = "transformers", replicas: int = 1) -> dict[str, float]:
    """The batch job's replicas on Ray Serve, asked as the job asks them."""
    import asyncio

    from koala_ray.generate.app import in_flight
    from koala_ray.generate.app import replicas as running
    from koala_ray.generate.replica import Ask
    from koala_ray.generate.sampling import Sampling
    from koala_ray.recipe import GenerateSettings
    from koala_ray.session import connect

    settings = GenerateSettings(engine=engine, concurrent=32, cpus=THREADS / replicas, replicas=replicas)

    async def everything(handle: Any) -> dict[str, float]:
        places = asyncio.Semaphore(in_flight(settings) * replicas)

        async def one(prompt: list[int]) -> int:
            async with places:
                reply = await handle.reply.remote(Ask(Sampling(MAX_TOKENS), ids=prompt))
                return len(reply.ids) + reply.ended

        await asyncio.gather(*(one(ids[0][:20]) for _ in range(4 * replicas)))
        started = time.monotonic()
        tokens = sum(await asyncio.gather(*map(one, ids)))
        return {"tokens": tokens, "seconds": time.monotonic() - started}

    with running(connect(), MODEL, settings, "bench") as handle:
        return asyncio.run(everything(handle))


def served_by_two(ids: list[list[int]]) -> dict[str, float]:
    """Two replicas with a thread each."""
    return served(ids, replicas=2)


def served_vllm(ids: list[list[int]]) -> dict[str, float]:
    """vLLM's CPU build in a replica."""
    return served(ids, "vllm")


def data_llm(ids: list[list[int]]) -> dict[str, float]:
    """Ray's own batch inference, ``ray.data.llm``, with the same engine. Its time is that of the row asked longest:
    all are asked at once, and starting the engine doesn't count.
    """
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from koala_ray.models.resolve import resolve
    from koala_ray.session import connect

    ray = connect()
    settings = vLLMEngineProcessorConfig(
        model_source=resolve(MODEL),
        engine_kwargs={"max_num_seqs": 32, "dtype": "float32", "seed": 0},
        placement_group_config={"bundles": [{"CPU": 1, "GPU": 0}]},
        concurrency=1,
        batch_size=16,
        log_engine_metrics=False,
        # As for the other ways: ids go in, and nothing is made of those that come out.
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    processor = build_processor(
        settings,
        preprocess=lambda row: {
            "tokenized_prompt": list(row["ids"]),
            "sampling_params": {"temperature": 0.0, "max_tokens": MAX_TOKENS},
        },
        postprocess=lambda row: {"tokens": row["num_generated_tokens"], "seconds": row["time_taken_llm"]},
    )
    rows = processor(ray.data.from_items([{"ids": one} for one in ids])).take_all()
    return {"tokens": sum(row["tokens"] for row in rows), "seconds": max(row["seconds"] for row in rows)}


def timed(work: Any) -> dict[str, float]:
    """Tokens and seconds of a piece of work."""
    started = time.monotonic()
    tokens = work()
    return {"tokens": tokens, "seconds": time.monotonic() - started}


WAYS = {
    "transformers' `generate`, padded batches of 32": static,
    "transformers' continuous batching": batching,
    "koala-ray's engine, in one process": bare,
    "koala-ray's job: a Serve replica": served,
    "koala-ray's job: two Serve replicas": served_by_two,
    "vLLM (CPU), in one process": vllm,
    "koala-ray's job: a Serve replica with vLLM": served_vllm,
    "Ray's ray.data.llm with vLLM": data_llm,
}


def measured(way: str, count: int) -> dict[str, float]:
    """One way in a process of its own."""
    python = str(VLLM) if "vLLM" in way else sys.executable
    env = {**os.environ, "KOALA_RAY_CPUS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    env |= {"PYTHONPATH": str(Path(__file__).parent.parent)}  # the environment with vLLM doesn't have it installed
    env |= {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_LOGGING_LEVEL": "ERROR"}
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [python, __file__, way, str(count), file.name]
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return json.loads(Path(file.name).read_text())


def main() -> None:
    """Print a table: tokens/s by way."""
    if len(sys.argv) == 4:
        way, count, target = sys.argv[1:]
        Path(target).write_text(json.dumps(WAYS[way](prompts(int(count)))))
        return
    rows = []
    runs: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for way in WAYS:
            if "vLLM" in way and not VLLM.exists():
                print(f"{way}: left out, `make test-vllm` installs it", file=sys.stderr)
                continue
            found = measured(way, PROMPTS)
            runs.setdefault(way, []).append(found["tokens"] / found["seconds"])
            print(way, round(runs[way][-1], 1), file=sys.stderr, flush=True)
    reference = median(runs["koala-ray's engine, in one process"])
    for way, speeds in runs.items():
        middle = median(speeds)
        rows.append([way, f"{middle:.0f}", f"{min(speeds):.0f}–{max(speeds):.0f}", f"{middle / reference:.2f}"])
    print(machine_line("torch", "transformers", "ray") + f", {MODEL} in float32, {PROMPTS} prompts\n")
    print(markdown(["way", f"tokens/s, median of {RUNS}", "range", "against the bare engine"], rows))


if __name__ == "__main__":
    main()
