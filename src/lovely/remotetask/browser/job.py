"""One job: where it is, how it came there, what it brought and what it changed."""
from itertools import groupby
from logging import getLevelName

import transaction
from zope.browserpage import ViewPageTemplateFile
from zope.component import queryMultiAdapter
from zope.interface import implementer
from zope.publisher.interfaces import NotFound
from zope.publisher.interfaces.browser import IBrowserPublisher
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask import access, clerk, clock, guard, lifecycle, masking, undo
from lovely.remotetask.browser import _, preview, values
from lovely.remotetask.browser.layout import Action, Page
from lovely.remotetask.errors import NoHistory, RemoteTaskError
from lovely.remotetask.failure import text_of
from lovely.remotetask.job import CronJob
from lovely.remotetask.store import history

CHILDREN = 20        # jobs made by this one that are listed
ENDED_BADLY = (lifecycle.ERROR, lifecycle.CANCELLED)
WITHOUT_LINE = (lifecycle.STARTLATER, lifecycle.DELAYED)

#: Why a job is where it is, in words.
REASONS = {
    lifecycle.RETRY: _("the last attempt failed, another follows"),
    lifecycle.HANDED_BACK: _("its process was stopped, it waits for another"),
    lifecycle.INTERRUPTED: _("its process died"),
    lifecycle.CRASHED: _("set aside: it took its process down again and again"),
    lifecycle.EXPIRED: _("it could not start in time"),
    lifecycle.TIMED_OUT: _("it ran longer than it may"),
    lifecycle.BY_HAND: _("by hand"),
    lifecycle.REPLACED: _("a newer job with the same key took its place"),
    lifecycle.UNDONE: _("what it had changed was taken back"),
}

#: How an attempt ended, beside the reasons.
OUTCOMES = {**REASONS, "error": _("failed"), lifecycle.RETRY: _("failed"),
            "process died": _("its process died")}

#: Why nothing is told of what a job has changed; why it cannot be taken back.
HINDRANCES = {
    "no history": _("The storage of this database keeps no history."),
    "not completed": _("Only what completes a job changes anything."),
    "packed": _("The history of that time was packed away."),
    "no undo": _("The storage of this database cannot undo."),
    "read only": _("The database is open for reading only."),
    "settling": _("The job has ended just now and is still being entered in the books: "
                  "try again in a second."),
    "elsewhere": _("A database that the job has written to is not there any more."),
    "not alone": _("The transaction holds other work as well: several jobs shared it, or "
                   "the job was run by hand, or its record was written since."),
    "made jobs": _("The job has added other jobs, which may have run: cancel or undo "
                   "these, and mend the rest by hand."),
    "changed since": _("Objects that the job wrote have been changed since, and the "
                       "changes cannot be told apart; or their history was packed away. "
                       "Undo the newer changes first, or mend it by hand."),
}


@implementer(IBrowserPublisher)
class Traverser:
    """Finds views of a service, and its jobs by number."""

    def __init__(self, context, request):
        self.context, self.request = context, request

    def publishTraverse(self, request, name):
        view = queryMultiAdapter((self.context, request), name=name)
        if view is not None:
            return view
        service = removeSecurityProxy(self.context)
        if name.isascii() and name.isdigit() and len(name) < 11 and name[0] != "0":
            job = clerk.readable(service, int(name))
            if job is not None:
                return job
        raise NotFound(self.context, name, request)

    def browserDefault(self, request):
        return self.context, ("@@jobs.html",)


class OfJob(Page):
    """A page of one job: `self.job` without security proxy, checked by hand."""

    tab = "jobs.html"

    @property
    def job(self):
        return removeSecurityProxy(self.context)

    @property
    def jobUrlHere(self):
        return self.jobUrl(self.job.id)

    def try_to(self, said, verb, *args, **kwargs):
        """Call a verb of the service and tell *said*; or undo it and tell why not."""
        point = transaction.savepoint(optimistic=True)
        try:
            found = verb(*args, **kwargs)
        except RemoteTaskError as error:
            point.rollback()
            self.tell(text_of(error), "error")
            return None
        self.tell(said)
        return found

    @property
    def mayReadInput(self):
        return self.may(access.READ_INPUT)

    @property
    def mayReadResult(self):
        return self.may(access.READ_RESULT)

    def reason(self):
        """Why it is where it is, where the status does not tell."""
        reason = self.job.reason
        return REASONS.get(reason, reason) if reason else None


class Job(OfJob):
    """The page of a job."""

    template = ViewPageTemplateFile("job.pt")
    actions = {
        "retry": Action(access.CANCEL, "retry"),
        "cancel": Action(access.CANCEL, "cancel"),
        "start": Action(access.CANCEL, "start"),
        "copy": Action(access.SUBMIT, "copy"),
        "remove": Action(access.MANAGE, "remove"),
    }
    _secretsFound = None

    def update(self):
        job = self.job
        self.status = job.status
        self.isCron = isinstance(job, CronJob)
        self.finished = self.status in lifecycle.FINISHED
        self.live = None if self.finished else ""
        self.progress = self._progress()
        self.attempts = self._attempts()
        self.timeline = self._timeline()
        self.detail, self.detailIsHTML = self._detail()

    @property
    def pageTitle(self):
        return self.say(_("Job ${id}", mapping={"id": str(self.job.id)}))

    # -- what may be done

    @property
    def canRetry(self):
        return self.job.recordedStatus in ENDED_BADLY and self.may(access.CANCEL) \
            and not (isinstance(self.job, CronJob) and not self.job.delay)

    @property
    def canCancel(self):
        return not self.finished and self.may(access.CANCEL)

    @property
    def canStart(self):
        return self.job.recordedStatus in WITHOUT_LINE and not self.isCron \
            and self.may(access.CANCEL)

    @property
    def canEdit(self):
        permission = access.MANAGE_SCHEDULES if self.isCron else access.CANCEL
        return self.status in lifecycle.WAITING and self.may(permission)

    @property
    def canCopy(self):
        return not self.isCron and self.may(access.SUBMIT) and self.mayReadInput

    @property
    def canRemove(self):
        return self.finished and self.may(access.MANAGE)

    @property
    def canUndo(self):
        return self.status == lifecycle.COMPLETED and self.may(access.MANAGE)

    def retry(self):
        self.try_to(_("The job waits for its turn again."), self.service.retry, self.job.id)
        self.go(self.jobUrlHere)

    def cancel(self):
        self.try_to(_("The job is cancelled."), self.service.cancel, self.job.id)
        self.go(self.jobUrlHere)

    def start(self):
        verb = self.service.runNow
        if self.job.recordedStatus == lifecycle.STARTLATER and not self.job.due:
            verb = self.service.startJob
        self.try_to(_("The job waits for its turn now."), verb, self.job.id)
        self.go(self.jobUrlHere)

    def copy(self):
        access.require(access.READ_INPUT, self.context)  # the copy's owner may read it
        guard.require_room(self.service)
        made = self.try_to(_("This is the copy; it waits for its turn."),
                           self.service.copy, self.job.id)
        self.go(self.jobUrlHere if made is None else self.jobUrl(made))

    def remove(self):
        self.try_to(_("Job ${id} is removed.", mapping={"id": str(self.job.id)}),
                    self.service.remove, self.job.id)
        self.go(self.url("jobs.html"))

    # -- what is shown

    @property
    def parent(self):
        """The job that made it: number, and the job while it is there."""
        number = self.job.parent
        if number is None:
            return None
        found = clerk.readable(self.service, number)
        return dict(id=number, url=None if found is None else self.jobUrl(number),
                    isRun=self.job.isRun)

    @property
    def holder(self):
        """The worker that has it in hand."""
        if self.status != lifecycle.PROCESSING:
            return None
        lease = self.service.leases.holder(self.job.id)
        return None if lease is None else dict(
            name=lease.name[:8], host=lease.host, pid=lease.pid)

    def _progress(self):
        told = None
        if self.status != lifecycle.COMPLETED:
            told = self.service.getProgress(self.job.id)
        if told is None:
            return None
        done, total, message, moment = told
        share = None
        if isinstance(total, (int, float)) and total > 0 and isinstance(done, (int, float)):
            share = max(0.0, min(1.0, done / total))
        return dict(done=done, total=total, message=self._unsecret(message),
                    moment=moment, share=share,
                    percent=None if share is None else f"{share * 100:.0f} %")

    def concerns(self):
        """The objects that it concerns: titles and addresses."""
        return [values.link(each, self.request) for each in self.job.concerns[:values.LINKS]]

    def clockTime(self, moment):
        """The time of day of a line, to the millisecond."""
        return moment.astimezone(self.zone).isoformat(" ", "milliseconds")[11:23]

    @property
    def seconds(self):
        """How long the last attempt ran, or runs."""
        job = self.job
        if job.started is None or self.isCron:
            return None
        if self.status == lifecycle.PROCESSING:
            return (clock.now() - job.started).total_seconds()
        if not self.finished or job.completed is None or job.completed < job.started:
            return None
        return (job.completed - job.started).total_seconds()

    @property
    def begun(self):
        """How many attempts have begun, the one under way counted."""
        under_way = self.status == lifecycle.PROCESSING \
            and self.job.recordedStatus != lifecycle.PROCESSING
        return self.job.startedCount + under_way

    @property
    def waited(self):
        """How long it waited, from the moment it could have begun to its start."""
        job = self.job
        if job.started is None or self.isCron:
            return None
        ready = max(job.created, min(job.due or job.created, job.started))
        return max(0.0, (job.started - ready).total_seconds())

    def _detail(self):
        """What a view `<task>_detail` says; nothing where there is none."""
        if queryMultiAdapter((self.job, self.request),
                             name=f"{self.job.task}_detail") is None:
            return "", False
        return preview.detail_of(self.job, self.request)

    @property
    def input(self):
        return self._value(self.mayReadInput, access.input_of)

    @property
    def output(self):
        return self._value(self.mayReadResult, access.output_of)

    def _value(self, may, read):
        """A value that is shown; None where the user may not see it."""
        if not may:
            return None
        try:
            return values.shown(read(self.context), self.request)
        except RemoteTaskError:
            return None
        except Exception as error:
            if clerk.concerns_all(error):
                raise
            return values.Shown("unreadable", f"{type(error).__name__}: {text_of(error)}")

    @property
    def error(self):
        if not self.mayReadResult or not self.job.error:
            return None
        return self._unsecret(self.job.error)

    def _unsecret(self, text):
        """A text of the task without the secrets of its input."""
        return masking.without(text, self._secrets) if text else text

    @property
    def _secrets(self):
        if self._secretsFound is None:
            self._secretsFound = secrets_of(self.job)
        return self._secretsFound

    # -- attempts, each with its lines

    def _attempts(self):
        """Every attempt that is known of, the newest first."""
        job = self.job
        lines = {number: list(each) for number, each in
                 groupby(job.log, key=lambda line: line.attempt)} \
            if self.mayReadResult else {}
        rows = [self._attempt(record, lines.pop(record.number, ()))
                for record in job.attempts]
        rows += [dict(number=number, outcome=None, status=None, started=None, seconds=None,
                      error=None, kind=None, traceback=None, worker="",
                      lines=[self._line(line) for line in each])
                 for number, each in sorted(lines.items())]
        for row in rows:
            if row["outcome"] is None and row["number"] == job.startedCount \
                    and self.finished:
                row.update(outcome=self.statusTitle(self.status), status=self.status,
                           started=job.started, seconds=self.seconds)
        return sorted(rows, key=lambda row: row["number"], reverse=True)

    def _attempt(self, record, lines):
        seconds = (record.ended - record.started).total_seconds() \
            if record.started and record.ended else None
        reads = self.mayReadResult
        return dict(
            number=record.number, started=record.started, seconds=seconds,
            outcome=OUTCOMES.get(record.outcome, record.outcome),
            status=lifecycle.CANCELLED if record.outcome == lifecycle.UNDONE
            else lifecycle.ERROR,
            kind=record.kind if reads else None,
            error=self._unsecret(record.error) if reads else None,
            traceback=self._unsecret(record.traceback) if reads else None,
            worker=record.worker, lines=[self._line(line) for line in lines])

    def _line(self, line):
        level = getLevelName(line.level)
        return dict(moment=clock.from_micros(line.moment), level=level,
                    css=f"level {level.lower()}" if level.isalpha() else "level",
                    text=self._unsecret(line.text))

    @property
    def logLost(self):
        return self.job.logLost if self.mayReadResult else 0

    # -- its moves, in time

    def _timeline(self):
        """The moves of the job, the first one first; what is to come stands last."""
        job = self.job
        moves = [dict(moment=job.created, what=_("added"), css="",
                      more=self._added_by())]
        for record in job.attempts:
            moves.append(self._begun(record.number, record.started, record.worker))
            moves.append(dict(
                moment=record.ended, css="s-error", more=self._short_error(record),
                what=OUTCOMES.get(record.outcome, record.outcome)))
        moves += self._last_moves()
        known = [move for move in moves if move["moment"] is not None]
        return sorted(known, key=lambda move: move["moment"]) + self._to_come()

    def _added_by(self):
        owner = self.job.owner
        return None if owner is None else _("by ${owner}", mapping={"owner": owner})

    def _begun(self, number, moment, worker):
        host = worker.partition("/")[0][:8] if worker else ""
        return dict(moment=moment, css="s-processing",
                    what=_("attempt ${number} began", mapping={"number": number}),
                    more=_("worker ${name}", mapping={"name": host}) if host else None)

    def _short_error(self, record):
        if not self.mayReadResult:
            return None
        text = self._unsecret(f"{record.kind}: {record.error}")
        return text if len(text) < 200 else text[:200] + "…"

    def _last_moves(self):
        job, status = self.job, self.status
        if self.isCron:
            return
        if status == lifecycle.PROCESSING:
            yield self._begun(self.begun, job.started, job.worker)
        elif status == lifecycle.COMPLETED:
            yield self._begun(job.startedCount, job.started, job.worker)
            yield dict(moment=job.completed, what=_("completed"), css="s-completed",
                       more=self.took(self.seconds) or None)
        elif status == lifecycle.CANCELLED:
            yield dict(moment=job.completed, what=_("cancelled"), css="s-cancelled",
                       more=self.reason())
        elif status == lifecycle.ERROR and not job.attempts:
            yield dict(moment=job.completed, what=_("error"), css="s-error",
                       more=self.reason())

    def _to_come(self):
        job, moves = self.job, []
        if self.status == lifecycle.DELAYED and job.due is not None:
            moves.append(dict(moment=job.due, what=_("it will be due"), css="s-delayed",
                              more=self.reason()))
        if self.status == lifecycle.CRONJOB and job.scheduledFor is not None:
            moves.append(dict(moment=job.scheduledFor, what=_("the next run"),
                              css="s-cronjob", more=None))
        if self.status == lifecycle.QUEUED:
            moves.append(dict(moment=None, what=_("it waits for its turn"), css="s-queued",
                              more=self.reason()))
        if not self.finished and job.deadline is not None:
            moves.append(dict(moment=job.deadline, css="s-cancelled", more=None,
                              what=_("it does not start after this")))
        return moves

    # -- what it made and changed

    @property
    def children(self):
        jobs = self.service.madeBy(self.job.id, CHILDREN + 1)
        self.moreChildren = len(jobs) > CHILDREN
        return jobs[:CHILDREN]

    @property
    def changes(self):
        """What its transaction has written: a dictionary, None where that is not told.

        In other databases it is looked for when that is asked for: it may take a while.
        """
        if self.status != lifecycle.COMPLETED or not self.mayReadResult or self.isCron:
            return None
        try:
            written = undo.changes(self.service, self.job.id)
            elsewhere = undo.elsewhere(self.service, self.job.id) \
                if self.text("everywhere") else {}
        except NoHistory as error:
            return dict(why=HINDRANCES.get(error.code, text_of(error)), rows=(), own=0)
        return changes_shown(self, written, elsewhere)


def secrets_of(job):
    """The texts in the input of a job that nobody is shown."""
    service = job.__parent__
    try:
        schema = getattr(service.taskOf(job), "inputSchema", None)
        return masking.secrets_in(
            schema, job.input, service.effectiveSettings().secret_names)
    except Exception as error:  # it cannot be read any more
        if clerk.concerns_all(error):
            raise
        return set()


def changes_shown(page, written, elsewhere):
    """The objects of a transaction; the service's own records are only counted.

    elsewhere: {name of a database: what it wrote there}.
    """
    job, jar, rows, own = page.job, page.service._p_jar, [], 0
    for name, each in (("", written), *elsewhere.items()):
        connection, parts, found = jar.get_connection(name) if name else jar, {}, []
        for record in each.records:
            if not name and (record.oid == job._p_oid
                             or record.kind.startswith("lovely.remotetask.")):
                own += 1
            else:
                found.append(_row(page, record, connection, parts))
        for row in found:
            if row["path"] is None:
                row["part"] = parts.get(row["oid"])
        rows += sorted(found, key=lambda row: (
            row["path"] or row["part"] or "~", row["path"] is None))
    return dict(why=None, rows=rows, own=own,
                more=any(each.more for each in (written, *elsewhere.values())),
                alone=undo.is_alone(written, job.id), packed=written.packed,
                unseen=[name for name in job.alsoIn if name not in elsewhere])


def _row(page, record, connection, parts):
    """One object: its class, where it stands, its size.  Loads it.

    parts: {oid: path} of what objects that have a place hold in their attributes.
    """
    module, _dot, name = record.kind.rpartition(".")
    row = dict(oid=record.oid, kind=name or _("made undone"), module=module,
               size=record.size, current=record.current, url=None, path=None, part=None,
               database="" if connection is page.service._p_jar
               else connection.db().database_name)
    try:
        found, names = history.place_of(connection, record.oid)
        if names is not None:
            row["path"] = path = "/" + "/".join(names)
            row["url"] = values.link(found, page.request)["url"]
            found._p_activate()
            parts.update((each._p_oid, path) for each in vars(found).values()
                         if getattr(each, "_p_oid", None) is not None)
    except Exception as error:  # it is gone, or cannot be read any more
        if clerk.concerns_all(error):
            raise
    return row
