"""Start the cluster by one command; Ctrl-C ends all of it.

    python -m cluster zeo                   with a ZEO server
    python -m cluster postgresql            with a PostgreSQL
    python -m cluster sqlite                with SQLite, which needs no server
"""
import argparse
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from unittest import SkipTest

from transaction import TransactionManager

from lovely.remotetask.cli import databases
from lovely.remotetask.cli.services import choose
from lovely.remotetask.signals import stop_signals
from lovely.remotetask.tests import servers

from cluster.processes import Cluster, Trouble
from cluster.tasks import NAME, counts_of

LOOK_SECONDS = 1.0


def main(arguments=None) -> int:
    options = parser().parse_args(arguments)
    directory = Path(options.directory or f"cluster-{options.storage}").absolute()
    server = servers.storages(directory)[options.storage]
    try:
        with stop_signals() as asked, ExitStack() as undo:
            run(server, directory, options, asked, undo)
    except (Trouble, servers.NotRunning, SkipTest, OSError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    print("All processes have ended.", flush=True)
    return 0


def parser():
    parser = argparse.ArgumentParser(
        prog="python -m cluster", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage", choices=[
        name for name in servers.NAMES if name != "file"])
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument("--port", type=int, default=8080, help=(
        "of the web page (8080); 0: any that is free"))
    parser.add_argument("--directory", help=(
        "for data and logs; made if it is not there (cluster-STORAGE)"))
    return parser


def run(server, directory, options, asked, undo):
    """Begin, tell how it goes, and end when a signal asks for it."""
    say(f"{server.name} begins ...")
    undo.callback(server.stop)
    server.start()
    cluster = Cluster(directory, server.uri, options.workers, options.port)
    undo.callback(cluster.stop)
    cluster.start()
    say(GREETING.format(
        url=next(line.split()[2] for line in cluster.web.said().splitlines()
                 if "Web page" in line),
        path=directory, web=directory / "web",
        pids=", ".join(str(each.pid) for each in cluster.workers),
        pid=cluster.workers[0].pid))
    # Watching is reading: a process of the cluster like any other.
    database = databases.find(str(directory / "web"))
    database.configure()
    db = database.open()
    undo.callback(database.close, db)
    watch(db, server, cluster, asked)
    say("Ending; jobs in hand may run on for a few seconds.")


GREETING = """\
A web process and the workers {pids} are at work.

  Web page   {url}
  Login      as {web}/login.txt says
  Logs       {path}/*.log

Try next, in another terminal:

  remotetask status --db {web}
  remotetask add cluster.primes '[1, 1000000]' --db {web}
  kill -9 {pid}          and see that nothing is lost

Ctrl-C ends all of it.
"""


def watch(db, server, cluster, asked: threading.Event):
    before = None
    while not asked.wait(LOOK_SECONDS):
        if not server.running():
            raise Trouble(f"{server.name} has ended: {server.last_words()}")
        for line in cluster.mend():
            say(line)
        try:
            line = progress(db)
        except Exception as error:  # the server may be away for a moment
            line = f"the database does not answer: {error}"
        if line != before:
            say(line)
            before = line


def progress(db) -> str:
    manager = TransactionManager()
    connection = db.open(manager)
    try:
        service = choose(connection, f"@{NAME}").service
        counts, jobs = counts_of(service), service.counts()
        by = ", ".join(f"{name}: {number()}" for name, number in counts["workers"].items())
        return (f"{jobs['completed']} of {sum(jobs.values())} jobs done, "
                f"{counts['primes']():,} primes; {by or 'nobody yet'}")
    finally:
        manager.abort()
        connection.close()


def say(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
