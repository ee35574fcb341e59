"""Questions that people and the assistant both answer, as HC3 pairs them."""

from __future__ import annotations

from koala_ray.samples.notation import Question, blocks

_TEXT = """\
Q: Why do onions make you cry?
S: reddit_eli5
H: When you cut an onion it lets off a gas, the gas gets in your eyes and turns a bit sour there, so they
water.
H: My gran keeps the onion in the fridge before she chops it. Less gas comes out, so fewer tears. Works for
me!
A: Cut onions release a gas that irritates your eyes.
| The gas forms when broken cells mix their contents, and it makes a mild acid in your tears. A sharp knife
and a chilled onion both reduce it.
---
Q: How do noise cancelling headphones work?
S: reddit_eli5
H: They've got little microphones that listen to the noise and then play the exact opposite, so the two cancel
out.
A: They play a copy of the outside noise turned upside down.
| Sound is a wave. When a wave meets its mirror image, the two add up to almost nothing. This works best for
steady, deep sounds such as an engine.
---
Q: Why do cats purr?
S: reddit_eli5
H: Mostly because they're happy, but mine also purrs at the vet, so I guess it calms her down as well.
H: Kittens purr when they drink milk, so the mother knows all is well. Grown cats just never stop doing it.
A: Cats mostly purr when they feel content, but not only then.
| They may also purr when they are hurt or afraid, probably to calm themselves. The sound comes from quick
movements of muscles in the throat.
---
Q: Why is sea water salty?
S: reddit_eli5
H: Rain washes tiny bits of salt out of rocks, rivers carry it down, and then the water evaporates but the
salt stays.
A: Rivers have carried dissolved minerals into the sea for billions of years.
| The Sun evaporates the water, but the salt is left behind. Hot springs on the sea floor add more. On
average, a litre of sea water holds about 35 grams of salt.
---
Q: What makes popcorn pop?
S: reddit_eli5
H: There's a drop of water in each kernel. It turns to steam, the pressure goes up and bang, the shell bursts.
A: Steam inside the kernel makes it burst.
| Each kernel holds a little water under a hard shell. At about 180 degrees Celsius the pressure breaks the
shell, and the hot starch puffs up into foam.
---
Q: Why does the Moon seem to change its shape?
S: reddit_eli5
H: The Sun always lights one half of it, and we see that half from different sides as the Moon goes round us.
A: We see different parts of its sunlit half while it travels round the Earth.
| The Sun always lights half of the Moon. At new moon that half faces away from us, and at full moon it faces
us. The cycle takes about 29.5 days.
---
Q: How do bees make honey?
S: reddit_eli5
H: They collect nectar, pass it from bee to bee, and fan it with their wings till it gets thick and sticky.
A: Bees turn flower nectar into honey by changing its sugars and drying it.
1. A forager carries nectar home in her honey stomach.
2. Other bees pass it on and add enzymes.
3. They fan it in the comb until it is thick, then seal it with wax.
---
Q: Why do we have leap years?
S: reddit_eli5
H: A year is really about 365 and a quarter days, so every four years we've saved up one extra day.
A: Leap years keep the calendar in step with the Sun.
| The Earth needs about 365.2422 days for one orbit, so we add a day every four years. Century years are
skipped unless 400 divides them, so 2000 was a leap year and 1900 was not.
---
Q: Is it dangerous to crack my knuckles?
S: medicine
H: I've done it for twenty years and my hands are fine, though it does drive my wife up the wall.
A: For most people cracking knuckles is harmless.
| The sound comes from gas in the fluid of the joint. Studies haven't found that it causes arthritis. If it
hurts or the joint swells, please ask a doctor.
---
Q: I get hiccups after almost every meal. What can I do about them?
S: medicine
H: Eat slower! I used to gulp my lunch in five minutes, and once I stopped that the hiccups were gone.
H: Holding my breath for ten seconds does the trick for me, nearly every time I get them after dinner.
A: Eating more slowly is the best thing to try first.
- Take smaller bites and chew well.
- Avoid fizzy drinks and very hot food.
- Hold your breath for a few seconds when they start.
| If they last more than two days, please see a doctor.
---
Q: Can I catch a cold from going outside with wet hair?
S: medicine
H: Nope, colds are viruses. My mum would disagree, but you need somebody sneezing near you to catch one.
A: No, wet hair alone can't give you a cold.
| Colds are caused by viruses that pass from person to person. You may feel chilly, though, so a hat is still
a nice idea. Washing your hands protects you much better.
---
Q: How long should I brush my teeth, and how often?
S: medicine
H: Dentist told me two minutes, morning and night, and not to press so hard. I use a kitchen timer.
A: Brush for two minutes, twice a day.
| Use a soft brush and a toothpaste with fluoride, and move in small circles. Evening is the most important
time. Cleaning between the teeth once a day helps as well.
---
Q: Should I put ice on a sprained ankle?
S: medicine
H: Yes, but wrap it in a towel. I put ice straight on mine once and the skin was sore for days.
A: Yes, cooling helps against pain and swelling on the first days.
1. Wrap the ice in a cloth.
2. Cool the ankle for 15 to 20 minutes at a time.
3. Rest it and keep it raised.
| If you can't put weight on it, have a doctor look at it.
---
Q: My eyes feel tired after a day at the computer. Do I need glasses?
S: medicine
H: Could be, get them tested. For me it was just that I never blinked and the screen was far too bright.
A: Not necessarily, because screens tire healthy eyes too.
| Look at something far away for twenty seconds every twenty minutes, and blink often. If it goes on for
weeks, or you get headaches, an eye test is a good idea.
---
Q: What is compound interest?
S: finance
H: You get interest on your money and next year you get interest on that interest too. It snowballs if you
wait.
A: Compound interest means that you also earn interest on earlier interest.
| For example, 100 dollars at 5 percent grow to 105 after one year and to 110.25 after two. The longer you
wait, the faster the sum grows.
---
Q: Should I pay off my credit card before I start saving?
S: finance
H: I'd clear the card first. Mine charged twenty percent, and no savings account on earth pays that much.
A: Usually yes, because card debt costs more than savings earn.
| Keep a small reserve for emergencies, then pay down the card as fast as you can. After that, move the same
amount into savings each month.
---
Q: What is the difference between a debit card and a credit card?
S: finance
H: Debit takes the money out of your account right away. Credit is borrowed, and you get the bill later.
A: A debit card spends your own money, and a credit card spends borrowed money.
| With debit, the sum leaves your account at once or soon after. With credit, you get a bill later and pay
interest if you don't clear it in time.
---
Q: What does inflation mean for my savings?
S: finance
H: If prices go up three percent and your bank pays you one, you can buy less each year. Simple as that.
A: Inflation slowly shrinks what your savings can buy.
| If prices rise by 3 percent and your account pays 1 percent, your money loses about 2 percent of its buying
power in a year. Compare interest with inflation before you choose an account.
---
Q: How big should an emergency fund be?
S: finance
H: People say three months of bills at least. I keep six because my work comes and goes with the seasons.
A: Three to six months of living costs is a common goal.
| Choose more if your income changes a lot or others depend on you. Keep the money where you can reach it
quickly. Starting small is fine, so don't be discouraged.
---
Q: What is an algorithm?
S: wiki_csai
H: It's just a recipe for a computer. Step one, step two, and so on until the job is finished.
A: An algorithm is a clear list of steps that solves a problem.
| A cooking recipe is a good picture: it takes ingredients, follows an order and ends with a result. Computers
need each step to be exact.
---
Q: What is the difference between RAM and a hard disk?
S: wiki_csai
H: RAM is your desk and the disk is your cupboard. Switch off the power and everything on the desk is gone.
A: RAM is fast and forgets, while a disk is slower and remembers.
| A computer keeps what it's working on in RAM, which loses its contents without power. Files are stored on
the disk, where they stay until you delete them.
---
Q: What does a web browser actually do?
S: wiki_csai
H: It asks another computer for a page, gets a pile of text and code back, and draws it on your screen.
A: A browser fetches web pages and draws them on your screen.
1. It looks up the address of the server.
2. It asks the server for the page.
3. It turns the answer into text, pictures and buttons.
---
Q: What is open source software?
S: wiki_csai
H: Anybody can read the code and fix it or change it. A lot of the internet runs on programs like that.
A: Open source software is published with its source code under a free licence.
| Everyone may read, change and share it within the terms of that licence. This lets people learn from it and
repair it together. Linux and Python are well-known examples.
---
Q: How does a search engine find pages so quickly?
S: wiki_csai
H: It doesn't search the web when you ask. It has already built a giant index, like the one in the back of a
book.
A: It looks in an index that was built beforehand.
| Programs visit pages all the time and note which words stand on which page. When you search, only that index
is read, and the best matches are sorted to the top.
---
Q: Who painted the Mona Lisa?
S: open_qa
H: Leonardo da Vinci did, and it hangs in Paris. It's a lot smaller than you would think, by the way.
A: Leonardo da Vinci painted the Mona Lisa.
| He began it in Florence around 1503 and worked on it for years. Today it hangs in the Louvre in Paris,
behind thick glass.
---
Q: How many bones does an adult human have?
S: open_qa
H: It is 206. Babies have more, but some of them grow together over time, which I always found a bit spooky.
A: An adult normally has 206 bones.
| Babies are born with nearly 300 parts of bone and cartilage, and many of them grow together. More than half
of an adult's bones are in the hands and feet.
---
Q: Which river is the longest in Africa?
S: open_qa
H: The Nile, at over 6,600 kilometres. It ends in Egypt, where it fans out and runs into the Mediterranean
Sea.
A: The Nile is the longest river in Africa.
| It is roughly 6,650 kilometres long and flows north to the Mediterranean. Its two main branches, the White
Nile and the Blue Nile, meet at Khartoum in Sudan.
---
Q: Who wrote Pride and Prejudice?
S: open_qa
H: Jane Austen wrote it. First came out in 1813, and her name wasn't even on the cover back then.
A: Jane Austen wrote Pride and Prejudice.
| The novel appeared in 1813, signed only "by the author of Sense and Sensibility". It tells how Elizabeth
Bennet and Mr Darcy learn to judge each other fairly.
"""


def written_questions() -> list[Question]:
    """Read the written questions in their order."""
    found = []
    for block in blocks(_TEXT):
        texts = {label: text for label, text in block if label != "H"}
        human = tuple(text for label, text in block if label == "H")
        found.append(Question(texts["Q"], texts["S"], human, texts["A"]))
    return found
