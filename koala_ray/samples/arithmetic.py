"""Word problems for grade school, with answers that are worked out and not typed in."""

from __future__ import annotations

import random
from collections.abc import Callable

from koala_ray.samples.notation import Instruction

Problem = tuple[str, str]

_NAMES = """
Ana Ben Carla Daniel Elif Farid Greta Hugo Iris Jamal Kira Leo Maya Noah Olga Pablo Quinn Rosa Sven Tara
Uma Victor Wendy Xavier Yara Zoe Amir Bella Cem Dora Emil Fiona Gus Hana Ivo Jana Kofi Lena Milo Nina
"""
_PEOPLE = tuple(_NAMES.split())


def _change(rng: random.Random, who: str) -> Problem:
    item, price, count = (
        rng.choice(("notebooks", "lemons", "postcards")),
        rng.randint(2, 4),
        rng.randint(3, 6),
    )
    cost = price * count
    note = 20 if cost < 20 else 50
    ask = rng.choice(
        (
            f"{who} buys {count} {item} at {price} dollars each and pays with a {note}-dollar note. How "
            f"much change does {who} get?",
            f"In the shop, {item} cost {price} dollars apiece. {who} takes {count} of them and hands over "
            f"{note} dollars. How much money comes back?",
        )
    )
    reply = (
        f"{who} gets {note - cost} dollars back.\nThe {item} cost {count} × {price} = {cost} dollars. "
        f"Then {note} - {cost} = {note - cost}."
    )
    return ask, reply


def _harvest(rng: random.Random, who: str) -> Problem:
    fruit, baskets, each = rng.choice(("apples", "pears", "plums")), rng.randint(3, 6), rng.randint(12, 25)
    gift = rng.randint(8, 30)
    total = baskets * each
    ask = rng.choice(
        (
            f"{who} fills {baskets} baskets with {each} {fruit} each and gives {gift} {fruit} to a "
            "neighbour. How many are left?",
            f"There are {each} {fruit} in each of {who}'s {baskets} baskets. After {gift} of them are given "
            "away, how many does the harvest still hold?",
        )
    )
    reply = (
        f"There are {total - gift} {fruit} left.\n1. All baskets together: {baskets} × {each} = {total} "
        f"{fruit}.\n2. After the gift: {total} - {gift} = {total - gift}."
    )
    return ask, reply


def _reading(rng: random.Random, who: str) -> Problem:
    daily, days = rng.randint(12, 30), rng.randint(4, 9)
    pages = daily * days + rng.randint(20, 90)
    left = pages - daily * days
    ask = rng.choice(
        (
            f"{who} reads {daily} pages a day. How many pages of a book with {pages} pages remain after {days} days?",
            f"A novel has {pages} pages, and {who} has read {daily} pages on each of {days} days. How many "
            "pages are still to come?",
        )
    )
    reply = (
        f"{left} pages are left.\nIn {days} days {who} reads {days} × {daily} = {days * daily} pages, and "
        f"{pages} - {days * daily} = {left}."
    )
    return ask, reply


def _sharing(rng: random.Random, who: str) -> Problem:
    friends, each, eaten = rng.randint(3, 6), rng.randint(5, 9), rng.randint(2, 4)
    sweets = friends * each
    ask = (
        f"{who} and {friends - 1} friends share {sweets} biscuits equally. {who} eats {eaten} of them at "
        f"once. How many biscuits does {who} still have?"
    )
    reply = (
        f"{who} still has {each - eaten} biscuits.\nEach of the {friends} people gets {sweets} ÷ {friends} "
        f"= {each} biscuits. After eating {eaten}, there are {each} - {eaten} = {each - eaten}."
    )
    return ask, reply


def _saving(rng: random.Random, who: str) -> Problem:
    weekly, weeks, spent = rng.randint(6, 15), rng.randint(5, 9), rng.randint(10, 25)
    saved = weekly * weeks
    ask = (
        f"{who} saves {weekly} dollars a week for {weeks} weeks and then spends {spent} dollars on a gift. "
        "How much money is left?"
    )
    reply = (
        f"{saved - spent} dollars are left.\n1. Saved: {weeks} × {weekly} = {saved} dollars.\n"
        f"2. After the gift: {saved} - {spent} = {saved - spent} dollars."
    )
    return ask, reply


def _ages(rng: random.Random, who: str) -> Problem:
    young, times, later = rng.randint(3, 6), rng.randint(2, 3), rng.randint(4, 9)
    old, spoken = young * times, {2: "twice", 3: "three times"}[times]
    ask = f"{who} is {spoken} as old as a cousin, who is {young}. How old will {who} be in {later} years?"
    reply = (
        f"{who} will be {old + later} years old.\nToday {who} is {times} × {young} = {old}, and "
        f"{old} + {later} = {old + later}."
    )
    return ask, reply


def _walking(rng: random.Random, who: str) -> Problem:
    metres, days = rng.randint(3, 9) * 100, rng.randint(4, 6)
    both = 2 * metres
    ask = (
        f"The way to school is {metres} metres long. {who} walks there and back on {days} days. How many "
        "metres is that in all?"
    )
    reply = (
        f"{who} walks {both * days} metres in all.\nThere and back makes 2 × {metres} = {both} metres a "
        f"day, and {days} × {both} = {both * days}. That is {both * days / 1000:g} kilometres."
    )
    return ask, reply


def _recipe(rng: random.Random, who: str) -> Problem:
    grams, served, factor = rng.randint(2, 6) * 50, rng.choice((2, 4)), rng.randint(2, 4)
    food = rng.choice(("flour", "rice", "lentils"))
    guests = served * factor
    ask = (
        f"A recipe for {served} people needs {grams} grams of {food}. How much {food} does {who} need for "
        f"{guests} people?"
    )
    reply = (
        f"{who} needs {grams * factor} grams of {food}.\n{guests} people are {factor} times as many as "
        f"{served}, so multiply: {factor} × {grams} = {grams * factor}."
    )
    return ask, reply


def _tickets(rng: random.Random, who: str) -> Problem:
    adult, child = rng.randint(9, 14), rng.randint(4, 7)
    adults, children = rng.randint(2, 3), rng.randint(2, 4)
    total = adult * adults + child * children
    ask = (
        f"Zoo tickets cost {adult} dollars for adults and {child} dollars for children. What does {who} pay "
        f"for {adults} adults and {children} children?"
    )
    reply = (
        f"{who} pays {total} dollars.\n1. Adults: {adults} × {adult} = {adults * adult} dollars.\n"
        f"2. Children: {children} × {child} = {children * child} dollars.\n"
        f"3. Together: {adults * adult} + {children * child} = {total} dollars."
    )
    return ask, reply


def _shelf(rng: random.Random, who: str) -> Problem:
    third = rng.randint(4, 12)
    books = 6 * third
    half = books // 2
    ask = (
        f"{who} owns {books} books. Half of them are novels, and one third of the rest are about travel. "
        "How many travel books are there?"
    )
    reply = (
        f"There are {third} travel books.\nHalf of {books} is {half}, so {half} books are not novels. One "
        f"third of {half} is {half} ÷ 3 = {third}."
    )
    return ask, reply


_PROBLEMS: tuple[Callable[[random.Random, str], Problem], ...] = (
    _change,
    _harvest,
    _reading,
    _sharing,
    _saving,
    _ages,
    _walking,
    _recipe,
    _tickets,
    _shelf,
)


def school_problems(rng: random.Random) -> list[Problem]:
    """Give four problems of each kind, each about another person."""
    return [_PROBLEMS[place % len(_PROBLEMS)](rng, who) for place, who in enumerate(_PEOPLE)]


def _discount(rng: random.Random, thing: str, off: int) -> Problem:
    price = rng.randint(4, 12) * 20
    cut = price * off // 100
    reply = (
        f"The {thing} now costs {price - cut} dollars.\n{off} percent of {price} is {cut}, and "
        f"{price} - {cut} = {price - cut}. You save {cut} dollars."
    )
    return f"A {thing} costs {price} dollars and is reduced by {off} percent. Work out the new price.", reply


def _average(rng: random.Random, middle: int) -> Problem:
    near, far = rng.sample(range(1, middle // 2), 2)
    numbers = [middle - near, middle + far, middle + near, middle - far]
    total = sum(numbers)
    reply = (
        f"The average is {middle}.\nAdd the numbers, {' + '.join(map(str, numbers))} = {total}, and divide "
        f"by how many there are: {total} ÷ 4 = {middle}."
    )
    return f"Find the average of {numbers[0]}, {numbers[1]}, {numbers[2]} and {numbers[3]}.", reply


def _area(rng: random.Random, place: str) -> Problem:
    long, wide = rng.randint(6, 9), rng.randint(3, 5)
    area, round_it = long * wide, 2 * (long + wide)
    reply = (
        f"The area is {area} square metres, and the perimeter is {round_it} metres.\n"
        f"- Area: {long} × {wide} = {area}\n- Perimeter: 2 × ({long} + {wide}) = {round_it}"
    )
    ask = f"A {place} is {long} metres long and {wide} metres wide. Calculate its area and its perimeter."
    return ask, reply


def _part(rng: random.Random, name: str, tenths: int) -> Problem:
    bill = rng.randint(3, 9) * 10
    tenth, part = bill // 10, bill // 10 * tenths
    reply = (
        f"The {name} is {part} dollars, so the total is {bill + part} dollars.\nOne tenth of {bill} is "
        f"{tenth}, and {tenths} × {tenth} = {part}. Then add it: {bill} + {part} = {bill + part}."
    )
    return f"How much is a {name} of {tenths}0 percent on {bill} dollars, and what is the total?", reply


def calculations(rng: random.Random) -> list[Instruction]:
    """Give two everyday calculations of each of four kinds."""
    pairs = (
        _discount(rng, "coat", 15),
        _discount(rng, "lamp", 20),
        _average(rng, 10),
        _average(rng, 14),
        _area(rng, "room"),
        _area(rng, "garden"),
        _part(rng, "tip", 2),
        _part(rng, "tax", 3),
    )
    return [Instruction(ask, "", reply) for ask, reply in pairs]
