"""Writes the training text: an endless stream of conversations, the same for the same seed.

A conversation is a list of messages {"role", "content"}. The facts come from topics.txt, the small talk from
smalltalk.txt, the stories from stories.py and the ways in which people ask from phrases.txt.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import stories

ASPECTS = ("what", "more", "why", "example", "simple")


def read_phrases(path: Path) -> dict[str, list[str]]:
    """The lists of phrases.txt by their names."""
    phrases: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            variants = phrases.setdefault(line[2:], [])
        elif line and not line.startswith("//"):
            variants.append(line)
    return phrases


PHRASES = read_phrases(Path(__file__).parent / "phrases.txt")


def choose(rng: Random, kind: str) -> str:
    """One of the phrases of a kind, with one choice made for each [of/several/words] in it."""
    return re.sub(r"\[([^\]]*)\]", lambda choice: rng.choice(choice[1].split("/")), rng.choice(PHRASES[kind]))


def normalise(text: str) -> str:
    """Lower case without punctuation, so that two prompts count as equal if they differ in nothing else."""
    return " ".join(re.findall(r"[\w@.]+", text.lower().replace("'", "").rstrip(".")))


@dataclass
class Topic:
    """One subject: its name, other names, and answers for each aspect."""

    name: str
    aliases: list[str]
    plural: bool = False
    answers: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[list[str], str]] = field(default_factory=list)  # (questions, answer)

    @property
    def bare(self) -> str:
        """The name without its article."""
        return re.sub(r"^(a|an|the) ", "", self.name)


def read_topics(path: Path) -> list[Topic]:
    """Topics of a file in which "# name | alias, alias" starts a topic, "aspect: text" is an answer
    and "? question; question => text" is an answer to particular questions."""
    topics: list[Topic] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            name, _, aliases = line[2:].partition(" | ")
            plural = name.endswith(" (are)")
            topics.append(Topic(name.removesuffix(" (are)"), [a for a in aliases.split(", ") if a], plural))
        elif line.startswith("? "):
            questions, _, answer = line[2:].partition(" => ")
            topics[-1].asked.append((questions.split("; "), answer.replace("\\n", "\n")))
        elif line:
            aspect, _, answer = line.partition(": ")
            assert aspect in ASPECTS, line
            topics[-1].answers.setdefault(aspect, []).append(answer.replace("\\n", "\n"))
    return topics


def typo(rng: Random, text: str) -> str:
    """The text with one slip: a letter left out, doubled, or swapped with its neighbour."""
    place = rng.randrange(1, max(2, len(text) - 1))
    kind = rng.randrange(3)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    if kind == 1:
        return text[:place] + text[place - 1 : place] + text[place:]
    return text[:place] + text[place + 1 : place + 2] + text[place : place + 1] + text[place + 2 :]


def as_typed(rng: Random, text: str) -> str:
    """A question the way somebody may type it: with or without capitals, punctuation, politeness and slips."""
    if text[0].islower() and rng.random() < 0.5:
        text = text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else rng.choice(["?", ""]))
    if rng.random() < 0.12 and len(text) > 12:
        text = choose(rng, "opening") + " " + text
    if rng.random() < 0.06 and text[-1] in ".?":
        text += " " + choose(rng, "addition")
    if rng.random() < 0.06 and text[-1] in ".?":
        text = text[:-1] + rng.choice([" please", ", please" + text[-1], " again?", "??", "!", " pls"])
    if rng.random() < 0.3:
        text = text.lower()
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    if rng.random() < 0.1 and len(text) > 6:
        text = typo(rng, text)
    return text


class Corpus:
    """All sources together. `conversation` writes one conversation, `stream` writes them without end."""

    def __init__(self, held_out: list[list[str]]):
        """`held_out` lists conversations by their user turns. None of these turns is ever written."""
        here = Path(__file__).parent
        self.topics = read_topics(here / "topics.txt")
        self.small_talk = read_topics(here / "smalltalk.txt")
        self.forbidden = {normalise(turn) for turns in held_out for turn in turns}

    def fill(self, rng: Random, kind: str, topic: Topic) -> str:
        """A random question template with the topic's names in it."""
        name = topic.name
        bare = rng.choice([topic.bare, topic.bare, *topic.aliases]) if topic.aliases else topic.bare
        template = choose(rng, kind)
        verb = "are" if topic.plural else "is"
        does = "do" if topic.plural else "does"
        return template.format_map({"n": name, "b": bare, "is": verb, "does": does})

    def about(self, rng: Random, topic: Topic) -> tuple[str, str, str | None]:
        """An opening question about a topic, its answer, and the aspect that it used up."""
        if topic.asked and ("what" not in topic.answers or rng.random() < 0.4):
            questions, answer = rng.choice(topic.asked)
            return rng.choice(questions) + rng.choice(["?", "?", ""]), answer, None
        aspect = rng.choices(ASPECTS, (62, 11, 11, 8, 8))[0]
        if "what" not in topic.answers:
            aspect = rng.choice(ASPECTS[1:])
        return self.fill(rng, f"question about {aspect}", topic), rng.choice(topic.answers[aspect]), aspect

    def topic_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """A question about a topic and up to four follow-ups, whose answers depend on the topic."""
        topic = rng.choice(self.topics)
        question, answer, used = self.about(rng, topic)
        yield question, answer
        aspects = [a for a in ("more", "why", "example", "simple") if a in topic.answers and a != used]
        rng.shuffle(aspects)
        asked = aspects[: rng.choice([0, 0, 1, 1, 2, 3, 4])]
        for aspect in asked:
            yield choose(rng, f"follow-up for {aspect}"), rng.choice(topic.answers[aspect])
        if asked and rng.random() < 0.15:
            question = choose(rng, f"follow-up for {rng.choice(asked)}")
            yield question, f"That is all I know about {topic.bare}. You can ask me about something else."

    def everything_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """All about one topic, in an answer of several paragraphs."""
        topic = rng.choice([t for t in self.topics if len(t.answers) == len(ASPECTS)])
        parts = {aspect: rng.choice(topic.answers[aspect]) for aspect in ASPECTS}
        yield self.fill(rng, "question about everything", topic), (
            f"{parts['what']}\n\n**In detail.** {parts['more']}\n\n**Why.** {parts['why']}\n\n"
            f"**Example.** {parts['example']}\n\n**In simple words.** {parts['simple']}"
        )

    def comparison_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """The difference between two topics: the first sentence about each."""
        one, other = rng.sample([t for t in self.topics if "what" in t.answers], 2)
        template = choose(rng, "comparison")
        question = template.format(a=rng.choice([one.name, one.bare]), b=rng.choice([other.name, other.bare]))
        first = [re.split(r"(?<=[a-z0-9])\. ", t.answers["what"][0])[0].rstrip(".") + "." for t in (one, other)]
        yield question[0].upper() + question[1:], " ".join(first)

    def story_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """One or two stories."""
        for _ in range(rng.choice([1, 1, 2])):
            hero = rng.choice(stories.HEROES)
            wish, given = stories.with_article(hero), {}
            kind = rng.random()
            if kind < 0.15:
                yield choose(rng, "any story request"), stories.story(rng, hero)
                continue
            if kind < 0.27:
                yield choose(rng, "long story request").format(h=wish), stories.story(rng, hero, episodes=3)
                continue
            if kind < 0.42:
                given["helper"] = rng.choice([h for h in stories.HEROES if h != hero])
                wish += " and " + stories.with_article(given["helper"])
            elif kind < 0.52:
                given["place"] = rng.choice(stories.PLACES)
                wish += " " + given["place"]
            elif kind < 0.60:
                given["adjective"] = rng.choice(stories.ADJECTIVES)
                wish = stories.with_article(given["adjective"] + " " + hero)
            elif kind < 0.68:
                given["name"] = rng.choice(stories.SHE + stories.HE)
                wish += rng.choice([" named ", " called "]) + given["name"]
            yield choose(rng, "story request").format(h=wish), stories.story(rng, hero, **given)
        if rng.random() < 0.12:
            yield choose(rng, "story follow-up"), "That is the end of the story. Would you like to hear another one?"
            if rng.random() < 0.5:
                agreed = rng.choice(["yes", "yes please", "sure", "of course"])
                yield agreed, stories.story(rng, rng.choice(stories.HEROES))

    def small_talk_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """A remark and its reply."""
        questions, answer = rng.choice(rng.choice(self.small_talk).asked)
        yield rng.choice(questions), answer

    def name_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """Somebody says a name, and perhaps asks for it later."""
        name = rng.choice(PHRASES["name"])
        welcome = rng.choice([
            f"Nice to meet you, {name}! I am Axon Guide.",
            f"Hello {name}! What would you like to know?",
        ])
        yield choose(rng, "introduction").format(n=name), welcome
        if rng.random() < 0.3:
            yield from self.small_talk_turns(rng)
        if rng.random() < 0.6:
            yield choose(rng, "name question"), f"Your name is {name}."

    def unknown_turns(self, rng: Random) -> Iterator[tuple[str, str]]:
        """A question that the model cannot answer, and the honest reply."""
        kind = rng.random()
        if kind < 0.3:
            first, second = rng.randrange(2, 1000), rng.randrange(2, 100)
            operation = rng.choice(["+", "-", "*", "/", "times", "plus", "minus"])
            yield choose(rng, "sum").format(i=first, j=second, o=operation), rng.choice(PHRASES["sum answer"])
        elif kind < 0.5:
            question = choose(rng, "country question").format(c=rng.choice(PHRASES["country"]))
            yield question, rng.choice(PHRASES["unknown answer"])
        else:
            question = choose(rng, "unknown question").format(x=choose(rng, "unknown thing"))
            yield question, rng.choice(PHRASES["unknown answer"])

    def conversation(self, rng: Random, parts: int) -> list[dict[str, str]]:
        """A conversation of a few parts (questions with their follow-ups, stories, small talk)."""
        kinds = [self.topic_turns, self.story_turns, self.small_talk_turns, self.unknown_turns, self.comparison_turns,
                 self.name_turns, self.everything_turns]
        messages = [{"role": "system", "content": rng.choice(PHRASES["system prompt"])}] if rng.random() < 0.2 else []
        for _ in range(parts):
            turns = rng.choices(kinds, (54, 15, 8, 7, 8, 5, 3))[0]
            for question, answer in turns(rng):
                typed = as_typed(rng, question)
                if normalise(typed) in self.forbidden:
                    break
                messages += [{"role": "user", "content": typed}, {"role": "assistant", "content": answer}]
        return messages

    def stream(self, seed: int, parts: tuple[int, ...]) -> Iterator[list[dict[str, str]]]:
        """Conversations without end; the number of parts of each is drawn from `parts`."""
        rng = Random(seed)
        while True:
            messages = self.conversation(rng, rng.choice(parts))
            assert not any(normalise(message["content"]) in self.forbidden for message in messages)
            if messages and messages[-1]["role"] == "assistant":
                yield messages


if __name__ == "__main__":
    from prompts import HELD_OUT

    for number, messages in zip(range(12), Corpus(HELD_OUT).stream(1, (1, 1, 2, 3))):
        print(f"--- {number}")
        for message in messages:
            print(f"{message['role']}: {message['content']}")
