"""Which process holds which jobs, and whether it is there."""
import sys
from array import array

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from lovely.remotetask import presence
from lovely.remotetask.presence import Mark, Process


class Registration(Persistent):
    """Who works, in a record of its own: the lease is written with each claim.

    threads: how many jobs it runs at once, 0 where jobs are claimed by hand.
    takes: the text of its filter.  state: '' while it takes jobs, else why not.
    """

    threads = 0
    takes = ""
    state = ""

    def __init__(self, name: str, now: int):
        self.since = now
        self._process = tuple(presence.here())
        self._mark = None if (mark := presence.mark_of(name)) is None else tuple(mark)

    @property
    def process(self) -> Process:
        return Process._make(self._process)

    @property
    def mark(self) -> Mark | None:
        return None if self._mark is None else Mark._make(self._mark)

    def tell(self, **facts) -> None:
        """Keep what differs; writes nothing where nothing does."""
        for name, value in facts.items():
            if getattr(self, name) != value:
                setattr(self, name, value)


def packed(held: dict[int, tuple[int, int]]) -> bytes:
    """{id: (token, claimed)} as three signed integers of eight bytes each, the lowest
    byte first."""
    numbers = array("q", [number for id, (token, claimed) in held.items()
                          for number in (id, token, claimed)])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def unpacked(stored: bytes) -> dict[int, tuple[int, int]]:
    """What `packed` has made bytes of."""
    numbers = array("q", stored)
    if sys.byteorder == "big":
        numbers.byteswap()
    each = iter(numbers)
    return {id: (token, claimed) for id, token, claimed in zip(each, each, each)}


class Lease(Persistent):
    """What one dispatcher holds: written by it, or by rescue when it is dead.

    held: {id: (token, claimed)}, claimed in microseconds.  beat: a counter, no
    time; only that it grows has a meaning.

    What is held is stored as one text of bytes, three numbers a job: the lease is
    written with each claim, and a pickle asks ZODB about every number by itself.
    """

    beat = 0
    dead = False
    slots: dict[str, int] = {}  # of limits; never changed in place

    def __init__(self, name: str, now: int):
        self.name = name
        self.registration = Registration(name, now)
        self.held: dict[int, tuple[int, int]] = {}

    def __getstate__(self):
        return {**super().__getstate__(), "held": packed(self.held)}

    def __setstate__(self, state):
        """Older leases hold a dictionary; those of before there were registrations
        have all that in themselves."""
        if isinstance(state["held"], bytes):
            state = {**state, "held": unpacked(state["held"])}
        super().__setstate__(state)
        if "registration" not in state:
            found = Registration.__new__(Registration)
            found.since, found._mark = state["since"], None
            found._process = (
                state["host"], "", state["boot"], "", state["pid"], state["started"])
            self.__dict__["registration"] = found

    @property
    def host(self) -> str:
        return self.registration.process.host

    @property
    def pid(self) -> int:
        return self.registration.process.pid

    @property
    def since(self) -> int:
        return self.registration.since

    def hold(self, claims) -> None:
        """Add (id, token, claimed) to what is held.

        The newer token wins: a job that was changed while it was settled may stand in
        its line twice, and what is stale lets go of nothing but itself.
        """
        held = dict(self.held)
        for id, token, now in claims:
            if id not in held or held[id][0] <= token:
                held[id] = token, now
        if held != self.held:  # a look that finds nothing writes nothing
            self.held = held
            self.beat += 1  # for nothing: it is written anyway

    def take_slots(self, name: str, slots: int) -> None:
        """Have so many slots of a limit; 0: none."""
        kept = {key: number for key, number in self.slots.items() if key != name}
        self.slots = {**kept, name: slots} if slots else kept

    def release(self, claims) -> None:
        """Let go of (id, token); what is held with another token stays."""
        held = dict(self.held)
        for id, token in claims:
            if id in held and held[id][0] == token:
                del held[id]
        if len(held) < len(self.held):
            self.held = held

    def proven(self) -> bool | None:
        """Whether its worker is there: True and False are certain, None is not known."""
        if self.dead:
            return False
        return self.name in presence.living or presence.proven(
            self.registration.process, self.registration.mark)


class Leases(Persistent):
    """The leases by the name of their dispatcher."""

    def __init__(self):
        self._leases = OOBTree()

    def __bool__(self) -> bool:
        return bool(self._leases)

    def __getitem__(self, name: str) -> Lease:
        return self._leases[name]

    def get(self, name: str) -> Lease | None:
        return self._leases.get(name)

    def values(self):
        return self._leases.values()

    def open(self, name: str, now: int) -> Lease:
        if name not in self._leases:
            self._leases[name] = Lease(name, now)
        return self._leases[name]

    def close(self, name: str) -> None:
        self._leases.pop(name, None)

    def workers(self) -> list[str]:
        """The names of the workers that take jobs, in order."""
        return [lease.name for lease in self._leases.values()
                if lease.registration.threads and not lease.registration.state]

    def forget(self, id: int, token: int | None = None) -> None:
        """Let go of a job wherever it is held, with another token than this."""
        for lease in self._leases.values():
            if id in lease.held and lease.held[id][0] != token:
                lease.release([(id, lease.held[id][0])])

    def holder(self, id: int) -> Lease | None:
        for lease in self._leases.values():
            if id in lease.held:
                return lease
        return None

    def held(self) -> dict[int, tuple[int, int]]:
        """All that is held, by whomever."""
        held: dict[int, tuple[int, int]] = {}
        for lease in self._leases.values():
            held.update(lease.held)
        return held
