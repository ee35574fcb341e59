"""Evaluation in training: the held-out loss of each source and marker, and a few answers to read.

Training goes on as if there had been none: weights, the model's mode, the random generators and DeepSpeed's counters
stand afterwards as they stood before.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.distributed as dist

from koala_ray.records import Marker, PackedRow, Turn
from koala_ray.tokens.shards import ShardReader, read_groups, read_plan
from koala_ray.tokens.template import MARKERS, OPENING, USER, prompt_ids
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.train.batch import flat_column, micro_batch
from koala_ray.train.reduce import gather_from_workers, sum_over_workers

ROWS_ASKED = 64
"""Held-out packed rows whose questions may be asked: a row group, which is read at once."""
QUESTION_TOKENS = 256
"""Questions that are longer are not asked: nobody would read them."""
UNISOLATED = "sdpa"
"""The attention under which a single dialogue grows in a cache; packed rows never run under it."""


@dataclass(frozen=True)
class GroupLoss:
    """The held-out loss of one source and marker."""

    loss: float
    """Mean loss per learnt token."""
    learnt: int
    """Learnt tokens that it is the mean of."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; the same on every worker but for the seconds."""

    loss: float
    """Mean loss per learnt held-out token; not a number where nothing was held out."""
    groups: dict[str, GroupLoss]
    """By source and marker; groups without a learnt token in the rows read are left out."""
    seconds: float
    """Wall time."""


def heldout_groups(folder: str) -> list[str]:
    """All sources and markers that a held-out folder's dialogues have, sorted."""
    return sorted(set(chain.from_iterable(read_groups(folder))))


def heldout_rows(folder: str, rank: int, workers: int, limit: int) -> list[pa.Table]:
    """This worker's held-out rows, each a micro-batch of its own.

    Which rows are read doesn't depend on the number of workers. Every worker gets as many, those that come short
    with rows of weight zero: no worker must wait in a collective for one that has nothing left to do.

    Args:
        folder: the held-out shards' folder.
        rank: the worker.
        workers: how many there are.
        limit: rows that are read at most, by all workers together.
    """
    from koala_ray.train.data import read_rows

    rows = read_plan(folder).rows
    chosen = choose_rows(read_groups(folder), limit)
    mine = chosen[rank::workers]
    missing = -(-len(chosen) // workers) - len(mine)
    table = read_rows(folder, rows, [*mine, *[rows] * missing])
    return [table.slice(place, 1) for place in range(table.num_rows)]


def choose_rows(groups: Sequence[Sequence[str]], limit: int) -> list[int]:
    """The rows that are read, ascending: a few that show every group, if they may, then the first of the others.

    Args:
        groups: of each row the groups of its dialogues.
        limit: rows at most.
    """
    missing = set(chain.from_iterable(groups))
    chosen: list[int] = []
    while missing and len(chosen) < limit:
        best = max(range(len(groups)), key=lambda row: len(missing.intersection(groups[row])))
        chosen.append(best)
        missing.difference_update(groups[best])
    others = (row for row in range(len(groups)) if row not in chosen)
    return sorted([*chosen, *islice(others, limit - len(chosen))])


def evaluate(engine: Any, micro_batches: Sequence[pa.Table], groups: Sequence[str]) -> Evaluation:
    """The held-out loss over all workers' rows; every worker must call it, with as many micro-batches.

    Args:
        engine: the DeepSpeed engine of a :class:`koala_ray.train.model.DialogueModel`.
        micro_batches: this worker's packed rows, as :func:`heldout_rows` gives them.
        groups: all groups that any worker's rows may have, in the same order on every worker.

    Raises:
        ValueError: a dialogue is of another group.
    """
    started = time.monotonic()
    sums = torch.zeros(len(groups), 2, dtype=torch.float64)
    with undisturbed(engine.module):
        for rows in micro_batches:
            losses = engine(micro_batch(rows).to(engine.device), each=True).double().cpu()
            of_group = torch.from_numpy(learnt_groups(rows, groups))
            sums.index_add_(0, of_group, torch.stack([losses, torch.ones_like(losses)], dim=1))
    totals = sum_over_workers(sums)
    found = {
        name: GroupLoss(loss / learnt, int(learnt))
        for name, (loss, learnt) in zip(groups, totals.tolist(), strict=True)
        if learnt
    }
    loss, learnt = totals.sum(dim=0).tolist()
    return Evaluation(loss / learnt if learnt else math.nan, found, time.monotonic() - started)


def learnt_groups(rows: pa.Table, groups: Sequence[str]) -> np.ndarray:
    """For each learnt token of some packed rows, in order, the place of its dialogue's group: (learnt,), int64.

    Raises:
        ValueError: a dialogue is of another group.
    """
    names = rows["groups"].combine_chunks().flatten()
    places = pc.index_in(names, value_set=pa.array(groups, pa.string()))
    if places.null_count:
        raise ValueError(f"a dialogue is of none of the groups {', '.join(groups)}")
    of_token = places.to_numpy().astype(np.int64).repeat(flat_column(rows, "lengths"))
    return of_token[flat_column(rows, "learn")]


def opening_questions(folder: str, tokenizer: Tokenizer, limit: int) -> list[str]:
    """Questions to ask at evaluations: the openings of held-out dialogues, of as many sources as there are.

    Args:
        folder: the held-out shards' folder.
        tokenizer: the base model's, which reads the ids back.
        limit: questions at most.
    """
    reader = ShardReader(folder)
    of_source: dict[str, dict[str, None]] = {}  # as a set that keeps its order
    for gidx in range(min(ROWS_ASKED, read_plan(folder).rows)):
        if len(of_source) >= limit:
            break
        for source, question in _questions(reader.row(gidx), tokenizer):
            of_source.setdefault(source, {})[question] = None
    in_turn = chain.from_iterable(zip_longest(*of_source.values()))
    return list(islice(dict.fromkeys(question for question in in_turn if question is not None), limit))


def _questions(row: PackedRow, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """The sources and opening questions of a row's dialogues whose first answer is learnt.

    There, all that stands before the first learnt token is the question in its template.
    """
    end = 0
    for length, group in zip(row.lengths, row.groups, strict=True):
        start, end = end, end + length
        asked = row.input_ids[start : row.learn.index(True, start)]
        if tokenizer.eos_id in asked or len(asked) > QUESTION_TOKENS:
            continue
        source, _, marker = group.partition("/")
        before, after = f"{OPENING} {USER} ", f" {MARKERS[cast(Marker, marker)]}"
        text = tokenizer.decode(asked)
        if text.startswith(before) and text.endswith(after):
            yield source, text[len(before) : -len(after)]


def sample_answers(
    engine: Any, tokenizer: Tokenizer, questions: Sequence[str], max_tokens: int
) -> list[dict[str, str]]:
    """The model's likeliest answers to some questions, as ``{"prompt", "answer"}``; every worker must call it.

    The workers share the questions. Under ZeRO-3 each forward pass gathers the weights from all workers, so there
    every worker runs the model equally often, whatever it has to say.

    Args:
        engine: the DeepSpeed engine of a :class:`koala_ray.train.model.DialogueModel`.
        tokenizer: the base model's.
        questions: the same on every worker.
        max_tokens: new tokens in an answer at most; fewer where the model's context ends before.
    """
    if not questions:
        return []
    causal = engine.module.causal
    prompts = [prompt_ids([Turn("user", question)], tokenizer) for question in questions]
    longest = getattr(causal.config, "max_position_embeddings", math.inf)
    new_tokens = int(min(max_tokens, longest - max(map(len, prompts))))
    in_step = engine.zero_optimization_stage() == 3
    rank, workers = dist.get_rank(), dist.get_world_size()
    share: dict[int, str] = {}
    with undisturbed(engine.module), unisolated(causal):
        for place in range(rank, -(-len(prompts) // workers) * workers, workers):
            if place < len(prompts) or in_step:
                prompt = torch.tensor([prompts[place % len(prompts)]], device=engine.device)
                ids = likeliest(causal, prompt, tokenizer.eos_id, new_tokens, to_the_end=in_step)
                share[place] = tokenizer.decode(ids).strip()
    answers = {place: answer for one in gather_from_workers(share) for place, answer in one.items()}
    return [{"prompt": question, "answer": answers[place]} for place, question in enumerate(questions)]


def likeliest(causal: Any, prompt: torch.Tensor, eos_id: int, max_tokens: int, to_the_end: bool) -> list[int]:
    """The likeliest ids after a prompt, one at a time, without the end-of-sequence id.

    Args:
        causal: a transformers causal language model under an attention that takes a cache.
        prompt: (1, tokens), the ids to go on from.
        eos_id: ends the answer.
        max_tokens: ids at most.
        to_the_end: run the model ``max_tokens`` times even if the answer ends before.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=causal.config)
    ids, answer = prompt, []
    for _ in range(max_tokens):
        logits = causal(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(dim=-1, keepdim=True)
        answer.append(int(ids))
        if answer[-1] == eos_id and not to_the_end:
            break
    return answer[: answer.index(eos_id)] if eos_id in answer else answer


@contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the mode and all random generators stand as they stood."""
    training, of_python, of_numpy = module.training, random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    # Not engine.eval(), which sets more than the module's mode.
    module.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        module.train(training)
        random.setstate(of_python)
        np.random.set_state(of_numpy)


@contextmanager
def unisolated(causal: Any) -> Iterator[None]:
    """Attention that takes a cache, which isolated attention doesn't; the isolated one again afterwards."""
    isolated = causal.config._attn_implementation
    causal.set_attn_implementation(UNISOLATED)
    try:
        yield
    finally:
        causal.set_attn_implementation(isolated)
