"""Small exercises: converting units and correcting sentences."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import NamedTuple

from koala_ray.samples.notation import Instruction, phrasings


class Unit(NamedTuple):
    """An amount to convert: so many of one unit, and how many of the other one of it makes."""

    amount: str
    unit: str
    single: str
    other: str
    factor: str
    exact: bool = False


class Sentence(NamedTuple):
    """A sentence with a mistake, the right sentence, and the reason."""

    wrong: str
    right: str
    reason: str


_UNITS = (
    Unit("26", "miles", "mile", "kilometres", "1.609"),
    Unit("12", "kilograms", "kilogram", "pounds", "2.205"),
    Unit("15", "inches", "inch", "centimetres", "2.54", exact=True),
    Unit("30", "feet", "foot", "metres", "0.3048", exact=True),
    Unit("5", "US gallons", "US gallon", "litres", "3.785"),
    Unit("8", "ounces", "ounce", "grams", "28.35"),
    Unit("3", "days", "day", "hours", "24", exact=True),
    Unit("2.5", "hours", "hour", "minutes", "60", exact=True),
)

_SENTENCES = (
    Sentence("She don't like coffee.", "She doesn't like coffee.", 'With "she" the verb needs the form "doesn\'t".'),
    Sentence(
        "I have saw that film.",
        "I have seen that film.",
        'After "have" you need the past participle, which is "seen".',
    ),
    Sentence(
        "There is many people in the park.",
        "There are many people in the park.",
        '"People" is plural, so the verb must be "are".',
    ),
    Sentence(
        "He is more taller than me.",
        "He is taller than me.",
        '"Taller" is already the comparative, so "more" is not needed.',
    ),
    Sentence(
        "Yesterday we go to the museum.",
        "Yesterday we went to the museum.",
        '"Yesterday" calls for the past tense, and the past of "go" is "went".',
    ),
    Sentence(
        "Can you give me an advice?",
        "Can you give me some advice?",
        '"Advice" can\'t be counted, so use "some advice" or "a piece of advice".',
    ),
    Sentence(
        "Your the best friend I have.",
        "You're the best friend I have.",
        '"You\'re" is short for "you are", while "your" shows that something belongs to you.',
    ),
    Sentence(
        "I look forward to hear from you.",
        "I look forward to hearing from you.",
        'In "look forward to" the word "to" is a preposition, so the "-ing" form follows.',
    ),
)

_UNIT_ASKED = (
    "Convert {amount} {unit} to {other}.",
    "How many {other} are {amount} {unit}?",
    "Express {amount} {unit} in {other} and show the step.",
)
_SENTENCE_ASKED = (
    "Correct the grammar in this sentence.",
    "Fix the mistake in the sentence below.",
    "Find the error and write the sentence correctly.",
)
_SENTENCE_TOLD = (
    'The correct sentence is: "{right}"',
    'Here is the corrected sentence: "{right}"',
    'Almost right! It should be: "{right}"',
)
_CHEERS = ("", "The rest of your sentence is fine.", "This is a very common slip, so don't worry.")


def exercises(rng: random.Random) -> list[Instruction]:
    """Ask for each conversion and each correction."""
    ask = phrasings(rng, _UNIT_ASKED)
    found = [_conversion(row, next(ask)) for row in _UNITS]
    ask, tell, cheer = (phrasings(rng, texts) for texts in (_SENTENCE_ASKED, _SENTENCE_TOLD, _CHEERS))
    for row in _SENTENCES:
        told = next(tell).format(right=row.right)
        reply = f"{told}\n{row.reason} {next(cheer)}".rstrip()
        found.append(Instruction(next(ask), row.wrong, reply))
    return found


def _conversion(row: Unit, ask: str) -> Instruction:
    product = Decimal(row.amount) * Decimal(row.factor)
    rounded = product.quantize(Decimal("0.1"))
    about = "" if row.exact and rounded == product else "about "
    factor = row.factor if row.exact else f"about {row.factor}"
    reply = (
        f"{row.amount} {row.unit} are {about}{_plain(rounded)} {row.other}.\n"
        f"One {row.single} is {factor} {row.other}, so multiply: "
        f"{row.amount} × {row.factor} = {_plain(product)}."
    )
    if rounded != product:
        reply += " The answer is rounded to one digit after the point."
    return Instruction(ask.format(**row._asdict()), "", reply)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
