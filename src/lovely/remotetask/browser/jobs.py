"""The list of jobs, and what can be done to each that it shows."""
import html

from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access, clock, lifecycle
from lovely.remotetask.browser import _, chart, filters, preview
from lovely.remotetask.browser.bulk import Bulk
from lovely.remotetask.browser.job import REASONS
from lovely.remotetask.browser.layout import Action
from lovely.remotetask.browser.preview import detail_of, short
from lovely.remotetask.failure import in_log
from lovely.remotetask.finding import TEXT_LIMIT
from lovely.remotetask.job import CronJob
from lovely.remotetask.masking import secrets_in, without
from lovely.remotetask.runtime.frames import present_owner

SECONDS = 0.1    # that a page looks for jobs
#: Of the charts: (title, step, how many of them).
PERIODS = {"hour": (_("1 hour"), "minute", 60), "4h": (_("4 hours"), "minute", 240),
           "day": (_("1 day"), "hour", 24), "week": (_("7 days"), "hour", 168)}
HEADS = (_("Id"), _("Task"), _("Status"), _("Detail"), _("Creation"), _("Start"), _("End"),
         _("Actions"))
VALUES = 200     # tasks, owners and tags that are offered
ERROR_LENGTH = 200


class Jobs(Bulk):
    """Counts, charts, filters, the table and its buttons."""

    title = _("Jobs")
    tab = "jobs.html"
    template = ViewPageTemplateFile("jobs.pt")
    actions = {
        **Bulk.actions,
        "start": Action(access.MANAGE, "start"),
        "stop": Action(access.MANAGE, "stop"),
        "retry": Action(access.VIEW, "retryOne"),
        "cancel": Action(access.VIEW, "cancelOne"),
        "run": Action(access.VIEW, "runOne"),
    }

    def update(self):
        """Look for the jobs of this page."""
        if self.asking:
            return
        super().update()
        self.found = self.service.findJobs(
            **self.asked(), order=self.filters.order, after=self.filters.key,
            limit=self.filters.size, looked=self.filters.looked, seconds=SECONDS)
        self.counts = self.service.counts()
        self.rows = [self.row(job) for job in self.found.jobs]

    # -- buttons of the service and of one job

    def start(self):
        self.service.startProcessing()
        self.tell(_("Processing has been started in this process."))
        self.back()

    def stop(self):
        self.service.stopProcessing()
        self.tell(_("Processing is being stopped in this process."))
        self.back()

    def retryOne(self):
        self.each("retry", [self.argument])
        self.back()

    def cancelOne(self):
        self.each("cancel", [self.argument])
        self.back()

    def runOne(self):
        self.each("run", [self.argument])
        self.back()

    # -- what the template shows

    @property
    def active(self):
        return self.service.isProcessing()

    def strip(self):
        """The counts by state: links that filter."""
        total = sum(self.counts.values())
        yield dict(title=self.say(_("all")), number=total, name="all",
                   current=not self.filters.state,
                   url=self.here + self.filters.query(state="", sort=""))
        for status in lifecycle.STATUSES:
            yield dict(title=self.statusTitle(status), number=self.counts[status],
                       name=status.replace(" ", "-"),
                       current=status == self.filters.state,
                       url=self.here + self.filters.query(state=status, sort=""))

    @property
    def oldest(self):
        return self.service.oldestWaiting()

    def row(self, job):
        status = job.status
        detail, is_html = detail_of(job, self.request)
        return dict(
            id=job.id, url=self.jobUrl(job.id), task=job.task, title=job.title,
            tags=job.tags, status=status, badge=self.badge(status),
            reason=REASONS.get(job.reason, job.reason), owner=job.owner,
            said="soft" if detail == preview.NO_DETAIL else None,
            detail=detail if is_html else html.escape(self.say(detail)),
            error=self._error(job) if status != lifecycle.COMPLETED else "",
            progress=self._progress(job) if status == lifecycle.PROCESSING else None,
            created=job.created, started=job.started, completed=job.completed,
            due=job.due if status == lifecycle.DELAYED else None,
            took=self._took(job), actions=list(self._actions(job, status)))

    def _error(self, job):
        if not job.error or not access.may(access.READ_RESULT, job):
            return ""
        schema = getattr(self.service.taskOf(job), "inputSchema", None)
        return short(without(job.error, secrets_in(schema, job.input)), ERROR_LENGTH)

    def _progress(self, job):
        told = self.service.getProgress(job.id)
        if told is None:
            return None
        done, total, message, _moment = told
        known = isinstance(total, (int, float)) and total > 0
        share = max(0.0, min(1.0, done / total)) if known else None
        return dict(share=None if share is None else f"{share:.4f}",
                    percent="" if share is None else f"{share:.0%}",
                    message=str(message)[:ERROR_LENGTH])

    def _took(self, job):
        started, completed = job.started, job.completed
        if started is None or completed is None or isinstance(job, CronJob):
            return None
        return (completed - started).total_seconds()

    def _actions(self, job, status):
        """(button value, title) of what this user may do to this job now."""
        cron = isinstance(job, CronJob)
        if access.may_cancel(job):
            if status in (lifecycle.ERROR, lifecycle.CANCELLED) \
                    and not (cron and not job.delay):
                yield f"retry:{job.id}", _("Retry")
            if status in (lifecycle.DELAYED, lifecycle.STARTLATER):
                yield f"run:{job.id}", _("Run now")
        if status == lifecycle.CRONJOB and self.may(access.MANAGE_SCHEDULES):
            yield f"run:{job.id}", _("Run now")
        if status not in lifecycle.FINISHED and access.may_cancel(job):
            yield f"cancel:{job.id}", _("Cancel")

    def links(self, row):
        """(address, title) of the pages on which this job is copied or changed."""
        if row["status"] == lifecycle.CRONJOB:
            if self.may(access.MANAGE_SCHEDULES):
                yield f"{row['url']}/editjob", _("Edit")
            return
        job = self.service.jobs.get(row["id"])
        if job is None:
            return
        if self.may(access.SUBMIT) and access.may(access.READ_INPUT, job):
            yield self.url("addjob.html", copy=row["id"]), _("Copy")
            if row["status"] in (lifecycle.STARTLATER, lifecycle.DELAYED,
                                 lifecycle.QUEUED) and access.may_cancel(job):
                yield f"{row['url']}/editjob", _("Edit")

    # -- the table

    @property
    def labels(self):
        """The heads of the columns, where a narrow page shows them in each row."""
        return {str(text): self.say(text) for text in HEADS}

    def head(self, name):
        """Address and present order of a column that sorts; None for one that cannot."""
        sort, narrowed = self.filters.sort, self.filters.narrowed
        state = self.filters.state
        finished = not state or state in lifecycle.FINISHED
        if name == "status":
            return None if state or narrowed else self._column("status", "ascending", "")
        if name == "end":
            if narrowed or not finished:
                return None
            falling = sort == "-end" or state and sort in ("", "-created")
            return self._column("end" if falling else "-end",
                                "descending" if falling else "ascending",
                                sort in ("-end", "end") or bool(state))
        if state in lifecycle.FINISHED and not narrowed:
            return None
        rising = sort == "created"
        return self._column("" if rising else "created",
                            "ascending" if rising else "descending",
                            sort in ("", "created", "-created"))

    def _column(self, sort, present, is_present):
        if sort == "status":
            is_present = self.filters.sort == "status"
            sort = "" if is_present else "status"
        return dict(url=self.here + self.filters.query(sort=sort),
                    order=present if is_present else None)

    # -- pages and filters

    @property
    def nextPage(self):
        if self.found.next is None:
            return None
        return self.here + self.filters.query(
            after=filters.key_text(self.found.next),
            looked=self.found.looked if self.filters.text else 0)

    @property
    def firstPage(self):
        return self.here + self.filters.query() if self.filters.after else None

    @property
    def searched(self):
        """What a search for text has done, as a message; None without one."""
        if not self.filters.text:
            return None
        if self.found.looked >= TEXT_LIMIT:
            return _("The newest ${limit} jobs that match otherwise were searched, "
                     "and no more are.", mapping={"limit": self.number(TEXT_LIMIT)})
        if self.found.next is not None:
            return _("${looked} of at most ${limit} jobs were searched so far.", mapping={
                "looked": self.number(self.found.looked),
                "limit": self.number(TEXT_LIMIT)})
        return _("All ${looked} jobs that match otherwise were searched; at most "
                 "${limit} are.", mapping={
                     "looked": self.number(self.found.looked),
                     "limit": self.number(TEXT_LIMIT)})

    @property
    def sizes(self):
        return sorted({*filters.SIZES, self.filters.size})

    def known(self, kind):
        """Tasks, owners or tags to choose from."""
        return sorted(map(str, self.service.facetValues(kind, VALUES)), key=str.casefold)

    def tasks(self):
        """The available tasks: (name, first line of what they do)."""
        found = []
        for name, task in sorted(self.service.getAvailableTasks().items()):
            doc = getattr(task, "doc", None) or getattr(task, "__doc__", None) or ""
            lines = doc.strip().splitlines() if isinstance(doc, str) else []
            found.append(dict(
                name=name, doc=in_log(lines[0], ERROR_LENGTH) if lines else "",
                url=self.url("addjob.html", task=name)
                if self.may(access.SUBMIT) else None))
        return found

    @property
    def mine(self):
        """The address of the user's own jobs; None where they are shown, or unknown."""
        owner = present_owner()
        if owner is None or self.filters.owner == owner:
            return None
        return self.here + self.filters.query(owner=owner)

    @property
    def moreFilters(self):
        f = self.filters
        return any((f.owner, f.tag, f.since, f.until))

    # -- charts

    @property
    def period(self):
        name = self.text("period")
        return name if name in PERIODS else next(iter(PERIODS))

    def periods(self):
        query = self.filters.query()
        joint = "&" if query else "?"
        return [dict(title=title, url=f"{self.here}{query}{joint}period={name}",
                     current=name == self.period)
                for name, (title, _step, _count) in PERIODS.items()]

    def charts(self):
        """The two charts and what is said beside them; of the task that is filtered."""
        _title, step, count = PERIODS[self.period]
        steps = chart.steps_of(self.service.statistics(step, count), self.filters.task)
        ended = {status: sum(each.ended[status] for each in steps)
                 for status in chart.SHOWN}
        attempts = sum(each.attempts for each in steps)
        minutes = count * (1 if step == "minute" else 60)
        return dict(
            ended=chart.ended_chart(steps, self.say(_("Jobs that ended")),
                                    self._ended_text),
            waits=chart.waits_chart(steps, self.say(_("Waiting time")), self._wait_text),
            begin=self.when(steps[0].moment) if steps else "",
            end=self.when(clock.now()),
            legend=[dict(status=status, title=self.statusTitle(status),
                         number=self.number(ended[status])) for status in chart.SHOWN],
            rate=self.number(round(sum(ended.values()) / minutes, 1)),
            mean=self.took(sum(each.waited for each in steps) / attempts)
            if attempts else "–")

    def _zoned(self, step):
        return f"{self.plainTime(step.moment)} {self.zoneName}"

    def _ended_text(self, step):
        return "\n".join([self._zoned(step), *(
            f"{self.statusTitle(status)}: {self.number(number)}"
            for status, number in step.ended.items() if number)])

    def _wait_text(self, step):
        return "\n".join([self._zoned(step), self.say(_(
            "${time} on average", mapping={
                "time": self.took(step.waited / step.attempts)}))])
