"""Koala's template, byte for byte, and the one renderer for training, generation and serving.

    BEGINNING OF CONVERSATION: USER: Hello! GPT:Hi!</s>USER: How are you? GPT:

A dialogue is rendered as segments that are tokenized each on its own, as Koala did: what is asked, up to and
with the marker, then the answer, then the end-of-sequence id. A dialogue therefore grows by appending ids, and
the ids before an answer are the same whether the answer is learnt, generated or served. (With a SentencePiece
tokenizer an answer so begins with a ``▁`` piece.) Text, bytes and ids are fixed in tests/golden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from koala_ray.records import Marker, Turn
from koala_ray.tokens.tokenizer import Tokenizer

OPENING = "BEGINNING OF CONVERSATION:"
USER = "USER:"
MARKERS: dict[Marker, str] = {"positive": "GPT:", "none": "GPT:", "negative": "An Unhelpful Answer:"}
END = "</s>"
"""How the end-of-sequence token is written where a rendering is shown as text."""


@dataclass(frozen=True)
class Segment:
    """A piece of a rendered dialogue that is tokenized on its own."""

    text: str
    learn: bool = False
    """Whether its ids, and the end after it, are targets of the loss."""
    ends: bool = False
    """Whether the end-of-sequence id follows."""


@dataclass(frozen=True)
class Rendered:
    """A dialogue's ids, which of them are learnt, and where each answer ends."""

    ids: list[int]
    learn: list[bool]
    ends: list[int]
    """The index after each answer's end-of-sequence id: where a dialogue may be cut."""

    @property
    def learnt(self) -> int:
        """How many ids are learnt."""
        return sum(self.learn)


def segments(turns: Sequence[Turn]) -> Iterator[Segment]:
    """The segments of a dialogue that alternates user and assistant, as :func:`render` tokenizes them.

    A dialogue that ends with a user's turn ends with its open marker, which is that of the next answer:
    see :func:`asking`.

    Raises:
        ValueError: the turns don't alternate, beginning with the user.
    """
    for place, turn in enumerate(turns):
        if turn.role != ("user", "assistant")[place % 2]:
            raise ValueError(f"turn {place} is the {turn.role}'s: a dialogue alternates, beginning with the user")
        if turn.role == "user":
            opening = f"{OPENING} " if place == 0 else ""
            marker = turns[place + 1].marker if place + 1 < len(turns) else turn.marker
            yield Segment(f"{opening}{USER} {turn.text} {MARKERS[marker]}")
        else:
            yield Segment(turn.text, learn=turn.learn, ends=True)


def asking(turns: Sequence[Turn], marker: Marker = "positive") -> list[Turn]:
    """The dialogue, ended by a user's turn, set up so that an answer under this marker comes next.

    Raises:
        ValueError: the last turn isn't the user's.
    """
    if not turns or turns[-1].role != "user":
        raise ValueError("the last turn must be the user's for an answer to come next")
    return [*turns[:-1], Turn("user", turns[-1].text, marker)]


def as_text(turns: Sequence[Turn]) -> str:
    """The rendering as text, the end-of-sequence token written as ``</s>``."""
    return "".join(segment.text + (END if segment.ends else "") for segment in segments(turns))


def render(
    dialogues: Iterable[Sequence[Turn]], tokenizer: Tokenizer, known: dict[str, list[int]] | None = None
) -> list[Rendered]:
    """The ids and masks of dialogues, tokenized in one batch, each distinct segment once.

    The sides of a comparison share all segments but one, and HC3's answers their question.

    Args:
        dialogues: the dialogues' turns.
        tokenizer: of the base model.
        known: the ids of segments that were tokenized before; those of new ones are added.
    """
    known = {} if known is None else known
    plans = [list(segments(turns)) for turns in dialogues]
    texts = [text for text in dict.fromkeys(segment.text for plan in plans for segment in plan) if text not in known]
    known.update(zip(texts, tokenizer.encode(texts), strict=True))
    return [_assemble(plan, known, tokenizer) for plan in plans]


def prompt_ids(turns: Sequence[Turn], tokenizer: Tokenizer, marker: Marker = "positive") -> list[int]:
    """The ids after which a model is to answer: those of training, up to and with the marker."""
    return render([asking(turns, marker)], tokenizer)[0].ids


def next_prompt_ids(
    asked: Sequence[int], answered: Sequence[int], text: str, tokenizer: Tokenizer, marker: Marker = "positive"
) -> list[int]:
    """The ids after which a model is to answer in a dialogue's next turn; those before stay what they were.

    Args:
        asked: the ids before the last answer.
        answered: that answer's, without the end-of-sequence id.
        text: what the user says to it.
        tokenizer: of the model.
        marker: the next answer's.
    """
    (asking_ids,) = tokenizer.encode([f"{USER} {text} {MARKERS[marker]}"])
    return [*asked, *answered, tokenizer.eos_id, *asking_ids]


def _assemble(plan: list[Segment], pieces: dict[str, list[int]], tokenizer: Tokenizer) -> Rendered:
    ids = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    learn = [False] * len(ids)
    ends = []
    for segment in plan:
        piece = pieces[segment.text]
        ids += piece
        learn += [segment.learn] * len(piece)
        if segment.ends:
            ids.append(tokenizer.eos_id)
            learn.append(segment.learn)
            ends.append(len(ids))
    return Rendered(ids, learn, ends)


def fit(rendered: Rendered, context: int) -> tuple[Rendered | None, str]:
    """A dialogue cut to the context, and what was done: ``""``, ``"cut"``, or why nothing of it can be kept.

    It is cut after the last answer that fits; if not even the first fits, inside that answer, whose end then
    isn't learnt: a model should not learn to stop in mid-sentence.
    """
    if len(rendered.ids) <= context:
        return (rendered, "") if rendered.learnt else (None, "nothing to learn")
    whole = [end for end in rendered.ends if end <= context]
    cut = max(whole, default=context)
    kept = Rendered(rendered.ids[:cut], rendered.learn[:cut], whole)
    return (kept, "cut") if kept.learnt else (None, "longer than the context")
