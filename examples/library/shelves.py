"""What is stored: the library, an entry per file, and the text index.

    files       path -> Entry          which files there are   written by: the look
    paths       docid -> path                                  written by: the look
    words       the text index                                 written by: index jobs
    totals      name -> Length         sums over the entries   written by: index jobs
    reporting   whether a report is on its way, and the last one

An entry belongs to one job at a time, so jobs meet in the index only.  A file
that is gone is the exception: its job takes it out of everything.
"""
from typing import NamedTuple

from BTrees.IOBTree import IOBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from zope.container.contained import Contained

from library import reading, words

# What is summed up: each is the sum of that attribute over all entries.
TOTALS = ("known", "waiting", "indexed", "unreadable", "classes", "functions", "words",
          "runs", "conflicts")
FOUND = 20  # answers of a search
NEAR = 5    # definitions named with an answer


class Stamp(NamedTuple):
    """What a file looks like from outside: it differs when the file has changed."""

    size: int
    modified: int  # nanoseconds


class Entry(Persistent):
    """One file: what is to be done about it, and what it says."""

    known = 1
    job = None          # number of the job that is to read it; None: it was read
    wanted = None       # Stamp for which that job was added; None: the file is gone
    stamp = None        # Stamp of what was read last
    trouble = None      # why it could not be understood
    module = summary = ""
    classes = functions = words = 0
    runs = 0            # how often it was brought into the index
    conflicts = 0       # how often that had to be repeated
    _definitions = None

    def __init__(self, path: str, docid: int):
        self.path = path
        self.docid = docid

    @property
    def waiting(self) -> int:
        return int(self.job is not None)

    @property
    def indexed(self) -> int:
        return int(self.stamp is not None and self.trouble is None)

    @property
    def unreadable(self) -> int:
        return int(self.stamp is not None and self.trouble is not None)

    @property
    def definitions(self) -> tuple[reading.Definition, ...]:
        return self._definitions.all if self._definitions is not None else ()

    def counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in TOTALS}


class Definitions(Persistent):
    """In a record of their own: a look over all files does not load them."""

    def __init__(self, found):
        self.all = tuple(found)


class Reporting(Persistent):
    """Written by whoever asks for a report and by whoever gives one, so that the
    two can never pass each other unseen."""

    job = None     # number of the job that will report
    asked = 0      # how often a report was asked for
    began = None   # when work began that is not reported yet, aware datetime
    last = None    # the last report, a dictionary


class Answer(NamedTuple):
    """One file that a search has found."""

    path: str
    score: float
    module: str
    summary: str
    definitions: list[reading.Definition]  # those whose names hold most of the words


class Library(Contained, Persistent):
    """The index of the source files below one directory.

    directory: None for the library of the Python that runs, whichever it is.
    limit: only the first so many files, in the order of their paths.
    """

    def __init__(self, directory: str | None = None, limit: int | None = None):
        self.directory = directory
        self.limit = limit
        self.files = OOBTree()
        self.paths = IOBTree()
        self.words = words.make_index()
        self.totals = PersistentMapping({name: Length() for name in TOTALS})
        self.reporting = Reporting()

    # -- the look

    def expect(self, path: str, wanted: Stamp | None, job: int) -> None:
        """A job was added that will read this file, or see that it is gone."""
        entry = self.files.get(path)
        if entry is None:
            docid = self.paths.maxKey() + 1 if self.paths else 1
            entry = self.files[path] = Entry(path, docid)
            self.paths[docid] = path
            before = dict.fromkeys(TOTALS, 0)
        else:
            before = entry.counts()
        entry.wanted, entry.job = wanted, job
        self._count(before, entry.counts())

    # -- the jobs

    def record(self, path: str, stamp: Stamp, found: reading.Reading,
               conflicts: int = 0) -> Entry:
        """Bring what was read into the entry and the index."""
        entry = self.files[path]
        before = entry.counts()
        entry.job = entry.wanted = None
        entry.stamp, entry.trouble = stamp, found.trouble
        entry.module, entry.summary = found.module, found.summary
        entry._definitions = Definitions(found.definitions)
        entry.classes = found.count(reading.CLASS)
        entry.functions = found.count(reading.FUNCTION)
        entry.runs += 1
        entry.conflicts += conflicts
        if found.trouble is None:
            self.words.index_doc(entry.docid, found.text)
            entry.words = len(self.words.index.get_words(entry.docid))
        else:
            self.words.unindex_doc(entry.docid)
            entry.words = 0
        self._count(before, entry.counts())
        return entry

    def forget(self, path: str) -> None:
        """The file is gone: nothing in here names it any more."""
        entry = self.files.pop(path)
        del self.paths[entry.docid]
        self.words.unindex_doc(entry.docid)
        self._count(entry.counts(), dict.fromkeys(TOTALS, 0))

    def _count(self, before, after) -> None:
        for name in TOTALS:
            if before[name] != after[name]:
                self.totals[name].change(after[name] - before[name])

    # -- reading

    def counts(self) -> dict[str, int]:
        """The totals, kept and not counted."""
        return {name: total() for name, total in self.totals.items()}

    def recount(self) -> dict[str, int]:
        """The same, counted over all entries."""
        sums = dict.fromkeys(TOTALS, 0)
        for entry in self.files.values():
            for name, number in entry.counts().items():
                sums[name] += number
        return sums

    def search(self, query: str, limit: int = FOUND) -> tuple[list[Answer], int]:
        """The best answers, and how many there are.

        Words must all occur; ``"several words"`` in this order; ``OR``, ``NOT``,
        parentheses and ``prefix*`` do what one expects.  Raises ParseError or
        QueryError, of zope.index, for what cannot be searched for.
        """
        scores = self.words.apply(query) or {}
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        wanted = set(words.words_of(query))
        return [self._answer(docid, score, wanted) for docid, score in best], len(scores)

    def _answer(self, docid, score, wanted) -> Answer:
        entry = self.files[self.paths[docid]]
        fits = [(len(wanted & set(words.words_of(definition.name.rpartition(".")[2]))),
                 definition) for definition in entry.definitions]
        best = max((fit for fit, _ in fits), default=0)
        near = [definition for fit, definition in fits if fit == best > 0]
        return Answer(entry.path, score, entry.module, entry.summary,
                      near[:NEAR])
