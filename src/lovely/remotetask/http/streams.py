"""Changes as they happen: server-sent events.

    event: job        a job is somewhere else now: id, task, status, reason
    event: counts     {status: number}, when they have changed
    event: reset      more has changed than is told one by one: read the lists again

The id of an event is a moment and a number.  A client that comes back with it in
Last-Event-ID hears what it has missed, from memory or from the books, also after a
restart and from another process; an event can come twice, none is left out.
"""
import time
from collections import deque
from typing import Any

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.http import watch
from lovely.remotetask.http.answers import Answer, encoded
from lovely.remotetask.http.lines import Stream
from lovely.remotetask.http.problems import Problem

STREAMS_LIMIT = 100       # open at once in a process
STREAMS_EACH = 20         # of one principal
HEARTBEAT_SECONDS = 15.0  # a line, so that proxies and clients know of us
LIFETIME_SECONDS = 900.0  # then the client comes again, and is asked who it is again
RETRY_MILLISECONDS = 2_000
EVENTS_KEPT = 1_000       # in memory, for those who come back
TOLD = 200                # changed jobs told one by one at a look; else: reset
SLACK = 3_000_000         # microseconds that the books may lag
PAGE = 25


def events(call) -> Answer:
    watcher = watch.over(call.service._p_jar.db())
    mine = principal_id(call.request)
    open_ = [each for each in watcher.followers() if isinstance(each, Listener)]
    if len(open_) >= STREAMS_LIMIT \
            or sum(each.principal == mine for each in open_) >= STREAMS_EACH:
        raise Problem("too-many-streams", "too many event streams are open",
                      headers={"Retry-After": "30"})
    last = parse_id(call.request.getHeader("Last-Event-ID"))

    def follow(line, patient):
        listener = Listener(call.service, line, mine, last, patient)
        watch.over(listener.db).join(listener)
    return Answer(stream=Stream(follow), headers={
        "Content-Type": "text/event-stream", "Cache-Control": "no-store",
        "X-Accel-Buffering": "no"})


def principal_id(request) -> str | None:
    return getattr(request.principal, "id", None)


def parse_id(text: str | None) -> tuple[int, int] | None:
    moment, _, number = (text or "").strip().partition(".")
    if not (moment.isascii() and moment.isdigit() and len(moment) < 20
            and number.isascii() and number.isdigit() and len(number) < 10):
        return None
    return int(moment), int(number)


def event(id: tuple[int, int], name: str, data: Any) -> bytes:
    head = f"id: {id[0]}.{id[1]}\nevent: {name}\ndata: ".encode()
    return head + encoded(data) + b"\n\n"


class Listener(watch.Follower):
    """One stream of events."""

    def __init__(self, service, line, principal, last, patient=True):
        super().__init__(service, line)
        self.principal = principal
        self.last = last          # what the client has heard, None at first
        self.begun = False
        now = time.monotonic()
        self.until = now + LIFETIME_SECONDS if patient else now
        self.heard = now

    def look(self, service: Any, shared: dict) -> bool:
        news: News = shared.setdefault("news", News())
        if shared.get("looked") is None:
            news.look(service)
            shared["looked"] = True
        if not self.begun:
            self.begun = True
            self._write(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
            self._begin(service, news)
        for id, data in news.since(self.last):
            self._write(data)
            self.last = id
        now = time.monotonic()
        if now - self.heard >= HEARTBEAT_SECONDS:
            self._write(b":\n\n")
        return self.line.open and now < self.until

    def _begin(self, service, news) -> None:
        """What the client has missed, and the counts."""
        last, self.last = self.last, news.last
        if last is not None and news.reaches(last):
            self.last = last
        elif last is not None:
            # Under the id that the client has: what breaks off begins again.
            for data in news.again(service, last):
                self._write(data)
        self._write(event(self.last, "counts", service.counts()))

    def _write(self, data: bytes) -> None:
        self.heard = time.monotonic()
        if not self.line.write(data):
            self.line.close()  # gone, or too slow: it can come back


class News:
    """What has changed in a service from one look to the next."""

    def __init__(self) -> None:
        self.kept: deque[tuple[tuple[int, int], bytes]] = deque(maxlen=EVENTS_KEPT)
        self.first = self.last = (clock.micros(), 0)
        self.counts: dict[str, int] | None = None
        self.held: set[int] = set()
        self.known: dict[int, tuple[str, int]] = {}  # as told last, of late
        self.looked = 0

    def since(self, last) -> list[tuple[tuple[int, int], bytes]]:
        if last is not None and last >= self.last:
            return []
        return [(id, data) for id, data in self.kept if last is None or id > last]

    def reaches(self, last) -> bool:
        """Whether all that came after that event is still in memory."""
        first = self.kept[0][0] if len(self.kept) == EVENTS_KEPT else self.first
        return first <= last

    def look(self, service) -> None:
        now = clock.micros()
        held = {id for worker in service.workers() for id in worker["holds"]}
        if not self.looked:   # the beginning: nothing is news yet
            self.looked, self.held = now, held
            self.counts = service.counts()
            return
        changed, all_told = self._changed(service, held, self.looked - SLACK)
        if all_told:
            for job in changed:
                self._tell(now, "job", told(job))
        else:
            self._tell(now, "reset", {})
        counts = service.counts()
        if counts != self.counts:
            self.counts = counts
            self._tell(now, "counts", counts)
        self.looked, self.held = now, held

    def _changed(self, service, held, since) -> tuple[list, bool]:
        """Jobs that are not as they were told last; and whether that is all."""
        found = {}
        moved = held ^ self.held
        all_told = len(moved) <= TOLD
        for id in list(moved)[:TOLD]:
            job = service.jobs.get(id)
            if job is not None:
                found[id] = job
        late, complete = late_jobs(service, since)
        found.update(late)
        changed = []
        known = {}
        for id, job in found.items():
            place = job.status, job.since
            known[id] = place
            if self.known.get(id) != place:
                changed.append(job)
        self.known = {**{id: place for id, place in self.known.items()
                         if place[1] > since}, **known}
        return changed, all_told and complete and len(changed) <= TOLD

    def again(self, service, last) -> list[bytes]:
        """The jobs that came to where they are after an event, from the books."""
        late, complete = late_jobs(service, last[0] - SLACK)
        if not complete:
            return [event(last, "reset", {})]
        held = [service.jobs.get(id) for id in list(self.held)[:TOLD]]
        jobs = {**late, **{job.id: job for job in held if job is not None}}
        return [event(last, "job", told(job))
                for job in sorted(jobs.values(), key=lambda job: job.since)]

    def _tell(self, now, name, data) -> None:
        self.last = max((now, 0), (self.last[0], self.last[1] + 1))
        self.kept.append((self.last, event(self.last, name, data)))


def told(job) -> dict[str, Any]:
    return dict(id=job.id, task=job.task, status=job.status, reason=job.reason)


def late_jobs(service, since: int) -> tuple[dict[int, Any], bool]:
    """The jobs that came to where they are after *since*, and whether all are there."""
    found: dict[int, Any] = {}
    for status in lifecycle.STATUSES:
        if status == lifecycle.PROCESSING:
            continue
        after = None
        while True:
            jobs, after = service.listJobs(status=status, after=after, limit=PAGE)
            late = [job for job in jobs if job.since > since]
            found.update((job.id, job) for job in late)
            if len(found) > TOLD:
                return found, False
            if len(late) < len(jobs) or after is None:
                break
    return found, True
