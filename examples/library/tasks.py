"""The three tasks: look for files, index one file, report.

    cron, each minute ──> look ──┬─ a job per file that is new, changed or gone
                                 └─ and one report behind them, unless one waits

A look adds its jobs, marks the entries and asks for the report in one commit.
"""
import os
import sysconfig
from pathlib import Path

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.failure import clean
from lovely.remotetask.options import TEXT_LIMIT
from lovely.remotetask.retry import backoff
from lovely.remotetask.startup import application
from lovely.remotetask.task import SimpleTask

from library import reading
from library.shelves import Stamp

NAME = "library"  # of the Library beside the application's other things
LOOK, INDEX, REPORT = "library.look", "library.index-file", "library.report"
EVERY_MINUTE = "* * * * *"
SOONER, LATER = 10, 20   # priorities: the report goes behind the files
PAUSE = 2.0              # seconds until a report that came too early comes again
SKIPPED = {"__pycache__", "site-packages", "dist-packages"}

# Index jobs meet in the index, so they wait in a lane of width one: one of them
# at a time runs, and repeats nothing.  `benchmarks/conflicts.py` shows what happens without.
LANE = "library"
# Losing five conflicts in a row says nothing against a file.
PATIENCE = backoff(retries=12, delay=0.05)


def library_of(service):
    """The library in the database of a service."""
    return application(service._p_jar)[NAME]


# -- looking


def look(input, context):
    """Add a job for each file that is new, changed or gone; how many of each."""
    service, library = context.service, library_of(context.service)
    present = dict(survey(directory_of(library), library.limit))
    news, wanted = {"new": 0, "changed": 0, "gone": 0}, {}
    for path, stamp in present.items():
        entry = library.files.get(path)
        if entry is None:
            news["new"] += 1
        elif is_open(service, entry, stamp):
            news["changed"] += 1
        else:
            continue
        wanted[path] = stamp
    for path, entry in library.files.items():
        if path not in present and is_open(service, entry, None):
            news["gone"] += 1
            wanted[path] = None
    if wanted:
        for path, stamp in wanted.items():
            job = service.add(INDEX, path, priority=SOONER, title=title_of(path))
            library.expect(path, stamp, job)
        ask_for_report(service, library)
    return news


def title_of(path: str) -> str:
    """What a list of jobs shows of a file: the end of a long path says more."""
    return clean(path)[-TEXT_LIMIT:]


def is_open(service, entry, stamp) -> bool:
    """Whether a file that looks like *stamp* needs another job.

    A job that waits or runs will read what is there by then.  One that ended in
    error is left to whoever reads errors, until the file changes; one that was
    cancelled or cleaned away is made up for.
    """
    if entry.job is None:
        return entry.stamp != stamp
    job = service.jobs.get(entry.job)
    if job is None or job.recordedStatus == lifecycle.CANCELLED:
        return True
    return job.recordedStatus == lifecycle.ERROR and entry.wanted != stamp


def directory_of(library) -> Path:
    return Path(library.directory or sysconfig.get_path("stdlib"))


def survey(directory: Path, limit: int | None = None):
    """(path, Stamp) of the source files, in the order of their paths."""
    found = []
    for place, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name not in SKIPPED]
        found += [os.path.join(place, name) for name in names if name.endswith(".py")]
    pairs = ((Path(path).relative_to(directory).as_posix(), path) for path in found)
    for path, file in sorted(pairs)[:limit]:
        try:
            status = os.stat(file)
        except OSError:
            continue  # gone meanwhile, or a link to nowhere
        yield path, stamp_of(status)


def stamp_of(status) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns)


# -- indexing


def index_file(path, context):
    """Bring the index in line with one file, whatever it looks like by now."""
    library = library_of(context.service)
    entry = library.files.get(path)
    if entry is None:
        return "forgotten already"
    try:
        with open(directory_of(library) / path, "rb") as file:
            stamp, source = stamp_of(os.fstat(file.fileno())), file.read()
    except (FileNotFoundError, NotADirectoryError):
        library.forget(path)
        return "gone"
    except OSError as error:
        stamp, found = entry.wanted, reading.unreadable(path, error)
    else:
        if entry.job is None and entry.stamp == stamp:
            return "indexed already"  # somebody has run this job by hand once more
        found = reading.read(path, source)
    library.record(path, stamp, found, context.conflicts)
    return entry.trouble or f"{entry.classes} classes, {entry.functions} functions, " \
                            f"{entry.words} words"


# -- reporting


def ask_for_report(service, library) -> None:
    """See to it that a report comes behind what was just added.

    Writes `reporting` in any case: a report that is being made at this moment,
    and does not know of the new jobs, then conflicts and is made again.
    """
    reporting = library.reporting
    reporting.asked += 1
    if reporting.began is None:
        reporting.began = clock.from_micros(clock.micros())
    if not is_on_its_way(service, reporting.job):
        reporting.job = service.add(REPORT, priority=LATER)


def report(input, context):
    """Write down the totals; or come again later, while files are being indexed.

    Coming again is a new job, added in the commit that ends this one: whatever is
    killed when, one report is on its way until the totals are written.
    """
    service, library = context.service, library_of(context.service)
    reporting = library.reporting
    waiting = [entry for entry in library.files.values() if entry.waiting]
    left = [entry for entry in waiting if is_on_its_way(service, entry.job)]
    if left:
        reporting.job = service.add(REPORT, delay=PAUSE, priority=LATER)
        return f"{len(left)} files to go"
    now = clock.from_micros(clock.micros())
    began, reporting.began, reporting.job = reporting.began, None, None
    reporting.last = dict(
        library.recount(), documents=library.words.documentCount(),
        vocabulary=library.words.wordCount(), failed=len(waiting), reported=now,
        seconds=(now - began).total_seconds() if began is not None else 0.0)
    return {name: value for name, value in reporting.last.items() if name != "reported"}


def is_on_its_way(service, jobid) -> bool:
    job = None if jobid is None else service.jobs.get(jobid)
    return job is not None and job.recordedStatus not in lifecycle.FINISHED


# -- without configure.zcml, which registers the same


def make_tasks(lane: str = LANE, width: int | None = 1) -> dict[str, SimpleTask]:
    """The tasks by name; lane "" and width None: no limit to how many run at once."""
    return {
        LOOK: SimpleTask(look, wantsContext=True),
        INDEX: SimpleTask(index_file, wantsContext=True, retryPolicy=PATIENCE,
                          lane=lane, laneWidth=width),
        # In the same lane, so that it comes when the files before it are done.
        REPORT: SimpleTask(report, wantsContext=True, retryPolicy=PATIENCE,
                           lane=lane, laneWidth=width),
    }


def begin(service) -> None:
    """Look now and then every minute; part of the caller's transaction."""
    service.add(LOOK)
    service.addCronJob(LOOK, schedule=EVERY_MINUTE, missed="once", overlap="skip",
                       title="Look for changed files")
