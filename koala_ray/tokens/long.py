"""Dialogues longer than the context, split into pieces that are dialogues of their own.

The unit is the exchange: a user's turn and the answer to it. Each piece begins with exchanges that an earlier piece
learnt, as context which is not learnt again, so that no answer is learnt without its history; then come new ones, as
many as fit. An answer is learnt in exactly one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from koala_ray.records import Turn
from koala_ray.tokens.template import render
from koala_ray.tokens.tokenizer import Tokenizer

HISTORY = 0.25
"""The part of the context that exchanges may take which an earlier piece held already."""


def split(
    turns: Sequence[Turn], exchange_tokens: Sequence[int], opening: int, context: int, history: float = HISTORY
) -> list[tuple[Turn, ...]]:
    """The pieces of a dialogue in order, each of at most ``context`` tokens by the given counts.

    Up to ``history · context`` tokens of a piece repeat the exchanges right before it, unlearnt; they give way where
    its first new exchange would not fit otherwise. Exchanges that are not learnt anyway and stand in no piece yet
    come along as far as they fit, and none follows a piece's last learnt answer. An exchange that is longer than the
    context is a piece of its own, which the caller cuts. Where nothing is learnt there is no piece.

    Args:
        turns: the dialogue, which alternates, beginning with the user. A question without an answer at its end is
            left out.
        exchange_tokens: tokens of each exchange without the opening, as :func:`exchange_lengths` gives them.
        opening: tokens that every piece begins with, as :func:`opening_tokens` gives them.
        context: tokens in a piece at most.
        history: the repeated part, between 0 and 1.

    Raises:
        ValueError: there is not one count for each exchange, or the history is out of range.
    """
    if len(exchange_tokens) != len(turns) // 2:
        raise ValueError(f"{len(turns) // 2} exchanges, but {len(exchange_tokens)} counts of tokens")
    if not 0 <= history <= 1:
        raise ValueError(f"history must be between 0 and 1, not {history}")
    room = context - opening
    learnt = [place for place in range(len(exchange_tokens)) if turns[2 * place + 1].learn]
    pieces = []
    held = 0  # exchanges before this one are in pieces already, or were passed over
    while learnt:
        first = learnt[0]
        start = _start(exchange_tokens, first, held, room, int(history * context))
        tokens, end = sum(exchange_tokens[start : first + 1]), first + 1
        for place in range(end, learnt[-1] + 1):
            tokens += exchange_tokens[place]
            if tokens > room:
                break
            if turns[2 * place + 1].learn:
                end = place + 1
        before = [replace(turn, learn=False) for turn in turns[2 * start : 2 * first]]
        pieces.append((*before, *turns[2 * first : 2 * end]))
        learnt = [place for place in learnt if place >= end]
        held = end
    return pieces


def _start(exchange_tokens: Sequence[int], first: int, held: int, room: int, history: int) -> int:
    """The exchange with which a piece begins so that it can still hold its first new one."""
    start, tokens, repeated = first, exchange_tokens[first], 0
    while start > 0:
        tokens += exchange_tokens[start - 1]
        repeated += exchange_tokens[start - 1] if start <= held else 0
        if tokens > room or repeated > history:
            break
        start -= 1
    return start


def exchange_lengths(ends: Sequence[int], opening: int) -> list[int]:
    """Tokens of each exchange without the opening, from a rendered dialogue's ``ends``."""
    starts = [opening, *ends]
    return [end - start for start, end in zip(starts, ends, strict=False)]


def opening_tokens(tokenizer: Tokenizer) -> int:
    """Tokens that a dialogue's first exchange has more than the same exchange would have later on."""
    exchange = [Turn("user", "?"), Turn("assistant", "!")]
    once, twice = render([exchange, exchange * 2], tokenizer)
    return 2 * len(once.ids) - len(twice.ids)
