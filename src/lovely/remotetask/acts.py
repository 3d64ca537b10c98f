"""Who acts, and that it is kept: what people do to services and jobs.

A person is the principal of the present interaction, or who works on the command
line.  What the runtime does, and what the task of a job does, is nobody's act: it
is told by the jobs themselves.  So is plain adding: a job knows its owner.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from lovely.remotetask import clock, task
from lovely.remotetask.failure import clean
from lovely.remotetask.runtime.frames import present_owner
from lovely.remotetask.store.trail import IDS_KEPT, TEXT_LIMIT, Entry, Trail

DAY = 86_400_000_000   # microseconds

_acting: ContextVar[str | None] = ContextVar("lovely.remotetask.acting", default=None)


@contextmanager
def acting(who: str) -> Iterator[None]:
    """What is done in here is done by *who*, where no interaction says it better."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def actor() -> str | None:
    """The person who acts at present, or None."""
    return present_owner() or _acting.get()


def note(service: Any, verb: str, *ids: int, detail: str = "", also_in_tasks: bool = False
         ) -> None:
    """Keep that a person does this to these jobs, in the present transaction.

    What one person does to many jobs in one transaction is one entry.
    """
    who = actor()
    if who is None or task.context() is not None and not also_in_tasks:
        return
    if service.trail is None:
        service.trail = Trail()
    trail, detail = service.trail, clean(detail)[:TEXT_LIMIT]
    kept = _entries_of_now(service._p_jar, trail)
    act = who, verb, detail
    key, before = kept.get(act, (0, None))
    if before is not None and trail.get(key) == before:
        entry = before.and_also(ids)
        trail.replace(key, entry)
    else:  # the first, or one that was rolled back
        now, settings = clock.micros(), service.effectiveSettings()
        oldest = now - round(settings.trail_days * DAY) if settings.trail_days else 0
        entry = Entry(now, clean(who)[:TEXT_LIMIT], verb, ids[:IDS_KEPT], len(ids), detail)
        key = trail.add(entry, settings.trail_count, oldest)
    kept[act] = key, entry


def _entries_of_now(jar: Any, trail: Trail) -> dict[tuple[str, str, str], tuple[int, Entry]]:
    """What was kept in this transaction."""
    if jar is None:
        return {}
    transaction = jar.transaction_manager.get()
    try:
        return transaction.data(trail)
    except KeyError:
        made: dict[tuple[str, str, str], tuple[int, Entry]] = {}
        transaction.set_data(trail, made)
        return made
