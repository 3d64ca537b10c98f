"""What people did to a service and its jobs: who, when, what, to which."""
from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import clerk, clock
from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import Page

SHOWN = 50   # acts on a page
JOBS = 10    # jobs of one act that are named

VERBS = {
    "add": _("added for somebody else"), "add cron job": _("added a schedule"),
    "start": _("started"), "cancel": _("cancelled"), "retry": _("retried"),
    "remove": _("removed"), "change": _("changed"), "undo": _("undid"),
    "pause": _("paused"), "resume": _("resumed"), "run now": _("ran now"),
    "reschedule": _("set to its new time"),
    "configure": _("changed settings"), "repair": _("repaired the books"),
    "start processing": _("started processing here"),
    "stop processing": _("stopped processing here"),
    "pause processing": _("paused all workers"),
    "resume processing": _("let all workers take jobs again"),
    "set limit": _("set a limit"), "wish threads": _("wished so many threads"),
    "stop worker": _("asked a worker to stop"),
    "start worker": _("let a worker take jobs again"),
}


class Trail(Page):
    """What people did, the newest first, a page at a time."""

    title = _("What people did")
    tab = "trail.html"
    template = ViewPageTemplateFile("trail.pt")

    def update(self):
        after = self._after()
        entries, key = self.service.listTrail(after=after, limit=SHOWN)
        self.rows = [self._row(entry) for entry in entries]
        self.next = None if key is None else self.url("trail.html", after=key)
        self.first = self.url("trail.html") if after is not None else None

    def _after(self):
        given = self.text("after")
        return int(given) if given.isascii() and given.isdigit() and len(given) < 20 \
            and int(given) < 2**63 else None

    def _row(self, entry):
        return dict(
            moment=clock.from_micros(entry.moment), who=entry.who,
            verb=VERBS.get(entry.verb, entry.verb), detail=entry.detail,
            jobs=[self._job(id) for id in entry.jobs[:JOBS]], number=entry.number,
            more=entry.number > min(len(entry.jobs), JOBS))

    def _job(self, id):
        job = clerk.readable(self.service, id)
        return dict(id=id, url=None if job is None else self.jobUrl(id))
