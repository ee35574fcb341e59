"""The OpenAI-compatible server on a CPU: time to the first token and between tokens, starts, memory, what HTTP costs.

SmolLM2-135M, one replica with two threads; streamed chats of the Koala test set's prompts below 200 tokens, 32 new
tokens each, by 1, 8 and 32 clients that each ask again as soon as they are answered. And how the batch job grows: the
tiny model, 16 tokens, from 100 to 10,000 prompts, where everything but the model is what counts.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
from measure import machine_line, markdown

MODEL = "smollm2-135m"
PORT = 18123
MAX_TOKENS = 32
CLIENTS = (1, 8, 32)
REQUESTS = {1: 12, 8: 48, 32: 96}
GROWTH = (100, 1_000, 10_000)
LONGEST = 200


def messages() -> list[str]:
    """Prompts of moderate length."""
    from koala_ray.prompts import load_prompts

    return [prompt.text for prompt in load_prompts("koala").prompts if len(prompt.text) < 4 * LONGEST]


async def stream(session: Any, url: str, text: str) -> list[float]:
    """When each piece of an answer came, in seconds after the request."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": True, "temperature": 0}
    started = time.monotonic()
    came = []
    async with session.post(f"{url}/chat/completions", json={**body, "max_tokens": MAX_TOKENS}) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                came.append(time.monotonic() - started)
    return came[1:]  # the first says who speaks


async def clients(url: str, count: int) -> dict[str, float]:
    """The times of so many clients together."""
    import aiohttp

    texts = itertools.cycle(messages())
    left = REQUESTS[count]
    answers: list[list[float]] = []

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            answers.append(await stream(session, url, next(texts)))

    started = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session:
        await asyncio.gather(*(client(session) for _ in range(count)))
    seconds = time.monotonic() - started
    first = [came[0] for came in answers if came]
    between = [after - before for came in answers for before, after in itertools.pairwise(came)]
    return {
        "first": median(first),
        "first95": quantiles(first, n=20)[-1],
        "between": median(between),
        "between95": quantiles(between, n=20)[-1],
        "speed": sum(map(len, answers)) / seconds,
    }


def served() -> tuple[list[list[str]], dict[str, float]]:
    """The table of clients, and what start and memory were."""
    command = [sys.executable, "-m", "koala_ray", "serve", "--model", MODEL, "--port", str(PORT), "--json"]
    settings = ["--set", "generate.cpus=2", "--set", "generate.replicas=1", "--set", "generate.concurrent=32"]
    started = time.monotonic()
    process = subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if "Ctrl-C" in line)
    up = time.monotonic() - started
    url = f"http://127.0.0.1:{PORT}/v1"
    asyncio.run(clients(url, 1))
    rows = []
    for count in CLIENTS:
        found = asyncio.run(clients(url, count))
        print(count, found, file=sys.stderr, flush=True)
        times = [f"{1000 * found[name]:.0f} ms" for name in ("first", "first95", "between", "between95")]
        rows.append([str(count), *times, f"{found['speed']:.0f}"])
    memory = {}
    for one in psutil.process_iter(["cmdline", "memory_full_info"]):
        title = " ".join(one.info["cmdline"] or [])
        for name in ("ServeReplica:koala:model0", "ServeReplica:koala:api", "ProxyActor", "ServeController"):
            if name in title and one.info["memory_full_info"]:
                memory[name] = one.info["memory_full_info"].uss / 1e9
    process.send_signal(2)
    process.wait(60)
    return rows, {"start": up, **memory}


def grown(count: int) -> list[str]:
    """The batch job over so many prompts."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "prompts.jsonl")
        file.write_text("".join(json.dumps({"prompt": f"Say the number {place}."}) + "\n" for place in range(count)))
        command = [sys.executable, "-m", "koala_ray", "generate", "--model", "tiny", "--prompts", str(file), "--json"]
        settings = ["generate.max_tokens=16", "generate.concurrent=64", "generate.replicas=1"]
        arguments = [part for setting in settings for part in ("--set", setting)]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, *arguments, "--out", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        driver, most = psutil.Process(process.pid), 0
        while process.poll() is None:
            most = max(most, driver.memory_info().rss)
            time.sleep(0.2)
        seconds = time.monotonic() - started
        assert process.stdout
        figures = json.loads(process.stdout.read().splitlines()[-1])
        assert figures["answered"] == count, figures
        started = time.monotonic()
        subprocess.run([*command, *arguments, "--out", folder], check=True, capture_output=True)
        again = time.monotonic() - started
    speed = f"{figures['tokens_per_second']:,.0f}"
    return [f"{count:,}", f"{seconds:.0f} s", speed, f"{most / 1e9:.2f} GB", f"{again:.1f} s"]


def main() -> None:
    """Print the tables."""
    os.environ["KOALA_RAY_CPUS"] = "2"
    rows, about = served()
    print(machine_line("torch", "transformers", "ray") + "\n")
    head = ["clients", "first token, median", "95 %", "between tokens, median", "95 %", "tokens/s"]
    print(markdown(head, rows))
    print(f"\nFrom the command to the first answer's readiness {about.pop('start'):.0f} s. Memory of its own: ")
    print(", ".join(f"{name} {size:.2f} GB" for name, size in about.items()) + ".\n")
    growth = [grown(count) for count in GROWTH]
    print(markdown(["prompts", "the whole command", "tokens/s while asking", "driver's memory", "run again"], growth))


if __name__ == "__main__":
    main()
