"""Jobs over JSON."""
import hashlib
import json
from typing import Any

from lovely.remotetask import access, clock, guard, lifecycle, plain
from lovely.remotetask.errors import IllegalMove
from lovely.remotetask.failure import clean
from lovely.remotetask.http import tasks, waiting
from lovely.remotetask.http.answers import Answer
from lovely.remotetask.http.problems import Problem
from lovely.remotetask.http.shapes import parse_moment
from lovely.remotetask.job import CronJob

KEY_LIMIT = 200          # characters of an idempotency key
TEXT_LIMIT = 20_000      # of an error
SEARCH_SECONDS = 0.1     # after so long a page ends, also when it is not full
TIMES = ("createdFrom", "createdBefore")
MOMENTS = ("startAt", "startBefore")


# -- how a job is told


def summary(call, job) -> dict[str, Any]:
    """A job in a list."""
    kind = "schedules" if is_schedule(job) else "jobs"
    return {**plain.summary(job), "url": call.url(kind, job.id)}


def whole(call, job) -> dict[str, Any]:
    """A job with all that the present principal may know of it."""
    found = summary(call, job)
    found.update(plain.fields(
        job, "deadline timeout retries merged startedCount failures crashes handbacks"
        .split()))
    found["locks"] = dict(job.locks)
    found["progress"] = plain.progress(call.service.getProgress(job.id))
    withheld = []
    if access.may(access.READ_INPUT, job):
        found["input"] = seen(access.input_of, job)
        found["concerns"] = [plain.shown(each)["repr"] for each in job.concerns]
    else:
        withheld += ["input", "concerns"]
    if access.may(access.READ_RESULT, job):
        found["output"] = seen(access.output_of, job)
        found["error"] = None if job.error is None else clean(job.error)[:TEXT_LIMIT]
        found["attempts"] = [plain.attempt(each) for each in job.attempts]
    else:
        withheld += ["output", "error", "attempts"]
    if withheld:
        found["withheld"] = withheld
    return found


def seen(read, job) -> Any:
    """A value that may be stored in a record of its own, which may be unreadable."""
    try:
        return plain.value(read(job))
    except access.NotAllowed:
        raise
    except Exception as error:
        return {"unreadable": clean(f"{type(error).__name__}: {error}")}


def is_schedule(job) -> bool:
    """Whether it fires; a job that waits for a delay is a CronJob too, and does not."""
    return isinstance(job, CronJob) and not job.delay


# -- what can be asked


def page(call) -> Answer:
    query = call.query
    asked = {name: query.get(name) for name in ("status", "task", "owner", "tag", "text")}
    asked.update({name: parse_moment(query[name]) for name in TIMES if name in query})
    found = call.service.findJobs(
        **asked, after=key_of(query.get("after")), limit=query["limit"],
        seconds=SEARCH_SECONDS, inputs=access.may(access.READ_INPUT, call.service),
        errors=access.may(access.READ_RESULT, call.service))
    return Answer(data=dict(jobs=[summary(call, job) for job in found.jobs],
                            next=next_url(call, found.next, "jobs"),
                            stopped=found.stopped))


def key_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    moment, id = text.split(":")
    return min(int(moment), 2**62), min(int(id), 2**31 - 1)


def next_url(call, key, *names) -> str | None:
    """Where the page after this one is; None after the last."""
    if key is None:
        return None
    query = {**call.query, "after": "{}:{}".format(*key)}
    return call.url(*names, **query)


def add(call) -> Answer:
    """Add a job; the same one again where the Idempotency-Key says it is the same, and
    the one that is there where `unique` has found it."""
    service, body = call.service, dict(call.body)
    key = idempotency_key(call.request)
    print_ = fingerprint(body)
    known = None if key is None else service.madeUnder(key, print_)
    if known is not None:
        job = service.jobs.get(known)
        data = dict(id=known, url=call.url("jobs", known)) if job is None \
            else whole(call, job)
        return accepted(call, known, data, {"Idempotency-Replayed": "true"})
    guard.require_room(service)
    options = options_of(service, body)
    jobid, made = service.addOrFind(body.pop("task"), options.pop("input"), **options)
    if key is not None:
        service.noteMade(key, print_, jobid)
    answer = accepted(call, jobid, whole(call, service.getJob(jobid)))
    return answer if made else answer._replace(status=200)


def accepted(call, jobid, data, headers=()) -> Answer:
    """202, and where to look how it goes on."""
    return Answer(202, data, {"Location": call.url("jobs", jobid), **dict(headers)})


def idempotency_key(request) -> str | None:
    key = request.getHeader("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= KEY_LIMIT or not key.isascii() or not key.isprintable():
        raise Problem("bad-request", "an Idempotency-Key has 1 to "
                      f"{KEY_LIMIT} printable characters of ASCII")
    return key


def fingerprint(body) -> bytes:
    """The same for bodies that say the same."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def options_of(service, body) -> dict[str, Any]:
    """The options of `add` in a checked body, as Python has them; with the input."""
    options = {name: value for name, value in body.items() if name != "task"}
    for name in MOMENTS:
        if options.get(name) is not None:
            options[name] = parse_moment(options[name])
    task = service.findTask(body["task"]) if "task" in body else None
    options["input"] = tasks.from_json(
        getattr(task, "inputSchema", None), options.get("input"))
    options["tags"] = tuple(options.get("tags", ()))
    for name in ("priority", "retries"):
        if isinstance(options.get(name), float):  # 3.0 is a whole number in JSON
            options[name] = int(options[name])
    if isinstance(options.get("locks"), dict):
        options["locks"] = {name: int(width) for name, width in options["locks"].items()}
    return options


def show(call) -> Answer:
    seconds = call.query.get("wait", 0)
    if seconds and call.job.recordedStatus not in lifecycle.FINISHED:
        return Answer(stream=waiting.until_ended(call, whole, seconds))
    return Answer(data=whole(call, call.job))


def change(call) -> Answer:
    """Change a job that waits: title, priority, start, timeout, retries, input."""
    if is_schedule(call.job):
        raise IllegalMove(call.job, "changed as a job")
    options = options_of(call.service, {"task": call.job.task, **call.body})
    call.service.changeJob(call.job.id, **{
        name: value for name, value in options.items() if name in call.body})
    return Answer(data=whole(call, call.job))


def log(call) -> Answer:
    """What the task wrote: the last lines."""
    return Answer(data=dict(lost=call.job.logLost, lines=[
        dict(attempt=line.attempt, moment=plain.moment(clock.from_micros(line.moment)),
             level=line.level, text=clean(line.text)) for line in call.job.log]))


def cancel(call) -> Answer:
    if call.job.recordedStatus in lifecycle.FINISHED:
        raise IllegalMove(call.job, lifecycle.CANCELLED)
    call.service.cancel(call.job.id)
    return Answer(data=whole(call, call.job))


def retry(call) -> Answer:
    call.service.retry(call.job.id)
    return Answer(data=whole(call, call.job))


def start(call) -> Answer:
    if is_schedule(call.job):
        raise IllegalMove(call.job, lifecycle.QUEUED)
    if not call.service.startJob(call.job.id):
        call.service.runNow(call.job.id)
    return Answer(data=whole(call, call.job))


def remove(call) -> Answer:
    call.service.remove(call.job.id)
    return Answer(204)
