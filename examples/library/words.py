"""The words of a text, and the index that finds texts by them.

The structures are those of zope.index as they come.  Two transactions that both
meet words which nobody has met before always conflict, for both give them the
next numbers: that is what this example shows the price of.
"""
import re

from zope.index.text.interfaces import IPipelineElement
from zope.index.text.lexicon import (
    CaseNormalizer, Lexicon, Splitter, StopWordAndSingleCharRemover)
from zope.index.text.okapiindex import OkapiIndex
from zope.index.text.textindex import TextIndex
from zope.interface import implementer

# JSONDecoder: JSON, Decoder.  read_line2: read, line2.
PART = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[^\W_A-Z]+")


IGNORED = StopWordAndSingleCharRemover.dict


@implementer(IPipelineElement)
class Names:
    """A name of several words is found by itself and by each of them.

    Words that have been through this stay as they are: zope.index splits a phrase
    that it searches for twice.
    """

    def process(self, words):
        found = []
        for number, word in enumerate(words, start=1):
            found.append(word)
            parts = parts_of(word)
            following = words[number:number + len(parts)]
            if [part.lower() for part in parts] != [other.lower() for other in following]:
                found += parts
        return found


def parts_of(name: str) -> list[str]:
    """The words in a name; none when it is one word itself, or has a wildcard."""
    parts = PART.findall(name)
    if len(parts) < 2 or "*" in name or "?" in name:
        return []
    return [part for part in parts if part.lower() not in IGNORED]


PIPELINE = Splitter(), Names(), CaseNormalizer(), StopWordAndSingleCharRemover()


def words_of(text: str) -> list[str]:
    """The words under which a text is found, in order, repetitions included."""
    words = [text]
    for element in PIPELINE:
        words = element.process(words)
    return words


def make_index() -> TextIndex:
    """An empty index that ranks what it finds."""
    lexicon = Lexicon(*PIPELINE)
    return TextIndex(lexicon, OkapiIndex(lexicon))
