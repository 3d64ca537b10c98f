"""What conflicts cost: a full-text index filled by one thread and by four.

Jobs that write into one text index meet in it.  This fills the index of the
example `library` in a fresh FileStorage, four times: with one thread and with
four, in a lane of width one and without a lane.  A run that meets another one is
rolled back and repeated; all that it did up to then is the cost.  After each case
the index is compared with a count made without it.
"""
import argparse
import json
import logging
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import transaction
import zope.component
import ZODB
from ZODB.FileStorage import FileStorage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from library import recount, tasks  # noqa: E402
from library.shelves import Library  # noqa: E402

from lovely.remotetask import TaskService  # noqa: E402
from lovely.remotetask.interfaces import ITask  # noqa: E402
from lovely.remotetask.processor import (  # noqa: E402
    MultiProcessor, SimpleProcessor)

LOOK_SECONDS = 0.2
BOUND = 1800  # seconds that a case may take
CASES = [(threads, lane) for threads in (1, 4) for lane in (False, True)]


class Figures(NamedTuple):
    """One case."""

    threads: int
    lane: bool
    jobs: int
    seconds: float     # from the start of the first run to the end of the last
    cpu: float         # seconds of processor time, the reading of files included
    conflicts: int     # runs that were rolled back because they met another
    repeated: int      # jobs that this happened to
    failed: int        # attempts given up when all their runs had met others
    books: int         # transactions of the dispatcher that were repeated
    megabytes: float   # written to the file
    differences: int   # between the index and a count

    @property
    def name(self):
        return (f"{self.threads} thread{'s' if self.threads > 1 else ''}, "
                f"{'lane of width one' if self.lane else 'no lane'}")


def main():
    options = arguments()
    logging.disable(logging.WARNING)  # attempts that were given up; they are counted
    cases = [case(threads, lane, options.files) for threads, lane in CASES]
    if options.json:
        json.dump([each._asdict() for each in cases], sys.stdout, indent=2)
    else:
        show(cases)
    sys.exit(any(each.differences for each in cases))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300, metavar="N",
                        help="how many files are indexed, the first by path (300)")
    parser.add_argument("--all", dest="files", action="store_const", const=None,
                        help="the whole library")
    parser.add_argument("--brief", dest="files", action="store_const", const=60,
                        help="60 files")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args()


def case(threads: int, lane: bool, files: int | None) -> Figures:
    """Fill an index, and say what happened."""
    register(lane)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "Data.fs")
        db = ZODB.DB(FileStorage(str(path)), cache_size=20_000)
        try:
            service = prepare(db, files)
            transaction.commit()
            before = path.stat().st_size
            factory = SimpleProcessor if threads == 1 else MultiProcessor
            processor = factory(db, ["tasks"], maxThreads=threads)
            thread = threading.Thread(target=processor, daemon=True)
            cpu = time.process_time()
            thread.start()
            try:
                await_report(db)
            finally:
                processor.stop()
                thread.join(60)
            cpu = time.process_time() - cpu
            service._p_jar.sync()
            return figures(
                threads, lane, service, processor, cpu, path.stat().st_size - before)
        finally:
            transaction.abort()
            db.close()


def register(lane):
    for name, task in tasks.make_tasks(*(("library", 1) if lane else ("", None))).items():
        zope.component.provideUtility(task, ITask, name)


def prepare(db, files):
    """A library and its service; all jobs are added before the clock runs."""
    root = db.open().root()
    root[tasks.NAME] = Library(limit=files)
    root["tasks"] = service = TaskService()
    service.configure(retain_count=0, retain_completed=0)
    transaction.commit()
    service.execute(tasks.LOOK)
    return service


def await_report(db):
    moment = threading.Event()
    for _ in range(round(BOUND / LOOK_SECONDS)):
        moment.wait(LOOK_SECONDS)
        with db.transaction() as connection:
            if connection.root()[tasks.NAME].reporting.last is not None:
                return
    raise SystemExit(f"not done within {BOUND} seconds")


def figures(threads, lane, service, processor, cpu, written) -> Figures:
    library = tasks.library_of(service)
    jobs = [job for job in service.jobs.values() if job.task == tasks.INDEX]
    faults = recount.compare(library, runs=1) + service.check()
    given_up = [attempt for job in jobs for attempt in job.attempts]
    faults += [f"not a conflict: {attempt.kind}: {attempt.error}" for attempt in given_up
               if "Conflict" not in attempt.kind]
    for fault in faults[:10]:
        print(fault, file=sys.stderr)
    return Figures(
        threads, lane, len(jobs),
        (max(job.micros("completed") for job in jobs)
         - min(job.micros("started") for job in jobs)) / 1_000_000,
        cpu, processor.dispatcher.conflicts + len(given_up),
        len({entry.path for entry in library.files.values() if entry.conflicts}
            | {job.input for job in jobs if job.failures}),
        len(given_up),
        processor.dispatcher.publication.conflicts,
        written / 1_000_000, len(faults))


def show(cases):
    print(f"{cases[0].jobs} files, {sys.version.split()[0]}\n")
    print(f"{'':30}{'seconds':>9}{'cpu s':>8}{'jobs/s':>8}{'ratio':>7}{'conflicts':>11}"
          f"{'per job':>9}{'repeated':>10}{'given up':>10}{'books':>7}{'MB':>7}  index")
    first = cases[0].seconds
    for each in cases:
        print(f"{each.name:30}{each.seconds:9.2f}{each.cpu:8.2f}{each.jobs / each.seconds:8.1f}"
              f"{each.seconds / first:7.2f}{each.conflicts:11}"
              f"{each.conflicts / each.jobs:9.2f}{each.repeated:10}{each.failed:10}"
              f"{each.books:7}{each.megabytes:7.0f}  "
              f"{'exact' if not each.differences else 'WRONG'}")
    print("""
ratio: seconds against the first line.  conflicts: runs that met another one and were
rolled back.  repeated: jobs that this happened to.  given up: attempts all of whose
runs were rolled back, six of them, and that were made again as failed attempts are.
books: conflicts of the dispatcher's own transactions.""")


if __name__ == "__main__":
    main()
