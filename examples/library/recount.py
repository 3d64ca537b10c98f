"""The same index, counted without the service and without an index.

Reads every file anew, counts its words in dictionaries, and compares: each file,
each word of it, each entry of the index in both directions.  `compare` returns one
text per difference; an empty list is the proof that the index is exact.
"""
from collections import Counter
from typing import NamedTuple

from library import reading, tasks, words


class Counted(NamedTuple):
    """What one file must have left in the library."""

    words: list[str]
    classes: int
    functions: int
    is_readable: bool


def count(library) -> dict[str, Counted]:
    """{path: Counted} of the files as they are now."""
    directory, counted = tasks.directory_of(library), {}
    for path, _ in tasks.survey(directory, library.limit):
        found = reading.read(path, (directory / path).read_bytes())
        counted[path] = Counted(
            words.words_of(found.text), found.count(reading.CLASS),
            found.count(reading.FUNCTION), found.trouble is None)
    return counted


def compare(library, runs: int | None = None) -> list[str]:
    """What the library and its index say against a count.

    runs: how often each file must have been indexed; None: any number.
    """
    counted = count(library)
    return [*_entries(library, counted, runs), *_index(library, counted),
            *_totals(library)]


def _entries(library, counted, runs):
    yield from _same("files", set(library.files), set(counted))
    for path in set(counted) & set(library.files):
        entry, wanted = library.files[path], counted[path]
        has = (entry.words, entry.classes, entry.functions, bool(entry.indexed))
        must = (len(wanted.words), *wanted[1:])
        if has != must or entry.waiting or runs not in (None, entry.runs):
            yield (f"{path}: words, classes, functions, indexed are {has}, counted {must}; "
                   f"indexed {entry.runs} times; "
                   f"{'waits' if entry.waiting else 'nothing waits'}")
        if library.paths.get(entry.docid) != path:
            yield f"{path}: its number {entry.docid} leads elsewhere"
    if len(library.paths) != len(library.files):
        yield f"{len(library.paths)} numbers for {len(library.files)} files"


def _index(library, counted):
    """The text index holds exactly the words of the readable files."""
    index, lexicon = library.words.index, library.words.lexicon
    texts = {library.files[path].docid: wanted.words for path, wanted in counted.items()
             if wanted.is_readable and path in library.files}
    yield from _same("documents", set(index._docwords), set(texts))
    yield from _same("lengths of documents", dict(index._docweight.items()),
                     {docid: len(text) for docid, text in texts.items()})
    for docid in set(texts) & set(index._docwords):
        if [lexicon.get_word(wid) for wid in index.get_words(docid)] != texts[docid]:
            yield f"{library.paths[docid]}: the index has other words"
    places: dict[str, dict[int, int]] = {}
    for docid, text in texts.items():
        for word, number in Counter(text).items():
            places.setdefault(word, {})[docid] = number
    yield from _same("words", {
        lexicon.get_word(wid): dict(found.items())
        for wid, found in index._wordinfo.items()}, places)
    if {(wid, word) for word, wid in lexicon.items()} != set(lexicon._words.items()):
        yield "the lexicon's two directions differ"
    yield from _same("counters of the index", dict(
        documents=index.documentCount(), words=index.wordCount(),
        length=index._totaldoclen()), dict(
        documents=len(texts), words=len(places), length=sum(map(len, texts.values()))))


def _totals(library):
    yield from _same("totals", library.counts(), library.recount())


def _same(what, has, must):
    """One text for two sets or dictionaries that should be equal, if they are not."""
    if has == must:
        return
    if isinstance(has, dict):
        has, must = ({(key, repr(value)) for key, value in each.items()}
                     for each in (has, must))
    few = [f"{word} {', '.join(map(str, sorted(strays)[:3]))} ({len(strays)})"
           for word, strays in (("too many:", has - must), ("missing:", must - has))
           if strays]
    yield f"{what}: {'; '.join(few)}"
