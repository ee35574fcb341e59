"""Held-out dialogues of several sources and markers, and the packed rows of them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from koala_ray.recipe import DataSettings, TokenSettings
from koala_ray.records import Example, Turn
from koala_ray.tokens.pack import pack
from koala_ray.tokens.scratch import Scratch
from koala_ray.tokens.shards import write_shards
from koala_ray.tokens.tokenizer import Tokenizer
from koala_ray.tokens.worker import tokenize_examples

CONTEXT = 256
GROUPS = ["alpaca/none", "hh/negative", "hh/positive", "sharegpt/none"]
"""Source and marker of all that is learnt in the examples."""


def examples() -> list[Example]:
    """Dialogues of three sources: single questions, comparisons, and some with a first answer that isn't learnt."""
    found = []
    for number in range(12):
        asked = Turn("user", f"Alpaca question {number}?")
        found.append(Example(f"alpaca/f#{number}", "alpaca", (asked, answer("A" * number)), str(number)))
    for number in range(6):
        opening = (Turn("user", f"Is {number} more?"), Turn("assistant", "Than what?"), Turn("user", "Than 3."))
        for side in ("positive", "negative"):
            turns = (*(opening if number % 2 else opening[:1]), answer(f"{side} {number}", side))
            found.append(Example(f"hh/f#{number}/{side}", "hh", turns, f"hh{number}"))
    for number in range(8):
        turns = tuple(chain.from_iterable((Turn("user", f"S {number} {n}?"), answer("Yes, " * n)) for n in range(3)))
        found.append(Example(f"sharegpt/f#{number}", "sharegpt", turns, f"s{number}"))
    return found


def answer(text: str, marker: Any = "none") -> Turn:
    """An answer that is learnt."""
    return Turn("assistant", text, marker, learn=True)


def packed(folder: Path, tokenizer: Tokenizer) -> str:
    """The shards' folder of the examples as packed rows, by the token step's own parts."""
    scratch = Scratch(folder, "heldout")
    scratch.add(tokenize_examples(examples(), tokenizer, TokenSettings(context=CONTEXT), DataSettings()))
    dialogues, _ = scratch.dialogues()
    rows = write_shards(str(folder / "shards"), dialogues, pack(dialogues.lengths.tolist(), CONTEXT), 1, seed=0)
    assert rows > 8
    return str(folder / "shards")
