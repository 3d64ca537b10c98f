"""Which jobs match, a page at a time: no job is loaded that is not shown.

    status, task, owner, tag, time      from the books alone
    text                                each job is looked at, the newest 10,000 only

Every question can be asked for a while only (*seconds*); the answer then says where
to go on.  So a page is quick whatever it asks for, and what is slow is many pages.
"""
import time
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import chain, islice
from typing import Any, NamedTuple

from lovely.remotetask import clerk, clock, lifecycle
from lovely.remotetask.errors import BadStatus
from lovely.remotetask.masking import masked
from lovely.remotetask.options import one_of

TEXT_LIMIT = 10_000       # jobs that a search for text looks at
TICK = 64                 # keys from one look at the clock to the next
PIECES = 2_000            # values of one input that are looked at for a text
NEWEST, OLDEST = "newest", "oldest"
ENDED, ENDED_FIRST = "ended last", "ended first"
BY_STATUS = "status"
ORDERS = (NEWEST, OLDEST, ENDED, ENDED_FIRST, BY_STATUS)
ENDS = tuple(status for status in lifecycle.STATUSES if status in lifecycle.FINISHED)

Key = tuple[int, ...]     # (moment, id); by status (code, moment, id)


class Found(NamedTuple):
    """A page of jobs."""

    jobs: list
    next: Key | None      # for the next page; None when there is none
    looked: int           # how many jobs a search for text has looked at
    stopped: bool         # the page is not full: time was up, or the limit of a search


class Counted(NamedTuple):
    """How many jobs match, as far as they were counted."""

    number: int
    next: Key | None      # where to go on counting; None: that is all
    looked: int


class Finding:
    """The part of a TaskService that looks for jobs."""

    jobs: Any
    index: Any
    leases: Any

    def findJobs(self, status=None, task=None, owner=None, tag=None, createdFrom=None,
                 createdBefore=None, text=None, order=NEWEST, after=None, limit=50,
                 seconds=None, looked=0, inputs=True, errors=True):
        """See ITaskService"""
        question = Question(self, status, task, owner, tag, createdFrom, createdBefore,
                            text, order, inputs, errors)
        jobs: list[Any] = []
        key = None
        stop = _stopwatch(seconds)
        for key in question.keys(after):
            if stop() or text and looked >= TEXT_LIMIT:
                return Found(jobs, after if text is None or looked < TEXT_LIMIT else None,
                             looked, True)
            after = key
            if not question.may_match(key):
                continue
            job = self.jobs.get(key[-1])
            if job is not None and question.matches(job):
                looked += 1
                if question.has_text(job):
                    jobs.append(job)
                    if len(jobs) == limit:
                        return Found(jobs, key, looked, False)
        return Found(jobs, None, looked, False)

    def countJobs(self, status=None, task=None, owner=None, tag=None, createdFrom=None,
                  createdBefore=None, text=None, after=None, seconds=None, looked=0,
                  inputs=True, errors=True):
        """See ITaskService"""
        if after is None and not any((task, owner, tag, createdFrom, createdBefore, text)):
            counts = self.counts()
            states = lifecycle.STATUSES if status is None else _words(status)
            return Counted(sum(counts[word] for word in states), None, 0)
        question = Question(self, status, task, owner, tag, createdFrom, createdBefore,
                            text, NEWEST, inputs, errors)
        number, stop = 0, _stopwatch(seconds)
        for key in question.keys(after):
            if text and looked >= TEXT_LIMIT:
                return Counted(number, None, looked)
            if stop():
                return Counted(number, after, looked)
            after = key
            if not question.may_match(key):
                continue
            if text or question.must_load(key):
                job = self.jobs.get(key[-1])
                if job is None or not question.matches(job):
                    continue
                looked += 1
                if not question.has_text(job):
                    continue
            number += 1
        return Counted(number, None, looked)

    def facetValues(self, kind, limit=200):
        """See ITaskService"""
        return self.index.values(kind, limit)


class Question:
    """What is looked for, and what of that the books can answer."""

    def __init__(self, service, status, task, owner, tag, createdFrom, createdBefore,
                 text, order, inputs, errors):
        self.states = None if status is None else _words(status)
        one_of("order", order, ORDERS)
        self.service, self.index = service, service.index
        self.task, self.owner, self.tag = task, owner, tag
        self.text = text.casefold() if text else None
        self.inputs, self.errors = inputs, errors
        self.schemas: dict[str, Any] = {}
        self.begin = 0 if createdFrom is None else clock.to_micros(createdFrom)
        self.end = None if createdBefore is None else clock.to_micros(createdBefore)
        self.facets = [(kind, value) for kind, value in (
            ("tag", tag), ("owner", owner), ("task", task)) if value is not None]
        self.order = self._order(order)
        self.by_state = not self.facets and self.states is not None \
            or self.order in (ENDED, ENDED_FIRST, BY_STATUS)
        # What the books may not know: what has a slip, and what is on a lease.
        self.fresh, _ = clerk.unfolded(service)

    def _order(self, order):
        """Some questions have one order only."""
        timed = self.begin or self.end is not None
        if order == BY_STATUS and (self.facets or self.states or timed):
            return NEWEST
        if order in (ENDED, ENDED_FIRST) and (
                self.facets or timed
                or self.states and not lifecycle.FINISHED.issuperset(self.states)):
            return NEWEST
        return order

    @property
    def ascending(self):
        return self.order in (OLDEST, ENDED_FIRST)

    def keys(self, after) -> Iterator[Key]:
        """Keys of what may match, in order, each id once."""
        after = None if after is None else tuple(after)
        if self.states == (lifecycle.PROCESSING,):
            jobs = map(self.service.jobs.get, self.service.leases.held())
            return self._sorted(
                ((job.micros("created"), job.id) for job in jobs if job is not None), after)
        if self.order == BY_STATUS:
            return _once(self._by_status(after))
        if self.order in (ENDED, ENDED_FIRST):
            states = ENDS if self.states is None else self.states
            return _once(self._merged(states, after, None))
        states = self.states or () if self.by_state else ()
        facet = self.facets[0] if self.facets else None
        return self._within(_once(self._merged(states, after, facet)))

    def _by_status(self, after):
        code = 0 if after is None else after[0]
        for number in range(code, len(lifecycle.STATUSES)):
            status = lifecycle.STATUSES[number]
            begin = after[1:] if after is not None and number == code else None
            for key in self._merged((status,), begin, None):
                yield (number, *key)

    def _merged(self, states, after, facet):
        """The books and what they do not know yet, in one order."""
        fresh = self._sorted(self._fresh_keys(states), after)
        if states:
            sources = [self.index.walk(status, None, self._start(after), self.ascending)
                       for status in states]
        else:
            sources = [self.index.walk(None, facet, self._start(after), self.ascending)]
        return merge(fresh, *sources, reverse=not self.ascending)

    def _start(self, after):
        """The key behind which the walk begins: a page before, or a time."""
        if self.ascending:
            bound = None if self.by_state or not self.begin else (self.begin, -1)
            return bound if after is None else after if bound is None else max(after, bound)
        bound = None if self.by_state or self.end is None else (self.end, 0)
        return bound if after is None else after if bound is None else min(after, bound)

    def _fresh_keys(self, states):
        for id in self.fresh:
            job = self.service.jobs.get(id)
            if job is not None and (not states or job.recordedStatus in states
                                    or job.status in states):
                yield (job.since if self.by_state else job.micros("created"), id)

    def _sorted(self, keys, after):
        found = sorted(set(keys), reverse=not self.ascending)
        if after is None:
            return iter(found)
        return iter([key for key in found
                     if (key > after if self.ascending else key < after)])

    def _within(self, keys):
        """Ends where no later key can be of the time that is asked for."""
        for key in keys:
            moment = key[0]
            if not self.by_state:
                if self.ascending and self.end is not None and moment >= self.end \
                        or not self.ascending and moment < self.begin:
                    return
            elif not self.ascending and moment < self.begin:
                return  # nothing comes to where it is before it was made
            yield key

    def may_match(self, key) -> bool:
        """False when the books know that it does not."""
        id = key[-1]
        if id in self.fresh:
            return True
        if self.states is not None and not self.by_state:
            place = self.index.place(id)
            if place is None or place[0] not in self.states:
                return False
        moment = key[-2]
        return self.by_state or all(
            self.index.has_facet(facet, moment, id) for facet in self.facets[1:])

    def must_load(self, key) -> bool:
        """Whether the books cannot tell that a job matches."""
        return key[-1] in self.fresh or self.by_state and (
            bool(self.begin) or self.end is not None)

    def matches(self, job) -> bool:
        created = job.micros("created")
        return (self.states is None or job.status in self.states) \
            and self.task in (None, job.task) and self.owner in (None, job.owner) \
            and (self.tag is None or self.tag in job.tags) \
            and created >= self.begin and (self.end is None or created < self.end) \
            and (self.order not in (ENDED, ENDED_FIRST)
                 or job.recordedStatus in lifecycle.FINISHED)

    def has_text(self, job) -> bool:
        if self.text is None:
            return True
        pieces = chain(
            (job.title, job.error or "" if self.errors else ""),
            islice(texts_in(self._shown(job)), PIECES) if self.inputs else ())
        return any(self.text in piece.casefold() for piece in pieces)

    def _shown(self, job):
        """The input without its secrets: nobody can find them out by searching."""
        if job.task not in self.schemas:
            task = self.service.findTask(job.task)
            self.schemas[job.task] = getattr(task, "inputSchema", None)
        return masked(self.schemas[job.task], job.input)


def texts_in(value) -> Iterator[str]:
    """The texts and numbers in a value of plain containers; of other objects nothing."""
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (int, float)):
            yield str(value)
        elif isinstance(value, bytes):
            yield value[:1_000].decode("ascii", "replace")
        elif isinstance(value, dict):
            todo.extend(chain.from_iterable(value.items()))
        elif isinstance(value, (list, tuple, set, frozenset)):
            todo.extend(value)


def _words(status) -> tuple[str, ...]:
    """One status or several.  Raises BadStatus."""
    words = (status,) if isinstance(status, str) else tuple(status)
    for word in words:
        one_of("status", word, lifecycle.STATUSES, BadStatus)
    return words


def _stopwatch(seconds) -> Callable[[], bool]:
    """Asked at every key: whether the time is up; never before the first."""
    if seconds is None:
        return lambda: False
    end = time.monotonic() + seconds
    count = 0

    def is_over():
        nonlocal count
        count += 1
        return count % TICK == 0 and time.monotonic() > end
    return is_over


def _once(keys) -> Iterator[Key]:
    seen: set[int] = set()
    for key in keys:
        if key[-1] not in seen:
            seen.add(key[-1])
            yield key
