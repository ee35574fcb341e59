"""Short plots and the scenes that belong to them."""

from __future__ import annotations

import random

from koala_ray.samples.notation import blocks, named, phrasings

_TEXT = """\
TITLE: The Last Ferry
PLOT: Mara, a young doctor, misses the last ferry to her island and has to spend the night in the harbour
café. There she meets the retired captain who once saved her father. By morning she knows a family secret, and
she decides to stay.
ASKED: a stranded doctor asks a café owner about the next ferry
SCENE: Mara: Has the ferry really gone?
| Owner: Ten minutes ago. The next one leaves at six.
| Mara: Then I need a very large coffee.
| Owner: Sit down. I will make it the way the captain likes it.
---
TITLE: A Key for Nobody
PLOT: A locksmith receives a key by post every Monday, always without a letter. He follows the stamps from
town to town and finds a woman who is giving away the rooms of her past, one by one. The last key opens his
own childhood home.
ASKED: a locksmith shows his daughter a mysterious key
SCENE: Ira: Another one? Who sends you keys, Papa?
| Locksmith: Someone who wants me to find a door.
| Ira: Or someone who has too many of them.
| Locksmith: Then let us be polite and return one.
---
TITLE: The Quiet Orchestra
PLOT: When a storm cuts the power in a concert hall, the musicians of a quarrelling orchestra have to rehearse
in the dark. Without lights they learn to listen again. The concert next day is the best they have ever
played.
ASKED: two musicians wait in a dark concert hall
SCENE: Nele: I can't even see my bow.
| Ruben: You never look at it anyway.
| Nele: True. Shall we play the slow movement?
| Ruben: Only if you breathe first, so that I know when to start.
---
TITLE: Grandfather's Map
PLOT: Two cousins find a hand-drawn map in their grandfather's coat. It leads them across the city to places
that no longer exist, and at each one an old friend of his tells them a story. The treasure at the end is an
invitation to dinner.
ASKED: two cousins study an old map on a tram
SCENE: Timo: This street isn't on my phone.
| Lia: Because it was pulled down in 1970. Look at the date.
| Timo: So we are searching for a place that is gone?
| Lia: We are searching for someone who remembers it.
---
TITLE: The Baker's Apprentice
PLOT: Jun wants to become a baker, but every loaf he makes comes out flat. One night he hears his master
talking to the dough and learns that patience is the missing ingredient. His first good loaf wins no prize,
but it makes his master smile.
ASKED: a baker comforts an apprentice after a burnt loaf
SCENE: Jun: It's black. I ruined it.
| Baker: You made charcoal. Painters pay good money for that.
| Jun: Please don't joke.
| Baker: Then let's begin again. This time you watch the oven, and I watch you.
---
TITLE: Letters to the Lake
PLOT: Every summer, a boy throws a letter in a bottle into the same lake. As a grown man he returns to sell
the family hut and finds all his letters in a box at the neighbour's house, each with an answer he never
received.
ASKED: a neighbour gives a man a box of old letters
SCENE: Neighbour: I fished them out, one each summer.
| Paul: And you kept them for thirty years?
| Neighbour: You asked good questions. I wrote back, but I had no bottle.
| Paul: Then I'd like to read the answers now.
---
TITLE: The Robot in Room Nine
PLOT: A school gets a cleaning robot that keeps stopping in front of room nine. The pupils discover that it
was trained by the old caretaker, who always paused there to feed a bird. They build a nest box and the robot
moves on.
ASKED: two pupils watch a robot that will not move
SCENE: Ada: It has been standing there for ten minutes.
| Sam: Maybe it's sad.
| Ada: Robots aren't sad. They wait for something.
| Sam: Then let's find out what it is waiting for.
---
TITLE: Snow in July
PLOT: In a mountain village it snows on the day of the summer fair. Everyone blames the new weather observer,
until she turns the fair into a winter feast. The village decides to repeat it every year, with or without
snow.
ASKED: a mayor and a weather observer look at unexpected snow
SCENE: Mayor: You said sunny and mild.
| Observer: I said mild. It is mild for snow.
| Mayor: And what do I do with four hundred ice creams?
| Observer: Melt them. Hot vanilla soup, the speciality of the day.
---
TITLE: The Understudy
PLOT: Clara knows every part of the play but has never been on stage. When the leading actor loses his voice,
she speaks the lines from behind the curtain while he moves his lips. On the third evening she steps out into
the light.
ASKED: an actor without a voice asks an understudy for help
SCENE: Clara: You want me to speak for you?
| Actor: (nods and points at the curtain)
| Clara: All five acts?
| Actor: (bows very deeply)
| Clara: Then you owe me five cakes.
---
TITLE: Two Chairs
PLOT: A carpenter makes two chairs from the same tree. One is sold to a palace and the other to a kitchen.
Many years later a museum brings them together, and only the kitchen chair is still loved, because it has been
repaired nine times.
ASKED: a carpenter explains the price of a chair
SCENE: Customer: It's only a kitchen chair.
| Carpenter: It will hear more stories than a throne.
| Customer: Will it last?
| Carpenter: If you bring it back whenever it squeaks, it will outlive us both.
---
TITLE: The Night Library
PLOT: A library opens only at night, for people who can't sleep. A taxi driver, a baker and a student share
the same table and slowly write one story together. When the library is about to close for good, they read it
aloud on the steps.
ASKED: a librarian welcomes a visitor at midnight
SCENE: Librarian: Can't sleep, or don't want to?
| Visitor: A bit of both. What do you recommend?
| Librarian: Something slow, with a river in it.
| Visitor: And if I fall asleep?
| Librarian: Then it was the right book.
---
TITLE: Chess by Post
PLOT: Two strangers play chess by postcard for eleven years. When one of them is about to win, he makes a bad
move on purpose so that the game may go on. The other understands and takes the train to meet him.
ASKED: two chess players meet for the first time
SCENE: Irene: You could have won in March.
| Otto: And lost my only reason to buy stamps?
| Irene: I brought a board.
| Otto: Good. But let's play slowly.
---
TITLE: The Beekeeper's Promise
PLOT: A beekeeper promises her village a jar of honey for every house, but a cold spring leaves the hives
empty. The children plant flowers on every windowsill and rooftop. In the next year there are two jars for
everyone.
ASKED: a child asks a beekeeper about empty hives
SCENE: Child: Where have the bees gone?
| Beekeeper: Some were too hungry to stay.
| Child: What do they like best?
| Beekeeper: Clover, thyme and anything you forget to mow.
| Child: I can forget to mow!
---
TITLE: Platform Zero
PLOT: A commuter discovers a platform that isn't on any plan. The train there stops wherever a passenger was
once truly happy. She rides it only once, gets off at a small bus stop from her youth, and calls an old
friend.
ASKED: a conductor checks a puzzled passenger's ticket
SCENE: Conductor: This ticket is valid for one happy memory.
| Passenger: I only wanted to go to the office.
| Conductor: We don't stop there. Nobody ever asks for it.
| Passenger: Then take me to the bus stop with the green bench.
---
TITLE: The Paper Boat Race
PLOT: Each spring the children of a river town race paper boats. Milo's boat always sinks, until his
grandmother shows him how to wax the paper with a candle. He still comes last, but his boat is the only one
that reaches the sea.
ASKED: a grandmother teaches a boy to build a paper boat
SCENE: Milo: It gets soggy every time.
| Grandmother: Then rub it with this candle.
| Milo: Will it be faster?
| Grandmother: No. But it will still be a boat when the fast ones are soup.
---
TITLE: Dinner for the Neighbours
PLOT: Four families in one house have argued about the stairs for years. A power cut forces them to cook
everything in their freezers on a single gas stove. By the time the light returns, nobody wants to switch it
on.
ASKED: two neighbours share a stove during a power cut
SCENE: Mr Adeyemi: May I put my fish beside your soup?
| Ms Kowalski: If your fish behaves itself.
| Mr Adeyemi: It is a very quiet fish.
| Ms Kowalski: Then it's the best neighbour in the house.
---
TITLE: The Cartographer's Mistake
PLOT: A mapmaker draws an island that isn't there and is too proud to erase it. Sailors begin to bring home
tales of it. In the end she sets out herself, finds nothing but open sea, and names the empty place after her
patience.
ASKED: a mapmaker admits a mistake to a sailor
SCENE: Sailor: We searched for your island for a week.
| Mapmaker: It's a blot of ink. I sneezed.
| Sailor: A pity. We had already chosen a house there.
| Mapmaker: Then leave it on the map. Someone may need it.
---
TITLE: Echo Valley
PLOT: In a valley the echo answers one second too early. A physicist comes to explain it and a shepherd offers
her tea. After a long winter she has no explanation, but she has learned to listen before she speaks.
ASKED: a physicist and a shepherd talk about a strange echo
SCENE: Physicist: It can't answer before I call.
| Shepherd: It knows you by now.
| Physicist: An echo doesn't know anybody.
| Shepherd: Say that a little louder, and see what it thinks.
---
TITLE: The Second-Hand Violin
PLOT: Aisha buys a cheap violin and finds a name scratched inside. The name belongs to a famous player who
gave up music. She asks him for a single lesson, and both of them learn how to begin again.
ASKED: a girl asks an old violinist for a lesson
SCENE: Aisha: I think this used to be yours.
| Violinist: I sold it so that I would never hear it again.
| Aisha: I play so badly that you won't recognise it.
| Violinist: Come in. Mind the step, and hold your elbow higher.
---
TITLE: Tomorrow's Newspaper
PLOT: A newsagent receives one copy of tomorrow's paper each evening. He uses it only to carry umbrellas to
people before it rains. One day the paper is blank, and he has to learn to look at the sky like everyone else.
ASKED: a newsagent hands a customer an umbrella on a sunny day
SCENE: Customer: There isn't a cloud in the sky.
| Newsagent: Take it anyway. Bring it back on Thursday.
| Customer: And how do you know?
| Newsagent: I read a lot.
"""

_PLOT_ASKED = (
    "Write a short plot for a {kind} called '{title}'.",
    "Sketch the plot of a {kind} with the title '{title}'.",
    "What could happen in a {kind} named '{title}'? Give me a short plot.",
)
_PLOT_TOLD = (
    "Here is a short plot for '{title}'.",
    "Of course! This is how '{title}' could go.",
    "Here is an idea for the {kind}.",
)
_SCENE_ASKED = (
    "Write a short scene in which {asked}.",
    "I need a few lines of dialogue in which {asked}.",
    "Could you write a brief screenplay scene where {asked}?",
)
_SCENE_TOLD = (
    "Here is the scene.",
    "With pleasure! Here is a short scene.",
    "Of course, here is the dialogue.",
)


def plots_and_scenes(rng: random.Random) -> list[tuple[str, str]]:
    """Ask for the plot of each story, and for one scene of it."""
    found = []
    kinds = phrasings(rng, ("short film", "novel", "stage play", "film"))
    ask_plot, tell_plot = phrasings(rng, _PLOT_ASKED), phrasings(rng, _PLOT_TOLD)
    ask_scene, tell_scene = phrasings(rng, _SCENE_ASKED), phrasings(rng, _SCENE_TOLD)
    for texts in map(named, blocks(_TEXT)):
        fields = {"kind": next(kinds), "title": texts["TITLE"]}
        told = next(tell_plot).format(**fields)
        found.append((next(ask_plot).format(**fields), f"{told}\n{texts['PLOT']}"))
        ask = next(ask_scene).format(asked=texts["ASKED"])
        found.append((ask, f"{next(tell_scene)}\n{texts['SCENE']}"))
    return found
