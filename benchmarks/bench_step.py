"""Forward and backward of one global batch of the sample corpus on SmolLM2-135M, three ways, in one run.

koala-ray:  packed rows, each dialogue attended to alone, logits for learnt places only.
dense mask: the same packed rows, a block-diagonal mask in memory, logits for all places.
padded:     the same dialogues, one a row, padded to the longest (what a plain transformers loop does).

The three give the same loss; what differs is the time. Medians of the rounds, taken in turn.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM

from koala_ray import storage
from koala_ray.models.resolve import resolve
from koala_ray.prepare import prepare
from koala_ray.quiet import quiet_transformers, set_switches
from koala_ray.recipe_file import load_recipe
from koala_ray.session import cpu_count
from koala_ray.tokens.shards import ShardReader
from koala_ray.train.attention import NAME
from koala_ray.train.batch import micro_batch
from koala_ray.train.loss import learnt_loss_sum

IGNORED = -100


def cross_entropy_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    flat, targets = logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(flat, targets, ignore_index=IGNORED, reduction="sum")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2, help="packed rows in the batch")
    options = parser.parse_args()
    set_switches()
    with tempfile.TemporaryDirectory() as out:
        tokens, _ = prepare(load_recipe("koala-smol"), out)
        table = ShardReader(storage.join(tokens.folder, "train")).table(range(options.rows))
    import ray

    ray.shutdown()
    quiet_transformers()
    torch.set_num_threads(cpu_count())
    isolated = AutoModelForCausalLM.from_pretrained(resolve("smollm2-135m"), attn_implementation=NAME).train()
    plain = AutoModelForCausalLM.from_pretrained(resolve("smollm2-135m"), attn_implementation="sdpa").train()
    batch = micro_batch(table)
    dialogues = list(zip(batch.input_ids[0].split(list(batch.dialogue_lengths)), range(10**9), strict=False))
    learnt = torch.zeros(batch.input_ids.shape[1], dtype=torch.bool)
    learnt[batch.predictors + 1] = True
    masks = learnt.split(list(batch.dialogue_lengths))

    longest = max(batch.dialogue_lengths)
    padded = torch.zeros(len(dialogues), longest, dtype=torch.long)
    labels = torch.full_like(padded, IGNORED)
    present = torch.zeros_like(padded)
    for row, ((ids, _), mask) in enumerate(zip(dialogues, masks, strict=True)):
        padded[row, : len(ids)] = ids
        present[row, : len(ids)] = 1
        labels[row, : len(ids)] = torch.where(mask, ids, IGNORED)

    owner = torch.repeat_interleave(torch.arange(len(dialogues)), torch.tensor(batch.dialogue_lengths))
    block = (owner[:, None] == owner[None]).tril()[None, None]
    packed_labels = torch.where(learnt, batch.input_ids[0], IGNORED)[None]

    def koala() -> torch.Tensor:
        return learnt_loss_sum(isolated, batch)

    def dense() -> torch.Tensor:
        out = plain(input_ids=batch.input_ids, position_ids=batch.position_ids, attention_mask=block, use_cache=False)
        return cross_entropy_sum(out.logits, packed_labels)

    def pad() -> torch.Tensor:
        return cross_entropy_sum(plain(input_ids=padded, attention_mask=present, use_cache=False).logits, labels)

    ways: dict[str, Callable[[], torch.Tensor]] = {"koala-ray": koala, "dense mask": dense, "padded": pad}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses = {}
    for turn in range(options.rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            loss = way()
            loss.backward()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
            losses[name] = loss.item()
    tokens_in, learnt_in = sum(batch.dialogue_lengths), len(batch.targets)
    print(f"{platform.processor() or platform.machine()}, {cpu_count()} cores, torch {torch.__version__}, float32")
    print(f"{len(dialogues)} dialogues, {tokens_in} tokens, {learnt_in} learnt, longest {longest}")
    ours = statistics.median(seconds["koala-ray"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f"{name:<11} {median:6.2f} s  {tokens_in / median:6.0f} tokens/s  {median / ours:4.2f}×"
            f"  (min {min(times):.2f}, max {max(times):.2f})  loss {losses[name] / learnt_in:.4f}"
        )


if __name__ == "__main__":
    main()
