"""What people did: who, when, what, to which jobs; within bounds.

    trees    a few, one picked by chance for each entry    key -> entry
             key: microseconds, then chance, then which tree: two at once have two keys

Two people who act at the same time write to two trees, or to two keys of one, which
the tree itself reconciles.  What is too much or too old goes when its tree is next
written to, a few entries at a time.
"""
import heapq
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from BTrees.Length import Length
from BTrees.LOBTree import LOBTree
from persistent import Persistent

TREES = 8
IDS_KEPT = 50      # numbers of jobs in one entry; `number` counts the others too
TRIMMED = 32       # entries that one new entry drives out at most
TEXT_LIMIT = 200
CHANCE = 256       # keys of one microsecond in one tree
ROOM = CHANCE * TREES


class Entry(NamedTuple):
    """One thing that somebody did."""

    moment: int              # microseconds
    who: str                 # id of the principal, or who works on the command line
    verb: str
    jobs: tuple[int, ...]    # the first of them
    number: int              # of jobs, in all
    detail: str

    def and_also(self, ids: Iterable[int]) -> "Entry":
        """The same done to more jobs."""
        ids = tuple(ids)
        return self._replace(jobs=(self.jobs + ids)[:IDS_KEPT],
                             number=self.number + len(ids))


class Branch(LOBTree):
    """Some of the entries."""

    max_leaf_size = 20
    max_internal_size = 200


class Trail(Persistent):

    def __init__(self) -> None:
        self.trees = tuple((Branch(), Length()) for _ in range(TREES))

    def add(self, entry: Entry, count: int, oldest: int) -> int:
        """Keep an entry; its key.

        count: how many are kept about, 0 for any number; oldest: those from before
        that moment (microseconds) are not kept.
        """
        number = random.randrange(TREES)
        tree, size = self.trees[number]
        key = entry.moment * ROOM + random.randrange(CHANCE) * TREES + number
        while key in tree:
            key += TREES
        tree[key] = entry
        room = max(count // TREES, 1) if count else None
        gone = 0
        while gone < TRIMMED and (first := tree.minKey()) != key and (
                first < oldest * ROOM
                or room is not None and size() + 1 - gone > room):
            del tree[first]
            gone += 1
        size.change(1 - gone)
        return key

    def get(self, key: int) -> Entry | None:
        return self.trees[key % TREES][0].get(key)

    def replace(self, key: int, entry: Entry) -> None:
        """Keep another entry in the place of the one of that key."""
        self.trees[key % TREES][0][key] = entry

    def newest(self, before: int | None = None) -> Iterator[tuple[int, Entry]]:
        """(key, entry) from new to old, below the key *before*; in slices."""
        return heapq.merge(
            *(_descending(tree, before) for tree, _ in self.trees),
            key=lambda pair: pair[0], reverse=True)

    def __len__(self) -> int:
        return sum(size() for _, size in self.trees)


def _descending(tree: Branch, before: int | None) -> Iterator[tuple[int, Entry]]:
    bound = before
    while True:
        try:
            bound = tree.maxKey() if bound is None else tree.maxKey(bound - 1)
        except ValueError:
            return
        yield bound, tree[bound]
