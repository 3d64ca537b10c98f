"""The form of a new cron job."""
import re
from zoneinfo import available_timezones

from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access, clock
from lovely.remotetask.browser import _, forms
from lovely.remotetask.browser.addjob import NewJob
from lovely.remotetask.browser.forms import Box, Wrong
from lovely.remotetask.browser.layout import Action
from lovely.remotetask.errors import BadOption, BadSchedule, RemoteTaskError
from lovely.remotetask.failure import in_log
from lovely.remotetask.job import CronJob, check_delay
from lovely.remotetask.missed import ALL, ALLOW, ONCE, QUEUE_ONE, SKIP

#: Fields of a schedule as in release 0.5: their bounds, and what they are called.
FIELDS = {
    "minute": (0, 59, _("Minutes"), _("0 to 59, separated by spaces, or *")),
    "hour": (0, 23, _("Hours"), _("0 to 23, or *")),
    "dayOfMonth": (1, 31, _("Days of the month"), _("1 to 31, or *")),
    "month": (1, 12, _("Months"), _("1 to 12, or *")),
    "dayOfWeek": (0, 6, _("Weekdays"), _("0 (Monday) to 6 (Sunday), or *")),
}
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PART = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d{1,3}))?\Z")
NEXT = 5   # instants that are shown


class AddCronJob(NewJob):
    """A new cron job."""

    title = _("Add cron job")
    tab = "addcronjob.html"
    template = ViewPageTemplateFile("addcronjob.pt")
    done = _("Cron job ${id} was added.")
    goes_to = "jobs.html"
    actions = {"add": Action(access.MANAGE_SCHEDULES, "add"),
               "preview": Action(access.MANAGE_SCHEDULES, "preview")}
    plain = None    # the schedule in words
    instants = ()   # the next moments at which it fires

    def add_options(self):
        super().add_options()
        self.add_locks()
        add_schedule(self.boxes)

    @property
    def rules(self):
        return self.boxes.group("schedule", "timezone")

    @property
    def parts(self):
        return self.boxes.group(*FIELDS)

    @property
    def waits(self):
        return self.boxes.group("delay")

    @property
    def policies(self):
        return self.boxes.group("missed", "overlap")

    @property
    def others(self):
        shown = {*FIELDS, "schedule", "timezone", "delay", "missed", "overlap"}
        return [box for box in self.options if box.name not in shown]

    def zones(self):
        return sorted(available_timezones())

    def preview(self):
        """Show what the schedule means, and add nothing."""
        self.prepare()
        values = self.boxes.read()
        if not self.boxes.wrong:
            try:
                self.plain, self.instants = meaning(schedule_of(values))
            except RemoteTaskError as error:
                self.blame(error)

    def store(self, input, options):
        rule = schedule_of(options)
        rest = {name: value for name, value in options.items()
                if name not in (*FIELDS, "schedule", "timezone", "delay")}
        return self.service.addCronJob(self.taskName, input, **rule, **rest), True

    def blame(self, error):
        if isinstance(error, BadSchedule):
            blame_schedule(self.boxes, error)
            return
        super().blame(error)


def add_schedule(boxes, model=None):
    """Add the boxes of a schedule, with those of a cron job to begin with."""
    text = getattr(model, "text", None)
    boxes.add(Box(
        "schedule", _("Cron text"), forms.text, usual=text if isinstance(text, str) else "",
        hint=_("As */5 2-4 * * mon, @daily, or @every 90s."),
        extra=dict(placeholder="0 7 * * mon-fri")))
    boxes.add(Box("timezone", _("Time zone"), forms.text,
                  usual=getattr(model, "timezone", None) or "",
                  hint=_("As Europe/Berlin; empty: UTC."), extra=dict(list="zones")))
    for name, (low, high, title, hint) in FIELDS.items():
        boxes.add(Box(name, title, numbers(low, high, name == "dayOfWeek"), hint=hint,
                      usual=number_text(getattr(model, name, ()), low, high)))
    delay = getattr(model, "delay", None)
    boxes.add(Box("delay", _("Delay in seconds"), forms.seconds, "number",
                  usual="" if not delay else f"{delay:g}", extra=dict(step="any"),
                  hint=_("Runs once, after so long.")))
    boxes.add(Box(
        "missed", _("Runs that were missed"), forms.one_of(SKIP, ONCE, ALL), "choice",
        usual=getattr(model, "missed", ONCE), options=[
            (ONCE, _("are made up for by one run")), (ALL, _("are all made up for")),
            (SKIP, _("are left out"))],
        hint=_("While nothing was at work.")))
    boxes.add(Box(
        "overlap", _("While the last run is not finished"),
        forms.one_of(ALLOW, SKIP, QUEUE_ONE), "choice",
        usual=getattr(model, "overlap", SKIP), options=[
            (SKIP, _("the next one is left out")), (QUEUE_ONE, _("one waits for it")),
            (ALLOW, _("the next one begins beside it"))]))


def schedule_of(values):
    """What `addCronJob` and `update` take, of the boxes of a schedule.

    Raises BadSchedule where nothing or too much was given.
    """
    rule = {name: values[name] for name in FIELDS if values.get(name)}
    text, delay = values.get("schedule") or None, values.get("delay") or None
    given = [bool(text), bool(rule), bool(delay)]
    if sum(given) > 1:
        raise BadOption("schedule", text or "", "give cron text, or fields, or a delay: "
                        "only one of them")
    if not any(given):
        raise BadOption("schedule", "", "say when: by cron text, by fields or by a delay")
    return dict(rule, schedule=text, delay=delay, timezone=values.get("timezone") or None)


def meaning(rule):
    """(words, next moments) of such a rule.  Raises BadSchedule, BadOption."""
    now = clock.now()
    job = CronJob(0, "", None, **rule, created=clock.to_micros(now))
    if job.delay:
        return None, [clock.from_micros(clock.to_micros(now) + round(
            check_delay(job.delay) * 1_000_000))]
    moments, moment = [], now
    for _number in range(NEXT):
        moment = job.schedule.next_after(moment)
        if moment is None:
            break
        moments.append(moment)
    return job.schedule.describe(), moments


def blame_schedule(boxes, error):
    """Say beside the box that is meant what is wrong with a schedule."""
    text = in_log(str(error), 500)
    names = [name for name in ("timezone", *FIELDS) if name in text or
             name == "timezone" and "time zone" in text]
    filled = [name for name in FIELDS if boxes[name].text.strip()]
    if boxes["schedule"].text.strip() and "timezone" not in names:
        names = ["schedule"]
    boxes.blame(next(iter(names), next(iter(filled), "schedule")), text)


def numbers(low, high, weekdays=False):
    """A converter of "1 5 10", "1-5", "*/15" or "*" to a tuple of numbers."""
    def number(word):
        if weekdays and word[:3].lower() in WEEKDAYS:
            return WEEKDAYS.index(word[:3].lower())
        if not (word.isascii() and word.isdigit()) or not low <= int(word) <= high:
            raise Wrong(_("${word} is no number from ${low} to ${high}.", mapping={
                "word": word[:20], "low": low, "high": high}))
        return int(word)

    def convert(value):
        found = set()
        for word in value.replace(",", " ").split():
            match = PART.match(word)
            if match is None:
                raise Wrong(_("${word} is no number from ${low} to ${high}.", mapping={
                    "word": word[:20], "low": low, "high": high}))
            whole, first, last, step = match.groups()
            begin = low if whole == "*" else number(first)
            end = high if whole == "*" or step and not last else number(last or first)
            if step == "0" or end < begin:
                raise Wrong(_("${word} means no number.", mapping={"word": word[:20]}))
            found.update(range(begin, end + 1, int(step or 1)))
        return tuple(sorted(found))
    return convert


def number_text(values, low, high):
    """What stands in the box of such a field."""
    values = tuple(values or ())
    if values == tuple(range(low, high + 1)):
        return "*"
    return " ".join(map(str, values))
