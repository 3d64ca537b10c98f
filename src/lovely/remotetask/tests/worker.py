"""A worker process on any storage: the tests start, stop and kill several.

    python -m lovely.remotetask.tests.worker URI [processor arguments, in JSON]

It tells on its standard output what happens, and comes to its end when its standard
input is closed.  A line of its input lets what waits in `hold` go on.
"""
import json
import logging
import os
import signal
import subprocess
import sys
import threading

from zope.component import provideUtility
from zope.component.hooks import setHooks

from lovely.remotetask import processor
from lovely.remotetask.cli import databases
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.runtime.attendance import Attendance
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests.servers import BOUND
from lovely.remotetask.tests.support import effect
from lovely.remotetask.tests.victim import pill, tell, work

gate = threading.Event()


def hold(input, context):
    """Stay in hand until the test says so, or the attempt shall stop."""
    tell("holds", context.jobid)
    while not context.wait(0.05) and not gate.is_set():
        pass
    tell("stops" if context.should_stop else "goes", context.jobid)
    effect(input, context)


def crowd(input, context):
    """Tell how many jobs of this process are in hand at once, at most."""
    with _lock:
        _inside.append(context.jobid)
        tell("inside", len(_inside))
    context.wait(0.05)
    with _lock:
        _inside.remove(context.jobid)
    effect(input, context)


_inside: list = []
_lock = threading.Lock()


class Attending(Attendance):
    """Tells how often it has asked what to do."""

    number = 0

    def _ask(self):
        orders = super()._ask()
        self.number += 1
        tell("attends", self.number, self.dispatcher.name)
        return orders


def main(uri, arguments="{}"):
    logging.getLogger("lovely.remotetask").addHandler(logging.NullHandler())
    setHooks()
    for name, function in (("work", work), ("hold", hold), ("pill", pill),
                           ("crowd", crowd)):
        provideUtility(SimpleTask(function, wantsContext=True), ITask, name)
    database = databases.find(uri)
    db = database.open()
    connection = db.open()
    service = connection.root()["tasks"]
    service.processorArguments = {**service.processorArguments, **json.loads(arguments)}
    thread = processor.SimpleProcessor(db, ("tasks",), **service.processorArguments)
    connection.transaction_manager.abort()
    connection.close()
    thread.dispatcher.attendance.__class__ = Attending
    running = threading.Thread(target=thread, daemon=True)
    running.start()
    tell("ready", os.getpid())
    for _line in sys.stdin:
        gate.set()
    gate.set()
    thread.stop()
    running.join(BOUND)
    database.close(db)
    tell("ends")


class Worker:
    """Such a process, seen from the test that started it."""

    def __init__(self, test, uri, host=None, **arguments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        if host is not None:
            environment["REMOTETASK_HOST"] = host
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, uri, json.dumps(arguments)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.lines: list[list[str]] = []
        self.said = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        test.addCleanup(self.close)

    def _read(self):
        for line in self.process.stdout:
            with self.said:
                self.lines.append(line.split())
                self.said.notify_all()
        with self.said:
            self.lines.append(["over"])
            self.said.notify_all()

    def count(self, *words) -> int:
        return sum(line[:len(words)] == list(map(str, words)) for line in self.lines)

    def wait(self, *words, number=1):
        """The so-manieth line that begins with these words."""
        words = list(map(str, words))

        def found():
            return [line for line in self.lines if line[:len(words)] == words]

        with self.said:
            if not self.said.wait_for(
                    lambda: len(found()) >= number or ["over"] in self.lines, BOUND) \
                    or len(found()) < number:
                raise AssertionError(f"it has not said {words} {number} times: "
                                     f"{self.lines[-5:]}")
            return found()[number - 1]

    def attends(self, times=3):
        """Wait until it has asked what to do so many times more."""
        self.wait("attends", number=self.count("attends") + times)

    def go(self):
        """Let what waits in `hold` go on."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Have it come to its end in good order."""
        self.process.stdin.close()
        self.wait("ends")
        self.process.wait(BOUND)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.reader.join(BOUND)
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except OSError:
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
