"""On which text are decoders trained? Stories that a small grammar writes, whose entropy is known exactly.

A story names its hero, a thing and two places when it begins, and again and again later: a name is made of random
syllables, so only a model that looks back can spell it the second time. Different choices always give different text:
what the choices of a text cost is therefore what the text costs, and no model can expect to predict it better.

The grammar and all text from it are part of this repository and under its licence (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

CHARACTERS = "\n ,.ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_CONSONANTS, _VOWELS = "bdfgklmnprstv", "aeiou"
_THINGS = (
    "lamp",
    "rope",
    "coin",
    "letter",
    "hammer",
    "basket",
    "violin",
    "kettle",
    "saddle",
    "mirror",
    "ladder",
    "bell",
)
_KINDS = ("old", "small", "heavy", "broken", "painted", "silver", "wooden", "borrowed")
_PLACES = ("mill", "harbour", "market", "chapel", "bridge", "orchard", "quarry", "station", "tower", "stable")
_TIMES = ("at dawn", "at noon", "before supper", "in the evening", "at night", "on the third day", "a week later")
_WAYS = ("slowly", "quietly", "gladly", "carefully", "at once", "in silence", "with both hands", "without a word")
_VERBS = ("carried", "dragged", "brought", "rolled", "lowered", "returned")
_FOLK = ("a trader", "the miller", "two children", "an old sailor", "the judge", "a stranger", "the twins", "nobody")
#: How a story goes on. Whatever is chosen in them, two of these never give the same text.
_SENTENCES = (
    "{hero} {verb} the {thing} to the {goal} {time}. ",
    "{time}, {folk} near the {place} looked at the {thing}, and {hero} waited {way}. ",
    "{way}, {hero} cleaned the {thing}. ",
    "{time} a {kind} {other} lay beside the {thing}. ",
    "{folk} from the {goal} asked {hero} about the {place} {way}. ",
    "{hero} sold a {kind} {other} to {folk} and kept the {thing}. ",
    "{folk} {verb} a {kind} {other} between the {place} and the {goal}. ",
)
_FREE = {"time": _TIMES, "way": _WAYS, "verb": _VERBS, "folk": _FOLK, "kind": _KINDS}


@dataclass(frozen=True)
class Text:
    """Generated text.

    Args:
        characters: the text; every character is one of ``CHARACTERS``.
        entropy: nats a character that no model can expect to stay below on such text.
    """

    characters: str
    entropy: float


class _Author:
    """Makes choices, and adds up what they cost.

    Args:
        seed: the same gives the same text.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.nats = 0.0

    def choose(self, options: Sequence[str], *but: str) -> str:
        """Take one of the options, each as often as the others, but none of these."""
        allowed = [option for option in options if option not in but]
        self.nats += math.log(len(allowed))
        return self._random.choice(allowed)

    def name(self) -> str:
        """Make up a name of two or three syllables."""
        syllables = int(self.choose("23"))
        return "".join(self.choose(_CONSONANTS) + self.choose(_VOWELS) for _ in range(syllables)).capitalize()

    def story(self) -> str:
        """Write one story of four to eight sentences on a line of its own."""
        hero, thing, kind = self.name(), self.choose(_THINGS), self.choose(_KINDS)
        place = self.choose(_PLACES)
        goal = self.choose(_PLACES, place)
        known = {"hero": hero, "thing": thing, "place": place, "goal": goal}
        parts = [f"{hero} from the {place} found a {kind} {thing} on the road to the {goal}. "]
        last = ""
        for _ in range(int(self.choose("34567"))):
            last = self.choose(_SENTENCES, last)
            chosen = {name: self.choose(options) for name, options in _FREE.items() if f"{{{name}}}" in last}
            if "{other}" in last:
                chosen["other"] = self.choose(_THINGS, thing)
            sentence = last.format(**known, **chosen)
            parts.append(sentence[0].upper() + sentence[1:])
        return "".join(parts).rstrip() + "\n"


def write(characters: int, seed: int = 0) -> Text:
    """Write text, the same for the same seed.

    Args:
        characters: how long it is.
        seed: another one gives other stories by the same grammar.
    """
    author = _Author(seed)
    stories: list[str] = []
    length = 0
    for story in _stories(author):
        stories.append(story)
        length += len(story)
        if length >= characters:
            break
    return Text("".join(stories)[:characters], author.nats / length if length else 0.0)


def _stories(author: _Author) -> Iterator[str]:
    while True:
        yield author.story()
