"""The application as one thing that is started and stopped.

    port ──> directory ──> login ──> zope.conf, ZCML ──> database ──> web ──> at work
                                                            │
                              root, services of the first start, autostart

Stopping goes back the same way: each step leaves behind what undoes it.
"""
import logging
import os
import shlex
import sys
from contextlib import ExitStack

from zope.event import notify
from zope.interface import implementer

from lovely.remotetask import processor, uris
from lovely.remotetask.app import configuration, login
from lovely.remotetask.app.directory import Directory
from lovely.remotetask.app.interfaces import IAtWork
from lovely.remotetask.app.problems import CannotStart
from lovely.remotetask.app.terminal import Terminal
from lovely.remotetask.app.web import WebServer
from lovely.remotetask.failure import marked, traceback_of
from lovely.remotetask.runtime import engine
from lovely.remotetask.signals import stop_signals

log = logging.getLogger("lovely.remotetask.app")

#: How long jobs in hand may run on when the application stops. What is not done
#: by then is handed back; the next start goes on with it.
GRACE_SECONDS = 0.5

LOOK_UP_SECONDS = 0.2


class Application:
    """What is to be started.  `start` raises CannotStart, with nothing left open.

    `on_start` is a list of functions that are called with the running
    application when it is at work.
    """

    def __init__(self, directory="var", host="127.0.0.1", port=8080, *,
                 example=None, uri=None, threads=4, stream=None):
        self.directory = Directory(directory)
        self.host, self.port, self.threads = host, port, threads
        self.example, self.uri = example, uri
        self.stream = stream
        self.on_start = []

    def start(self):
        with ExitStack() as undo:
            running = Running(self.directory, undo)
            self._start(running)
            for function in self.on_start:
                function(running)
            running._undo = undo.pop_all()
        log.info("the application is at work on %s", running.url)
        return running

    def _start(self, running):
        web = WebServer(self.host, self.port, self.threads)
        running.on_stop(web.socket.close)
        running.url = web.url
        self.directory.prepare(self.example, self.uri)
        running.login = login.get(self.directory.login)
        terminal = Terminal(self.stream)
        running.on_stop(logging.getLogger().removeHandler, terminal)
        options = configuration.read(self.directory.conf)
        login.define(running.login)  # before the ZCML, which grants it everything
        configuration.apply(options, terminal)
        running.db = configuration.open_databases(options)
        running.on_stop(configuration.close_databases, running.db)
        engine.warn(running.db)
        running.on_stop(processor.stop_all, running.db, GRACE_SECONDS, GRACE_SECONDS)
        web.start(running.db)
        running.on_stop(web.stop)
        if not web.is_local:
            log.warning("the web server can be reached from other machines, and "
                        "passwords come to it unencrypted: put a proxy before it")


class Running:
    """An application at work: `directory`, `db`, `url` and `login`."""

    db = url = login = None

    def __init__(self, directory, undo):
        self.directory = directory
        self._undo = undo

    def on_stop(self, function, *arguments, **named):
        """Have *function* called when the application stops.

        What came last goes first: what is added here after the start is called
        while the database is open and the services are at work.
        """
        self._undo.callback(_safely, function, arguments, named)

    def stop(self):
        """Stop the web server, then the services, then close the database."""
        self._undo.close()


@implementer(IAtWork)
class AtWork:

    def __init__(self, running, stream):
        self.running, self.stream = running, stream


def _safely(function, arguments, named):
    """One step of stopping that fails must not keep the database open."""
    try:
        function(*arguments, **named)
    except Exception as error:
        log.error("a step of stopping the application has failed:\n%s",
                  marked(traceback_of(error)))


def run(directory="var", host="127.0.0.1", port=8080, *, example=None, uri=None,
        threads=4, on_start=(), out=None) -> int:
    """Run the application until Ctrl-C or SIGTERM; the exit code."""
    out = out or sys.stdout
    with stop_signals() as asked:
        try:
            application = Application(
                directory, host, port, example=example, uri=uri, threads=threads,
                stream=out)
            application.on_start.extend(on_start)
            running = application.start()
        except CannotStart as error:
            print(f"remotetask: {error}", file=sys.stderr)
            return error.exit_code
        try:
            print(greeting(running), file=out, flush=True)
            notify(AtWork(running, out))
            # A signal just before an endless wait would not end it: Python's handler
            # runs in this thread, once it looks up.
            while not asked.wait(LOOK_UP_SECONDS):
                pass
            print("\nStopping; a second Ctrl-C stops at once.", file=out, flush=True)
        finally:
            running.stop()
        print("Stopped.", file=out, flush=True)
        return 0


def greeting(running):
    """What the one who started it should know and can try next."""
    directory = running.directory
    path = os.path.relpath(directory.path)
    url = running.url
    return f"""
lovely.remotetask is at work.

  Web page   {url}++skin++RemoteTask/  (jobs, schedules, workers)
  ZMI        {url}@@contents.html
  Login      {running.login.login}
  Password   {running.login.password}        (kept in {path}/login.txt)
  Database   {_database(directory)}
  Log        {path}/log/event.log
  Settings   {path}/zope.conf, {path}/site.zcml

Try next, in another terminal:

{_hints(path)}

Ctrl-C stops it.
"""


def _database(directory):
    """The database, as its zope.conf names it."""
    uri = directory.uri()
    if uri is not None:
        return uris.hidden(uri)
    if directory.database.exists():
        return os.path.relpath(directory.database)
    return "see the settings"


def _hints(path):
    """Commands that work where they are shown."""
    remotetask = _command()
    there = "" if path == "var" and "REMOTETASK_DB" not in os.environ \
        else f" --db {shlex.quote(path)}"
    commands = [(f"{remotetask} status{there}", "what the services do"),
                (f"{remotetask} add echo '\"hello\"'{there}", "a job; prints its number"),
                (f"{remotetask} list{there}", "the newest jobs"),
                (f"{remotetask} --help", "all that can be said")]
    longest = max(len(command) for command, _ in commands)
    return "\n".join(f"  {command.ljust(longest)}    {meaning}"
                     for command, meaning in commands)


def _command():
    """How this user calls the command line: as it was called, if it was."""
    path = os.path.relpath(sys.argv[0])
    if os.path.basename(path) != "remotetask" or path.startswith(os.pardir):
        return "remotetask"
    return path
