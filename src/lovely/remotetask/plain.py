"""Jobs and services as plain data: what leaves Python, by JSON or a socket.

Moments are texts in UTC, '2027-01-31T13:30:00.000000+00:00'; durations are
seconds.  The fields are described in docs/command-line.txt; they stay.
"""
import math
from contextlib import suppress
from logging import getLevelName

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.failure import clean
from lovely.remotetask.job import CronJob
from lovely.remotetask.runtime.publication import path_of

REPR_LIMIT = 2_000
DEEPEST = 100
LONGEST_BITS = 14_000   # of a whole number: Python writes no more than 4,300 digits
SUMMARY = (
    "id task status reason title priority tags created started completed due owner "
    "parent").split()
FULL = SUMMARY + (
    "deadline timeout retries merged startedCount failures crashes handbacks error"
).split()
CRON = "timezone missed overlap paused broken scheduledFor".split()


def moment(value) -> str | None:
    return None if value is None else value.isoformat(timespec="microseconds")


def value(found, depth: int = 0):
    """What JSON can express, as it is; {'repr': text} for all else."""
    if found is None or type(found) is bool:
        return found
    if type(found) is str:
        return found if is_text(found) else shown(found)
    if type(found) is int:
        return found if found.bit_length() <= LONGEST_BITS else shown(found)
    if type(found) is float:
        return found if math.isfinite(found) else shown(found)
    if depth < DEEPEST and type(found) in (list, tuple):
        return [value(each, depth + 1) for each in found]
    if depth < DEEPEST and type(found) is dict \
            and all(type(key) is str and is_text(key) for key in found):
        return {key: value(each, depth + 1) for key, each in found.items()}
    return shown(found)


def is_text(found: str) -> bool:
    """Whether a text can be sent: no half of a surrogate pair is in it."""
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(found) -> dict:
    try:
        text = repr(found)
    except Exception as error:
        text = f"<{type(found).__name__}, its repr raises {type(error).__name__}>"
    return {"repr": clean(text)[:REPR_LIMIT]}


def part(job, name):
    """An attribute that may be stored in a record of its own; it must not keep the
    rest of the job from being shown."""
    try:
        return value(getattr(job, name))
    except Exception as error:
        return {"unreadable": clean(f"{type(error).__name__}: {error}")}


def fields(job, names) -> dict:
    found = {}
    for name in names:
        each = getattr(job, name)
        found[name] = moment(each) if hasattr(each, "isoformat") else value(each)
    return found


def summary(job) -> dict:
    """A job in a list."""
    return fields(job, SUMMARY)


def whole(service, job) -> dict:
    """A job with all that is known of it."""
    found = fields(job, FULL)
    found.update(
        input=part(job, "input"), output=part(job, "output"),
        attempts=[attempt(each) for each in job.attempts],
        log=[line(each) for each in job.log], logLost=job.logLost,
        concerns=[shown(each)["repr"] for each in job.concerns], locks=dict(job.locks),
        progress=progress(service.getProgress(job.id)))
    if isinstance(job, CronJob):
        found.update(cron(job))
    return found


def attempt(record) -> dict:
    found = record._asdict()
    return {**found, "started": moment(record.started), "ended": moment(record.ended)}


def line(entry) -> dict:
    """A line that an attempt has logged."""
    return dict(attempt=entry.attempt, moment=moment(clock.from_micros(entry.moment)),
                level=getLevelName(entry.level), text=entry.text)


def progress(told) -> dict | None:
    if told is None:
        return None
    done, total, message, at = told
    return dict(done=value(done), total=value(total), message=message, moment=moment(at))


def cron(job, count: int = 3) -> dict:
    """What a cron job has beside a job."""
    found = fields(job, CRON)
    found["schedule"] = described(job)
    found["next"] = [moment(each) for each in next_times(job, count)]
    found["runs"] = [
        dict(run._asdict(), instant=moment(run.instant), completed=moment(run.completed))
        for run in job.runs]
    return found


def described(job) -> str:
    """The schedule in plain words, or as cron text where that was given."""
    if job.delay:
        return f"once, {job.delay} s after it was added"
    if isinstance(job.text, str):
        return job.text
    try:
        return job.schedule.describe()
    except Exception as error:
        return clean(f"cannot be read: {error}")


def next_times(job, count: int) -> list:
    """The next moments it is due: the one it waits for, and those after it.

    None when it is paused or at its end; for one that nobody has looked at yet, as
    from now.
    """
    if job.paused or job.status in lifecycle.FINISHED:
        return []
    found = [job.scheduledFor] if job.scheduledFor is not None else []
    # A broken schedule is told by `broken`; it must not break the list.
    with suppress(Exception):
        while job.schedule is not None and len(found) < count:
            following = job.schedule.next_after(found[-1] if found else clock.now())
            if following is None:
                break
            found.append(following)
    return found


def address(site: str | None, name: str, service) -> dict:
    """How a service is called: `directive` is what --service and autostart take."""
    path = "/" + "/".join(path_of(service))
    directive = f"{'' if site == 'root' else site}@{name}" if site is not None else path
    return dict(site=site, name=name, path=path, directive=directive)
