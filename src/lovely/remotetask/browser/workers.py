"""Who works for a service, what they hold, and what they are wished to do."""
from itertools import islice

from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access, clerk, clock
from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import Action, Page
from lovely.remotetask.crew import MOST_THREADS, PAUSED, STOPPED
from lovely.remotetask.errors import BadOption, RemoteTaskError
from lovely.remotetask.failure import text_of
from lovely.remotetask.store.wishes import PAUSE, STOP, THREADS
from lovely.remotetask.task import lane_of

HELD = 10      # jobs of one worker that are named
WORKERS = 200  # that are shown
LIMITS = 50    # that are shown

STATES = {"": _("takes jobs"), PAUSED: _("paused"), STOPPED: _("stopped")}

KINDS = {"lane": _("lane"), "task": _("task"), "lock": _("lock")}


class Workers(Page):
    """The workers of a service, and what people wish of them."""

    title = _("Workers")
    tab = "workers.html"
    template = ViewPageTemplateFile("workers.pt")
    actions = {
        "pause": Action(access.MANAGE, "pause"),
        "resume": Action(access.MANAGE, "resume"),
        "threads": Action(access.MANAGE, "wish_threads"),
        "stop": Action(access.MANAGE, "stop"),
        "start": Action(access.MANAGE, "start"),
        "limit": Action(access.MANAGE, "set_limit"),
        "here": Action(access.MANAGE, "begin_here"),
        "not-here": Action(access.MANAGE, "end_here"),
    }
    wrong = None   # what is wrong with a number of threads: (worker or "", value, text)
    wrongLimit = None   # what is wrong with a limit: (its field, text)

    def update(self):
        service = self.service
        self.mayManage = self.may(access.MANAGE)
        self.isPaused = service.isPaused()
        self.isHere = service.isProcessing()
        # What was claimed by hand stands on a lease too, which stays when it is empty.
        found = [worker for worker in service.workers()
                 if worker["threads"] or worker["holds"]]
        self.more = max(0, len(found) - WORKERS)
        self.alive = sum(1 for worker in found if worker["alive"])
        wishes = service.wishes()
        self.wishes = [self._wish(wish) for wish in wishes]
        self.threadsWished = next(
            (wish["number"] for wish in wishes
             if wish["what"] == THREADS and wish["worker"] is None), None)
        self.rows = [self._worker(worker, wishes) for worker in sorted(
            found, key=lambda worker: worker["since"], reverse=True)[:WORKERS]]

    def _worker(self, worker, wishes):
        mine = {wish["what"]: wish for wish in wishes
                if wish["worker"] == worker["name"]}
        for_all = {wish["what"]: wish for wish in wishes if wish["worker"] is None}
        threads = mine.get(THREADS) or for_all.get(THREADS)
        byHand = not worker["threads"]
        state = "" if byHand else worker["state"]
        return dict(
            name=worker["name"], short=worker["name"][:12], host=worker["host"],
            pid=worker["pid"], since=worker["since"], alive=worker["alive"],
            age=(clock.now() - worker["since"]).total_seconds(),
            takes=worker["takes"], threads=worker["threads"], byHand=byHand,
            wishedThreads=threads["number"] if threads and
            threads["number"] != worker["threads"] else None,
            state=STATES.get(state, state), css=self._css(worker["alive"], state),
            toStop=STOP in mine, obeysStop=state == STOPPED,
            holds=[self._held(id) for id in worker["holds"][:HELD]],
            number=len(worker["holds"]), moreHeld=len(worker["holds"]) > HELD)

    def _css(self, alive, state):
        if alive is False:
            return "badge s-error"
        return "badge s-delayed" if state or alive is None else "badge s-completed"

    def _held(self, id):
        job = clerk.readable(self.service, id)
        return dict(id=id, url=self.jobUrl(id), task=None if job is None else job.task,
                    since=None if job is None else job.started)

    def _wish(self, wish):
        concerned, obeyed = len(wish["concerns"]), len(wish["obeyedBy"])
        return dict(said=self._said(wish), by=wish["by"], since=wish["since"],
                    concerned=concerned, obeyed=obeyed,
                    share=obeyed / concerned if concerned else None,
                    css="badge s-completed" if obeyed == concerned else "badge s-delayed")

    def _said(self, wish):
        """A wish in words."""
        worker = (wish["worker"] or "")[:12]
        if wish["what"] == PAUSE:
            return _("take no jobs, all workers")
        if wish["what"] == STOP:
            return _("stop, worker ${name}", mapping={"name": worker})
        number = {"number": wish["number"], "name": worker}
        if wish["number"] is None:
            return _("as many threads as configured, worker ${name}", mapping=number) \
                if worker else _("as many threads as configured, all workers")
        return _("${number} threads, worker ${name}", mapping=number) if worker \
            else _("${number} threads, all workers", mapping=number)

    # -- limits

    @property
    def limits(self):
        """The limits of lanes and tasks, with how much of each is in use."""
        service = self.service
        return [dict(name=name, kind=KINDS[name.partition(":")[0]],
                     of=name.partition(":")[2], width=limit.width,
                     rate=None if limit.rate is None else str(limit.rate),
                     taken=sum(service.caps.taken(name).values()),
                     own=name in service.limits)
                for name, limit in sorted(service.knownLimits().items())[:LIMITS]]

    @property
    def locks(self):
        """Some of the names that jobs hold while they run."""
        return [dict(of=name.partition(":")[2], taken=sum(holders.values()),
                     waiting=waiting)
                for name, holders, waiting in islice(self.service.caps.items(), LIMITS)
                if name.startswith("lock:")]

    def limitNames(self):
        """What can be limited: lanes and tasks; (name, title, whether it is chosen)."""
        tasks = self.service.getAvailableTasks()
        lanes = {lane_of(task) for task in tasks.values()} - {""}
        chosen = self.text("limit")
        names = sorted({*self.service.knownLimits(), *(f"task:{name}" for name in tasks),
                        *(f"lane:{lane}" for lane in lanes)})
        return [(name, f"{self.say(KINDS[name.partition(':')[0]])} "
                       f"{name.partition(':')[2]}", name == chosen) for name in names]

    def set_limit(self):
        name, width, rate = self.text("limit"), self.text("width"), self.text("rate")
        try:
            number = int(width) if width else None
        except ValueError:
            self.wrongLimit = "width", _("A whole number is wanted.")
            return
        try:
            self.service.setLimit(name, number, rate or None)
        except BadOption as error:
            self.wrongLimit = error.option, text_of(error)
        else:
            self._done(_("The limit is set.") if width or rate
                       else _("What the tasks declare holds again."))

    # -- wishes

    def pause(self):
        self.service.pauseProcessing()
        self._done(_("The workers are asked to take no more jobs."))

    def resume(self):
        self.service.resumeProcessing()
        self._done(_("The workers may take jobs again."))

    def wish_threads(self):
        """How many threads: a number, or nothing for what is configured."""
        worker, given = self.argument or None, self.text("threads")
        try:
            number = int(given) if given else None
            if number is not None and not 1 <= number <= MOST_THREADS:
                raise ValueError
        except ValueError:
            self.wrong = (worker or "", given, _(
                "A whole number from 1 to ${most}, or nothing for what is configured.",
                mapping={"most": MOST_THREADS}))
            return
        self._try(lambda: self.service.wishThreads(number, worker),
                  _("The wish is kept; the workers read it at their next look."))

    def stop(self):
        self._try(lambda: self.service.wishStop(self.argument),
                  _("The worker is asked to stop. What it has in hand may end."))

    def start(self):
        self._try(lambda: self.service.wishStart(self.argument),
                  _("The worker may take jobs again."))

    def begin_here(self):
        self._try(self.service.startProcessing, _("Processing starts in this process."))

    def end_here(self):
        self._try(self.service.stopProcessing, _("Processing stops in this process."))

    def _try(self, verb, said):
        try:
            verb()
        except RemoteTaskError as error:
            self.tell(text_of(error), "error")
            self.go(self.here)
        else:
            self._done(said)

    def _done(self, said):
        self.tell(said)
        self.go(self.here)

    def wrongFor(self, worker):
        """(what was typed, why it is wrong) for the field of that worker, or None."""
        if self.wrong is not None and self.wrong[0] == worker:
            return self.wrong[1:]
        return None
