"""Small tables of facts: capitals, elements, planets and animals."""

from __future__ import annotations

from typing import NamedTuple


class Capital(NamedTuple):
    """A country, its capital, and what is worth knowing about the city."""

    country: str
    city: str
    detail: str
    aside: str = ""


class Element(NamedTuple):
    """A chemical element with its symbol and atomic number."""

    name: str
    symbol: str
    number: int
    detail: str
    aside: str = ""


class Planet(NamedTuple):
    """A planet and its place in the order from the Sun."""

    name: str
    place: str
    detail: str
    aside: str = ""


class Animal(NamedTuple):
    """An animal, named in the plural, and its food."""

    name: str
    food: str
    detail: str
    aside: str = ""


# Rows with an aside, a person's answer, become questions of HC3; the others become instructions of Alpaca.
CAPITALS = (
    Capital(
        "Portugal",
        "Lisbon",
        "It lies where the river Tagus meets the Atlantic. The city is known for its hills, its yellow trams "
        "and its tiled houses.",
        "Lisbon. I was there last spring, and the old trams that climb the hills are worth the trip alone.",
    ),
    Capital(
        "Japan",
        "Tokyo",
        "Until 1868 the city was called Edo. Greater Tokyo is now home to more than thirty million people.",
        "It's Tokyo. People mix it up with Kyoto, which was the capital for about a thousand years before.",
    ),
    Capital(
        "Kenya",
        "Nairobi",
        "It grew from a railway depot founded in 1899. A national park with lions and giraffes begins only a "
        "few kilometres from the centre.",
        "Nairobi! My aunt lives there and says you can see giraffes with the skyline right behind them.",
    ),
    Capital(
        "Canada",
        "Ottawa",
        "It stands on the Ottawa River in the province of Ontario. Queen Victoria chose it in 1857, although "
        "Toronto and Montreal are much larger.",
        "Ottawa. Everybody in my class said Toronto, and our teacher had to explain it for ten minutes.",
    ),
    Capital(
        "Australia",
        "Canberra",
        "It was planned as a compromise between Sydney and Melbourne. Parliament moved there in 1927, and "
        "the lake in the middle is artificial.",
        "Canberra, not Sydney! They built it from scratch because the two big cities couldn't agree.",
    ),
    Capital(
        "Peru",
        "Lima",
        "It lies on the Pacific coast and was founded by the Spanish in 1535. It hardly ever rains there, "
        "though the winters are grey and misty.",
        "Lima, on the coast. Lots of folks think of Cusco, because that's where you start for Machu Picchu.",
    ),
    Capital(
        "Norway",
        "Oslo",
        "It lies at the head of a long fjord and is surrounded by forest. Until 1925 the city was called Kristiania.",
    ),
    Capital(
        "Egypt",
        "Cairo",
        "It stands on the Nile, just before the river spreads out into its delta. The pyramids of Giza "
        "rise at the edge of the city.",
    ),
    Capital(
        "New Zealand",
        "Wellington",
        "It lies at the southern tip of the North Island and is famous for strong winds. Auckland is "
        "bigger, but Wellington has been the capital since 1865.",
    ),
    Capital(
        "Turkey",
        "Ankara",
        "It lies on a high plain in Anatolia and became the capital in 1923. Istanbul is far larger, which "
        "is why many people guess it first.",
    ),
    Capital(
        "Brazil",
        "Brasília",
        "It was built in about four years on a highland plain and opened in 1960. Before that, the capital "
        "was Rio de Janeiro.",
    ),
    Capital(
        "Iceland",
        "Reykjavik",
        "It is the northernmost capital of any sovereign state. Most of its houses are heated with hot "
        "water from the ground.",
    ),
)

ELEMENTS = (
    Element(
        "gold",
        "Au",
        79,
        "The letters come from aurum, its Latin name. Gold hardly reacts with air or water, so it keeps its shine.",
        "Au, from the Latin aurum. I remember it as somebody shouting: hey you, give me back my gold!",
    ),
    Element(
        "helium",
        "He",
        2,
        "It is a light gas that does not burn, which makes it safe for balloons. Its name comes from "
        "helios, the Greek word for the Sun.",
        "He. It's the second one in the table, right after hydrogen, and yes, the balloon gas.",
    ),
    Element(
        "iron",
        "Fe",
        26,
        "The letters come from ferrum, its Latin name. Iron is the main part of steel, and it helps our "
        "blood to carry oxygen.",
        "Fe, which looks odd until you know that the Romans called iron ferrum. Steel is mostly this stuff.",
    ),
    Element(
        "oxygen",
        "O",
        8,
        "It makes up about 21 percent of dry air. Our bodies need it to release energy from food, and "
        "fires need it to burn.",
        "Just the letter O. You see it in H2O and CO2, so most people know it without noticing.",
    ),
    Element(
        "sodium",
        "Na",
        11,
        "The letters come from natrium, its Latin name. The pure metal reacts strongly with water, yet "
        "with chlorine it forms ordinary table salt.",
        "Na. It took me ages to learn that one, because there is no letter N anywhere in sodium.",
    ),
    Element(
        "carbon",
        "C",
        6,
        "Diamond and graphite are both pure carbon, and only the arrangement of the atoms differs. All "
        "known life is built on its compounds.",
    ),
    Element(
        "copper",
        "Cu",
        29,
        "The letters come from cuprum, its Latin name. It conducts electricity very well, so most "
        "household wires are made of it.",
    ),
    Element(
        "mercury",
        "Hg",
        80,
        "It is the only metal that is liquid at ordinary room temperature. The letters come from "
        "hydrargyrum, which means water-silver.",
    ),
    Element(
        "nitrogen",
        "N",
        7,
        "It makes up about 78 percent of dry air. Plants need it to grow, which is why it is part of many fertilisers.",
    ),
    Element(
        "silver",
        "Ag",
        47,
        "The letters come from argentum, its Latin name. It conducts heat and electricity better than any other metal.",
    ),
)

PLANETS = (
    Planet(
        "Venus",
        "second",
        "It is the hottest planet, with about 465 degrees Celsius at the surface. Its thick air of carbon "
        "dioxide traps the heat.",
        "Venus is the super bright one you see after sunset. Hot enough there to melt lead, so no holidays.",
    ),
    Planet(
        "Mars",
        "fourth",
        "It looks red because its dust contains rust. It also has Olympus Mons, the tallest volcano we "
        "know, about 22 kilometres high.",
        "Mars, the red one, comes right after us. The red is basically rust, as on an old bike.",
    ),
    Planet(
        "Jupiter",
        "fifth",
        "It has more than twice the mass of all the other planets together. Its Great Red Spot is a storm "
        "wider than the Earth.",
        "Jupiter, the giant. With simple binoculars you can spot four of its moons, which blew my mind.",
    ),
    Planet(
        "Saturn",
        "sixth",
        "Its bright rings are made mostly of pieces of water ice. On average the planet is less dense than water.",
        "Saturn, the one with the rings! I saw them through a small telescope and thought it was a sticker.",
    ),
    Planet(
        "Uranus",
        "seventh",
        "It is tipped so far over that it seems to roll round the Sun on its side. One orbit takes about 84 years.",
        "Uranus. It lies on its side as if something big had bumped into it a long time ago.",
    ),
    Planet(
        "Mercury",
        "first",
        "It is the smallest planet and needs only 88 days for one orbit. Its nights are bitterly cold, "
        "because it has hardly any air to hold the heat.",
    ),
    Planet(
        "Neptune",
        "eighth",
        "Its winds can blow faster than 2,000 kilometres an hour. It was found in 1846, after astronomers "
        "had worked out where to look.",
    ),
)

ANIMALS = (
    Animal(
        "giant pandas",
        "bamboo",
        "They are bears, yet they live almost only on plants. Bamboo gives little energy, so they spend "
        "about half of the day eating.",
        "Bamboo, bamboo and more bamboo. The ones at the zoo just sit there all day and munch it.",
    ),
    Animal(
        "koalas",
        "eucalyptus leaves",
        "The leaves are tough and poor in energy. To make do with so little, koalas rest or sleep for up "
        "to twenty hours a day.",
        "Eucalyptus leaves, and hardly anything else. They even smell a bit like cough drops because of that.",
    ),
    Animal(
        "barn owls",
        "voles, mice and other small mammals",
        "They hunt at night and find their prey by ear. One ear sits higher than the other, which helps "
        "them to place a sound.",
        "Mice and voles for the most part. My uncle put up a nest box and has no mice in his barn now.",
    ),
    Animal(
        "blue whales",
        "krill, which are small shrimp-like animals",
        "They take in huge mouthfuls of water and filter it through plates of baleen. They are the largest "
        "animals known to have lived.",
        "Tiny krill, tons of it a day! Funny that the biggest animal of all eats something so small.",
    ),
    Animal(
        "hummingbirds",
        "nectar and small insects",
        "The nectar gives them quick energy, and the insects give them protein. Their wings beat dozens of "
        "times a second, and they can fly backwards.",
        "Nectar from flowers, plus little bugs. We hang out sugar water and they fight over it all summer.",
    ),
    Animal(
        "sea otters",
        "sea urchins, crabs and shellfish",
        "They crack hard shells with stones while floating on their backs. Their fur is thicker than that "
        "of any other animal.",
        "Urchins, crabs and clams. They bang the shells on a stone that lies on their belly, so cute.",
    ),
    Animal(
        "giraffes",
        "leaves, above all from acacia trees",
        "A long tongue lets them pick leaves between the thorns. Their necks have seven bones, just like "
        "ours, only much longer.",
    ),
    Animal(
        "beavers",
        "bark, twigs and water plants",
        "They do not eat fish, as many people believe. Their front teeth never stop growing, so gnawing "
        "keeps them short.",
    ),
    Animal(
        "ladybirds",
        "aphids and other small insects",
        "That makes them welcome guests in a garden. Their bright colours warn birds that they taste bad.",
    ),
    Animal(
        "emperor penguins",
        "fish, krill and squid",
        "They dive for it in the cold seas round Antarctica. In winter the father keeps the egg warm on "
        "his feet for about two months.",
    ),
    Animal(
        "hedgehogs",
        "beetles, caterpillars and worms",
        "They look for food at night and sleep through the winter. Please never give them milk, because "
        "they can't digest it well.",
    ),
)
