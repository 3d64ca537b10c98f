"""The schedules of a service: when each fires, how its runs went, and what may be done."""
from datetime import UTC, timedelta

import transaction
from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access, clerk, clock, guard, lifecycle, masking, zones
from lovely.remotetask.browser import _, words
from lovely.remotetask.browser.job import secrets_of
from lovely.remotetask.browser.layout import Action, Page
from lovely.remotetask.errors import NoCronJob, RemoteTaskError
from lovely.remotetask.failure import text_of
from lovely.remotetask.job import CronJob
from lovely.remotetask.missed import ALL, ALLOW, ONCE, QUEUE_ONE, SKIP

SHOWN = 20     # schedules on a page
NEXT = 5       # moments of each
RUNS = 30      # runs of each, as bars
ERROR = 200    # characters of an error
SECOND = timedelta(seconds=1)

MISSED = {ONCE: _("Missed runs are made up for by one run."),
          ALL: _("Missed runs are all made up for."),
          SKIP: _("Missed runs are left out.")}
OVERLAP = {SKIP: _("A run is left out while the one before it is not finished."),
           QUEUE_ONE: _("A run waits for the one before it, one at most."),
           ALLOW: _("Runs may overlap.")}


class Schedules(Page):
    """All schedules, a page at a time, the newest first."""

    title = _("Schedules")
    tab = "schedules.html"
    template = ViewPageTemplateFile("schedules.pt")
    actions = {
        "run": Action(access.MANAGE_SCHEDULES, "run"),
        "pause": Action(access.MANAGE_SCHEDULES, "pause"),
        "resume": Action(access.MANAGE_SCHEDULES, "resume"),
        "remove": Action(access.MANAGE_SCHEDULES, "remove"),
    }

    def update(self):
        self.mayManage = self.may(access.MANAGE_SCHEDULES)
        found, key = self.service.listJobs(
            lifecycle.CRONJOB, after=self._after(), limit=SHOWN)
        self.rows = [self._row(cron) for cron in found if isinstance(cron, CronJob)]
        self.next = None if key is None else self.url(
            "schedules.html", after=f"{key[0]}.{key[1]}")
        self.first = self.url("schedules.html") if self._after() else None

    def _after(self):
        moment, _dot, id = self.text("after").partition(".")
        if moment.isascii() and moment.isdigit() and id.isascii() and id.isdigit() \
                and len(moment) < 20 and len(id) < 12:
            return int(moment), int(id)
        return None

    # -- what is shown

    def _row(self, cron):
        zone, moments, broken = None, (), cron.broken
        said, inEnglish = None, False
        try:
            zone = _zone_of(cron)
            said, inEnglish = words.of(cron, self.say)
            if not cron.paused and not broken:
                moments = next_times(cron, self.service)
        except Exception as error:
            if clerk.concerns_all(error):
                raise
            broken = broken or text_of(error)
        runs = [self._run(run) for run in cron.runs[-RUNS:]]
        return dict(
            id=cron.id, task=cron.task, title=cron.title, url=self.jobUrl(cron.id),
            css=_css(cron, broken), state=_state(cron, broken), broken=broken,
            paused=cron.paused, words=said, inEnglish=inEnglish,
            text=cron.text if isinstance(cron.text, str) else None,
            zone=cron.timezone or "UTC", owner=cron.owner,
            missed=MISSED.get(cron.missed, cron.missed),
            overlap=OVERLAP.get(cron.overlap, cron.overlap),
            late=len(cron.late) + (cron.waiting is not None),
            times=self._times(moments, zone), runs=runs, last=self._last(cron, runs))

    def _times(self, moments, zone):
        times, before = [], None
        for moment in moments:
            times.append(dict(
                moment=moment, wall=self._wall(moment, zone),
                remark=remark(moment, before, zone)))
            before = moment
        return times

    def _wall(self, moment, zone):
        """What the clock shows there, where that is not the zone of the page."""
        if zone is None:
            return None
        local = moment.astimezone(zone)
        if local.utcoffset() == moment.astimezone(self.zone).utcoffset():
            return None
        return f"{local:%H:%M} {local.tzname()}"

    def _last(self, cron, runs):
        """The last run that has ended, with its error where that may be read."""
        last = next((run for run in reversed(runs) if run["completed"] is not None), None)
        if last is not None and last["error"]:
            last["error"] = masking.without(last["error"], secrets_of(cron))[:ERROR] \
                if access.may(access.READ_RESULT, cron) else None
        return last

    def _run(self, run):
        job = clerk.readable(self.service, run.job)
        status = job.status if job is not None else run.status
        return dict(
            url=None if job is None else self.jobUrl(run.job), status=status,
            css=f"s-{status.replace(' ', '-')}", title=self.statusTitle(status),
            instant=run.instant, completed=run.completed, error=run.error,
            said=f"{self.plainTime(run.instant)}: {self.statusTitle(status)}")

    # -- what may be done; the number of the schedule stands in the button

    def run(self):
        guard.require_room(self.service)
        self._do(self.service.runNow, _("A run was made, beside the schedule."))

    def pause(self):
        self._do(self.service.pause, _("The schedule is paused: it does not fire."))

    def resume(self):
        self._do(self.service.resume, _("The schedule fires again, from now on."))

    def remove(self):
        self._do(self._end, _("The schedule is removed. Its runs stay."))

    def _end(self, id):
        self.service.cancel(id)
        self.service.remove(id)

    def _schedule(self, id):
        """The schedule of that number: who keeps schedules has no say on other jobs."""
        job = self.service.getJob(
            int(id) if id.isascii() and id.isdigit() and len(id) < 12 else 0)
        if not isinstance(job, CronJob):
            raise NoCronJob(job)
        return job

    def _do(self, verb, said):
        id = self.argument
        point = transaction.savepoint(optimistic=True)
        try:
            verb(self._schedule(id).id)
        except RemoteTaskError as error:
            point.rollback()
            self.tell(text_of(error), "error")
        else:
            self.tell(said)
        after = self.text("after")
        self.go(self.url("schedules.html", **({"after": after} if after else {})))


def _css(cron, broken):
    if broken:
        return "badge s-error"
    return "badge s-delayed" if cron.paused else "badge s-cronjob"


def _state(cron, broken):
    if broken:
        return _("broken")
    return _("paused") if cron.paused else _("in force")


def _zone_of(cron):
    """The zone in which a schedule is read; None where it follows no clock on a wall."""
    made = cron.schedule
    if not hasattr(made, "timezone"):
        return None
    return UTC if made.timezone is None else zones.zone(made.timezone)


def next_times(cron, service, count=NEXT):
    """The next moments at which a schedule fires, as it stands in the books."""
    moments, moment = [], clock.now()
    if cron.scheduledFor is not None and cron.scheduledFor <= moment:
        moments.append(cron.scheduledFor)  # it is due, and nobody has looked yet
    while len(moments) < count:
        moment = cron.schedule.next_after(moment)
        if moment is None:
            break
        moments.append(moment)
    return moments


def remark(moment, before, zone):
    """What daylight saving does to this moment, or before it; None if nothing."""
    if zone is None:
        return None
    local = moment.astimezone(zone)
    just = (moment - SECOND).astimezone(zone)
    if local.utcoffset() > just.utcoffset():
        return _("the clock jumps forward: this is the first moment after the jump")
    first, second = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    if first != second:
        if local.fold:
            return _("the clock shows this time twice: this is the second time")
        return _("the clock shows this time twice: this is the first time")
    if before is not None:
        change = local.utcoffset() - before.astimezone(zone).utcoffset()
        if change:
            return _("the clock was put forward since the time above") \
                if change > timedelta(0) else _("the clock was put back since the time above")
    return None
