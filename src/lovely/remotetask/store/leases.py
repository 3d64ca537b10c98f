"""Which process holds which jobs, and when it was last seen."""
import os
import socket
from functools import cache

from BTrees.OOBTree import OOBTree
from persistent import Persistent


class Lease(Persistent):
    """What one dispatcher holds: written by it, or by rescue when it is dead.

    held: {id: (token, claimed)}, claimed in microseconds.  beat: a counter, no
    time; only that it changes has a meaning.  boot, process and since tell on
    the same host whether the process lives: a number is used again, a number
    together with its start is not.
    """

    beat = 0
    dead = False

    def __init__(self, name: str, now: int):
        self.name = name
        self.host = socket.gethostname()
        self.boot = boot_id()
        self.pid = os.getpid()
        self.started = process_start(self.pid)
        self.since = now
        self.held: dict[int, tuple[int, int]] = {}

    def hold(self, claims) -> None:
        """Add (id, token, claimed) to what is held."""
        claimed = {id: (token, now) for id, token, now in claims}
        if claimed:  # a look that finds nothing writes nothing
            self.held = {**self.held, **claimed}

    def release(self, claims) -> None:
        """Let go of (id, token); what is held with another token stays."""
        held = dict(self.held)
        for id, token in claims:
            if id in held and held[id][0] == token:
                del held[id]
        if len(held) < len(self.held):
            self.held = held

    def proven_dead(self) -> bool:
        """Whether this host can tell that the process is gone."""
        if self.dead:
            return True
        if self.host != socket.gethostname():
            return False
        return self.boot != boot_id() or process_start(self.pid) != self.started


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


@cache
def boot_id() -> str:
    """Text that differs from boot to boot, or '' where the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def process_start(pid: int) -> str | None:
    """When a process of this host began, in its own terms; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if os.path.exists("/proc/self/stat"):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
