"""The forms in which a waiting job, and a schedule, are changed."""
from zope.browserpage import ViewPageTemplateFile
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask import access, clerk, lifecycle
from lovely.remotetask.browser import _, addcronjob, forms
from lovely.remotetask.browser.addjob import NewJob
from lovely.remotetask.browser.forms import PREFIX, Box, Boxes, Wrong
from lovely.remotetask.browser.layout import Action
from lovely.remotetask.changing import RULE
from lovely.remotetask.errors import BadInput, BadSchedule, RemoteTaskError

WITH_START = (lifecycle.STARTLATER, lifecycle.DELAYED)


class EditJob(NewJob):
    """A job that waits; what is not typed anew stays as it is."""

    tab = "jobs.html"
    template = ViewPageTemplateFile("editjob.pt")
    actions = {"save": Action(access.CANCEL, "save")}

    @property
    def job(self):
        return removeSecurityProxy(self.context)

    @property
    def jobUrlHere(self):
        return self.jobUrl(self.job.id)

    @property
    def pageTitle(self):
        return self.say(_("Edit job ${id}", mapping={"id": str(self.job.id)}))

    @property
    def canChange(self):
        """Whether it still waits."""
        return self.job.status in lifecycle.WAITING

    def prepare(self, typed=None):
        """Make the boxes with what the job has, and put what was typed into them."""
        job = self.job
        self.model, self.taskName = job, job.task
        self.task = self.service.taskOf(job)
        self.boxes = Boxes(self)
        self.read_input = None
        if self.may(access.READ_INPUT) and not self._inputBoxes(job):
            self.boxes = Boxes(self)
        self.inputs = list(self.boxes)
        self.add_options()
        self.options = [box for box in self.boxes if box not in self.inputs]
        self.before = {box.name: box.text for box in self.boxes}
        if self.request.method == "POST":
            self.boxes.take()

    def _inputBoxes(self, job):
        """Whether the input could be made into boxes."""
        try:
            self.read_input = forms.input_boxes(
                self.boxes, self.schema, job.input, access.input_of(self.context))
            return True
        except Exception as error:  # it cannot be read any more
            if clerk.concerns_all(error):
                raise
            self.read_input = None
            return False

    def add_options(self):
        super().add_options()
        self.boxes.all = [box for box in self.boxes if box.name != "tags"]
        if self.job.recordedStatus in WITH_START:
            due = self.job.due
            self.boxes.add(Box(
                "startAt", _("Start at"), forms.moment_in(self.zone), "moment",
                usual="" if due is None else due.astimezone(self.zone).replace(
                    tzinfo=None).isoformat(timespec="seconds")))

    def changed(self, *names):
        """Whether one of these boxes has another text than at first."""
        return any(self.boxes[name].text != self.before[name] for name in names)

    def save(self):
        """Change what was typed anew, or show what is wrong with it."""
        self.prepare()
        values = self.boxes.read()
        self.check(values)
        if self.boxes.wrong or self.trouble:
            return
        try:
            changes = self.changes(values)
            if changes:
                self.service.changeJob(self.job.id, **changes)
        except Wrong as wrong:
            self.trouble = wrong.message
        except BadInput as error:
            self._blame_input(str(error))
        except RemoteTaskError as error:
            self.blame(error)
        else:
            self.tell(_("The changes are stored.") if changes else _("Nothing was changed."))
            self.go(self.goes_to_page)

    def check(self, values):
        """Look at what is no single field's affair, so that all is told at once."""

    @property
    def goes_to_page(self):
        return self.jobUrlHere

    def changes(self, values):
        """{option: value} of what has changed."""
        found = {box.name: values[box.name] for box in self.options
                 if self.changed(box.name)}
        if found.get("priority", 0) is None:
            found["priority"] = type(self.job).priority
        if self.inputs and self.changed(*(box.name for box in self.inputs)):
            found["input"] = self.read_input(
                {name: value for name, value in values.items() if name.startswith(PREFIX)})
        return found


class EditCronJob(EditJob):
    """A schedule: its times, its policies, its input."""

    tab = "schedules.html"
    template = ViewPageTemplateFile("editcronjob.pt")
    actions = {"save": Action(access.MANAGE_SCHEDULES, "save"),
               "preview": Action(access.MANAGE_SCHEDULES, "preview")}
    adding = addcronjob.AddCronJob.template   # has the boxes of a schedule
    plain, instants = None, ()

    pageTitle = property(lambda self: self.say(_(
        "Edit schedule ${id}", mapping={"id": str(self.job.id)})))
    rules = property(lambda self: self.boxes.group("schedule", "timezone"))
    parts = property(lambda self: self.boxes.group(*addcronjob.FIELDS))
    waits = property(lambda self: self.boxes.group("delay"))
    policies = property(lambda self: self.boxes.group("missed", "overlap"))

    @property
    def others(self):
        shown = {*RULE, "missed", "overlap"}
        return [box for box in self.options if box.name not in shown]

    def zones(self):
        return addcronjob.AddCronJob.zones(self)

    def add_options(self):
        NewJob.add_options(self)
        self.boxes.all = [box for box in self.boxes if box.name != "tags"]
        addcronjob.add_schedule(self.boxes, self.job)

    def preview(self):
        """Show what the schedule means, and change nothing."""
        self.prepare()
        self.plain, self.instants = self._meaning(self.boxes.read())

    def check(self, values):
        if self.changed(*RULE):
            self._meaning(values)

    def _meaning(self, values):
        """(words, next moments) of what was typed; says beside the box what is wrong."""
        if not any(self.boxes[name].wrong for name in RULE):
            try:
                return addcronjob.meaning(addcronjob.schedule_of(values))
            except RemoteTaskError as error:
                self.blame(error)
        return None, ()

    def changes(self, values):
        """As of a job; a schedule that was touched is given as a whole."""
        found = super().changes(values)
        if any(name in found for name in RULE):
            found = {name: value for name, value in found.items() if name not in RULE}
            found.update(addcronjob.schedule_of(values))
        return found

    def blame(self, error):
        if isinstance(error, BadSchedule):
            addcronjob.blame_schedule(self.boxes, error)
        else:
            super().blame(error)

    @property
    def goes_to_page(self):
        return f"{self.url('schedules.html')}#s{self.job.id}"
