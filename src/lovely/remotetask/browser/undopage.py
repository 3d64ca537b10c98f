"""Taking back what a job has changed: what would happen, and the button."""
from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access, undo
from lovely.remotetask.browser import _
from lovely.remotetask.browser.job import HINDRANCES, Job, OfJob, changes_shown
from lovely.remotetask.browser.layout import Action
from lovely.remotetask.errors import CannotUndo, NoHistory
from lovely.remotetask.failure import text_of

SHOWN = 200   # objects that are loaded, for the names of their places


class Undo(OfJob):
    """The page on which a job is undone."""

    template = ViewPageTemplateFile("undo.pt")
    jobTemplate = Job.template
    actions = {"undo": Action(access.MANAGE, "undo")}
    changes, why, later = None, None, 0

    @property
    def pageTitle(self):
        return self.say(_("Undo job ${id}", mapping={"id": str(self.job.id)}))

    def update(self):
        """The list of what would be taken back, and what hinders."""
        try:
            found = undo.look(self.service, self.job.id)
        except NoHistory as error:
            self.why = HINDRANCES.get(error.code, text_of(error))
            return
        if found.hindrance is not None:
            self.why = HINDRANCES.get(found.hindrance.code, text_of(found.hindrance))
        self.later = found.later
        self.changes = changes_shown(self, _first(found.writing), {
            name: _first(each) for name, each in found.elsewhere.items()})

    def undo(self):
        """Commits by itself, on connections of its own."""
        try:
            undo.undo(self.service, self.job.id, self.request.principal.id)
        except (CannotUndo, NoHistory) as error:
            self.tell(HINDRANCES.get(error.code, text_of(error)), "error")
            self.go(self.here)
        else:
            self.tell(_("What the job had changed is taken back."))
            self.go(self.jobUrlHere)


def _first(written):
    """As much of a transaction as is shown."""
    shown = written.records[:SHOWN]
    return written._replace(
        records=shown, more=written.more or len(shown) < len(written.records))
