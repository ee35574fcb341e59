"""Short poems and the songs made of them."""

from __future__ import annotations

import random

from koala_ray.samples.notation import blocks, named, phrasings

_TEXT = """\
ABOUT: rain on a summer evening
POEM: The dusty road drinks drop by drop,
| the swallows race below the cloud,
| the heat lets go, the crickets stop,
| and every leaf applauds out loud.
CHORUS: Come down, sweet rain, come down and stay,
| and wash the heavy heat away.
---
ABOUT: an old bicycle
POEM: It leans against the garden wall,
| its bell has lost its silver ring,
| but once it carried two through fall
| and coasted downhill into spring.
CHORUS: Ring, little bell, ring one more time,
| we still have one more hill to climb.
---
ABOUT: bread from the oven
POEM: Before the street has rubbed its eyes,
| a yellow window starts to glow;
| the loaves have learned at night to rise
| and fill the lane with warmth below.
CHORUS: Break it and share it, pass it on,
| it tastes the best before it's gone.
---
ABOUT: a lighthouse keeper
POEM: He counts the seconds, dark and light,
| and writes the weather in his book;
| a hundred ships pass every night
| and not one sailor stops to look.
CHORUS: Turn, lamp, turn, and show them home,
| over the rocks and over the foam.
---
ABOUT: the first day of school
POEM: A satchel bigger than her back,
| two plaits, one ribbon coming loose,
| an apple in a paper sack
| and brand-new laces on her shoes.
CHORUS: Wave at the gate and off you go,
| there is a world for you to know.
---
ABOUT: a train at night
POEM: The towns go by like strings of beads,
| a baby sleeps, a stranger reads,
| the wheels repeat their one refrain,
| and someone hums it with the train.
CHORUS: Carry me on, carry me through,
| every mile is nearer to you.
---
ABOUT: a grandmother's garden
POEM: She knew the beans by name, I think,
| and told the roses all her news;
| she gave the smallest plant a drink
| and wiped the earth from off her shoes.
CHORUS: Whatever she planted, it grew so tall,
| and I was the luckiest seed of all.
---
ABOUT: winter stars
POEM: The frost has swept the heavens clean,
| no cloud, no dust, no breath of haze,
| and sharper stars than I have seen
| look down and hold me in their gaze.
CHORUS: Shine on the snow, shine on the sea,
| shine on the ones who are far from me.
---
ABOUT: a cat on a windowsill
POEM: She owns the street from where she lies,
| the postman, pigeons, passing bees;
| she rules them all with half-closed eyes
| and does precisely as she'd please.
CHORUS: Queen of the sill, queen of the sun,
| sleeping till all of the work is done.
---
ABOUT: moving to a new town
POEM: The boxes tower to the lamp,
| the walls are bare, the cups are lost,
| the street outside is grey and damp,
| and no one knows what this has cost.
CHORUS: Hang up a picture, put on the tea,
| this will be home, just wait and see.
---
ABOUT: a river in spring
POEM: The ice lets go with one loud crack,
| brown water hurries past the mill,
| the herons and the geese are back,
| and nothing in the world stands still.
CHORUS: Run, river, run to the open sea,
| and take a leaf or two from me.
---
ABOUT: a music teacher
POEM: Her metronome has lost its beat,
| her piano has a broken string,
| yet anyone who takes a seat
| goes home and can't help whistling.
CHORUS: Play it again, and play it slow,
| a little bit better each time you go.
---
ABOUT: a market in the morning
POEM: The melons lie in pyramids,
| the fish is shining on its ice,
| a seller lifts the basket lids
| and sings aloud the morning's price.
CHORUS: Peaches and pepper, cherries and cheese,
| taste it for nothing, as much as you please.
---
ABOUT: friends who live far apart
POEM: Your evening is my morning light,
| you yawn while I put on my shoes;
| we meet between your day and night
| and trade the small and silly news.
CHORUS: Half of the world lies in between,
| but you are the kindest face I've seen.
---
ABOUT: a kite
POEM: It tugs and dances on its thread,
| it wants the sea, it wants the sun;
| I hold it, but it pulls instead
| and teaches both my legs to run.
CHORUS: Higher, higher, let it fly,
| a scrap of paper owns the sky.
---
ABOUT: a tired nurse after the night shift
POEM: The bus is full of sleepy faces,
| her shoes have walked ten miles indoors;
| she knows the hours' quiet places
| and every squeak of all the floors.
CHORUS: Sleep well, sleep well, the day is here,
| you carried us all through the night, my dear.
---
ABOUT: an empty beach in autumn
POEM: The deckchairs wait in stacks of ten,
| the ice-cream hut has closed its eyes;
| the sea takes back its beach again
| and fills it with the gulls' long cries.
CHORUS: Summer is over, the tide rolls in,
| the sand is smooth, let the storms begin.
---
ABOUT: learning to swim
POEM: The water says: you need not fight,
| just lie on me and trust your back;
| she holds her breath, she holds on tight,
| and then the tightness all goes slack.
CHORUS: Let go of the side, let go of the fear,
| the water will hold you, I promise, my dear.
---
ABOUT: a broken clock
POEM: It's ten past four the whole day long
| inside my uncle's dusty hall;
| and twice a day it isn't wrong,
| which pleases him the most of all.
CHORUS: Tick, says the world, but the clock says no,
| there's nowhere at all that it has to go.
---
ABOUT: a shared umbrella
POEM: One small umbrella, two wide coats,
| our outer sleeves were soaked right through;
| the gutters ran with paper boats,
| and I grew fond of rain and you.
CHORUS: Step in, step in, there's room for two,
| if I get wet, then so do you.
"""

_SONG_ASKED = (
    "Turn this poem into a song with a chorus:",
    "Make a song out of the following poem:",
    "Could you write song lyrics based on this poem?",
    "Here is a poem. Please rework it as a short song:",
)
_SONG_TOLD = (
    "Here is your song about {about}.",
    "With pleasure! This is the poem as a song.",
    "Of course! The poem becomes the verse, and a new chorus follows it.",
)
_POEM_ASKED = (
    "Write a four-line poem about {about}.",
    "I need a short poem about {about}, please.",
    "Could you compose four rhyming lines about {about}?",
)
_POEM_TOLD = (
    "Here is a short poem about {about}.",
    "Of course! These four lines are about {about}.",
    "With pleasure, here you are.",
)


def poems_and_songs(rng: random.Random) -> list[tuple[str, str]]:
    """Ask for a poem on each theme, and for the song that a poem becomes."""
    found = []
    ask_poem, tell_poem = phrasings(rng, _POEM_ASKED), phrasings(rng, _POEM_TOLD)
    ask_song, tell_song = phrasings(rng, _SONG_ASKED), phrasings(rng, _SONG_TOLD)
    for texts in map(named, blocks(_TEXT)):
        about, poem, chorus = texts["ABOUT"], texts["POEM"], texts["CHORUS"]
        told = next(tell_poem).format(about=about)
        found.append((next(ask_poem).format(about=about), f"{told}\n{poem}"))
        told = next(tell_song).format(about=about)
        song = f"{told}\n[Verse]\n{poem}\n[Chorus]\n{chorus}\n{chorus}"
        found.append((f"{next(ask_song)}\n{poem}", song))
    return found
