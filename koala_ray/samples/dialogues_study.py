"""Dialogues about learning: science, history, language, mathematics and programming."""

from __future__ import annotations

STUDY = """\
YOU: Why is the sky blue?
BOT: The sky is blue because air scatters blue light more than red light.
| Sunlight holds all colours. Blue has a short wavelength, so the molecules of the air send it in all
directions, and it reaches us from everywhere.
YOU: Then why are sunsets red?
BOT: At sunset the light takes a much longer path through the air.
| On the way most of the blue is scattered out of the beam. What remains for your eyes is orange and red. Dust
and smoke can make it stronger still.
---
YOU: What causes the seasons?
BOT: The seasons come from the tilt of the Earth's axis.
| The axis leans by about 23.4 degrees. When the northern half leans towards the Sun, its days are long and it
has summer, while the southern half has winter.
YOU: I thought it was because we are closer to the Sun in summer.
BOT: That's a common guess, but it isn't the reason.
| The Earth is closest to the Sun in early January, in the middle of the northern winter. The distance only
changes by about three percent, so the tilt matters far more.
---
YOU: How do vaccines work?
BOT: A vaccine shows your immune system what a germ looks like before you meet it.
| It contains a weakened germ, a part of it, or the plan for such a part. Your body makes antibodies and
memory cells. If the real germ comes later, they react quickly.
---
YOU: Can you explain photosynthesis in simple words?
BOT: Photosynthesis is how plants make sugar from light, water and carbon dioxide.
| The green pigment in leaves catches the light. The plant uses that energy to build sugar, and it gives off
oxygen as a by-product.
YOU: Do plants do it at night too?
BOT: No, the part that catches light stops in the dark.
| Plants still breathe at night, which means that they use oxygen and release some carbon dioxide. Over a
whole day, a growing plant makes more oxygen than it uses.
---
YOU: What is the difference between weather and climate?
BOT: Weather is what happens today, and climate is the average over many years.
| A rainy Tuesday is weather. The fact that a place has wet winters is climate. Scientists usually average
over thirty years to describe a climate.
---
YOU: How does a rainbow form?
BOT: A rainbow forms when sunlight is bent and reflected inside raindrops.
1. Light enters a drop and bends.
2. It bounces off the back of the drop.
3. It bends again as it leaves, and each colour leaves at its own angle.
YOU: Where do I have to stand to see one?
BOT: Stand with the Sun behind you and the rain in front of you.
| The Sun must be fairly low, so mornings and late afternoons are best. If the Sun is higher than about 42
degrees, the bow lies below the horizon.
---
YOU: Why does ice float on water?
BOT: Ice floats because it is less dense than liquid water.
| When water freezes, its molecules form an open pattern that takes up about nine percent more room. That's
lucky for fish, since lakes freeze from the top.
---
YOU: Is a tomato a fruit or a vegetable?
BOT: It's both, depending on whom you ask.
| For a botanist a tomato is a fruit, because it grows from the flower and holds the seeds. For a cook it is a
vegetable, because it is used in savoury dishes.
---
YOU: What is DNA?
BOT: DNA is the molecule that stores the building plan of living things.
| It looks like a twisted ladder, and each rung is a pair of four small parts called A, C, G and T. The order
of these letters tells cells which proteins to make.
YOU: How much of it do I share with my sister?
BOT: On average you share about half of the varying part with a full sister.
| Each parent passes on a random half of their DNA, so the exact share differs from one pair to the next.
Identical twins share practically all of it.
---
YOU: Who invented the printing press?
BOT: Johannes Gutenberg built the first European press with movable metal type, around 1440 to 1450 in
Germany.
| Printing itself is older: China had woodblock printing for centuries, and Bi Sheng made movable type from
clay around 1040.
YOU: Why was it so important?
BOT: It made books cheap and spread ideas quickly.
- Copies could be made in days instead of months.
- More people learned to read.
- Scholars everywhere could compare the same text.
---
YOU: What was the Silk Road?
BOT: The Silk Road was a network of trade routes between China and the Mediterranean.
| It was busy from about the second century BC. Silk, spices, paper and glass travelled along it, and so did
religions and inventions. Few traders went the whole way.
---
YOU: When did people first land on the Moon?
BOT: People first landed on the Moon on 20 July 1969, with Apollo 11.
| Neil Armstrong and Buzz Aldrin walked on the surface, while Michael Collins stayed in orbit. They came home
with nearly 22 kilograms of rock and soil.
YOU: How many people have walked there in total?
BOT: Twelve people walked on the Moon in the Apollo programme.
| They came in six landings between 1969 and 1972. The last two were Eugene Cernan and Harrison Schmitt of
Apollo 17.
YOU: What did they do with the rocks?
BOT: Scientists have studied them ever since.
| The rocks showed that the Moon is about 4.5 billion years old. Some samples were kept closed for decades, so
that newer instruments could examine them.
---
YOU: How did the ancient Egyptians write?
BOT: They wrote with hieroglyphs, which are small pictures for sounds, words and ideas.
| For daily notes they used faster scripts called hieratic and demotic, often with ink on papyrus.
YOU: How do we know what the pictures mean?
BOT: The Rosetta Stone was the key.
| It carries the same decree in hieroglyphs, demotic and Greek. By comparing names in the three texts,
Jean-François Champollion worked out the system in 1822.
---
YOU: When do I use "fewer" and when "less"?
BOT: Use "fewer" for things you can count and "less" for things you can't.
- Fewer cars, fewer apples, fewer people.
- Less water, less time, less noise.
| With numbers for money, distance or time, "less" is usual, as in "less than ten miles".
---
YOU: What does the idiom "to break the ice" mean?
BOT: It means to make people feel relaxed when they meet for the first time.
| For example: "Mia told a funny story to break the ice." A friendly question or a small joke is often enough.
YOU: Do you know a good question for breaking the ice at work?
BOT: Yes: "What is the best thing you have eaten this month?"
| It's easy to answer, it is not too private, and almost everyone likes to talk about food. Share your own
answer first, so that nobody feels tested.
---
YOU: How can I learn twenty new Spanish words a day?
BOT: Learn them in small groups and repeat them at growing intervals.
1. Split them into four groups of five.
2. Say each word aloud in a short sentence.
3. Review after one hour, one day, three days and a week.
| Ten words that stay are better than twenty that fade.
YOU: Can you give me five words about the house to begin with?
BOT: With pleasure! Here are five useful words.
- la casa: the house
- la puerta: the door
- la ventana: the window
- la cocina: the kitchen
- la cama: the bed
YOU: Now use "la puerta" in a sentence.
BOT: Here you go: "Cierra la puerta, por favor."
| It means "Close the door, please." The verb is "cerrar", and "cierra" is the form you use with a friend.
---
YOU: Is my sentence right? "Me and my brother is going to the beach."
BOT: Almost! The correct sentence is: "My brother and I are going to the beach."
| Use "I" because it is part of the subject, and "are" because there are two people. It's also polite to name
yourself last.
---
YOU: What is a prime number?
BOT: A prime number is a whole number above 1 that only 1 and itself divide evenly.
| The first ones are 2, 3, 5, 7 and 11. The number 9 isn't prime, because 3 divides it.
YOU: Is 1 a prime number?
BOT: No, 1 is not a prime number.
| If it were, numbers could be split into primes in endless ways, such as 6 = 2 × 3 = 1 × 2 × 3. Leaving 1 out
keeps the splitting unique.
YOU: And is 91 prime?
BOT: No, 91 isn't prime, although it looks like it.
| It is 7 times 13. A quick test is to try the primes up to the square root, which is a little over 9, so 2,
3, 5 and 7 are enough.
---
YOU: How do I work out 15 percent of 80 in my head?
BOT: The answer is 12, and there is an easy way to see it.
1. Ten percent of 80 is 8.
2. Five percent is half of that, so 4.
3. Together they make 12.
---
YOU: What is the Pythagorean theorem?
BOT: In a right triangle the squares of the two short sides add up to the square of the longest side.
| We write it as a² + b² = c². For example, sides of 3 and 4 give 9 + 16 = 25, so the longest side is 5.
YOU: When would I ever use that in real life?
BOT: It's handy whenever you need a straight distance or a right angle.
- Check that a wall meets the floor squarely.
- Find out how long a ladder must be.
- Estimate a short cut across a field.
---
YOU: What is the difference between a list and a tuple in Python?
BOT: You can change a list after you made it, but you can't change a tuple.
| Write a list with square brackets, like [1, 2, 3], and a tuple with round ones, like (1, 2, 3). Use a tuple
for a fixed group such as a point.
YOU: Can a tuple be a key in a dictionary?
BOT: Yes, as long as everything inside it can't change either.
| A tuple of numbers or strings is fine, for example {(0, 1): "start"}. A list never works as a key, because
its value might change later.
---
YOU: How do I read a text file in Python?
BOT: Use open together with a with statement, so that the file is closed for you.
| with open("notes.txt", encoding="utf-8") as file:
|     text = file.read()
| Naming the encoding makes it behave the same on every computer.
YOU: And how do I go through it line by line?
BOT: Loop over the file itself, which reads one line at a time.
| with open("notes.txt", encoding="utf-8") as file:
|     for line in file:
|         print(line.rstrip())
| This needs little memory, even when the file is large.
---
YOU: My Python loop prints 0 to 4, but I want 1 to 5.
BOT: Use range(1, 6), and you will get the numbers 1 to 5.
| A range starts at its first number and stops just before its second one. If you give only one number, it
starts at 0.
YOU: How do I count down from 5 to 1?
BOT: Use range(5, 0, -1), which goes down in steps of one.
| The third number is the step. The end, here 0, is again left out, so the last number printed is 1.
YOU: What does the end value mean if I use a step of 2?
BOT: It's still a border that is never reached or passed.
| For example, range(0, 7, 2) gives 0, 2, 4 and 6. With range(0, 6, 2) you get only 0, 2 and 4.
YOU: That makes sense now, thank you.
BOT: I'm glad that helped! A good way to check any range is to print list(range(...)) with your numbers,
because then you see every value at once.
---
YOU: What is a bug in a computer program?
BOT: A bug is a mistake that makes a program behave differently from what was meant.
| It may be a typing error, a wrong formula or a case nobody thought of. Testing small parts early is the best
way to find bugs.
---
YOU: How can I stay focused while I study?
BOT: Work in short blocks and put your phone in another room.
1. Choose one task and write it down.
2. Work for 25 minutes, then rest for five.
3. After four blocks, take a longer break.
YOU: I keep thinking about other things during the 25 minutes.
BOT: Keep a sheet of paper beside you and park those thoughts on it.
| Write each one down in two or three words and return to your task. You can look at the sheet in the break,
and most of it will no longer seem urgent.
"""
