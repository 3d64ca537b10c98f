"""Finds the services of a database, and upgrades them in small commits."""
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from persistent import Persistent
from transaction import TransactionManager
from transaction.interfaces import TransientError

from lovely.remotetask import lifecycle
from lovely.remotetask.service import TaskService
from lovely.remotetask.upgrade import BATCH, Unreadable, pending

TRIES = 50           # of one batch; others may write to the service meanwhile
SWEEP = 1_000        # containers or jobs looked at between two looks at the cache


class Report(NamedTuple):
    """What the upgrade of one service has done, or a dry run says it would do."""

    path: str
    jobs: int              # that stood in the shape of 0.5
    counts: dict           # status they come to have -> how many of them
    requeued: int          # were called queued, and stood in no queue
    left_out: dict         # number -> why it cannot be read

    def __str__(self):
        states = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        lines = [f"{self.path}: {self.jobs} jobs ({states or 'none'}), "
                 f"{self.requeued} queued again, {len(self.left_out)} left out"]
        lines += [f"  job {id} is left out: {why}" for id, why in self.left_out.items()]
        return "\n".join(lines)


def upgrade_database(db, *, dry_run=False, batch=BATCH, commit=None) -> list[Report]:
    """Bring every service of 0.5 in a database into today's shape; what was done.

    Makes a commit for every *batch* jobs, on a connection of its own.  It can be
    killed at any moment and called again: it goes on where the last commit was.
    Readers and workers may be busy meanwhile.  dry_run: write nothing, only tell.
    commit: called instead of the commit of each batch, with that as its argument.
    """
    reports = []
    with connected(db) as connection:
        paths = [(path, service._p_oid) for path, service in services(connection)]
    for path, oid in paths:
        with connected(db) as connection:
            service = connection.get(oid)
            if pending(service) is not None:
                reports.append(survey(path, service))
        if not dry_run:
            _upgrade(db, oid, path, batch, commit)
    return reports


def _upgrade(db, oid, path, batch, commit) -> None:
    more, tries = True, 0
    while more:
        with connected(db) as connection:
            manager = connection.transaction_manager
            service = connection.get(oid)
            try:
                if pending(service) is None:
                    return
                left = service.advanceUpgrade(batch)
                manager.get().note(f"upgrade {path} from release 0.5")
                manager.commit() if commit is None else commit(manager.commit)
                more, tries = left, 0
            except TransientError:  # the connection is closed with an abort
                tries += 1
                if tries == TRIES:
                    raise


def survey(path: str, service) -> Report:
    """What is to be done for a service of 0.5.  Writes nothing."""
    upgrade = pending(service)
    assert upgrade is not None  # those of today are not surveyed
    counts: Counter[str] = Counter()
    left_out: dict[int, str] = {}
    requeued = 0
    queued = set(upgrade.queued())
    for number, id in enumerate(upgrade.jobs.keys()):
        try:
            job = upgrade.read(id)
        except Unreadable as why:
            left_out[id] = str(why)
            continue
        status = job.recordedStatus
        waits = status in lifecycle.WAITING and status != lifecycle.CRONJOB
        if waits and id in queued:
            status = lifecycle.QUEUED
        elif status == lifecycle.QUEUED or job.__dict__.get("lost"):
            requeued += 1
        counts[status] += 1
        if number % SWEEP == SWEEP - 1:
            service._p_jar.cacheGC()
    return Report(path, len(upgrade.jobs), dict(counts), requeued, left_out)


def services(connection) -> Iterator[tuple[str, TaskService]]:
    """(path, service) of all services: in the root, containers and site managers.

    Loads containers only; what they contain is told by its class.  A service in a
    place that is no container is found where it is registered as a utility.
    """
    root = connection.root()
    seen: set = set()
    todo = [(str(name), value) for name, value in root.items()]
    for number, (path, place) in enumerate(_walk(todo, seen)):
        if isinstance(place, TaskService):
            yield path, place
        if number % SWEEP == SWEEP - 1:
            connection.cacheGC()


def _walk(todo, seen) -> Iterator[tuple[str, object]]:
    while todo:
        path, place = todo.pop()
        if not isinstance(place, Persistent) or place._p_oid in seen:
            continue
        if isinstance(place, TaskService):
            seen.add(place._p_oid)
            yield path, place
        elif hasattr(type(place), "items"):
            seen.add(place._p_oid)
            yield path, place
            todo.extend(_below(path, place))


def _below(path, place):
    try:
        found = []  # taken from its end: what is contained comes before what is
        if hasattr(type(place), "registeredUtilities"):  # registered only
            found += [(f"{path}/{utility.name}", utility.component)
                      for utility in place.registeredUtilities()
                      if isinstance(utility.component, TaskService)]
        found += [(f"{path}/{name}", value) for name, value in place.items()]
        manager = getattr(place, "_sm", None)
        if manager is not None:
            found.append((f"{path}/++etc++site", manager))
        return found
    except TransientError:
        raise
    except Exception:  # a container that cannot be read has no services to upgrade
        return []


@contextmanager
def connected(db):
    """A connection with a transaction of its own, whatever the thread is at."""
    manager = TransactionManager()
    connection = db.open(manager)
    try:
        yield connection
    finally:
        manager.abort()
        connection.close()
