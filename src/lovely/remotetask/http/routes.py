"""The JSON interface, as a table: what can be asked, by whom, and who answers.

The api dispatches by it, the OpenAPI document is made from it, and the table of
permissions is compared with it.
"""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lovely.remotetask import access, lifecycle
from lovely.remotetask.http import health, jobs, openapi, schedules, streams, whole
from lovely.remotetask.http.bodies import (
    ADD, ADD_SCHEDULE, AFTER, CHANGE, CHANGE_SCHEDULE, JOB, LIMIT, PAGE, SCHEDULE,
    SCHEDULE_PAGE, TASK)
from lovely.remotetask.http.shapes import moment, record, text

CHANGES = ("POST", "PATCH", "DELETE")


class Route(NamedTuple):
    """One thing that can be asked.

    path: names below `api/v1`; '{id}' stands for a number, '{name}' for any text.
    permission: asked for on the service, or where `of_job` says so on the job.
    answers: {status: shape of the body, None for none}; 'problems': the conditions
    that this route has beside those that all have.
    """

    method: str
    path: str
    permission: str
    handler: Callable[..., Any]
    summary: str
    answers: dict[int, Any]
    problems: tuple[str, ...] = ()
    query: dict[str, dict] = {}
    body: dict | None = None
    of_job: bool = False
    kind: str = "application/json"
    conditional: bool = False   # takes If-Match

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self.path.split("/") if name)

    @property
    def operation(self) -> str:
        """A name of its own."""
        words = [self.method.lower()] + [name.strip("{}") for name in self.names]
        return "_".join(words).replace(".", "_")

    def match(self, names: tuple[str, ...]) -> dict[str, Any] | None:
        """The arguments in a path, where it is this one's."""
        if len(names) != len(self.names):
            return None
        found: dict[str, Any] = {}
        for wanted, given in zip(self.names, names):
            if wanted == "{id}":
                if not (given.isascii() and given.isdigit() and len(given) <= 10):
                    return None
                found["id"] = int(given)
            elif wanted == "{name}":
                found["name"] = given
            elif wanted != given:
                return None
        return found


FILTERS = {
    "status": text(20, enum=list(lifecycle.STATUSES),
                   description="only jobs with this status"),
    "task": text(description="only jobs of this task"),
    "owner": text(description="only jobs of this principal"),
    "tag": text(description="only jobs with this tag"),
    "text": text(description="only jobs with this in the title, or in the input or "
                 "error where you may read those; of the newest 10,000"),
    "createdFrom": moment(description="only jobs made then or later"),
    "createdBefore": moment(description="only jobs made before"),
}
WAIT = {"wait": {"type": "number", "minimum": 0, "maximum": 60, "description":
                 "seconds to wait for the job's end, before the answer"}}
STEP = {"step": text(10, enum=["minute", "hour"], default="minute"),
        "count": {"type": "integer", "minimum": 1, "maximum": 336, "default": 60,
                  "description": "how many steps, back from now"}}
LINKS = record(closed=False, version=text())

ROUTES: tuple[Route, ...] = (
    Route("GET", "", access.VIEW, whole.index, "What there is", {200: LINKS}),
    Route("GET", "openapi.json", access.VIEW, openapi.served, "This description",
          {200: {"type": "object"}}),
    Route("GET", "health/live", access.VIEW, health.live,
          "Whether this process answers", {200: record(("status",), status=text())}),
    Route("GET", "health/ready", access.VIEW, health.ready,
          "Whether somebody works for this service",
          {200: record(("status", "workers", "paused"), status=text(),
                       workers={"type": "integer"}, paused={
                           "type": "boolean", "description":
                           "whether it is wished that no worker starts a job"})},
          ("not-ready",)),
    Route("GET", "tasks", access.VIEW, whole.tasks, "The tasks that can be added",
          {200: record(("tasks",), tasks={"type": "array", "items": TASK})}),
    Route("GET", "tasks/{name}", access.VIEW, whole.task, "One task",
          {200: TASK}, ("not-found",)),

    Route("GET", "jobs", access.VIEW, jobs.page, "A page of jobs, the newest first",
          {200: PAGE}, query={**FILTERS, **AFTER, **LIMIT}),
    Route("POST", "jobs", access.SUBMIT, jobs.add, "Add a job", {202: JOB, 200: JOB},
          ("invalid", "unknown-task", "bad-input", "bad-option", "key-reused",
           "too-many-jobs"), body=ADD),
    Route("GET", "jobs/{id}", access.VIEW, jobs.show, "A job, with all that is known",
          {200: JOB}, ("unknown-job",), query=WAIT, of_job=True),
    Route("PATCH", "jobs/{id}", access.CANCEL, jobs.change,
          "Change a job that waits", {200: JOB},
          ("unknown-job", "illegal-move", "invalid", "bad-input", "bad-option"),
          body=CHANGE, of_job=True, conditional=True),
    Route("GET", "jobs/{id}/log", access.READ_RESULT, jobs.log,
          "What the task has written into its log",
          {200: record(("lines",), lines={"type": "array"}, lost={"type": "integer"})},
          ("unknown-job",), of_job=True),
    Route("POST", "jobs/{id}/cancel", access.CANCEL, jobs.cancel,
          "See to it that it does not take effect", {200: JOB},
          ("unknown-job", "illegal-move"), of_job=True, conditional=True),
    Route("POST", "jobs/{id}/retry", access.CANCEL, jobs.retry,
          "Queue a job that ended in error or was cancelled", {200: JOB},
          ("unknown-job", "illegal-move"), of_job=True, conditional=True),
    Route("POST", "jobs/{id}/start", access.CANCEL, jobs.start,
          "Queue a job that waits to be started, or for its time", {200: JOB},
          ("unknown-job", "illegal-move"), of_job=True, conditional=True),
    Route("DELETE", "jobs/{id}", access.MANAGE, jobs.remove,
          "Remove a job that is at its end", {204: None},
          ("unknown-job", "illegal-move"), of_job=True, conditional=True),

    Route("GET", "schedules", access.VIEW, schedules.page, "A page of the schedules",
          {200: SCHEDULE_PAGE}, query={**AFTER, **LIMIT}),
    Route("POST", "schedules", access.MANAGE_SCHEDULES, schedules.add,
          "Add a schedule", {201: SCHEDULE},
          ("invalid", "unknown-task", "bad-input", "bad-option", "bad-schedule",
           "too-many-jobs"), body=ADD_SCHEDULE),
    Route("GET", "schedules/{id}", access.VIEW, schedules.show, "A schedule",
          {200: SCHEDULE}, ("unknown-job",), of_job=True),
    Route("PATCH", "schedules/{id}", access.MANAGE_SCHEDULES, schedules.change,
          "Change a schedule", {200: SCHEDULE},
          ("unknown-job", "illegal-move", "invalid", "bad-input", "bad-option",
           "bad-schedule"), body=CHANGE_SCHEDULE, of_job=True, conditional=True),
    Route("DELETE", "schedules/{id}", access.MANAGE_SCHEDULES, schedules.remove,
          "Remove a schedule", {204: None}, ("unknown-job", "illegal-move"),
          of_job=True, conditional=True),
    Route("POST", "schedules/{id}/pause", access.MANAGE_SCHEDULES, schedules.pause,
          "Stop it from firing", {200: SCHEDULE}, ("unknown-job", "illegal-move"),
          of_job=True, conditional=True),
    Route("POST", "schedules/{id}/resume", access.MANAGE_SCHEDULES, schedules.resume,
          "Let it fire again, from now on", {200: SCHEDULE},
          ("unknown-job", "illegal-move"), of_job=True, conditional=True),
    Route("POST", "schedules/{id}/run", access.MANAGE_SCHEDULES, schedules.run,
          "Make a run at once, beside the schedule", {202: JOB},
          ("unknown-job", "illegal-move", "too-many-jobs"), of_job=True,
          conditional=True),

    Route("GET", "workers", access.VIEW, whole.workers, "Who works for this service",
          {200: record(("workers",), workers={"type": "array"})}),
    Route("GET", "statistics", access.VIEW, whole.statistics,
          "Counts by status, and what was done minute by minute or hour by hour",
          {200: record(("counts",), closed=False, counts={"type": "object"})},
          query=STEP),
    Route("GET", "metrics", access.VIEW, whole.metrics, "The same for Prometheus",
          {200: {"type": "string"}}, ("not-found",), kind="text/plain"),
    Route("GET", "events", access.VIEW, streams.events,
          "Changes as they happen: server-sent events", {200: {"type": "string"}},
          ("too-many-streams",), kind="text/event-stream"),
)


def find(method: str, names: tuple[str, ...]) -> tuple[Route, dict[str, Any]] | None:
    """The route of a request, and the arguments in its path."""
    method = "GET" if method == "HEAD" else method
    for route in ROUTES:
        if route.method == method:
            arguments = route.match(names)
            if arguments is not None:
                return route, arguments
    return None


def methods(names: tuple[str, ...]) -> list[str]:
    """The methods that there are for a path; none for one that is not there."""
    return list(_methods(names))


def _methods(names) -> Iterator[str]:
    for route in ROUTES:
        if route.match(names) is not None:
            yield route.method
            if route.method == "GET":
                yield "HEAD"
