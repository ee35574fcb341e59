"""Posts with a better and a worse summary, as the summarization comparisons hold them."""

from __future__ import annotations

from typing import NamedTuple

from koala_ray.samples.notation import blocks, named

_TEXT = """\
SUB: AskCooking
TITLE: My sourdough is always too wet
POST: I have been baking sourdough for about two months. The taste is great, but the dough is so sticky that I
can't shape it, and it spreads into a pancake in the oven. I use 400 grams of flour and 340 grams of water. A
friend says that I should use less water, my book says that I should knead more. I don't want to change both
at once. Where should I start?
ONE: Sourdough is too sticky to shape with 340 grams of water for 400 of flour. Should I first use less water
or knead more?
TWO: I have been baking for two months and the taste is great.
CHOICE: 0
---
SUB: relationships_advice
TITLE: My best friend forgot my exhibition
POST: Last Friday my first small exhibition of photographs opened in a café. I told my best friend about it
weeks ago and she promised to come. She didn't show up and didn't write. Today she acts as if nothing had
happened. I know that she has a lot to do with her new job. I'm hurt, but I don't want to start a fight about
it.
ONE: I had an exhibition in a café.
TWO: My best friend missed my first exhibition without a word. I'm hurt but don't want a fight. How do I bring
it up?
CHOICE: 1
---
SUB: AskGardening
TITLE: Something eats my strawberries at night
POST: We have one raised bed with strawberries, and for a week half of the ripe ones have been eaten every
morning. There are no slime trails, so I don't think it's slugs. My neighbour has seen a hedgehog. I put a net
over the bed, but whatever it is gets under it. I don't want to hurt any animal, I would only like to keep
some of the fruit.
ONE: An unknown animal eats my strawberries at night in spite of a net. How can I protect them without hurting
it?
TWO: There is a hedgehog in my garden and it eats slugs.
CHOICE: 0
---
SUB: personalfinance
TITLE: Repair the old car or buy a used one?
POST: My car is fourteen years old and needs new brakes and a new clutch. The garage wants 1,400 dollars, and
the car is worth perhaps 1,500. I have 5,000 dollars in savings and drive to work every day. A used car of the
kind I like costs about 4,800. I'm afraid of spending all my savings, but I'm also afraid of the next repair.
ONE: I have a fourteen-year-old car and drive to work.
TWO: Repair of my old car costs nearly what it is worth, but a used one would take all my savings. Which
should I choose?
CHOICE: 1
---
SUB: AskTravel
TITLE: Four days in the mountains with two small children
POST: We would like to spend four days in the mountains in June with our children, who are three and five.
They can walk about three kilometres before somebody has to be carried. My husband would like to sleep in a
hut, and I'm worried about the noise and the other guests. Have you stayed in huts with children of that age?
What did you do in the evenings?
ONE: Is sleeping in a mountain hut a good idea with children of three and five? How did your evenings there
go?
TWO: We are going to the mountains in June.
CHOICE: 0
---
SUB: AskTeachers
TITLE: A pupil who knows everything already
POST: I teach a fourth class, and one of the pupils finishes every maths task in a few minutes. Then he is
bored and disturbs the others. I have given him extra sheets, but he says that they are just more of the same,
and he's right. His parents don't want him to skip a class. I have about ten minutes a day to prepare
something for him.
ONE: A pupil finishes maths early and disturbs the class, and extra sheets bore him. What can I prepare in ten
minutes a day?
TWO: A boy in my class does not want to do extra sheets.
CHOICE: 0
---
SUB: running
TITLE: Knee hurts after changing shoes
POST: I've been running three times a week for a year without any trouble. Two weeks ago I bought new shoes
with a very thin sole, and since then my left knee hurts after about four kilometres. It's fine on the next
day. I still have the old pair, but they are quite worn. Should I get used to the new ones slowly or go back?
ONE: I have been running for a year.
TWO: My knee hurts since I changed to thin-soled shoes. Should I get used to them slowly or go back to the
worn pair?
CHOICE: 1
---
SUB: AskMusic
TITLE: Starting the cello at forty-five
POST: I've always loved the sound of the cello and have finally rented one. My teacher is kind, but I practise
after work when I'm tired, and after three months I still sound like a door. My family is patient. I wonder
whether it's normal to make so little progress, and whether short practice in the morning would be better than
an hour in the evening.
ONE: I rented a cello and my family is patient.
TWO: Three months into the cello at forty-five I make little progress. Is that normal, and is short morning
practice better?
CHOICE: 1
---
SUB: workplace
TITLE: Meetings in my lunch break
POST: Our team has people in three time zones, and the only free hour for everybody is from twelve to one,
which is my lunch break. It used to be once a month, and now it's three times a week. I don't want to be
difficult, because my colleagues abroad get up early for it. But I'm hungry and grumpy in the afternoon. How
could I raise it?
ONE: Meetings across time zones now fill my lunch break three times a week. How can I raise this without being
difficult?
TWO: My colleagues are abroad and get up early.
CHOICE: 0
---
SUB: AskPets
TITLE: Two cats who ignore each other
POST: In April we adopted a second cat so that our first one wouldn't be alone. They don't fight, but they
ignore each other completely. One lives upstairs, the other one downstairs, and they only meet at the food.
The shelter said that they would be friends after a month. It's been five months. Should we do something, or
is this simply how they are?
ONE: We adopted a second cat in April from a shelter.
TWO: After five months our two cats still ignore each other without fighting. Should we do something or accept
it?
CHOICE: 1
---
SUB: DIY
TITLE: A shelf on a crumbling wall
POST: I'd like to put up a shelf for books in an old house. The wall is made of a soft stone that crumbles as
soon as I drill, and the plugs turn in their holes. The shelf is 120 centimetres long and should carry about
forty kilograms. I rent the place, so I can't rebuild the wall. Is there a kind of anchor for this, or should
I get a shelf that stands on the floor?
ONE: How can I hang a shelf for forty kilograms on a crumbling wall in a rented house, or should I get a
standing one?
TWO: I rent an old house with a soft wall and many books.
CHOICE: 0
---
SUB: AskStudents
TITLE: Changing my subject in the third year
POST: I'm in the third year of chemistry and I like the laboratory, but the theory makes me unhappy. This
summer I worked in a kindergarten and loved every day of it. I could change to teaching, which would take
three more years. My parents would help me with money for only two of them. I have to decide by the end of
September.
ONE: I worked in a kindergarten this summer.
TWO: Should I leave chemistry in the third year for teaching, which I love, although one year would not be
paid for?
CHOICE: 1
---
SUB: AskNeighbours
TITLE: The tree between our gardens
POST: An old walnut tree stands exactly on the border between our garden and the next. I love its shade. Our
new neighbours would like to cut it down because the leaves fall into their pool. They are friendly people,
and I'd like it to stay that way. I have offered to rake the leaves in autumn, but they say that it's too much
work for one person.
ONE: New neighbours want to cut down the walnut tree on our border because of leaves. How can I save it and
stay friends?
TWO: I love the shade of an old tree in my garden.
CHOICE: 0
---
SUB: photography
TITLE: Sorting ten thousand pictures
POST: Since my daughter was born I've taken about ten thousand pictures with my phone. They are on three
computers and one broken disk, and many of them exist twice. I'd like to have one album for each year that my
parents can look at. I can spend about two hours a week on it. I've started three times and given up each
time.
ONE: I took many pictures of my daughter with my phone.
TWO: How do I turn ten thousand scattered, partly doubled pictures into yearly albums with only two hours a
week?
CHOICE: 1
---
SUB: AskCyclists
TITLE: Commuting twelve kilometres in winter
POST: I've been cycling to work since May, twelve kilometres each way, partly through a forest without any
lights. I'd like to go on in winter. My colleagues tell me about ice and accidents. I have good lights and
warm clothes, but normal tyres. Are tyres with spikes worth it when there's ice on perhaps fifteen days a
year, or should I take the bus on those days?
ONE: Are spiked tyres worth it for a twelve-kilometre commute with about fifteen icy days, or is the bus the
better choice?
TWO: I cycle through a forest and have good lights.
CHOICE: 0
---
SUB: AskHousehold
TITLE: Laundry smells musty
POST: For some weeks our laundry has smelled musty although it's freshly washed. We wash at thirty degrees,
use a liquid detergent, and dry everything in the bathroom, because we have no balcony. I've cleaned the
filter, and that didn't change anything. The machine is six years old. Before I call somebody, I'd like to
know what I can try myself.
ONE: Our machine is six years old and we have no balcony.
TWO: Laundry smells musty after washing at thirty degrees and drying in the bathroom. What can I try before I
call somebody?
CHOICE: 1
"""


class Post(NamedTuple):
    """A post, two summaries of it, and which of them is better."""

    subreddit: str
    title: str
    post: str
    summaries: tuple[str, str]
    choice: int


def summarized_posts() -> list[Post]:
    """Read the summarized posts in their order."""
    return [
        Post(row["SUB"], row["TITLE"], row["POST"], (row["ONE"], row["TWO"]), int(row["CHOICE"]))
        for row in map(named, blocks(_TEXT))
    ]
