"""Which job was added under which key, so that there is only one.

Spread over trees by the key, so that adders of different keys do not meet; two who
add the same key at once write the same entry, and one of them is told to look again.
What is found may be finished or gone: whoever looks asks the job.
"""
from BTrees.OOBTree import OOBTree
from persistent import Persistent

SPREAD = 16


class UniqueTree(OOBTree):
    max_leaf_size = 30
    max_internal_size = 500


class Uniques(Persistent):

    def __init__(self) -> None:
        self._trees = tuple(UniqueTree() for _ in range(SPREAD))

    def find(self, key: bytes) -> tuple[int, int] | None:
        """(id, microseconds until which it counts when finished); None without."""
        return self._tree(key).get(key)

    def note(self, key: bytes, id: int, until: int) -> None:
        self._tree(key)[key] = id, until

    def forget(self, key: bytes, id: int) -> None:
        """The job of that number is removed."""
        found = self.find(key)
        if found is not None and found[0] == id:
            del self._tree(key)[key]

    def _tree(self, key: bytes) -> UniqueTree:
        return self._trees[key[0] % SPREAD]
