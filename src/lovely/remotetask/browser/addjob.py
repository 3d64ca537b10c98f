"""The form of a new job."""
from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access
from lovely.remotetask.browser import _, forms
from lovely.remotetask.browser.forms import PREFIX, Box, Boxes, Wrong
from lovely.remotetask.browser.layout import Action, Page
from lovely.remotetask.errors import BadInput, BadOption, RemoteTaskError
from lovely.remotetask.failure import in_log
from lovely.remotetask.guard import TooManyJobs, require_room
from lovely.remotetask.job import DEFAULT_PRIORITY, CronJob
from lovely.remotetask.limits import lock_of, lock_text
from lovely.remotetask.unique import ALLOW_RUNNING, DUPLICATE, IGNORE, REPLACE

DOC = 500    # characters of what a task says of itself

ANOTHER = ""   # is added where there is one already
NOW, LATER, AT, DELAY = STARTS = ("now", "later", "at", "delay")


class NewJob(Page):
    """What the forms of new jobs and new schedules have in common."""

    actions = {"add": Action(access.SUBMIT, "add")}
    forms = ViewPageTemplateFile("forms.pt")
    boxes = None
    trouble = None     # what is wrong with the whole
    done = ""          # what is told when the job is there
    found = ""         # and when it was there before

    def update(self):
        if self.boxes is None:
            self.prepare()

    def prepare(self, typed=None):
        """Make the boxes; with what was typed, if anything was."""
        self.tasks = self.service.getAvailableTasks()
        self.model = self._model()
        self.taskName = self.text("task") or (
            self.model.task if self.model is not None else "")
        self.task = self.tasks.get(self.taskName)
        self.boxes = Boxes(self)
        self.read_input = None
        if self.task is not None:
            same = self.model is not None and self.model.task == self.taskName
            self.read_input = forms.input_boxes(
                self.boxes, self.schema,
                self.model.input if same else forms.NOTHING,
                access.input_of(self.model) if same else None)
        self.inputs = list(self.boxes)
        self.add_options()
        self.options = [box for box in self.boxes if box not in self.inputs]
        if self.request.method == "POST":
            self.boxes.take()

    def _model(self):
        """The job that is copied, where the user may know its input."""
        id = self.text("copy")
        job = self.service.jobs.get(int(id)) if id.isascii() and id.isdigit() \
            and len(id) < 12 else None
        if job is None or not access.may(access.READ_INPUT, job):
            return None
        return job

    @property
    def known(self):
        """Whether a task that there is was chosen."""
        return self.task is not None

    @property
    def schema(self):
        return getattr(self.task, "inputSchema", None)

    def add_options(self):
        """Add the boxes of the options."""
        model = self.model
        self.boxes.add(Box("title", _("Title"), forms.text, hint=_(
            "What the list shows beside the task."), usual=model.title if model else ""))
        self.boxes.add(Box("tags", _("Tags"), forms.tags, hint=_("Separated by commas."),
                           usual=", ".join(model.tags) if model else ""))
        self.boxes.add(Box(
            "priority", _("Priority"), forms.whole, "number",
            hint=_("Smaller is more urgent; 10 is usual."), extra=dict(step="1"),
            usual=str(model.priority if model else DEFAULT_PRIORITY)))
        self.boxes.add(Box(
            "retries", _("Retries"), forms.whole, "number", extra=dict(step="1"),
            hint=_("Attempts after the first one; empty: what the task says."),
            usual="" if not model or model.retries is None else str(model.retries)))
        self.boxes.add(Box(
            "timeout", _("Time limit in seconds"), forms.seconds, "number",
            hint=_("Of one attempt; empty: what the task says."), extra=dict(step="any"),
            usual="" if not model or model.timeout is None else str(model.timeout)))

    def add_locks(self):
        model = self.model
        box = self.boxes.add(Box("locks", _("Locks"), locks, hint=_(
            "Names, separated by commas: of all jobs that name one, one runs at a time; "
            "of name=3 three.")))
        if model is not None:
            box.keep(dict(model.locks), ", ".join(
                lock_text(*each) for each in model.locks))

    def taskChoices(self):
        return [dict(name=name, selected=name == self.taskName)
                for name in sorted(self.tasks)]

    @property
    def doc(self):
        text = getattr(self.task, "doc", None) or getattr(self.task, "__doc__", None) or ""
        return " ".join(text.split())[:DOC] if isinstance(text, str) else ""

    # -- the button

    def add(self):
        """Add what was typed, or show what is wrong with it."""
        self.prepare()
        if self.task is None:
            self.trouble = _("Choose a task that there is.")
            return
        values = self.boxes.read()
        if self.boxes.wrong:
            return
        try:
            input = self.read_input(values)
            require_room(self.service)
            options = {name: value for name, value in values.items()
                       if not name.startswith(PREFIX) and value is not None}
            jobid, made = self.store(input, options)
        except Wrong as wrong:
            self.trouble = wrong.message
        except BadInput as error:
            self._blame_input(str(error))
        except TooManyJobs as error:
            self.request.response.setStatus(error.status)
            for name, value in error.headers.items():
                self.request.response.setHeader(name, value)
            self.trouble = str(error)
        except RemoteTaskError as error:
            self.blame(error)
        else:
            told = self.done if made else self.found
            self.tell(type(told)(told, mapping={"id": str(jobid)}))
            self.go(self.url(self.goes_to))

    def _blame_input(self, text):
        """Beside the field that it names, or the only one."""
        for box in self.inputs:
            if f", {box.name.removeprefix(PREFIX)}:" in text or len(self.inputs) == 1:
                box.wrong = in_log(text.partition(": ")[2] or text, DOC)
                return
        self.trouble = in_log(text, DOC)

    def blame(self, error):
        """Say beside a box what is wrong with it; else above all."""
        if isinstance(error, BadOption) and self.boxes.blame(
                self.box_names.get(error.option, error.option), in_log(str(error), DOC)):
            return
        self.trouble = in_log(str(error), DOC)

    box_names: dict[str, str] = {}   # {option: box}, where they differ

    def store(self, input, options):
        """Add it to the service; its number, and whether it was made."""
        raise NotImplementedError


def locks(value):
    """{name: how many} of names between commas."""
    return dict(map(lock_of, forms.tags(value)))


class AddJob(NewJob):
    """A new job, or a copy of one."""

    title = _("Add job")
    tab = "addjob.html"
    template = ViewPageTemplateFile("addjob.pt")
    done = _("Job ${id} was added.")
    found = _("Job ${id} is there already: no other one was added.")
    goes_to = "jobs.html"
    box_names = {"startAt": "startAt", "delay": "startAfter", "startBefore": "startBefore",
                 "unique": "uniqueKey"}

    def add_options(self):
        super().add_options()
        zone = self.zone
        self.boxes.add(Box(
            "start", _("Start"), forms.one_of(*STARTS), "choice", usual=NOW, options=[
                (NOW, _("as soon as possible")), (AT, _("at a certain time")),
                (DELAY, _("after some seconds")), (LATER, _("when somebody says so"))]))
        self.boxes.add(Box("startAt", _("Start at"), forms.moment_in(zone), "moment",
                           hint=_("Where “at a certain time” is chosen.")))
        self.boxes.add(Box("startAfter", _("Start after, in seconds"), forms.seconds,
                           "number", extra=dict(step="any"),
                           hint=_("Where “after some seconds” is chosen.")))
        self.boxes.add(Box(
            "startBefore", _("Not after"), forms.moment_in(zone), "moment",
            hint=_("If it could not be started by then, it is cancelled.")))
        self.add_locks()
        self.boxes.add(Box(
            "duplicate", _("Where there is one already"),
            forms.one_of(ANOTHER, *DUPLICATE), "choice", usual=ANOTHER, options=[
                (ANOTHER, _("this one is added as well")),
                (IGNORE, _("it stands for this one, too")),
                (REPLACE, _("this one takes its place, unless it runs")),
                (ALLOW_RUNNING, _("it stands for this one, unless it runs"))]))
        self.boxes.add(Box("uniqueKey", _("What tells that it is one"), forms.text, hint=_(
            "A text that both have, and the task; empty: the input and the task.")))
        self.boxes.add(Box(
            "uniqueFor", _("A completed one counts, in seconds"), forms.seconds,
            "number", extra=dict(step="any"),
            hint=_("So long after its adding; empty: not at all.")))

    def store(self, input, options):
        start = options.pop("start", NOW)
        at, after = options.pop("startAt", None), options.pop("startAfter", None)
        if start == AT:
            if at is None:
                raise BadOption("startAt", "", self.say(_("Something is wanted here.")))
            options["startAt"] = at
        elif start == DELAY:
            if not after:
                raise BadOption("delay", "", self.say(_("Something is wanted here.")))
            options["delay"] = after
        if self.model is not None and not isinstance(self.model, CronJob):
            options["concerns"] = self.model.concerns
        key, window = options.pop("uniqueKey"), options.pop("uniqueFor", None)
        if options["duplicate"] == ANOTHER:
            del options["duplicate"]
        else:
            options.update(unique=key or True, uniqueFor=window)
        return self.service.addOrFind(
            self.taskName, input, startLater=start == LATER, **options)
