"""How a service is to be worked for: what people have wished, until they wish again.

Written when somebody says so, and read by each worker at its next look.
"""
from typing import NamedTuple

from persistent import Persistent

PAUSE, THREADS, STOP = "pause", "threads", "stop"


class Wish(NamedTuple):
    """One wish that is in force.  since: microseconds since 1970."""

    what: str
    worker: str | None   # None: all of them
    number: int | None   # of threads
    by: str | None       # who wished it
    since: int


class Wishes(Persistent):
    """The wishes in force, one of a kind for the service and for each worker."""

    def __init__(self) -> None:
        self._wishes: dict[tuple[str, str | None], Wish] = {}

    def __iter__(self):
        return iter(sorted(self._wishes.values(), key=lambda wish: wish.since))

    def get(self, what: str, worker: str | None = None) -> Wish | None:
        found = self._wishes.get((what, worker))
        return None if found is None else Wish(*found)

    def keep(self, wish: Wish) -> None:
        """Have it in force, instead of the one of its kind before."""
        self._wishes = {**self._wishes, (wish.what, wish.worker): wish}

    def take_back(self, what: str, worker: str | None = None) -> bool:
        """Forget one; whether there was one."""
        left = dict(self._wishes)
        found = left.pop((what, worker), None)
        if found is not None:
            self._wishes = left
        return found is not None

    def tidy(self, there) -> None:
        """Forget those for workers that are not *there* any more."""
        left = {key: wish for key, wish in self._wishes.items()
                if key[1] is None or key[1] in there}
        if len(left) < len(self._wishes):
            self._wishes = left
