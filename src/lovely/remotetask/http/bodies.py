"""The shapes of what comes in and goes out: jobs, schedules, tasks, pages."""
from lovely.remotetask import lifecycle
from lovely.remotetask.http.shapes import maybe, moment, record, text
from lovely.remotetask.limits import LOCKS, MOST, NAME_LIMIT
from lovely.remotetask.missed import MISSED, OVERLAP
from lovely.remotetask.options import PRIORITIES, RETRIES
from lovely.remotetask.admission import AT_LIMIT, WAIT
from lovely.remotetask.unique import DUPLICATE, IGNORE, KEY_LIMIT, LONGEST

PAGE_LIMIT = 200
SECONDS = {"type": "number", "minimum": 0, "maximum": 1_000_000_000}
CLEAN = r"^[^\u0000-\u001f\u007f]*$"
NUMBER = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
COUNT = {"type": "integer", "minimum": 0}
MOMENT = maybe(moment())

TASK_NAME = text(200, minLength=1, pattern=CLEAN, description="name of a task, see /tasks")
OPTIONS = {
    "title": text(200, pattern=CLEAN),
    "priority": {"type": "integer", "minimum": PRIORITIES[0], "maximum": PRIORITIES[-1],
                 "default": 10, "description": "smaller is more urgent"},
    "tags": {"type": "array", "items": text(200, pattern=CLEAN), "maxItems": 50},
    "timeout": {"type": ["number", "null"], "exclusiveMinimum": 0,
                "maximum": 1_000_000_000,
                "description": "seconds an attempt may run"},
    "retries": {"type": ["integer", "null"], "minimum": 0, "maximum": RETRIES[-1],
                "description": "attempts after the first"},
}
LOCK = text(NAME_LIMIT, minLength=1, pattern=CLEAN)
HOLD = {"locks": {
    "type": ["array", "object"], "description":
    "names, each of which one job at a time may hold while it runs; or {name: how many}",
    "items": LOCK, "maxItems": LOCKS, "propertyNames": LOCK, "maxProperties": LOCKS,
    "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MOST}}}
ONLY_ONE = {
    "unique": {"type": ["boolean", "string"], "minLength": 1, "maxLength": KEY_LIMIT,
               "description": "only one of this task and input (true) or of this task "
               "and text; where there is one, that is answered with 200"},
    "uniqueFor": maybe({"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST,
                        "description": "seconds from its adding that one counts also "
                        "when it is completed; with unique"}),
    "duplicate": text(20, enum=list(DUPLICATE), default=IGNORE, description=
                      "what becomes of the one that is there; with unique"),
}
AT_LIMIT_OPTION = {"atLimit": text(10, enum=list(AT_LIMIT), default=WAIT, description=
                   "where one of its limits is reached it waits, or is refused")}
ADD = record(
    ("task",), task=TASK_NAME,
    input={"description": "what the task gets; see its inputSchema"},
    startLater={"type": "boolean", "default": False,
                "description": "wait for /jobs/{id}/start"},
    delay=maybe({**SECONDS, "description": "seconds before it may start"}),
    startAt=maybe(moment(description="not before this moment; instead of a delay")),
    startBefore=maybe(moment(description="not after this moment")),
    **OPTIONS, **HOLD, **ONLY_ONE, **AT_LIMIT_OPTION)

CHANGE = record(
    input=ADD["properties"]["input"], startAt=ADD["properties"]["startAt"],
    **{name: shape for name, shape in OPTIONS.items() if name != "tags"})
CHANGE["minProperties"] = 1


def _field(low: int, high: int, name: str) -> dict:
    return {"type": "array", "maxItems": 60, "description": f"{name}; empty: open",
            "items": {"type": "integer", "minimum": low, "maximum": high}}


TIMES = {
    "schedule": maybe(text(200, pattern=CLEAN, description=
                           "cron text: '*/5 2-4 * * mon', '@daily', '@every 90s'")),
    "minute": _field(0, 59, "minutes"),
    "hour": _field(0, 23, "hours"),
    "dayOfMonth": _field(1, 31, "days"),
    "month": _field(1, 12, "months"),
    "dayOfWeek": _field(0, 6, "weekdays, 0 is Monday"),
    "timezone": maybe(text(100, pattern=CLEAN, description="IANA name; UTC without")),
}
POLICIES = {
    "missed": text(20, enum=list(MISSED), default="once", description=
                   "which runs are made up for that came due while nobody looked"),
    "overlap": text(20, enum=list(OVERLAP), default="skip", description=
                    "when the last run is not finished yet"),
}
ADD_SCHEDULE = record(("task",), task=TASK_NAME, input=ADD["properties"]["input"],
                      **TIMES, **POLICIES, **OPTIONS, **HOLD)
CHANGE_SCHEDULE = record(input=ADD["properties"]["input"], **TIMES, **POLICIES,
                         **{name: shape for name, shape in OPTIONS.items()
                            if name != "tags"})
CHANGE_SCHEDULE["minProperties"] = 1

STATUS = text(20, enum=list(lifecycle.STATUSES))
ATTEMPT = record(
    closed=False, number=COUNT, outcome=text(), started=MOMENT, ended=MOMENT,
    kind=text(), error=text(20_000), traceback=text(100_000), worker=text())
PROGRESS = record(closed=False, done={}, total={}, message={"type": "string"},
                  moment=MOMENT)
SUMMARY = dict(
    id=NUMBER, task={"type": "string"}, status=STATUS,
    reason={"type": ["string", "null"]}, title={"type": "string"},
    priority={"type": "integer"}, tags={"type": "array", "items": {"type": "string"}},
    created=MOMENT, started=MOMENT, completed=MOMENT, due=MOMENT,
    owner={"type": ["string", "null"]}, parent=maybe(NUMBER),
    url={"type": "string", "format": "uri"})
SUMMARY_OF_A_JOB = record(tuple(SUMMARY), **SUMMARY)
JOB = record(
    tuple(SUMMARY), **SUMMARY, deadline=MOMENT,
    timeout={"type": ["number", "null"]}, retries={"type": ["integer", "null"]},
    startedCount=COUNT, failures=COUNT, crashes=COUNT, handbacks=COUNT,
    merged={**COUNT, "description": "adds that have found it there, and made none"},
    locks={"type": "object", "additionalProperties": COUNT,
           "description": "name: how many jobs may hold it at once"},
    concerns={"type": "array", "items": {"type": "string"}},
    progress={**PROGRESS, "type": ["object", "null"]},
    input={"description": "for those who may read it"},
    output={"description": "for those who may read it"},
    error={"type": ["string", "null"], "description": "for those who may read it"},
    attempts={"type": "array", "items": ATTEMPT,
              "description": "those that failed; for those who may read results"},
    withheld={"type": "array", "items": {"type": "string"},
              "description": "members that you may not read"})
RUN = record(closed=False, instant=MOMENT, job=NUMBER, status=text(20),
             completed=MOMENT, error={"type": ["string", "null"]})
CRON = dict(
    schedule={"type": "string"}, cronText={"type": ["string", "null"]},
    timezone={"type": ["string", "null"]},
    missed={"type": "string"}, overlap={"type": "string"}, paused={"type": "boolean"},
    broken={"type": ["string", "null"]}, scheduledFor=MOMENT,
    next={"type": "array", "items": moment()},
    **{name: {"type": "array", "items": {"type": "integer"}}
       for name in ("minute", "hour", "dayOfMonth", "month", "dayOfWeek")})
SCHEDULE = record(tuple(SUMMARY), **JOB["properties"], **CRON,
                  runs={"type": "array", "items": RUN})
SUMMARY_OF_A_SCHEDULE = record(tuple(SUMMARY), **SUMMARY, **CRON)
NEXT = {"type": ["string", "null"], "description": "URL of the next page, or null"}
PAGE = record(("jobs", "next"), next=NEXT, stopped={
    "type": "boolean", "description":
    "the page is not full because looking took too long: go on with `next`"},
              jobs={"type": "array", "items": SUMMARY_OF_A_JOB})
SCHEDULE_PAGE = record(("schedules", "next"), next=NEXT,
                       schedules={"type": "array", "items": SUMMARY_OF_A_SCHEDULE})
TASK = record(
    ("name", "inputSchema"), closed=False, name={"type": "string"},
    doc={"type": "string"}, inputSchema={"type": "object"},
    outputSchema={"type": "object"})

AFTER = {"after": text(60, pattern=r"^[0-9]{1,20}:[0-9]{1,10}$", description=
                       "the place after which the page begins; see `next`")}
LIMIT = {"limit": {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT,
                   "default": 50}}
