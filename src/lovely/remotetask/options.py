"""The options of one add, checked before anything is stored."""
from lovely.remotetask import access, clock, limits
from lovely.remotetask import task as tasks
from lovely.remotetask.admission import AT_LIMIT, REFUSE, WAIT
from lovely.remotetask.errors import BadOption
from lovely.remotetask.failure import clean
from lovely.remotetask.job import DEFAULT_PRIORITY, Job, check_delay
from lovely.remotetask.payload import pack, validate
from lovely.remotetask.runtime import frames
from lovely.remotetask.unique import DUPLICATE, IGNORE, REPLACE
from lovely.remotetask.unique import LONGEST as LONGEST_WINDOW

TEXT_LIMIT = 200       # characters of a title or a tag
LONGEST = 1e10         # seconds, 300 years
PRIORITIES = range(-1_000_000, 1_000_001)
RETRIES = range(1_000_001)


class JobOptions:
    """The options of one add, checked before anything is stored."""

    def __init__(self, service, task, *, title="", priority=DEFAULT_PRIORITY, delay=None,
                 startAt=None, startBefore=None, tags=(), concerns=(), timeout=None,
                 retries=None, locks=(), owner=None, unique=None, uniqueFor=None,
                 duplicate=IGNORE, atLimit=WAIT):
        self.service, self.task = service, task
        self.limit = service.effectiveSettings().input_limit
        if not isinstance(priority, int) or priority not in PRIORITIES:
            raise BadOption("priority", priority, "a whole number; smaller is more urgent")
        if timeout is not None and not (is_number(timeout) and timeout > 0):
            raise BadOption("timeout", timeout, "seconds, more than 0")
        if retries is not None and not (isinstance(retries, int) and retries in RETRIES):
            raise BadOption("retries", retries, "how many attempts after the first, "
                            f"up to {RETRIES[-1]:,}")
        tags = (tags,) if isinstance(tags, str) else _many("tags", tags)
        for text in (title, *tags):
            if not isinstance(text, str) or len(text) > TEXT_LIMIT \
                    or clean(text) != text:
                raise BadOption("title" if text is title else "tags", text,
                                f"plain text of up to {TEXT_LIMIT} characters")
        if delay is not None and startAt is not None:
            raise BadOption("startAt", startAt, "give a delay or a start time, not both")
        if uniqueFor is not None and not (
                unique and is_number(uniqueFor) and 0 < uniqueFor <= LONGEST_WINDOW):
            raise BadOption("uniqueFor", uniqueFor, "seconds, and only with unique")
        one_of("duplicate", duplicate, DUPLICATE)
        if duplicate != IGNORE and not unique:
            raise BadOption("duplicate", duplicate, "only with unique")
        one_of("atLimit", atLimit, AT_LIMIT)
        if atLimit == REFUSE and duplicate == REPLACE:
            raise BadOption("atLimit", atLimit, "not with duplicate='replace': what was "
                            "replaced would be lost")
        self.at_limit = atLimit
        self.unique = None if unique is False else unique
        self.uniqueFor, self.duplicate = uniqueFor, duplicate
        self.delay = check_delay(delay)
        self.startAt = _aware("startAt", startAt)
        self.startBefore = startBefore if is_number(startBefore) \
            else _aware("startBefore", startBefore)
        if is_number(startBefore) and not abs(startBefore) < LONGEST:
            raise BadOption("startBefore", startBefore, "a moment, or seconds")
        self.concerns = _many("concerns", concerns)
        self.facts = {name: value for name, value in dict(
            title=title, priority=priority, tags=tags, timeout=timeout, retries=retries,
            owner=access.owner_for(service, owner), site=frames.present_site(service),
            lane=tasks.lane_of(task), locks=limits.locks(locks)).items()
            if value != getattr(Job, name)}
        if atLimit == REFUSE:
            self.facts["admitted"] = True
        self.for_somebody = "" if owner in (None, frames.present_owner()) \
            else f"for {owner}"

    def line_of(self, task):
        """The line in which its jobs wait."""
        return limits.line_name(
            self.facts.get("lane", ""), task, self.facts.get("locks", ()))

    def pack(self, input, what):
        validate(getattr(self.task, "inputSchema", None), input, what)
        return pack(input, self.limit, what)

    def give(self, job, objects, now):
        """Write the facts into a new job, which nobody else has seen yet."""
        job.__dict__.update(self.facts)
        start = now
        if self.startAt is not None:
            start = clock.to_micros(self.startAt)
        elif self.delay:
            start = now + round(self.delay * 1_000_000)
        if start > now:
            job.__dict__["due"] = start
        if self.startBefore is not None:
            deadline = self.startBefore
            job.__dict__["deadline"] = clock.to_micros(deadline) \
                if not is_number(deadline) else start + round(deadline * 1_000_000)
        concerns = (*self.concerns, *objects)
        context = tasks.context()
        if context is not None and context.service is self.service \
                and context.jobid is not None:
            job.__dict__["parent"] = context.jobid
        if concerns:
            job.__dict__["concerns"] = concerns
            jar = self.service._p_jar
            for object in concerns:
                if jar is not None and getattr(object, "_p_jar", jar) is None:
                    jar.add(object)


class CronOptions(JobOptions):
    """The options of a cron job, whose schedule alone says when it runs."""

    def __init__(self, service, task, *, startAt=None, startBefore=None, **options):
        for name, value in dict(startAt=startAt, startBefore=startBefore).items():
            if value is not None:
                raise BadOption(name, value, "the schedule says when a cron job runs")
        if options.get("unique", False) not in (None, False):
            raise BadOption("unique", options["unique"], "overlap= says what becomes of "
                            "runs of a cron job that meet")
        if options.get("atLimit", WAIT) != WAIT:
            raise BadOption("atLimit", options["atLimit"], "runs of a cron job wait")
        super().__init__(service, task, **options)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _many(option, values):
    try:
        return tuple(values)
    except TypeError:
        raise BadOption(option, values, "a sequence") from None


def _aware(option, moment):
    if moment is not None and getattr(moment, "tzinfo", None) is None:
        raise BadOption(option, moment, "a datetime with a time zone")
    return moment


def one_of(option, value, allowed, error=None):
    if value not in allowed:
        text = f"one of {', '.join(map(repr, allowed))}"
        if error is not None:
            raise error(f"{option} cannot be {value!r}: {text}")
        raise BadOption(option, value, text)
