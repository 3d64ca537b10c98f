"""Answers that go on: fed by the watch, or iterated over by any WSGI server."""
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from zope.interface import implementer

from lovely.remotetask.http.interfaces import ILine, IStream

#: How many threads of a plain WSGI server may wait at once: the others answer what
#: there is and end, and the client comes again.  Our own server needs none.
PATIENT = threading.BoundedSemaphore(2)
LONGEST_WAIT = 60.0   # seconds without a word, after which a thread gives up


@implementer(IStream)
class Stream:
    """See IStream.  follow(line, patient): joins the watch with a follower."""

    def __init__(self, follow: Callable[[Any, bool], None]):
        self._follow = follow

    def feed(self, line: Any) -> None:
        """See IStream"""
        self._follow(line, True)

    def __iter__(self) -> Iterator[bytes]:
        patient = PATIENT.acquire(blocking=False)
        line = Waited()
        try:
            self._follow(line, patient)
            yield from line
        finally:
            line.close()
            if patient:
                PATIENT.release()


@implementer(ILine)
class Waited:
    """A line whose other end is a thread that waits for what is written."""

    open = True

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def write(self, data: bytes) -> bool:
        """See ILine"""
        if self.open:
            self._queue.put(data)
        return self.open

    def close(self) -> None:
        """See ILine"""
        if self.open:
            self.open = False
            self._queue.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                data = self._queue.get(timeout=LONGEST_WAIT)
            except queue.Empty:
                return
            if data is None:
                return
            yield data
