"""Questions with two answers that quote a page, as WebGPT holds them; a score of zero is a tie."""

from __future__ import annotations

from typing import NamedTuple

from koala_ray.samples.notation import blocks, named

_TEXT = """\
Q: Why do leaves turn red and yellow in autumn?
TITLE: Leaf colours through the year
QUOTE: As the days grow shorter, trees break down the green chlorophyll in their leaves, and the yellow
pigments that were there all along become visible. Some trees also make red pigments.
ONE: Trees break down their green chlorophyll when the days get shorter, so the yellow pigments below it
appear. The red ones are made fresh in autumn by some trees. [1]
TWO: Leaves change their colour because it gets colder and the tree is preparing for winter. [1]
SCORE: 0.67
---
Q: Why do our ears pop in an aeroplane?
TITLE: Air pressure and the middle ear
QUOTE: The Eustachian tube joins the middle ear and the throat. When the cabin pressure changes, it opens for
a moment and the pressure becomes equal.
ONE: They pop because the pressure is different up there, and that is normal. [1]
TWO: The pressure in the cabin changes faster than the pressure in your middle ear. When you swallow, a small
tube to the throat opens, the two become equal, and you hear a pop. [1]
SCORE: -0.5
---
Q: How do traffic lights know that a car is waiting?
TITLE: Detection at crossings
QUOTE: Many crossings have a wire loop under the road surface. A metal body above the loop changes its
inductance, which a controller notices. Cameras and radar are used as well.
ONE: Many crossings have a wire loop in the road, and the metal of a car changes its magnetic field. Others
use cameras or radar. [1]
TWO: There is a sensor in the road or on the pole that notices the car. [1]
SCORE: 0.33
---
Q: Why does bread go stale?
TITLE: The science of stale bread
QUOTE: Staling is not only drying. The starch slowly forms crystals again, which makes the crumb firm. This
happens fastest at the temperature of a fridge.
ONE: It loses its water to the air until it is hard. [1]
TWO: Its starch slowly turns crystalline and firm, even if no water is lost. A fridge speeds this up, so keep
bread at room temperature or freeze it. [1]
SCORE: -0.75
---
Q: What keeps a moving bicycle upright?
TITLE: Why bicycles balance
QUOTE: A rider keeps steering slightly into the fall, which brings the wheels back under the centre of mass.
Geometry and gyroscopic effects help, but neither is needed by itself.
ONE: Mainly steering: the bicycle is steered into a fall, which brings the wheels back under the weight. The
shape of the fork and the turning wheels help. [1]
TWO: The front wheel follows every lean, and so the wheels always roll back under the rider. Its shape and its
spin both support this. [1]
SCORE: 0
---
Q: Why do we get goosebumps when we are cold?
TITLE: Goosebumps explained
QUOTE: Tiny muscles at the base of each hair contract in the cold. In animals with thick fur this traps warm
air; in humans the effect is only left over.
ONE: Tiny muscles pull the hairs upright. Thick fur would then trap warm air, but we have too little hair, so
it is a leftover from our ancestors. [1]
TWO: Goosebumps keep you warm by closing the skin so that no heat can leave it. [1]
SCORE: 0.8
---
Q: How does soap get rid of grease?
TITLE: Soap molecules
QUOTE: One end of a soap molecule mixes with water and the other with fat. The molecules surround drops of
fat, so that water can carry them off.
ONE: Soap is stronger than fat and dissolves it. [1]
TWO: One end of a soap molecule likes water and the other likes fat. Together they wrap up drops of grease,
and the water rinses them away. [1]
SCORE: -0.67
---
Q: Why is it colder on top of a mountain, although it is nearer to the Sun?
TITLE: Temperature and height
QUOTE: The ground warms the air from below. Rising air expands under lower pressure and cools, on average by
about 6.5 degrees Celsius for each kilometre.
ONE: Air is warmed mostly from the ground, and rising air expands and cools by about 6.5 degrees per
kilometre. The distance to the Sun hardly changes. [1]
TWO: There is more wind on a mountain and less air, and so it is colder. [1]
SCORE: 0.5
---
Q: Why do stars twinkle but planets hardly do?
TITLE: Twinkling
QUOTE: Starlight comes from a point and is bent this way and that by moving air. A planet appears as a small
disc, and the changes across the disc average out.
ONE: Planets are much closer and do not make their own light. [1]
TWO: Moving air bends the thin ray from a star again and again. A planet looks like a tiny disc, so the
changes average out and its light stays steady. [1]
SCORE: -0.4
---
Q: How do fish breathe under water?
TITLE: Gills
QUOTE: Water flows over thin gill plates that are full of blood vessels. Oxygen passes into the blood, which
flows in the opposite direction to the water.
ONE: Water flows over their gills, and the oxygen dissolved in it passes into the blood. Blood and water flow
in opposite directions, which makes this very effective. [1]
TWO: They have gills, and these take the oxygen out of the water. [1]
SCORE: 0.25
---
Q: Why do some people sneeze when they look into bright light?
TITLE: The photic sneeze reflex
QUOTE: Between about 18 and 35 percent of people sneeze in sudden bright light. It runs in families. The
signals of nearby nerves are probably mixed up.
ONE: It is a reflex that runs in families and affects roughly a quarter of all people. Probably the nerve
signals of eye and nose get mixed up. [1]
TWO: Bright light probably confuses neighbouring nerves. About a quarter of people have this reflex, and they
often inherit it from a parent. [1]
SCORE: 0
---
Q: Why does a spoon look bent in a glass of water?
TITLE: Refraction
QUOTE: Light travels more slowly in water than in air. At the surface it changes direction, so that things
below the surface seem to be in another place.
ONE: The glass is curved, and so everything in it looks strange. [1]
TWO: Light changes direction where it leaves the water, because it is slower there than in air. Your eye
follows the straight line back, so the spoon seems bent. [1]
SCORE: -0.85
---
Q: How do camels survive so long without water?
TITLE: Camels in the desert
QUOTE: The hump stores fat and not water. Camels save water by letting their body temperature rise, by passing
little urine, and they can drink about 100 litres at once.
ONE: They save water: their bodies may warm up before they sweat, and they pass little urine. The hump stores
fat, and they can drink around 100 litres at a time. [1]
TWO: They keep a lot of water in their humps. [1]
SCORE: 0.9
---
Q: Why is glass transparent?
TITLE: Light and electrons in glass
QUOTE: The electrons in glass can't absorb the energy of visible light, so it passes through. Ultraviolet
light has more energy, and much of it is absorbed.
ONE: Glass is made so thin that light can go through it. [1]
TWO: The electrons in glass have no way to take up the energy of visible light, so the light passes. Much of
the ultraviolet light is absorbed, however. [1]
SCORE: -0.6
---
Q: Why do we have fingerprints?
TITLE: What fingerprints are good for
QUOTE: The ridges form before birth. They make fine textures easier to feel, and they may improve the grip on
rough or wet surfaces.
ONE: The ridges help us to feel fine textures and may improve our grip. They form before we are born and
hardly change afterwards. [1]
TWO: Fingerprints exist so that each person can be told apart. [1]
SCORE: 0.7
---
Q: What makes thunder so loud?
TITLE: Lightning and thunder
QUOTE: A lightning channel is heated to about 30,000 degrees Celsius within a few millionths of a second. The
air expands so quickly that it makes a shock wave.
ONE: The clouds hit each other and that makes the noise. [1]
TWO: Lightning heats the air to about 30,000 degrees in an instant. The air expands like an explosion, and we
hear the shock wave as thunder. [1]
SCORE: -0.95
"""


class Quoted(NamedTuple):
    """A question, a page quoted for it, two answers, and the first one's score."""

    question: str
    title: str
    quote: str
    answers: tuple[str, str]
    score: float


def quoted_answers() -> list[Quoted]:
    """Read the answers with quotations in their order."""
    return [
        Quoted(row["Q"], row["TITLE"], row["QUOTE"], (row["ONE"], row["TWO"]), float(row["SCORE"]))
        for row in map(named, blocks(_TEXT))
    ]
