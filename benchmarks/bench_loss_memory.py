"""Memory and time of the loss: forward and backward of the head alone, three ways, each in a process of its own.

all places:  logits of every place in float32, the rest masked out of the cross entropy (a plain transformers loop).
learnt:      logits of the learnt places only, all at once.
koala-ray:   logits of the learnt places, a chunk at a time (koala_ray.train.loss), at several chunk sizes.

Memory is the most that the process held above what it held before, the gradients (hidden states and head) among it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from measure import machine_line, markdown

IGNORED = -100
VOCABULARIES = (32_000, 49_152, 128_256)
SHARES = (0.25, 0.5, 1.0)
CHUNKS = (128, 256, 1024)
"""Learnt tokens at a time; 256 is the recipe's default."""


@dataclass(frozen=True)
class Case:
    """What one process does; ``chunk`` 0 is no chunks."""

    way: str
    vocabulary: int
    hidden: int
    tokens: int
    share: float
    chunk: int
    rounds: int
    threads: int


def run(case: Case) -> dict[str, float]:
    """Forward and backward of the loss: its value for each token, MB above the inputs, and the seconds."""
    import torch
    from torch.nn.functional import cross_entropy

    from koala_ray.train.loss import summed_loss

    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    states = torch.randn(case.tokens, case.hidden, requires_grad=True)
    weight = torch.randn(case.vocabulary, case.hidden).mul_(0.02).requires_grad_()
    targets = torch.randint(case.vocabulary, (case.tokens,))
    learnt = torch.rand(case.tokens).argsort()[: round(case.tokens * case.share)].sort().values

    def loss(places: torch.Tensor) -> torch.Tensor:
        if case.way == "all places":
            labels = torch.full_like(targets, IGNORED)
            labels[places] = targets[places]
            return cross_entropy((states @ weight.T).float(), labels, ignore_index=IGNORED, reduction="sum")
        if case.way == "learnt":
            return cross_entropy((states[places] @ weight.T).float(), targets[places], reduction="sum")
        return summed_loss(states[places], weight, targets[places], case.chunk)

    before = peak()
    seconds = []
    for _ in range(case.rounds):
        states.grad = weight.grad = None
        started = time.perf_counter()
        total = loss(learnt)
        total.backward()
        seconds.append(time.perf_counter() - started)
    return {
        "loss": total.item() / len(learnt),
        "megabytes": (peak() - before) / 1e6,
        "seconds": statistics.median(seconds),
    }


def peak() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(case: Case) -> dict[str, float]:
    """A case in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case.way} ended early: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", nargs="+", type=int, default=VOCABULARIES)
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, help="the learnt parts of the tokens")
    parser.add_argument("--chunks", nargs="+", type=int, default=CHUNKS)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run(Case(**json.loads(options.case)))))
        return
    print(machine_line("torch"), f"{options.threads} threads, float32, hidden size {options.hidden}", sep=", ")
    ways = [("all places", 0), ("learnt", 0), *(("koala-ray", chunk) for chunk in options.chunks)]
    lines = []
    for vocabulary in options.vocabularies:
        for share in options.shares:
            first: dict[str, float] = {}
            for way, chunk in ways:
                case = Case(
                    way, vocabulary, options.hidden, options.tokens, share, chunk, options.rounds, options.threads
                )
                found = apart(case)
                first = first or found
                lines.append(
                    [
                        f"{vocabulary:,}, {share:.0%} of {options.tokens:,}",
                        f"{way}, {chunk} at a time" if chunk else way,
                        f"{found['megabytes']:,.0f}",
                        f"{first['megabytes'] / max(1.0, found['megabytes']):.1f}×",
                        f"{found['seconds']:.2f}",
                        f"{first['seconds'] / found['seconds']:.1f}×",
                        f"{found['loss']:.5f}",
                    ]
                )
    head = ["vocabulary, learnt", "way", "MB", "less memory", "seconds", "faster", "loss"]
    print(f"\n{markdown(head, lines)}")


if __name__ == "__main__":
    main()
