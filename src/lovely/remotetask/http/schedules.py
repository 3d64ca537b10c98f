"""Schedules over JSON: cron jobs, which make jobs on time."""
from typing import Any

from lovely.remotetask import guard, lifecycle, plain
from lovely.remotetask.errors import UnknownJob
from lovely.remotetask.http import jobs, tasks
from lovely.remotetask.http.answers import Answer

FIELDS = ("minute", "hour", "dayOfMonth", "month", "dayOfWeek")
TIMES = ("schedule", "timezone", *FIELDS)


def summary(call, cron, count: int = 1) -> dict[str, Any]:
    return {**jobs.summary(call, cron), **facts(cron, count)}


def whole(call, cron) -> dict[str, Any]:
    found = {**jobs.whole(call, cron), **facts(cron, 5)}
    readable = "error" in found
    found["runs"] = [
        {**run, "error": run["error"] if readable else None}
        for run in plain.cron(cron, 1)["runs"]]
    return found


def facts(cron, count: int) -> dict[str, Any]:
    told = plain.cron(cron, count)
    del told["runs"]
    told["cronText"] = cron.text if isinstance(cron.text, str) else None
    told.update({name: list(getattr(cron, name)) for name in FIELDS})
    return told


def only(call):
    """The cron job that is meant.  Raises UnknownJob for a job of another kind."""
    if not jobs.is_schedule(call.job):
        raise UnknownJob(call.job.id)
    return call.job


def page(call) -> Answer:
    found, key = call.service.listJobs(
        lifecycle.CRONJOB, after=jobs.key_of(call.query.get("after")),
        limit=call.query["limit"])
    return Answer(data=dict(
        schedules=[summary(call, cron) for cron in found],
        next=jobs.next_url(call, key, "schedules")))


def add(call) -> Answer:
    guard.require_room(call.service)
    body = whole_numbers(call.body)
    options = jobs.options_of(call.service, body)
    id = call.service.addCronJob(body["task"], options.pop("input"), **options)
    job = call.service.getJob(id)
    return Answer(201, whole(call, job), {"Location": call.url("schedules", id)})


def whole_numbers(body) -> dict[str, Any]:
    """The fields with 3 where JSON says 3.0."""
    return {name: [int(each) for each in value] if name in FIELDS else value
            for name, value in body.items()}


def show(call) -> Answer:
    return Answer(data=whole(call, only(call)))


def change(call) -> Answer:
    cron = only(call)
    body = whole_numbers(call.body)
    if "input" in body:
        task = call.service.findTask(cron.task)
        body["input"] = tasks.from_json(getattr(task, "inputSchema", None), body["input"])
    call.service.changeCronJob(cron.id, **body)
    return Answer(data=whole(call, cron))


def remove(call) -> Answer:
    """It does not fire any more, and is gone; its runs stay."""
    cron = only(call)
    call.service.cancel(cron.id)
    call.service.remove(cron.id)
    return Answer(204)


def pause(call) -> Answer:
    call.service.pause(only(call).id)
    return Answer(data=whole(call, call.job))


def resume(call) -> Answer:
    call.service.resume(only(call).id)
    return Answer(data=whole(call, call.job))


def run(call) -> Answer:
    only(call)
    guard.require_room(call.service)
    jobid = call.service.runNow(call.job.id)
    return jobs.accepted(call, jobid, jobs.whole(call, call.service.getJob(jobid)))
