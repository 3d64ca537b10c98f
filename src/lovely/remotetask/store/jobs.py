"""All jobs by number, spread so that adders do not meet."""
import random
from collections.abc import Mapping
from heapq import merge

from BTrees.LOBTree import LOBTree
from persistent import Persistent

from lovely.remotetask.errors import UnknownJob

SPREAD = 16        # trees: adders met 0 to 3 conflicts in 600 adds, not 30 to 55.
ID_BITS = 31
LARGEST = 2**ID_BITS - 1  # ids fit an XML-RPC int.


class JobTree(LOBTree):
    max_leaf_size = 30  # a leaf is written with each add: 60 took 13 % off its speed.
    max_internal_size = 500


class Jobs(Persistent, Mapping):
    """A mapping of number to job over 16 trees, by the number's last four bits."""

    _v_next = None

    def __init__(self):
        self._trees = tuple(JobTree() for _ in range(SPREAD))

    def __getitem__(self, id):
        job = self.get(id)
        if job is None:
            raise UnknownJob(id)
        return job

    def get(self, id, default=None):
        if not isinstance(id, int) or not 0 < id <= LARGEST:
            return default
        return self._trees[id % SPREAD].get(id, default)

    def __contains__(self, id):
        return self.get(id) is not None

    def __iter__(self):
        return merge(*self._trees)

    def __bool__(self):
        return any(self._trees)

    def __len__(self):
        """Walks: the service has the number of jobs in its counts."""
        return sum(map(len, self._trees))

    def add(self, job) -> None:
        self._trees[job.id % SPREAD][job.id] = job

    def remove(self, id: int) -> None:
        del self._trees[id % SPREAD][id]

    def new_ids(self, count: int = 1) -> range:
        """Free numbers in a row.

        Each connection has a run of its own from a random start, so neighbours
        share a leaf and two connections seldom do.
        """
        first = self._v_next
        while first is None or not self._free(first, count):
            first = random.randrange(1, LARGEST - count)
        self._v_next = first + count
        return range(first, first + count)

    def _free(self, first: int, count: int) -> bool:
        last = first + count - 1
        if last > LARGEST:
            return False
        if count == 1:
            return first not in self._trees[first % SPREAD]
        return not any(tree.keys(first, last) for tree in self._trees)
