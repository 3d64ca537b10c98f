"""Who holds how much of which limit, in the whole cluster, and who waits for it.

A worker takes slots of a limit, not one per job: with one slot of a lane it may claim
many of its jobs, and runs one at a time.  Taking, giving back and waiting write the
same key, so of two that meet there one is told to look again; nothing here resolves
conflicts.  There may be as many lines as jobs, if each has a lock of its own: of those
that wait, some at a time take part again.
"""
import random
from collections.abc import Collection, Iterator
from itertools import islice

from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from lovely.remotetask.limits import Limit, Rate, Starts

Waiting = tuple[int, str]  # shard and name of a line
BEYOND = 2**200            # greater than any key of a job


class Caps(Persistent):

    _admitted = None  # name -> ids let in by adds that would be refused else

    def __init__(self):
        # name -> ({lease: slots} as a tuple, (lines that wait, a number that grows with
        # each change of them)[, when it was touched])
        self._caps = OOBTree()
        # (name, packed key of the first job, shard, line): parked until slots are free
        self._waiting = OOTreeSet()
        self._starts = OOBTree()  # name -> slices of Starts
        self.timed = OOTreeSet()  # (moment, shard, line, nonce): parked until then

    def items(self):
        """(name, {lease: slots}, number of waiting lines) of the limits in use."""
        for name in self._caps:
            held, (number, _), _ = self._entry(name)
            if held or number:
                yield name, held, number

    def starts(self):
        """(name, Starts) of the rates in use."""
        for name, slices in self._starts.items():
            yield name, Starts(slices)

    def taken(self, name: str) -> dict[str, int]:
        """{lease: slots} of one limit."""
        return self._entry(name)[0]

    def take(self, name: str, lease: str, slots: int) -> None:
        """Have a lease hold so many slots; 0: give them back."""
        held, waiting, touched = self._entry(name)
        held.pop(lease, None)
        if slots:
            held[lease] = slots
        self._write(name, held, waiting, touched)

    def wait(self, name: str, packed: int, shard: int, line: str) -> None:
        """Note that a line is parked until slots are free; *packed*: the key of the job
        that would have been next."""
        held, (number, changes), touched = self._entry(name)
        number += self._waiting.insert((name, packed, shard, line))
        self._write(name, held, (number, changes + 1), touched)

    def anybody_waits(self) -> bool:
        return bool(self._waiting)

    def number_waiting(self, name: str) -> int:
        return self._entry(name)[1][0]

    def waiting(self, name: str) -> Iterator[tuple[str, int, int, str]]:
        """The notes of the lines that wait for a limit, the most urgent first."""
        return iter(self._waiting.keys((name,), (name, BEYOND)))

    def names_waited_for(self, after: str = "") -> Iterator[str]:
        """The limits for which lines wait, from one that comes behind *after* on."""
        while True:
            note = next(iter(self._waiting.keys((after, BEYOND))), None)
            if note is None:
                return
            after = note[0]
            yield after

    def wait_no_more(self, notes: Collection[tuple[str, int, int, str]]) -> None:
        """Take out such notes, all of one limit."""
        if notes:
            for each in notes:
                self._waiting.remove(each)
            name, *_ = each
            held, (number, changes), touched = self._entry(name)
            self._write(name, held, (number - len(notes), changes + 1), touched)

    def touch(self, name: str, now: int) -> None:
        """Change the entry of a limit whose slots are taken and given back in one
        transaction: else that were no change, and who takes one at the same moment met
        nothing.  now: microseconds."""
        held, waiting, touched = self._entry(name)
        self._write(name, held, waiting, max(now, touched + 1))

    def forget_touched(self, before: int) -> None:
        """Take out entries that only were touched, before a moment (microseconds)."""
        for name in [*self._caps]:
            held, (number, _), touched = self._entry(name)
            if not held and not number and touched < before:
                del self._caps[name]

    def _entry(self, name: str) -> tuple[dict[str, int], tuple[int, int], int]:
        """{lease: slots}, (waiting lines, changes), and when it was touched last."""
        holders, waiting, *touched = self._caps.get(name, ((), (0, 0)))
        return dict(holders), waiting, *(touched or [0])

    def _write(self, name: str, held: dict[str, int], waiting: tuple[int, int],
               touched: int) -> None:
        entry = tuple(sorted(held.items())), waiting
        if touched:
            self._caps[name] = *entry, touched
        elif held or waiting[0]:
            self._caps[name] = entry
        else:
            self._caps.pop(name, None)

    # -- adds that are refused at a limit

    def admitted(self, name: str) -> tuple[int, ...]:
        """Who was let in; some of them may have ended."""
        return () if self._admitted is None else self._admitted.get(name, ())

    def admit(self, name: str, ids: tuple[int, ...]) -> None:
        if ids == self.admitted(name):
            return
        if self._admitted is None:
            self._admitted = OOBTree()
        if ids:
            self._admitted[name] = ids
        else:
            self._admitted.pop(name, None)

    # -- rates

    def may_begin(self, limit: Limit, now: int) -> int:
        """How many jobs may begin now (microseconds)."""
        return self._of(limit).left(_rate(limit), now)

    def begin(self, limit: Limit, now: int) -> None:
        self._starts[limit.name] = self._of(limit).begun(_rate(limit), now).slices

    def free_at(self, limit: Limit, now: int) -> int:
        return self._of(limit).free_at(_rate(limit), now)

    def _of(self, limit: Limit) -> Starts:
        return Starts(self._starts.get(limit.name, ()))

    def wait_until(self, moment: int, shard: int, line: str) -> None:
        """Note that a line is parked until a moment (microseconds).

        The nonce makes each note its own: one of the same moment may be there, of an
        earlier time, and be taken out by somebody who sees the line open still.
        """
        self.timed.add((moment, shard, line, random.getrandbits(40)))

    def next_moment(self) -> int | None:
        return self.timed.minKey()[0] if self.timed else None

    def due(self, now: int, limit: int) -> list[Waiting]:
        """Take out lines whose moment has come, so many at most."""
        return self._take_out(list(islice(
            self.timed.keys(None, (now + 1,), excludemax=True), limit)))

    def forget_moments(self, notes) -> list[Waiting]:
        """Take out such notes, one by one: what is noted at the same moment stays, or
        conflicts; `clear` may lose it."""
        return self._take_out(list(notes))

    def _take_out(self, notes) -> list[Waiting]:
        for each in notes:
            self.timed.remove(each)
        return [(shard, line) for _, shard, line, *_ in notes]


def _rate(limit: Limit) -> Rate:
    assert limit.rate is not None
    return limit.rate
