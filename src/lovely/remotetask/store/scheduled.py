"""What is due at which moment: numbers of jobs, no jobs."""
from BTrees.LLBTree import LLBTree
from BTrees.OOBTree import OOTreeSet
from persistent import Persistent


class Scheduled(Persistent):
    """Ordered by moment (microseconds); a job stands here at most once."""

    def __init__(self):
        self._order = OOTreeSet()   # (moment, id)
        self._moments = LLBTree()   # id -> moment

    def __contains__(self, id):
        return id in self._moments

    def __bool__(self):
        return bool(self._order)

    def items(self):
        """(id, moment) of all."""
        return self._moments.items()

    def moment(self, id: int) -> int | None:
        return self._moments.get(id)

    def put(self, id: int, moment: int) -> None:
        """Have *id* due at that moment, and at no other."""
        if self._moments.get(id) != moment:
            self.remove(id)
            self._order.add((moment, id))
            self._moments[id] = moment

    def remove(self, id: int) -> None:
        moment = self._moments.pop(id, None)
        if moment is not None:
            self._order.remove((moment, id))

    def next_moment(self) -> int | None:
        return self._order.minKey()[0] if self._order else None

    def due(self, now: int, limit: int) -> list[int]:
        """The first *limit* ids that are due."""
        found: list[int] = []
        if limit <= 0:
            return found
        for _, id in self._order.keys(None, (now + 1,), excludemax=True):
            found.append(id)
            if len(found) == limit:
                break
        return found
