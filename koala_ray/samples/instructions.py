"""Instructions with their answers, as Alpaca holds them."""

from __future__ import annotations

from koala_ray.samples.notation import Instruction, blocks, named

_TEXT = """\
DO: List five uses for an old T-shirt.
OUT: Here are five good uses for an old T-shirt.
1. Cleaning cloths
2. A shopping bag
3. A cushion cover
4. Soft stuffing for a toy
5. A painting shirt for children
---
DO: Suggest three names for a small bakery.
OUT: Here are three friendly names for a small bakery.
1. The Morning Crumb
2. Flour and Friends
3. The Warm Oven
| Tell me more about the bakery and I can make them more personal.
---
DO: Make a checklist for moving to a new flat.
OUT: Here is a short checklist for moving day.
1. Give notice and set a date.
2. Order boxes and a van.
3. Change your address with the bank and the post.
4. Label each box by room.
5. Read the meters in both flats.
---
DO: Name four signs of a healthy houseplant.
OUT: A healthy houseplant shows these four signs.
- Firm leaves with an even colour
- New shoots in spring
- Pale, solid roots
- No sticky spots or insects under the leaves
---
DO: Write a packing list for a picnic with six people.
OUT: Here is a picnic list for six people.
- A large blanket, plates, cups and napkins
- Twelve sandwiches and a box of fruit
- Four litres of water and a bottle of juice
- A rubbish bag and sun cream
---
DO: Give two arguments for and two against school uniforms.
OUT: Here is a balanced view of school uniforms.
- For: they hide differences in income, and mornings become simpler.
- Against: they limit how pupils express themselves, and they cost money for clothes worn only at school.
---
DO: Propose a simple daily routine for someone who works from home.
OUT: A fixed start, a real lunch break and a clear end make a good routine.
1. 8:00: breakfast and a short walk
2. 9:00: focused work
3. 12:30: lunch away from the desk
4. 13:30: meetings and small tasks
5. 17:30: shut down and tidy up
---
DO: Summarise the following text in one sentence.
WITH: The town library will close for repairs in July. Readers can return books at the town hall, and all
loans are extended until the middle of August.
OUT: Here is the summary in one sentence: The library closes in July for repairs, so loans run until
mid-August and books go back to the town hall.
---
DO: Shorten this message to at most fifteen words.
WITH: I just wanted to let you know that I will unfortunately be about ten minutes late to our meeting because
my bus has been delayed.
OUT: Here is a shorter version: "Sorry, my bus is delayed. I'll be ten minutes late to our meeting."
---
DO: Write a headline for this piece of news.
WITH: After two years of building, the new cycle path along the river was opened on Saturday. Hundreds of
families tried it out in the sunshine.
OUT: Here is a headline that fits: "Families celebrate as new riverside cycle path opens".
| It names the event, the place and the mood in a few words.
---
DO: Sum up the main point of the paragraph.
WITH: Many people buy more food than they need. A shopping list and a look into the fridge before leaving home
can cut waste and save money.
OUT: The main point is that planning your shopping reduces waste and saves money.
| The two tips are to write a list and to check the fridge first.
---
DO: Rewrite the sentence in a more polite way.
WITH: Send me the file now.
OUT: Here is a more polite version: "Could you please send me the file when you have a moment?"
| A question and the word "please" make the request friendlier.
---
DO: Turn the sentence into the passive voice.
WITH: The gardener waters the roses every morning.
OUT: In the passive voice it reads: "The roses are watered by the gardener every morning."
| The object becomes the subject, and the verb takes a form of "to be".
---
DO: Classify each item as a fruit or a vegetable in everyday cooking.
WITH: carrot, pear, spinach, plum
OUT: Here is how cooks would sort these four.
- Fruit: pear, plum
- Vegetable: carrot, spinach
| The fruits are sweet, while the vegetables are mostly used in savoury dishes.
---
DO: Put these events in order, beginning with the earliest.
WITH: the first Moon landing, the fall of the Berlin Wall, the end of the Second World War
OUT: Here are the events from the earliest to the latest.
1. The end of the Second World War, 1945
2. The first Moon landing, 1969
3. The fall of the Berlin Wall, 1989
---
DO: Sort the numbers from smallest to largest.
WITH: 42, 7, 19, 3, 28
OUT: Sorted from smallest to largest, the numbers are 3, 7, 19, 28, 42.
| You can check it by comparing each number with the next.
---
DO: Find the odd one out and say why.
WITH: violin, cello, trumpet, viola
OUT: The odd one out is the trumpet.
| It is a brass instrument, while the violin, the cello and the viola are all string instruments.
---
DO: Is the tone of this review positive or negative?
WITH: The room was small, but the staff were lovely and the breakfast was the best of our whole trip.
OUT: The tone is mostly positive.
| The guest mentions one small weakness, the size of the room, and then praises the staff and the breakfast
warmly.
---
DO: Translate the greeting into French and Spanish.
WITH: Good evening
OUT: In French it is "Bonsoir", and in Spanish it is "Buenas noches".
| The Spanish greeting is used from nightfall on; earlier you would say "Buenas tardes".
---
DO: Give three synonyms for the adjective and one example.
WITH: happy
OUT: Three synonyms for "happy" are cheerful, glad and joyful.
| Here is an example: "The cheerful children ran through the fountain."
---
DO: Explain the meaning of the proverb "The early bird catches the worm".
OUT: It means that people who start early have the best chance of success.
| Birds that wake first find the most food. You could say it to a friend who books tickets on the first day.
---
DO: Give an example of a metaphor and explain it.
OUT: A good example is "Time is a thief".
| Time doesn't really steal, but the picture shows how moments slip away from us. A metaphor says that one
thing is another in order to compare them.
---
DO: What is the difference between "its" and "it's"?
OUT: "Its" shows that something belongs to it, and "it's" is short for "it is" or "it has".
| For example: "It's late, and the dog wants its dinner."
---
DO: Write a short birthday message for a colleague.
OUT: Here is a warm and short message: "Happy birthday, Omar! Thank you for your good humour and your help
this year. I hope your day is full of cake and free of meetings."
---
DO: Compose a thank-you note to a teacher.
OUT: Here is a note you can use: "Dear Mrs Lind, thank you for your patience this year. You made physics fun,
and I'll remember your experiments for a long time. Best wishes, Jonas"
---
DO: Draft a friendly reminder about an unpaid invoice.
OUT: Here is a friendly reminder: "Dear Mr Costa, our invoice 118 from 3 May may have slipped your attention.
Could you please pay it by Friday? Thank you very much, and do ask if anything is unclear."
---
DO: Describe an apple to somebody who has never seen one.
OUT: An apple is a round fruit about the size of a fist.
| Its thin skin is red, green or yellow, and its flesh is pale, crisp and juicy. It tastes sweet with a little
sourness.
---
DO: Write an opening sentence for a mystery story set in a lighthouse.
OUT: Here is an opening sentence: "On the night the lamp went out, old Tobias had been gone for three days,
and yet somebody had climbed the stairs to light it."
---
DO: Create a haiku about the first snow.
OUT: Here is a haiku about the first snow, with five, seven and five syllables.
| Morning without sound,
| one small bird writes its footprints
| on the empty page.
---
DO: Invent a riddle about a shadow and give the answer.
OUT: Here is a riddle for you: "I follow you all day in the sun and leave when it gets dark. You can't catch
me. What am I?"
| The answer is your shadow.
---
DO: Write a Python function that returns the larger of two numbers.
OUT: Here is a short function that does it.
| def larger(a, b):
|     return a if a > b else b
| If both numbers are equal it returns b, which is the same value. Python's own max(a, b) does this as well.
---
DO: Explain what this line of Python does.
WITH: squares = [n * n for n in range(4)]
OUT: It makes a list of the first four square numbers, starting at zero: [0, 1, 4, 9].
| For each n from 0 to 3, the expression n * n is worked out and stored.
---
DO: Why does this Python code fail?
WITH: print("3" + 4)
OUT: It fails because Python doesn't add a string and a number.
| Use int("3") + 4 to get 7, or "3" + str(4) to get the text "34".
---
DO: Show how to count the vowels in a word with Python.
OUT: You can count them with one line inside a function.
| def vowels(word):
|     return sum(letter in "aeiou" for letter in word.lower())
| For example, vowels("Banana") gives 3, because True counts as one.
---
DO: What does the len function do in Python?
OUT: It tells you how many items something holds.
| For example, len("tea") is 3 and len([5, 8]) is 2. It works for strings, lists, dictionaries and many other
collections.
---
DO: Give three tips for a good night's sleep.
OUT: These three habits help most people to sleep well.
1. Go to bed at the same time every day.
2. Keep the room dark, quiet and cool.
3. Put screens away an hour before bedtime.
---
DO: Explain why washing hands with soap works.
OUT: Soap loosens dirt and germs, so that water can carry them away.
| It also breaks the fatty shell of many viruses. Rub for about twenty seconds, and don't forget your thumbs.
---
DO: Name three good sources of vitamin C.
OUT: Oranges, red peppers and broccoli are all good sources of vitamin C.
| Eat them fresh or lightly steamed, since long cooking destroys part of the vitamin.
---
DO: Describe how to measure your pulse.
OUT: Count the beats at your wrist for thirty seconds and double the number.
| Put two fingers below the base of your thumb and press gently. Don't use your thumb, because it has a pulse
of its own.
---
DO: Give a simple recipe for pancakes.
OUT: Here is a simple recipe for about eight pancakes.
1. Whisk 200 grams of flour, two eggs, 400 millilitres of milk and a pinch of salt.
2. Let the batter rest for ten minutes.
3. Fry a thin layer in a little butter for about a minute on each side.
---
DO: Explain how to chop an onion safely.
OUT: Keep the root on and tuck your fingertips under.
1. Halve the onion through the root and peel it.
2. Cut towards the root, but not through it.
3. Turn it and slice across.
---
DO: What can I use instead of butter in a cake?
OUT: A mild oil is the easiest substitute for butter.
| Use about three quarters of the amount, so 75 grams of oil for 100 grams of butter. Apple sauce also works
if you like a moist, lighter cake.
---
DO: Recommend a one-day plan for a visitor to Paris.
OUT: One day is enough for the heart of Paris.
1. Morning: the Louvre and the Tuileries Garden
2. Midday: lunch in the Marais
3. Afternoon: the islands and the Latin Quarter
4. Evening: the Eiffel Tower at sunset
---
DO: What should I check before a long drive?
OUT: Check the tyres, the lights, the oil and the fuel before you leave.
| Clean the windows, pack water and a warning triangle, and plan a break every two hours.
---
DO: Tell me in two sentences what the Renaissance was.
OUT: The Renaissance was a period of new interest in art, science and ancient learning in Europe.
| It began in Italy in the fourteenth century and spread over the next two hundred years.
---
DO: When was the Great Wall of China built?
OUT: It was built in many parts over about two thousand years.
| The first walls are older than 200 BC, and the best-known stone and brick sections date from the Ming
dynasty, between 1368 and 1644.
---
DO: Name the four largest oceans by area.
OUT: From the largest down, they are the Pacific, the Atlantic, the Indian and the Southern Ocean.
| The Arctic Ocean follows as the fifth and smallest.
---
DO: Who was Marie Curie?
OUT: Marie Curie was a physicist and chemist who studied radioactivity.
| She was born in Warsaw in 1867 and worked in Paris. She won Nobel Prizes in physics in 1903 and in chemistry
in 1911.
"""


def written_instructions() -> list[Instruction]:
    """Read the written instructions in their order."""
    found = []
    for block in blocks(_TEXT):
        texts = named(block)
        found.append(Instruction(texts["DO"], texts.get("WITH", ""), texts["OUT"]))
    return found
