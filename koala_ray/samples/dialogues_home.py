"""Dialogues about everyday life: cooking, the house, the garden, health, travel and letters."""

from __future__ import annotations

HOME = """\
YOU: How do I cook rice so that it doesn't stick?
BOT: Rinse the rice first and leave it alone while it simmers.
1. Rinse it in cold water until the water runs clear.
2. Use about two cups of water for one cup of white rice.
3. Bring it to the boil, cover it, and simmer gently for 12 to 15 minutes.
4. Let it rest for five minutes, then fluff it with a fork.
YOU: What changes if I use brown rice?
BOT: Brown rice needs a little more water and about twice the time.
| Use two and a half cups of water and simmer it for 35 to 45 minutes. The bran layer slows the water down, so
keep the lid on and be patient.
---
YOU: I have eggs, spinach and some cheese. What can I make in fifteen minutes?
BOT: You can make a spinach and cheese omelette, and it takes about ten minutes.
1. Wilt the spinach in a little butter and set it aside.
2. Beat three eggs with a pinch of salt and pour them into the pan.
3. When the edges set, add the spinach and cheese, fold, and serve.
| Would you like an idea for a side dish?
YOU: Yes please, something simple.
BOT: A tomato salad goes very well with it.
| Slice two ripe tomatoes, add a spoon of olive oil, a little salt and some pepper. It needs no cooking, so
you can prepare it while the omelette sets.
---
YOU: My bread dough did not rise. What went wrong?
BOT: Most likely the yeast was too old or the dough was too cold.
- Test the yeast in warm water with a little sugar: it should foam within ten minutes.
- Keep the dough in a warm spot, around 25 degrees Celsius.
- Water hotter than about 55 degrees kills yeast, so let it cool first.
YOU: Can I still save this dough?
BOT: Yes, you often can.
| Dissolve a teaspoon of fresh yeast in warm water, knead it in, and let the dough rest for another hour. If
it still stays flat, roll it thin and bake it as flatbread.
YOU: Flatbread sounds good. How hot should the oven be?
BOT: Set the oven as hot as it goes, ideally around 240 degrees Celsius.
| Heat the baking tray as well, because a hot tray makes the bread puff up. It will be done in five to eight
minutes. Enjoy your meal!
---
YOU: How long can cooked chicken stay in the fridge?
BOT: Cooked chicken keeps for three to four days in the fridge.
| Put it into a closed box within two hours of cooking, and keep the fridge at 4 degrees Celsius or below. If
it smells odd or feels slimy, throw it away.
---
YOU: Could you plan three easy vegetarian dinners for me?
BOT: Of course! Here are three dinners that take about half an hour each.
1. Monday: lentil soup with carrots and bread.
2. Tuesday: pasta with tomatoes, garlic and basil.
3. Wednesday: fried rice with peas, sweetcorn and egg.
| I can write a shopping list for them if you like.
YOU: Yes, write the shopping list, please.
BOT: Here is your shopping list for the three dinners.
- Vegetables: carrots, tomatoes, garlic, onions, peas, sweetcorn.
- Dry goods: red lentils, pasta, rice, bread.
- Fresh things: eggs and basil.
| Check for oil and salt at home before you go.
YOU: I don't eat eggs. What could replace them in the rice?
BOT: Firm tofu is a good replacement.
| Crumble it, fry it until it is golden, and season it with a little soy sauce. It gives you protein and a
texture much like scrambled egg.
---
YOU: What's the difference between baking soda and baking powder?
BOT: Baking powder already contains an acid, and baking soda does not.
| Baking soda only works together with something sour, such as yoghurt or lemon juice. Baking powder just
needs moisture and heat. So follow the recipe, as the two can't be swapped one for one.
---
YOU: How can I get a red wine stain out of a cotton shirt?
BOT: Act quickly, and dab the stain instead of rubbing it.
1. Press a clean cloth on it to soak up the wine.
2. Rinse it with cold water from the back of the cloth.
3. Work in a little washing-up liquid and wait ten minutes.
4. Wash the shirt as usual, and only dry it in heat when the stain is gone.
---
YOU: My kitchen drain is slow. What can I try before I call a plumber?
BOT: Try hot water and a plunger first; they solve most slow drains.
1. Pour a kettle of hot, not boiling, water down the drain to melt grease.
2. Cover the overflow and use the plunger for a minute.
3. Put a bucket under the trap, unscrew it, and clean it out.
YOU: The trap was full of grease. How do I stop that from happening again?
BOT: Keep fat out of the sink, and you will rarely see this problem again.
| Wipe greasy pans with a paper towel before you wash them. Use a sieve over the drain, and rinse it with hot
water once a week.
---
YOU: How often should I water a cactus?
BOT: Water it about every two weeks in summer and hardly at all in winter.
| Let the soil dry out completely before you water again. Too much water is the usual reason why a cactus
dies, so when in doubt, wait a few days.
---
YOU: The leaves of my basil are turning yellow. Why?
BOT: Yellow basil leaves usually mean too much water or too little light.
- Let the top of the soil dry before you water again.
- Make sure that the pot has a hole at the bottom.
- Give the plant about six hours of sun a day.
YOU: It stands in a dark corner, so that must be it. Can I move it outside now? It's May.
BOT: Yes, as long as the nights stay above 10 degrees Celsius.
| Begin with a few hours in the shade and add more sun over a week. Basil leaves burn if they go from a dark
room straight into full sunlight.
---
YOU: Which vegetables are easiest for a first garden?
BOT: Radishes, lettuce and courgettes are the friendliest vegetables for beginners.
- Radishes are ready in about four weeks.
- Lettuce can be picked leaf by leaf for a long time.
- One or two courgette plants feed a whole family.
YOU: I only have a balcony. Will they grow in pots?
BOT: Yes, all three grow in pots if the pots are big enough.
| Radishes and lettuce need about 15 to 20 centimetres of soil. A courgette wants a tub of 40 litres and
plenty of water. Choose the sunniest side of the balcony.
YOU: How do I know when to water them?
BOT: Push a finger into the soil: if it is dry two centimetres down, it's time to water.
| Pots dry out faster than beds, so check them every morning in summer. Water the soil and not the leaves.
YOU: Thanks, that is all I needed!
BOT: You're very welcome, and good luck with your balcony garden! If something looks unwell later, just
describe the leaves to me and we will find out why.
---
YOU: I sit at a desk all day and my neck hurts. What can I do?
BOT: Short breaks and a higher screen help most people with a sore neck.
1. Raise the screen until its top edge is at eye level.
2. Stand up and roll your shoulders every half hour.
3. Keep the keyboard close, so that your elbows stay by your sides.
| Please see a doctor if the pain is strong or your arms feel numb.
YOU: Can you give me one stretch that I can do at my desk?
BOT: Try a gentle side stretch.
| Sit up straight and let your right ear sink towards your right shoulder. Breathe slowly for twenty seconds,
then change sides. It should feel pleasant and never sharp.
---
YOU: How much water should I drink every day?
BOT: For most adults about one and a half to two litres of drinks a day is enough.
| You need more when it is hot or when you exercise. Pale yellow urine is a good sign, and thirst is a helpful
guide for healthy people.
---
YOU: I want to start running, but I get out of breath after two minutes.
BOT: That's normal, and mixing running with walking will fix it.
1. Run for one minute, then walk for two.
2. Repeat this eight times, three days a week.
3. Each week, run a little longer and walk a little less.
| Run slowly enough that you could still talk.
YOU: How long until I can run five kilometres?
BOT: Most beginners get there in about eight to ten weeks.
| Rest days matter as much as running days, because your muscles grow stronger while they rest. If a week
feels hard, simply repeat it.
YOU: Should I eat before a run?
BOT: A light snack an hour before is plenty for a short run.
| A banana or a slice of toast works well. Avoid big or fatty meals in the two hours before, since they may
give you a stitch.
---
YOU: What should be in a small first-aid kit for hiking?
BOT: A small kit should cover cuts, blisters and sprains.
- Plasters, sterile pads and tape.
- Blister plasters and an elastic bandage.
- Tweezers, small scissors and disposable gloves.
- A rescue blanket and your own medicines.
---
YOU: My son has a blister from new shoes. Should I pop it?
BOT: It's better to leave a small blister closed.
| The skin over it keeps germs out while it heals. Cover it with a soft plaster and let him wear other shoes
for a few days. Ask a doctor if it turns red, hot or filled with pus.
---
YOU: We have two days in Rome. What should we not miss?
BOT: Two days are enough for the ancient centre and the Vatican.
1. First day: the Colosseum, the Forum, and the Trevi Fountain in the evening.
2. Second day: St Peter's and the Vatican Museums, then dinner in Trastevere.
| Book the Colosseum and the museums ahead, as the queues are long.
YOU: Is it possible to do all of that on foot?
BOT: Most of it, yes.
| The Colosseum, the Forum and the Trevi Fountain are within half an hour of each other. For the Vatican, the
metro stop Ottaviano saves you a long walk.
---
YOU: What can I do against jet lag when I fly east?
BOT: Shift your sleep a little before you leave, and get morning light after you land.
- Go to bed one hour earlier for two or three days.
- Set your watch to the new time on the plane.
- Avoid coffee after lunch, and stay awake until the evening.
---
YOU: Help me pack for a weekend by the sea in autumn.
BOT: Think in layers, because autumn days by the sea change quickly.
1. A windproof jacket and a warm jumper.
2. Two T-shirts, one pair of long trousers and spare socks.
3. Comfortable shoes that may get wet.
4. A scarf, sun cream and a small towel.
YOU: Do I really need sun cream in October?
BOT: It's a small thing that is worth packing.
| October sun is weak in northern Europe, but water and pale sand reflect it, and wind hides the burn. If you
travel further south, you will certainly want it.
---
YOU: I have to write an email to ask my boss for a day off. Can you help?
BOT: Of course! Here is a short and polite draft.
| "Dear Ms Brandt, may I take Friday 14 June as a day off? I will finish the report on Thursday, and Ali has
agreed to answer urgent calls. Thank you and kind regards, Nina"
| Shall I make it less formal?
YOU: Yes, we are on first-name terms.
BOT: Here is a friendlier version.
| "Hi Petra, could I take Friday the 14th off? The report will be done on Thursday, and Ali can take urgent
calls. Thanks a lot! Nina"
---
YOU: How do I say no to a party invitation without hurting my friend?
BOT: Thank your friend, say no clearly, and offer another plan.
| For example: "Thank you so much for thinking of me! I can't come on Saturday, but I'd love to celebrate with
you. Are you free for coffee next week?" You don't owe a long excuse.
---
YOU: I'm nervous about a job interview tomorrow. Any advice?
BOT: Being a little nervous is fine, and some preparation tonight will calm you.
1. Write down three things that you did well in earlier jobs.
2. Practise a one-minute introduction out loud.
3. Prepare two questions about the team.
4. Check the route and lay out your clothes.
YOU: What if they ask about my weaknesses?
BOT: Name a real but small weakness, and say what you do about it.
| For example: "I used to take on too much at once. Now I keep a list of priorities and ask early when dates
clash." That sounds honest and shows that you learn.
YOU: And should I ask about money?
BOT: Yes, but it's usually better to wait until they bring it up or make an offer.
| Know the usual range for the job before you go. If they ask first, give a range and say that it depends on
the whole package.
YOU: Great. Wish me luck!
BOT: Good luck, you are well prepared! Take a slow breath before you go in, listen to each question to the
end, and remember that they invited you for a reason.
---
YOU: How can I save money each month without feeling poor?
BOT: Pay yourself first: move a small amount into savings on payday.
- Begin with five percent, so you hardly notice it.
- Cancel one subscription that you rarely use.
- Keep a fun budget, because strict plans are quickly dropped.
---
YOU: My cat scratches the sofa. How do I stop her?
BOT: Give her something better to scratch and make the sofa dull for her.
| Put a tall, steady scratching post right beside the sofa and praise her when she uses it. Cover the corner
of the sofa with smooth foil for a few weeks. Please don't shout, since it only frightens her.
YOU: She ignores the post completely.
BOT: Then try another material or another place.
| Many cats like rough rope better than carpet, and some want to scratch lying flat. A little catnip on the
post often wakes their interest. Give it two weeks before you change it again.
---
YOU: Which houseplants can live in a bathroom without a window?
BOT: Truthfully, no plant lives for long without any light.
| A snake plant or a ZZ plant copes best with very little. Keep two pots and swap them every week or two, so
that each one gets a rest on a bright shelf.
"""
