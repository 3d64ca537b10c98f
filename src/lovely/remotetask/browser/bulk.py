"""What is done to many jobs: to those that are ticked, or to all that match.

All that match are counted first, and the number is shown; nothing is done before
that is agreed to.  What is added meanwhile is left out.  Counting and doing go in
steps of about a second, so that no request lasts long: a page between them shows how
far it is, and sends itself on where script runs.
"""
import time
from typing import NamedTuple

from zope.browserpage import ViewPageTemplateFile
from zope.i18nmessageid import Message

from lovely.remotetask import access, clock, lifecycle
from lovely.remotetask.browser import _, filters
from lovely.remotetask.browser.layout import Action, Page
from lovely.remotetask.errors import RemoteTaskError
from lovely.remotetask.job import CronJob
from lovely.remotetask.runtime.frames import present_owner

COUNTING = 0.12    # seconds of one step of counting
STEP = 1.0         # seconds of one step of doing
BATCH = 100        # jobs between two looks at the clock

NOT_ENDED = tuple(each for each in lifecycle.STATUSES if each not in lifecycle.FINISHED)
ENDED = tuple(each for each in lifecycle.STATUSES if each in lifecycle.FINISHED)


class Said(NamedTuple):
    """A text for one job, and for any other number of them."""

    one: Message
    many: Message

    def of(self, number: int, shown: str):
        """The message for a number of jobs; *shown*: how the number is written."""
        return Message(self.one if number == 1 else self.many, mapping={"number": shown})


class Verb(NamedTuple):
    """What can be done to jobs of some states."""

    states: tuple[str, ...]
    permission: str
    title: str          # of the confirmation
    question: Said
    yes: Said
    done: Said          # told afterwards
    danger: bool = False


VERBS = {
    "cancel": Verb(
        NOT_ENDED, access.CANCEL, _("Cancel jobs"),
        Said(_("One job will be cancelled. If it runs it is asked to stop, and what it "
               "has done is not kept."),
             _("${number} jobs will be cancelled. Those that run are asked to stop, and "
               "what they have done is not kept.")),
        Said(_("Cancel one job"), _("Cancel ${number} jobs")),
        Said(_("One job was cancelled."), _("${number} jobs were cancelled.")), True),
    "retry": Verb(
        (lifecycle.ERROR, lifecycle.CANCELLED), access.CANCEL, _("Retry jobs"),
        Said(_("One job will be queued again, with full budgets."),
             _("${number} jobs will be queued again, with full budgets.")),
        Said(_("Retry one job"), _("Retry ${number} jobs")),
        Said(_("One job was queued again."), _("${number} jobs were queued again."))),
    "run": Verb(
        (lifecycle.STARTLATER, lifecycle.DELAYED), access.CANCEL, _("Run jobs now"),
        Said(_("One job that waits for its time will be queued at once."),
             _("${number} jobs that wait for their time will be queued at once.")),
        Said(_("Run one job now"), _("Run ${number} jobs now")),
        Said(_("One job was queued."), _("${number} jobs were queued."))),
    "remove": Verb(
        ENDED, access.MANAGE, _("Remove jobs"),
        Said(_("One job will be removed, with its result and its error. This cannot be "
               "taken back."),
             _("${number} jobs will be removed, with their results and errors. This "
               "cannot be taken back.")),
        Said(_("Remove one job"), _("Remove ${number} jobs")),
        Said(_("Cleaned ${number} Jobs"), _("Cleaned ${number} Jobs")), True),
}


class Bulk(Page):
    """The part of the list of jobs that works on many of them."""

    ask_template = ViewPageTemplateFile("bulk.pt")
    asking = None
    actions = {
        "size": Action(access.VIEW, "back"),
        "cancel-selected": Action(access.VIEW, "selected"),
        "retry-selected": Action(access.VIEW, "selected"),
        "run-selected": Action(access.VIEW, "selected"),
        "remove-selected": Action(access.MANAGE, "selected"),
        "cancel-all": Action(access.VIEW, "everything"),
        "remove-all": Action(access.MANAGE, "everything"),
        "remove-completed": Action(access.MANAGE, "everything"),
        "remove-cancelled": Action(access.MANAGE, "everything"),
        "remove-error": Action(access.MANAGE, "everything"),
        "matching": Action(access.VIEW, "ask"),
        "go": Action(access.VIEW, "work"),
    }

    def render(self):
        return self.ask_template() if self.asking else self.template()

    def update(self):
        self.filters = filters.read(self.request.form, self.zone)

    def asked(self):
        """What is looked for, within what the user may search."""
        own = self.filters.owner and self.filters.owner == present_owner() \
            and self.may(access.SUBMIT)
        return dict(self.filters.asked,
                    inputs=self.may(access.READ_INPUT) or own,
                    errors=self.may(access.READ_RESULT) or own)

    def back(self):
        """To the list, with its filters."""
        found = filters.read(self.request.form, self.zone)
        self.go(self.here + found.query(after=found.after, looked=found.looked))

    # -- what the page between shows

    @property
    def question(self):
        if not self.asking["number"]:
            return self.say(_("No job matches: there is nothing to do."))
        return self._said(self.asking["verb"].question, self.asking["number"])

    @property
    def yes(self):
        return self._said(self.asking["verb"].yes, self.asking["number"])

    def _said(self, said, number):
        return self.say(said.of(number, self.number(number)))

    @property
    def listQuery(self):
        return self.filters.query()

    def shownFilters(self):
        """What the jobs are chosen by: (title, value)."""
        f = self.filters
        found = [(_("State"), self.statusTitle(f.state) if f.state else ""),
                 (_("Task"), f.task), (_("Owner"), f.owner), (_("Tag"), f.tag),
                 (_("Created from"), f.since), (_("until"), f.until), (_("Text"), f.text)]
        return [(self.say(title), value) for title, value in found if value]

    # -- some that are ticked

    def selected(self):
        verb = self.button.removesuffix("-selected")
        ids = self.texts("ids")
        if not ids:
            self.tell(_("No jobs were selected."), "warning")
        else:
            self.each(verb, ids)
        self.back()

    def each(self, name, ids):
        """Do it to each of these, and tell what became of it."""
        done, refused = 0, []
        for id in ids[:filters.SIZES[-1] * 5]:
            if not (id.isascii() and id.isdigit() and len(id) < 12):
                continue
            try:
                done += self.do(name, int(id))
            except RemoteTaskError as error:
                refused.append(str(error))
        if done and name == "cancel":
            self.tell(_("Jobs were successfully cancelled."))
        elif done:
            self.tell(self._said(VERBS[name].done, done))
        for text in refused[:3]:
            self.tell(text, "error")
        if not done and not refused:
            self.tell(_("Nothing was to be done: the jobs are in another state by now."),
                      "warning")

    def do(self, name, id) -> bool:
        """Do it to one job; False where its state does not admit it, or it is gone."""
        verb, service = VERBS[name], self.service
        job = service.jobs.get(id)
        if job is None:
            return False
        cron = isinstance(job, CronJob)
        if name == "run" and job.status == lifecycle.CRONJOB:
            access.require(access.MANAGE_SCHEDULES, self.context)
            service.runNow(id)
            return True
        if job.status not in verb.states or name == "retry" and cron and not job.delay:
            return False
        access.require(verb.permission, job)
        if name == "run":
            service.runNow(id)
        else:
            getattr(service, name)(id)
        return True

    # -- all that match

    def everything(self):
        """The buttons of release 0.5: whatever the filters are."""
        name, _dash, state = self.button.partition("-")
        form = {"sort": self.text("sort"), "size": self.text("size")}
        if state != "all":
            form["state"] = state
        self._ask(name, filters.read(form, self.zone), whole=True)

    def ask(self):
        """Count what matches, and ask whether that is meant."""
        if self.argument not in VERBS:
            self.tell(_("Choose what is to be done."), "warning")
            return self.back()
        self._ask(self.argument, filters.read(self.request.form, self.zone))

    def _ask(self, name, found, whole=False):
        self.filters, verb = found, VERBS[name]
        states = self._states(verb)
        before = self.whole("before", clock.micros(), 0, 2**62)
        number = self.whole("number", 0, 0, 2**40)
        counted = None
        if states and self._permitted(verb):
            counted = self.service.countJobs(
                **self._question(verb, states, before), after=filters.key_of(self.text("at")),
                looked=self.whole("seen", 0, 0, 2**40), seconds=COUNTING)
            number += counted.number
        going_on = counted is not None and counted.next is not None
        self.asking = dict(
            verb=verb, counting=going_on, doing=False, number=number, done=0, hidden=self._hidden(
                number=number, before=before, whole="1" if whole else "",
                at=filters.key_text(counted.next) if going_on else "",
                seen=counted.looked if going_on else 0),
            action=f"matching:{name}" if going_on else f"go:{name}")

    def _states(self, verb):
        state = self.filters.state
        return tuple(each for each in verb.states if state in ("", each))

    def _permitted(self, verb):
        return self.may(verb.permission) or self._own_only(verb) is not None

    def _own_only(self, verb):
        """The principal whose jobs alone the user may do this to; None: anybody's."""
        if not self.may(verb.permission) and verb.permission == access.CANCEL \
                and self.may(access.CANCEL_OWN):
            return present_owner()
        return None

    def _question(self, verb, states, before):
        question = dict(self.asked(), status=states)
        until = clock.from_micros(before)
        given = question["createdBefore"]
        narrowed = self.filters.narrowed
        own = self._own_only(verb)
        if own is not None:
            if question["owner"] not in (None, own):
                question["owner"] = "\0"  # of somebody else: nothing
            else:
                question["owner"] = own
        if given is None and not narrowed and own is None:
            return question  # the counts are known
        question["createdBefore"] = until if given is None else min(until, given)
        return question

    def _hidden(self, **more):
        fields = {**self.filters._replace(after="", looked=0).fields(), **more}
        return [dict(name=name, value=str(value)) for name, value in fields.items()
                if str(value)]

    def work(self):
        """Do a step of what was agreed to."""
        name = self.argument
        if name not in VERBS:
            return self.back()
        self.filters = filters.read(self.request.form, self.zone)
        verb = VERBS[name]
        before = self.whole("before", clock.micros(), 0, 2**62)
        done, total = self.whole("done", 0, 0, 2**40), self.whole("number", 0, 0, 2**40)
        seen = self.whole("seen", 0, 0, 2**40)
        key, more = filters.key_of(self.text("at")), True
        states = self._states(verb)
        if not states or not self._permitted(verb):
            more = False
        question = {**self._question(verb, states, before),
                    "createdBefore": self._latest(before)} if more else {}
        end = time.monotonic() + STEP
        while more:
            found = self.service.findJobs(
                **question, after=key, limit=BATCH, looked=seen, seconds=STEP)
            for job in found.jobs:
                try:
                    done += self.do(name, job.id)
                except RemoteTaskError:
                    pass  # it was moved meanwhile, or is somebody else's
            key, seen = found.next, found.looked
            more = key is not None
            if time.monotonic() >= end:
                break
        if not more:
            self._finished(name, done)
            return None
        self.asking = dict(
            verb=verb, counting=False, doing=True, number=total, done=done,
            action=f"go:{name}", hidden=self._hidden(
                number=total, before=before, done=done, at=filters.key_text(key),
                seen=seen, whole=self.text("whole")))
        return None

    def _latest(self, before):
        """What was made after the number was told is left out."""
        until, given = clock.from_micros(before), self.asked()["createdBefore"]
        return until if given is None else min(until, given)

    def _finished(self, name, done):
        whole = self.text("whole")
        if name == "cancel" and whole:
            self.tell(_("All jobs cancelled"))
        else:
            self.tell(self._said(VERBS[name].done, done))
        self.go(self.here + self.filters.query(
            **({"state": ""} if whole else {})))
