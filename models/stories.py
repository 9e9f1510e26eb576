"""Short stories from building blocks: a hero, a place, a problem, a helper and an end."""

import re
from random import Random


def variants(text: str) -> list[str]:
    """The parts of a text that separates them by "|" and line ends."""
    return re.split(r"[|\n]", text)


HEROES = variants("""fox|owl|bear|rabbit|mouse|cat|dog|hedgehog|squirrel|frog|duck|goose|horse|donkey|cow|pig
sheep|goat|wolf|deer|lion|tiger|elephant|monkey|giraffe|zebra|turtle|snail|penguin|seal|whale|dolphin|octopus
crab|fish|bird|crow|raven|swan|sparrow|bee|ant|butterfly|spider|dragon|robot|wizard|witch|knight|princess|prince
king|queen|pirate|sailor|baker|farmer|gardener|painter|astronaut|ghost|giant|dwarf|fairy|snowman|teacher|doctor
clockmaker|lighthouse keeper|boy|girl|panda|koala|kangaroo|camel|badger|otter|beaver|mole|bat|lizard|snake
parrot|pony|kitten|puppy|hamster|chicken|rooster|unicorn|troll|shepherd|fisherman|musician|tailor|cook|train|car
cloud|star|moon|tree""")

SHE = "Mia Luna Rosa Ella Nora Ida Lily Anna Clara Molly Daisy Ruby Tilda Hanna Zoe Greta Maya Wilma Olga Pia".split()
HE = "Tom Max Finn Otto Leo Oskar Felix Hugo Ben Emil Paul Karl Jonas Theo Anton Milo Rudi Bruno Sam Nils".split()
WOMEN = {"witch", "princess", "queen", "fairy", "girl", "cow"}
MEN = {"wizard", "prince", "king", "knight", "boy", "rooster"}
ADJECTIVES = """little small young old clever shy brave curious lazy friendly quiet cheerful hungry gentle lonely
tiny""".split()
PLACES = variants("""in a dark forest|by a quiet lake|on a green hill|in a small village|near the sea
on a lonely island|in an old castle|at the foot of a mountain|in a warm valley|at the edge of the desert
in a big city|behind an old mill
in a garden full of roses|by a wide river|in a snowy land|under an old bridge""")
HOBBIES = variants("""to sing in the rain|to count the stars|to collect round stones|to bake apple cake
to read old books|to swim in the morning|to look at the clouds|to paint flowers|to play the flute|to listen to the wind
to draw maps|to plant seeds|to tell jokes|to climb trees""")
THINGS = """key lantern hat ball map bell ring book kite drum flute compass umbrella scarf crown basket mirror
whistle""".split()
SPOTS = variants("""under a big leaf|behind a stone|in a hollow tree|at the bottom of a well|in the high grass
under the bridge|in an old boot|beside the road|on top of a wall""")
GIFTS = variants("""a red apple|a warm blanket|a piece of cake|a pot of honey|a blue flower|a bag of nuts|a song
a smooth stone""")

# Each problem: what happens, the first try that fails, and how it ends well with the helper.
PROBLEMS = [
    ("One day {he} lost {his} {thing}.",
     "{Name} looked everywhere, but the {thing} was gone.",
     "Together they searched until the evening and found the {thing} {spot}."),
    ("One night a storm broke the roof of {his} house.",
     "{Name} tried to mend it, but the wind was too strong.",
     "They worked all day with wood and rope, and in the evening the roof was whole again."),
    ("One morning {he} could not find the way home.",
     "{Name} went left and right, but every path looked the same.",
     "They followed the stars together, and soon {Name} saw the lights of home."),
    ("One winter there was nothing left to eat.",
     "{Name} searched in the snow, but found only ice.",
     "They shared a little bread and planted seeds, and in spring there was enough for all."),
    ("One day {he} found an old {thing} that did not work.",
     "{Name} shook it and turned it, but nothing happened.",
     "They cleaned it with care, and suddenly the {thing} shone like new."),
    ("One evening {he} heard a strange noise outside.",
     "{Name} was afraid and hid under the bed.",
     "They went out with a light and saw that it was only a {thing} in the wind."),
    ("One day the river carried the bridge away.",
     "{Name} wanted to cross it, but the water was too deep.",
     "They built a raft out of branches and crossed the river before dark."),
    ("One summer all the wells ran dry.",
     "{Name} dug a deep hole, but there was no water in it.",
     "They dug a little deeper, and then clear water came out of the ground."),
    ("One day {he} wanted to win the big race.",
     "{Name} ran as fast as possible, but came in last every time.",
     "They practised every morning, and on the day of the race {Name} came in first."),
    ("One day {he} had nobody to play with.",
     "{Name} knocked at every door, but nobody was at home.",
     "They played with a {thing} until the moon came up."),
    ("One morning {his} {thing} was stuck high in a tree.",
     "{Name} jumped and jumped, but could not reach it.",
     "One stood on the shoulders of the other, and so they got the {thing} down."),
    ("One night the stars did not shine.",
     "{Name} waited at the window, but the sky stayed black.",
     "They lit a hundred small lights, and then the stars came back one by one."),
]
COMFORTS = variants("""\
"Do not worry," said the {helper}. "I will help you."|"Two can do more than one," said the {helper}.
"Why are you so sad?" asked the {helper}, and {Name} told everything.|"Let us try it together," said the {helper}.
The {helper} listened and had a good idea.""")
ENDS = variants("""From that day on they were best friends.|And if you listen well, you can still hear them laugh.
That night {Name} slept well and dreamed of the next adventure.|Since then {Name} has never been alone again.
And {Name} learned that it is good to ask for help.|They told this story to everybody they met.
And so a bad day became a good one.""")

LATER = variants("Some time later|A month later|Not long after|A week later|In the next year")


def with_article(noun: str) -> str:
    """"fox" becomes "a fox", "owl" becomes "an owl"."""
    return ("an " if noun[0] in "aeio" else "a ") + noun


def episode(rng: Random, name: str, he: str, his: str, helper: str, problem: tuple[str, str, str]) -> list[str]:
    """The sentences from a problem to its solution, always with the helper."""
    trouble, attempt, solution = problem
    sentences = [trouble]
    if rng.random() < 0.8:
        sentences.append(attempt)
    friend = with_article(f"{rng.choice(ADJECTIVES)} {helper}")
    sentences.append(rng.choice([f"Then {friend} came along.", f"Then {{he}} met {friend}."]))
    if rng.random() < 0.8:
        sentences.append(rng.choice(COMFORTS))
    sentences.append(solution)
    if rng.random() < 0.5:
        sentences.append(f"To say thank you, {{Name}} gave the {{helper}} {rng.choice(GIFTS)}.")
    blanks = dict(Name=name, he=he, his=his, helper=helper, thing=rng.choice(THINGS), spot=rng.choice(SPOTS))
    return [sentence.format(**blanks) for sentence in sentences]


def story(rng: Random, hero: str, *, helper: str | None = None, place: str | None = None, adjective: str | None = None,
          name: str | None = None, episodes: int = 1) -> str:
    """A story with the given hero, and with whatever else is given.

    With one episode it has 5 to 9 sentences. Each further episode is a new paragraph with another problem and helper.
    """
    name = name or rng.choice(SHE if hero in WOMEN else HE if hero in MEN else SHE + HE)
    he, his = ("she", "her") if name in SHE else ("he", "his")
    place = place or rng.choice(PLACES)
    others = rng.sample([h for h in HEROES if h != hero], episodes)
    helpers = [helper or others[0], *others[1:]]
    someone = with_article(f"{adjective or rng.choice(ADJECTIVES)} {hero}")
    opening = [rng.choice([
        f"Once upon a time {someone} named {name} lived {place}.",
        f"Once there was {someone} named {name} who lived {place}.",
        f"{place[0].upper()}{place[1:]} there lived {someone} named {name}.",
    ])]
    if rng.random() < 0.6:
        opening.append(f"{name} loved {rng.choice(HOBBIES)}.")
    paragraphs = []
    for number, problem in enumerate(rng.sample(PROBLEMS, episodes)):
        sentences = episode(rng, name, he, his, helpers[number], problem)
        if number == 0:
            sentences = opening + sentences
        else:
            sentences[0] = re.sub(r"^One \w+", rng.choice(LATER), sentences[0])
        paragraphs.append(sentences)
    paragraphs[-1].append(rng.choice(ENDS).format(Name=name))
    return "\n\n".join(" ".join(sentences) for sentences in paragraphs)
