"""The long-lived commands: a worker process, and the application."""
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack

import zope.component
from transaction import TransactionManager

from lovely.remotetask import filters, lifecycle, processor, startup
from lovely.remotetask.cli import databases, times
from lovely.remotetask.cli.output import Output, number
from lovely.remotetask.cli.problems import (
    DATABASE, DONE, FAILED, BadArgument, NoDatabase, NoSuchService)
from lovely.remotetask.cli.services import choose, find_all
from lovely.remotetask.cli.socket import Server, path_for
from lovely.remotetask.failure import in_log
from lovely.remotetask.signals import stop_signals

log = logging.getLogger("lovely.remotetask")

LOOK_SECONDS = 0.5   # between two looks whether the storage is still there


def run(options, out) -> int:
    """The application, with a socket for commands."""
    try:
        from lovely.remotetask import app
    except ImportError as error:
        raise NoDatabase(databases.NEEDS_APP.format("the application", error)) from error
    if options.db is not None and "://" not in options.db:
        raise BadArgument(f"{in_log(options.db)} is no URI; a directory is named without "
                          "--db: remotetask run DIRECTORY")
    watch = Watch()
    code = app.run(options.directory, options.host, options.port,
                   example=options.example, uri=options.db,
                   on_start=[open_socket, watch.start])
    return DATABASE if watch.gone else code


class Watch:
    """Stops an application whose storage has gone for good: nothing works there any
    more, and a supervisor can start it again."""

    gone = False

    def start(self, running) -> None:
        over = threading.Event()
        running.on_stop(over.set)
        threading.Thread(target=self._look, args=(over,), daemon=True,
                         name="remotetask-watch").start()

    def _look(self, over) -> None:
        while not over.wait(LOOK_SECONDS):
            if processor.failed() is not None:
                self.gone = True
                os.kill(os.getpid(), signal.SIGTERM)
                return


def open_socket(running) -> None:
    """Take commands for a running application, until it stops."""
    server = socket_for(running.db, databases.find(str(running.directory.path)))
    if server is not None:
        running.on_stop(server.stop)


def socket_for(db, database):
    """A started server where the database admits one process, else None."""
    if database.file is None:
        return None
    try:
        return Server(db, path_for(database.file)).start()
    except NoDatabase as error:
        # The work goes on; the command line can read, and cannot write.
        log.warning("no commands can be taken: %s", in_log(error))
        return None


def work(options, out) -> int:
    """A worker process: services, no web."""
    grace = None if options.grace is None else times.duration(options.grace)
    with stop_signals() as asked, ExitStack() as undo:
        database = databases.find(options.db)
        db = _open(database, options)
        undo.callback(database.close, db)
        # Before the services, so that it answers until they have come to their end.
        server = socket_for(db, database)
        if server is not None:
            undo.callback(server.stop)
        left = []
        undo.callback(lambda: left.extend(processor.stop_all(db, grace)))
        started = start(db, options.service, **processor_arguments(options))
        out.line(f"At work on {', '.join(started)} as process {os.getpid()}; "
                 "Ctrl-C or SIGTERM stops it.")
        out.stream.flush()
        code = _until(asked, out)
        if code == DONE:
            out.line(_stopping(db, started, grace))
            out.stream.flush()
        undo.close()
    if left:
        out.complain(f"some jobs did not end in time and are given back: {', '.join(left)}")
    elif code == DONE:
        out.line("Stopped.")
    return code or (FAILED if left else DONE)


def _stopping(db, started, grace) -> str:
    """What the one who asked it to stop has to wait for."""
    jobs, longest = _in_hand(db, started)
    seconds = longest if grace is None else grace
    in_hand = f" {number(jobs, 'job')} in hand may run on for up to " \
              f"{times.span(seconds)};" if jobs and seconds else ""
    return f"Stopping;{in_hand} a second Ctrl-C stops at once."


def _in_hand(db, started):
    """How many jobs run in this process, and their services' longest grace time.

    (0, 0) where the database cannot tell, which must not keep it from stopping.
    """
    transactions = TransactionManager()
    try:
        connection = db.open(transactions)
    except Exception:
        return 0, 0
    try:
        found = [each.service for each in find_all(connection)
                 if each.address["directive"] in started]
        ours = [(service, id) for service in found for worker in service.workers()
                if worker["alive"] and worker["pid"] == os.getpid()
                for id in worker["holds"]]
        running = [job for service, id in ours if (job := service.jobs.get(id))
                   is not None and job.recordedStatus not in lifecycle.FINISHED]
        return len(running), max(
            service.effectiveSettings().grace_seconds for service in found)
    except Exception as error:
        log.warning("the jobs in hand cannot be counted: %s", in_log(error))
        return 0, 0
    finally:
        transactions.abort()
        connection.close()


def _open(database, options):
    """Configure this process and open the database, with nothing started yet."""
    if isinstance(database, databases.AtConf):
        from lovely.remotetask.app.terminal import Terminal
        database.configure(options.zcml, options.modules, logs=[Terminal(sys.stderr)])
        # What starts is said below, and a wrong name is an error here.
        zope.component.getGlobalSiteManager().unregisterHandler(startup.bootStrapSubscriber)
        return database.open_with_events()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, force=True,
        format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("ZEO").setLevel(logging.WARNING)  # it tells a lot
    database.configure(options.zcml, options.modules)
    return database.open()


def processor_arguments(options) -> dict:
    """What the command line says of how many jobs it runs, and of which."""
    takes = dict(tasks=_many(options.task), tags=_many(options.tag),
                 priorities=options.priority)
    filters.read(**takes)  # what means nothing is refused before anything starts
    found = {name: value for name, value in takes.items() if value is not None}
    return found if options.threads is None else {**found, "maxThreads": options.threads}


def _many(texts):
    return None if texts is None else [
        name for text in texts for name in text.split(",")]


def start(db, wanted, **arguments) -> list[str]:
    """Start the services that are *wanted*, or else those of the configuration, or
    the only one; their names.  Raises NoSuchService when there is nothing to do."""
    connection = db.open()
    try:
        found = _wanted(connection, wanted)
        for each in found:
            startup.start(each.site or "", each.name, each.service, **arguments)
        names = [each.address["directive"] for each in found
                 if each.service.isProcessing()]
    finally:
        connection.transaction_manager.abort()
        connection.close()
    if not names:
        raise NoSuchService("no service could be started; the log says why")
    return names


def _wanted(connection, wanted):
    directives = wanted or startup.getAutostartServiceNames()
    if not directives:
        return [choose(connection, None)]
    found = []
    for directive in directives:
        if "*" in directive:
            some = _matching(connection, directive)
        else:
            try:
                some = [choose(connection, directive)]
            except NoSuchService as error:
                if wanted:
                    raise
                log.error("autostart: %s", in_log(error))  # and the rest start
                continue
        found += [each for each in some if each not in found]
    if not found:
        raise NoSuchService(
            f"no service is named by {', '.join(directives)}; start it with --service")
    return found


def _matching(connection, directive):
    site, _, name = directive.partition("@")
    return [each for each in find_all(connection) if each.site is not None
            and site in ("*", each.site, "" if each.site == startup.ROOT_SITE else None)
            and name in ("*", each.name)]


def _until(asked, out: Output) -> int:
    """Wait for a signal, or for the storage to be gone for good."""
    while not asked.wait(LOOK_SECONDS):
        error = processor.failed()
        if error is not None:
            out.complain(f"the storage has gone for good: {error}")
            return DATABASE
    return DONE
