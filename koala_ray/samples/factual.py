"""Questions and instructions built from the tables of facts, with several phrasings of each."""

from __future__ import annotations

import random
from collections.abc import Sequence

from koala_ray.samples import facts
from koala_ray.samples.notation import Instruction, Question, phrasings

_OFFERS = (
    "",
    "",
    "Would you like to know more?",
    "Just ask if you would like another fact.",
    "I'm happy to tell you more if you like.",
)

# Each kind of fact: ways to ask, then ways to open the answer; a row's fields fill both.
_CAPITAL_ASKED = (
    "What is the capital of {country}?",
    "Which city is the capital of {country}?",
    "Can you tell me what {country}'s capital is?",
    "What's the name of the capital city of {country}?",
)
_CAPITAL_TOLD = (
    "The capital of {country} is {city}.",
    "{city} is the capital of {country}.",
    "It's {city}, the capital of {country}.",
)
_ELEMENT_ASKED = (
    "What is the chemical symbol for {name}?",
    "Which symbol does {name} have in the periodic table?",
    "How is {name} written in the periodic table?",
    "Give the symbol and the atomic number of {name}.",
)
_ELEMENT_TOLD = (
    "The symbol for {name} is {symbol}, and its atomic number is {number}.",
    "It is {symbol}, and {name} has the atomic number {number}.",
)
_PLANET_ASKED = (
    "Which planet is the {place} from the Sun?",
    "What is the name of the {place} planet from the Sun?",
    "Counting from the Sun, which planet comes {place}?",
)
_PLANET_TOLD = (
    "{name} is the {place} planet from the Sun.",
    "The {place} planet from the Sun is {name}.",
)
_ANIMAL_ASKED = (
    "What do {name} eat?",
    "What is the main food of {name}?",
    "Tell me what {name} live on.",
    "Which food do {name} prefer?",
)
_ANIMAL_TOLD = ("Mostly {food}.", "The main food of {name} is {food}.", "They eat mainly {food}.")
_Row = facts.Capital | facts.Element | facts.Planet | facts.Animal
_KINDS: tuple[tuple[Sequence[_Row], Sequence[str], Sequence[str]], ...] = (
    (facts.CAPITALS, _CAPITAL_ASKED, _CAPITAL_TOLD),
    (facts.ELEMENTS, _ELEMENT_ASKED, _ELEMENT_TOLD),
    (facts.PLANETS, _PLANET_ASKED, _PLANET_TOLD),
    (facts.ANIMALS, _ANIMAL_ASKED, _ANIMAL_TOLD),
)


def factual_questions(rng: random.Random) -> list[Question]:
    """Ask about the facts that also have a person's answer."""
    return [Question(ask, "open_qa", (row.aside,), reply) for row, ask, reply in _asked(rng) if row.aside]


def factual_instructions(rng: random.Random) -> list[Instruction]:
    """Ask about the other facts."""
    return [Instruction(ask, "", reply) for row, ask, reply in _asked(rng) if not row.aside]


def _asked(rng: random.Random) -> list[tuple[_Row, str, str]]:
    found = []
    offers = phrasings(rng, _OFFERS)
    for rows, asks, tells in _KINDS:
        ask, tell = phrasings(rng, asks), phrasings(rng, tells)
        for row in rows:
            fields = row._asdict()
            told = next(tell).format(**fields)
            reply = f"{told}\n{row.detail} {next(offers)}".rstrip()
            found.append((row, next(ask).format(**fields), reply))
    return found
