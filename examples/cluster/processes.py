"""The processes of the cluster: started, watched, ended.

    server ──> web ──> workers        begins; ends the other way round
"""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster.tasks import NAME

PATIENCE = 60.0       # seconds that a process may take to begin
GRACE_SECONDS = 5     # for jobs in hand at the end: less than what is waited for
LAST_SECONDS = 20.0
GLANCE = 0.05


class Trouble(Exception):
    """What keeps the cluster from working; the text says what."""


class Member:
    """A `remotetask` process with a log of its own."""

    def __init__(self, title, words, log, ready, **environment):
        self.title, self.words, self.log, self.ready = title, words, log, ready
        self.environment = environment
        self.process = None

    def start(self):
        """Start it; returns when it says that it is at work.  Raises Trouble."""
        self.begin()
        self.wait()

    def begin(self):
        with open(self.log, "wb") as log:
            # A session of its own: Ctrl-C is for the one who started all.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lovely.remotetask.cli", *self.words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment,
                     "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})

    def wait(self):
        end = time.monotonic() + PATIENCE
        while self.ready not in self.said():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Trouble(f"{self.title} does not begin: {self.said()[-2000:]}")
            time.sleep(GLANCE)

    def said(self):
        return self.log.read_text(errors="replace")

    @property
    def pid(self):
        return self.process.pid

    def gone(self):
        """How it has ended, or None."""
        code = self.process.poll()
        return None if code is None else \
            f"signal {-code}" if code < 0 else f"exit code {code}"

    def ask_to_end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self):
        if self.process is None:
            return
        try:
            self.process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Cluster:
    """A web process that takes no jobs, and workers; the database has its server."""

    def __init__(self, directory, uri, workers, port):
        here = Path(__file__).parent
        web = directory / "web"
        self.web = Member(
            "the web process",
            ["run", str(web), "--db", uri, "--port", str(port), "--example", str(here)],
            directory / "web.log", "Ctrl-C stops it", REMOTETASK_AUTOSTART="")
        self.workers = [Member(
            f"worker {number}",
            ["work", "--db", str(web), "--service", f"@{NAME}", "--grace",
             str(GRACE_SECONDS)],
            directory / f"worker-{number}.log", "At work on")
            for number in range(1, workers + 1)]

    def start(self):
        self.web.start()
        for worker in self.workers:
            worker.begin()
        for worker in self.workers:
            worker.wait()

    def mend(self):
        """Start those workers anew that have died; a line for each."""
        for worker in self.workers:
            how = worker.gone()
            if how is not None:
                before = worker.pid
                worker.begin()
                yield (f"{worker.title} has died ({how}); its jobs go to the others; "
                       f"process {worker.pid} takes the place of {before}")
        how = self.web.gone()
        if how is not None:
            raise Trouble(f"the web process has ended ({how}): {self.web.said()[-2000:]}")

    def stop(self):
        """The workers first: they give back what they cannot end in time."""
        for members in (self.workers, [self.web]):
            for member in members:
                member.ask_to_end()
            for member in members:
                member.end()
