"""Drawing tokens, each answer by its own settings and seed.

The random number of an answer's n-th token is a function of its seed and n alone (Philox, a counter-based generator:
Salmon et al. 2011), and the token is where that number falls in the cumulative distribution. So the same seed draws the
same tokens wherever and beside whatever the answer is generated, as long as its logits are the same but for rounding.
transformers draws all answers of a pass from one generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch

from koala_ray.generate.engine import Token
from koala_ray.generate.sampling import Sampling

LIKELIEST = 1024
"""So many candidates are sorted first where a top-p is to be found; all only if they are not enough."""


@dataclass
class Drawn:
    """What one answer draws by, and what was drawn."""

    sampling: Sampling
    prompt: Sequence[int]
    tokens: list[Token] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    """The ids that a repetition penalty falls on."""

    def __post_init__(self) -> None:
        if self.sampling.repetition_penalty != 1:
            self.seen.update(self.prompt)

    def add(self, token: Token) -> None:
        """Take the next token."""
        self.tokens.append(token)
        if self.sampling.repetition_penalty != 1:
            self.seen.add(token.id)

    def __deepcopy__(self, memo: Any) -> Self:
        """Itself: transformers copies a request's settings when it starts it anew for want of memory."""
        return self


class Sampler:
    """Stands where transformers' continuous batching has its list of logits processors, and draws the tokens itself.

    It answers with logits whose largest is that of the token drawn, so that the greedy choice takes it.
    """

    tensors_required = 0
    do_processing = True

    def __init__(self) -> None:
        self._now: list[Drawn] = []

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Nothing to refuse: the settings were checked before."""

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing to fill: the settings stay Python's."""

    def prepare_tensor_args(self, requests_in_batch: Sequence[Any], arg_storage: torch.Tensor) -> torch.Tensor:
        """Hear whose logits come next."""
        self._now = [one.state.logit_processor_kwargs["drawn"] for one in requests_in_batch if one.has_new_token]
        return arg_storage

    def __call__(self, input_ids: torch.Tensor, logits: torch.Tensor, arguments: torch.Tensor) -> torch.Tensor:
        """Draw.

        Args:
            input_ids: unused.
            logits: (answers, or more, vocabulary), float32; a row for each answer in the order told before.
            arguments: unused.
        """
        rows = len(self._now)
        chosen = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        chosen[:rows] = draw(logits[:rows], self._now)
        return logits.scatter_(1, chosen[:, None], float("inf"))


def draw(logits: torch.Tensor, answers: Sequence[Drawn]) -> torch.Tensor:
    """The next token of each answer, added to it.

    Args:
        logits: (answers, vocabulary), float32; left as they are.
        answers: whose they are.

    Returns:
        (answers,) ids.
    """
    penalized = logits
    if any(one.seen for one in answers):
        penalized = logits.clone()
        for row, one in enumerate(answers):
            if one.seen:
                penalize(penalized[row], one.seen, one.sampling.repetition_penalty)
    chosen = penalized.argmax(-1)
    random = [row for row, one in enumerate(answers) if one.sampling.temperature > 0]
    for settings, rows in _alike(random, answers):
        uniform = [_uniform(answers[row]) for row in rows]
        temperature, top_k, top_p = settings
        chosen[rows] = inverse(penalized[rows] / temperature, uniform, top_k, top_p)
    told = tell(logits, chosen, answers)
    for one, token in zip(answers, told, strict=True):
        one.add(token)
    return chosen


def penalize(logits: torch.Tensor, seen: set[int], penalty: float) -> None:
    """Make the ids that were there before less likely, in place; (vocabulary,)."""
    ids = torch.tensor(sorted(seen), device=logits.device)
    before = logits[ids]
    logits[ids] = torch.where(before > 0, before / penalty, before * penalty)


def _alike(rows: list[int], answers: Sequence[Drawn]) -> Iterator[tuple[tuple[float, int, float], list[int]]]:
    """The rows that are drawn by the same settings."""
    groups: dict[tuple[float, int, float], list[int]] = {}
    for row in rows:
        sampling = answers[row].sampling
        groups.setdefault((sampling.temperature, sampling.top_k, sampling.top_p), []).append(row)
    yield from groups.items()


def _uniform(answer: Drawn) -> float:
    """A number in [0, 1): by the answer's seed and how many tokens it has."""
    key = answer.sampling.seed % (1 << 64)
    return float(np.random.Generator(np.random.Philox(key=key, counter=len(answer.tokens))).random())


def inverse(logits: torch.Tensor, uniform: Sequence[float], top_k: int, top_p: float) -> torch.Tensor:
    """Where each uniform number falls in the cumulative distribution of its row, over ids in their order.

    Args:
        logits: (rows, vocabulary), divided by the temperature.
        uniform: (rows,) in [0, 1).
        top_k: so many of the likeliest only; 0 for all. Equally likely ones at the border all stay.
        top_p: then the likeliest that make up this probability, the one that reaches it among them.

    Returns:
        (rows,) ids.
    """
    if 0 < top_k < logits.shape[-1]:
        border = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < border, float("-inf"))
    probabilities = logits.double().softmax(-1)
    if top_p < 1:
        probabilities = probabilities.masked_fill(probabilities < _nucleus(probabilities, top_p), 0.0)
    cumulative = probabilities.cumsum(-1)
    point = torch.tensor(uniform, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
    # To the right of equal sums: a token of probability 0 is never drawn.
    return torch.searchsorted(cumulative, point, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The least probability that is still within the top-p (Holtzman et al. 2020); (rows, 1)."""
    for count in (min(LIKELIEST, probabilities.shape[-1]), probabilities.shape[-1]):
        likeliest = probabilities.topk(count, dim=-1).values
        sums = likeliest.cumsum(-1)
        if bool((sums[:, -1] >= top_p).all()):
            break
    place = (sums < top_p).sum(-1, keepdim=True).clamp_(max=likeliest.shape[-1] - 1)
    return likeliest.gather(-1, place)


def tell(logits: torch.Tensor, chosen: torch.Tensor, answers: Sequence[Drawn]) -> list[Token]:
    """The chosen tokens, with log-probabilities where they are asked for."""
    tokens = [Token(id_) for id_ in chosen.tolist()]
    rows = [row for row, one in enumerate(answers) if one.sampling.logprobs is not None]
    if rows:
        most = max(answers[row].sampling.logprobs or 0 for row in rows)
        described = describe(logits[rows], chosen[rows], most)
        for row, token in zip(rows, described, strict=True):
            count = answers[row].sampling.logprobs or 0
            tokens[row] = Token(token.id, token.logprob, token.alternatives[:count])
    return tokens


def describe(logits: torch.Tensor, ids: torch.Tensor, alternatives: int) -> list[Token]:
    """Tokens with their log-probabilities, and the likeliest ones in their places.

    Args:
        logits: (tokens, vocabulary).
        ids: (tokens,).
        alternatives: how many.
    """
    logprobs = logits.log_softmax(-1)
    own = logprobs.gather(-1, ids[:, None]).squeeze(-1).tolist()
    likeliest = logprobs.topk(alternatives, dim=-1) if alternatives else None
    others = zip(*(part.tolist() for part in likeliest), strict=True) if likeliest else (((), ()) for _ in own)
    return [
        Token(id_, logprob, tuple(zip(other_ids, values, strict=True)))
        for id_, logprob, (values, other_ids) in zip(ids.tolist(), own, others, strict=True)
    ]
