"""Dispatchers that share the work take turns, where their commits would wait in a circle.

RelStorage locks each object of a commit in PostgreSQL: those that were only read (the
inner nodes of a BTree whose leaf is changed) shared and at once, then those that were
changed, and waits for them.  Two dispatchers at one line lock crosswise; PostgreSQL
needs a second (deadlock_timeout) to find that, and whoever comes meanwhile conflicts.

    at home    may keep his own shards while all others do: a shared lock
    a helper   works in the shards of others: alone

It is an advisory lock of the database, on a connection of its own: who dies lets go of
it.  It spares waiting and is no more than that; what it cannot be had for is done
without.
"""
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ZODB.DB import DB
from ZODB.utils import u64

from lovely.remotetask.failure import in_log
from lovely.remotetask.runtime import watch

log = logging.getLogger(__name__)

# Locks of two numbers are a space of their own; RelStorage's are of one.
SPACE = 0x72656D74       # the first number of ours
PATIENCE_SECONDS = 2.0   # somebody who has the turn was stopped
REST_SECONDS = 10.0      # so long it is done without, after that or an error


class Turns:
    """The turns of one dispatcher of a service."""

    def __init__(self, adapter: Any, oid: bytes) -> None:
        self.dsn = adapter._dsn
        self.key = u64(oid) & 0x7FFFFFFF
        self.connection: Any = None
        self.rest_until = float("-inf")

    @contextmanager
    def take(self, alone: bool) -> Iterator[bool]:
        """Wait for a turn, and end it; whether there was one."""
        taken = self._begin("" if alone else "_shared")
        try:
            yield taken
        finally:
            if taken:
                self._end()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _begin(self, kind: str) -> bool:
        if time.monotonic() < self.rest_until:
            return False
        while True:
            kept = self.connection is not None  # it may be lost since
            try:
                self._call(f"BEGIN; SELECT pg_advisory_xact_lock{kind}"
                           f"({SPACE}, {self.key})")
                return True
            except Exception as error:
                self.close()
                if not kept or getattr(error, "pgcode", None) is not None:
                    log.debug("no turn, it is done without: %s", in_log(error))
                    self.rest_until = time.monotonic() + REST_SECONDS
                    return False

    def _end(self) -> None:
        try:
            self._call("COMMIT")
        except Exception as error:
            log.debug("a turn ended with its connection: %s", in_log(error))
            self.close()

    def _call(self, statements: str) -> None:
        if self.connection is None:
            self.connection = watch.connect(self.dsn)
            self.connection.cursor().execute(
                f"SET lock_timeout TO {round(PATIENCE_SECONDS * 1000)}")
        self.connection.cursor().execute(statements)


def turns_for(db: DB, oid: bytes) -> Turns | None:
    """The turns at a service of that oid; None where nobody waits in a circle."""
    adapter = watch.adapter_of(db)
    if adapter is None or not watch.speaks_postgresql(adapter):
        return None
    return Turns(adapter, oid)
