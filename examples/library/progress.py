"""How far the indexing is, on the terminal of the application.

On a terminal one line that is renewed; elsewhere a line now and then.
"""
import logging
import os
import shlex
import shutil
import sys
import threading
import time
from collections import deque
from pathlib import Path

from lovely.remotetask.startup import application
from transaction import TransactionManager

from library.tasks import NAME

PAUSE = 0.5        # seconds between two looks
PLAIN_PAUSE = 10   # seconds between two lines, where they cannot be renewed
RECENT = 20        # looks over which the speed is taken
BAR = 24           # characters
ERASE = "\r\x1b[K"

log = logging.getLogger(__name__)


class Display:
    """Shows the progress of the library in a database until its report is there.

    `start` returns at once; `stop` ends it and tidies the line up.
    """

    def __init__(self, db, stream=None, database="var/Data.fs"):
        self.db, self.database = db, database
        self.stream = stream or sys.stdout
        self.is_terminal = getattr(self.stream, "isatty", lambda: False)()
        self._stopped = threading.Event()
        self._shown = False
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._thread = threading.Thread(
            target=self._run, name="library-progress", daemon=True)

    def start(self):
        for handler in self._handlers():
            handler.addFilter(self._make_room)
        self._thread.start()

    def stop(self):
        self._stopped.set()
        self._thread.join(5)

    def _handlers(self):
        """Those who write to the same terminal."""
        return [handler for handler in logging.getLogger().handlers
                if getattr(handler, "stream", None) is self.stream]

    def _make_room(self, record) -> bool:
        """A line of the log takes the place of the progress, which comes again."""
        with self._lock:
            self._erase()
        return True

    def _run(self):
        try:
            spoken = float("-inf")
            while not self._stopped.wait(PAUSE):
                counts, last = self._look()
                if counts is None:
                    continue
                if last is not None:
                    self._say(f"{closing(last)}\n{hint(self.database)}")
                    return
                now = time.monotonic()
                self._seen.append((now, counts["runs"]))
                if self.is_terminal:
                    self._renew(line(counts, self._speed()))
                elif now - spoken >= PLAIN_PAUSE:
                    spoken = now
                    self._say(line(counts, self._speed()))
        except Exception:
            log.exception("the progress of the library is not shown any more")
        finally:
            with self._lock:
                self._erase()
            for handler in self._handlers():
                handler.removeFilter(self._make_room)

    def _look(self):
        """(totals, report): None for what is not there yet."""
        manager = TransactionManager(explicit=True)
        connection = self.db.open(manager)
        try:
            manager.begin()
            library = application(connection).get(NAME)
            if library is None or not library.reporting.asked:
                return None, None
            reporting = library.reporting
            return library.counts(), reporting.last if reporting.began is None else None
        finally:
            manager.abort()
            connection.close()

    def _speed(self) -> float:
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - began) if ended > began else 0.0

    def _renew(self, text):
        with self._lock:
            self.stream.write(ERASE + text)
            self.stream.flush()
            self._shown = True

    def _say(self, text):
        with self._lock:
            self._erase()
            self.stream.write(text + "\n")
            self.stream.flush()

    def _erase(self):
        if self._shown:
            self.stream.write(ERASE)
            self.stream.flush()
            self._shown = False


def line(counts, speed: float) -> str:
    """What is shown while files wait."""
    known, done = counts["known"], counts["known"] - counts["waiting"]
    full = BAR * done // known if known else 0
    return (f"library [{'#' * full:{BAR}}] {done:,} of {known:,} files, "
            f"{speed:.0f} a second, {plural(counts['conflicts'], 'conflict')}")


def closing(last) -> str:
    """What is said of a report."""
    return (f"library: {plural(last['known'], 'file')} with "
            f"{last['classes']:,} classes and {last['functions']:,} functions, "
            f"{last['vocabulary']:,} words; {last['unreadable']:,} could not be "
            f"understood, {last['failed']:,} ended in error; "
            f"{plural(last['conflicts'], 'conflict')}. It took {last['seconds']:.0f} s.")


def hint(database) -> str:
    """A command that works where it is shown, with the path of the Data.fs."""
    path = os.path.relpath(database)
    path = os.path.abspath(database) if path.startswith(os.pardir) else path
    where = "" if path == "var/Data.fs" else f"--database {shlex.quote(path)} "
    return (f"Ask it, in another terminal: {_python()} -m library search {where}"
            "json decoder")


def _python() -> str:
    """The Python that knows the example: beside bin/remotetask that is bin/py."""
    path = os.path.join(os.path.dirname(os.path.relpath(sys.argv[0])), "py")
    if os.access(path, os.X_OK):
        return path
    python = shutil.which("python") or ""
    words = "python" if os.path.abspath(python) == os.path.abspath(sys.executable) \
        else sys.executable
    examples = os.path.relpath(Path(__file__).parents[1])
    return f"PYTHONPATH={shlex.quote(examples)} {shlex.quote(words)}"


def plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
