"""The contracts: tasks, service, jobs, plug points.

Names declared here are camelCase and are promises; implementations refer to
this page instead of repeating it.  Moments are aware UTC datetimes, durations
are seconds.
"""
from zope.interface import Attribute, Interface
from zope.schema import Choice, Float, Int, Text, TextLine

from lovely.remotetask import lifecycle

# The eight status words of release 0.5.
QUEUED = lifecycle.QUEUED
PROCESSING = lifecycle.PROCESSING
CANCELLED = lifecycle.CANCELLED
ERROR = lifecycle.ERROR
COMPLETED = lifecycle.COMPLETED
DELAYED = lifecycle.DELAYED
CRONJOB = lifecycle.CRONJOB
STARTLATER = lifecycle.STARTLATER


class ITask(Interface):
    """A named utility that does the work.

    These attributes are read when they are there, else the default stands:
    `retries` (attempts after the first; None: what the retry policy says),
    `timeout` (seconds an attempt may run; None: no limit), `lane` (name of the
    lane its jobs belong to; ''), `laneWidth` (how many jobs of that lane run at once,
    `concurrency` (how many jobs of this task) and `rate` ('100/h': how many of them
    begin in any such period), each in all processes together; None: no limit), `group`
    (how many of its jobs that wait together may share one transaction), `atMostOnce`
    (False; True: after a crash the job ends in error instead of running again, and after
    an error too unless the task says how often it is tried), `permission` (its id;
    whoever adds a job needs it, and the job's owner again when it runs; None), `doc`.
    """

    inputSchema = Attribute("Schema of the input, an interface, or None.")
    outputSchema = Attribute("Schema of the output, an interface, or None.")

    def __call__(service, jobid, input):
        """Do the work and return the output.

        Raise TaskError when no other attempt can help.  Everything written to
        the database in here and the job's completion are one commit.
        """


class IJobContext(Interface):
    """What an attempt tells the task: `lovely.remotetask.task.context()`."""

    jobid = Attribute("Number of the job; None under `execute`.")
    attempt = Attribute("1 for the first attempt, 2 for the second, ...")
    service = Attribute("The service, in the attempt's own transaction.")
    logger = Attribute(
        "A logger whose lines name job, task and attempt.  The last lines, from INFO on, "
        "are kept with the job, committed with its completion or its failure.")
    idempotency_key = Attribute(
        "Text that is the same in every attempt of this job and in no other job: "
        "give it to outside systems, so that they can tell a repetition.")
    conflicts = Attribute(
        "How often this attempt was repeated because its commit met another one.")
    should_stop = Attribute(
        "True when nothing that this attempt writes can be kept any more: the job was "
        "cancelled, ran past its limit, or was handed back by a stopping process.")

    def wait(seconds):
        """Rest, but no longer than until `should_stop`; whether it is true."""

    def progress(done, total=None, message=""):
        """Tell how far the work is.

        Written through a connection of its own, at most twice a second, and so
        visible to others while the attempt's transaction is still open.
        """


class IRetryPolicy(Interface):
    """Whether a failed attempt is made again: an adapter of ITask."""

    def delayAfter(failures, error):
        """Seconds to wait before the next attempt; None when that was the last.

        failures: how many attempts have failed, this one included.
        """


class IAttemptFrame(Interface):
    """Surrounds each attempt: a subscription adapter of IJob."""

    order = Attribute("Number; frames are entered from small to large.")

    def __enter__():
        """Prepare; an error raised here fails the attempt."""

    def __exit__(type, value, traceback):
        """Clean up."""


class IWakeup(Interface):
    """The bell between those who bring work and those who wait."""

    rings = Attribute("How often it has been rung.")

    def ring():
        """Wake whoever waits."""

    def wait(seen, seconds):
        """Wait until `rings` differs from *seen*, at most so many seconds."""


class ISchedule(Interface):
    """When a cron job is due."""

    def next_after(moment):
        """The first due moment later than this one, an aware datetime; or None."""

    def describe():
        """The schedule in plain words."""


class IJob(Interface):
    """One task, one input, and what became of it."""

    id = Int(title="Id", description="Number in the service, 1 to 2**31-1.")
    task = TextLine(title="Task", description="Name of the task.")
    status = Choice(title="Status", values=lifecycle.STATUSES)
    reason = TextLine(title="Reason", description="Why, where the status does not tell.",
                      required=False)
    input = Attribute("The input of the task.")
    output = Attribute("What the task returned; None before.")
    error = Text(title="Error", description="Text of the last error, or None.",
                 required=False)
    created = Attribute("Moment of adding.")
    started = Attribute(
        "Moment the last attempt began, or None; of a job in hand that of its claim.")
    completed = Attribute("Moment the job ended, or None.")
    title = TextLine(title="Title", required=False)
    priority = Int(title="Priority", description="Smaller is more urgent.", default=10)
    tags = Attribute("Tuple of texts.")
    due = Attribute("Moment before which it does not start, or None.")
    deadline = Attribute("Moment after which it is not started any more, or None.")
    owner = TextLine(title="Owner", description="Id of the principal who added it.",
                     required=False)
    site = Attribute("The site in which it was added, where that is not the service's.")
    parent = Attribute("Number of the cron job or job that made it, or None.")
    concerns = Attribute("Tuple of the objects that it was said to concern.")
    startedCount = Int(title="How many attempts have begun")
    failures = Int(title="How many attempts have raised since it was (re)queued")
    crashes = Int(title="How many processes it took down")
    handbacks = Int(title="How often it was handed back by a stopping process")
    attempts = Attribute("Tuple of Attempt records, the oldest first, bounded.")
    log = Attribute("Tuple of Line records, what its attempts have logged, the oldest "
                    "first: the last 200 lines and 20,000 bytes.")
    logLost = Int(title="How many lines went before those")
    token = Int(title="Changes whenever the job is queued anew: the fence")

    def wait(timeout=None):
        """Wait until the job has ended; its output.  See `ITaskService.waitFor`."""


class ICronJob(IJob):
    """A job that makes jobs, on time."""

    minute = Attribute("Tuple of minutes, 0 to 59; empty: open.")
    hour = Attribute("Tuple of hours, 0 to 23.")
    dayOfMonth = Attribute("Tuple of days, 1 to 31.")
    month = Attribute("Tuple of months, 1 to 12.")
    dayOfWeek = Attribute("Tuple of weekdays, 0 (Monday) to 6.")
    delay = Float(title="Delay", description="Seconds; runs once.", required=False)
    schedule = Attribute("The ISchedule made from these fields or from cron text.")
    scheduledFor = Attribute("The next moment it fires, or None.")
    missed = Choice(title="Missed runs", values=("skip", "once", "all"))
    overlap = Choice(title="Overlap", values=("allow", "skip", "queue one"))
    paused = Attribute("True while it does not fire.")
    runs = Attribute("Tuple of Run records, the oldest first, bounded.")

    def update(minute=(), hour=(), dayOfMonth=(), month=(), dayOfWeek=(), delay=None,
               schedule=None, timezone=None):
        """Change when it is due; call `reschedule` of the service afterwards.

        What is not given is open, as in `addCronJob`.  Raises BadSchedule, and
        then nothing has changed.
        """

    def timeOfNextCall(now=None):
        """Seconds since 1970 of the first due moment after *now* (same unit)."""


class ITaskService(Interface):
    """Keeps jobs and has them run.

    Everything but the runtime's verbs is part of the caller's transaction.
    """

    jobs = Attribute("Mapping of all jobs by number.")
    taskInterface = Attribute("Interface under which tasks are registered.")
    processorFactory = Attribute("Makes the processor: (db, servicePath, **arguments).")
    processorArguments = Attribute("Dictionary of arguments for the factory.")
    settings = Attribute("Dictionary of settings that differ for this service.")
    uuid = Attribute("Text that no other service bears.")

    # -- tasks

    def getAvailableTasks():
        """{name: task} of the tasks that can be added here."""

    def execute(task, input=None):
        """Run a task now, in the caller's transaction, and return its output.

        No job is made.  Errors of the task are raised.
        """

    def setLimit(name, width=None, rate=None):
        """Limit what runs in all processes together, instead of what tasks declare.

        name: 'lane:…' or 'task:…'.  width: how many of its jobs run at once; rate:
        '100/h', '5/10s' or (number, seconds), how many begin in any such period.
        Neither: what the tasks declare holds again.  Raises BadOption.
        """

    def limitsInUse():
        """{name: (slots in use, slots, lines of jobs that wait for one)}.

        Slots are None for a lock: each job says how many it admits.
        """

    # -- adding

    def add(task, input=None, startLater=False, *, title="", priority=10, delay=None,
            startAt=None, startBefore=None, tags=(), concerns=(), timeout=None,
            retries=None, locks=(), owner=None, unique=None, uniqueFor=None,
            duplicate="ignore", atLimit="wait"):
        """Make a job and return its number.

        Part of the caller's transaction: it is queued when that commits.
        startLater: it waits for `startJob`.  delay (seconds) or startAt (aware
        datetime): not before.  startBefore (aware datetime or seconds from its
        start time): not after, it ends `cancelled` with reason `expired`.
        priority: smaller is more urgent.  concerns: objects of the database that
        `jobsFor` finds it by, beside those in the input.  timeout, retries:
        instead of the task's own.  locks: names of which it holds each while it runs,
        so that of all jobs that name one only one runs at a time, or
        {name: how many at a time}.  unique: True (of this task and input there is one
        job) or a text (of this task and text); an add that finds one there makes none.
        uniqueFor: seconds from its adding that it counts also when it is completed.
        duplicate: 'ignore' (the number of the one that is there), 'replace' (that is
        cancelled, unless it runs, and this one added) or 'allow running' (one that runs
        does not count).  Who has a job replaced needs the permission to cancel it; code
        without an interaction is trusted.  atLimit: 'wait', or 'refuse' where one of its
        limits is reached.  owner: id of another principal than the present
        one, to run as; that needs the permission to act for others, and is noted.

        Raises NotAllowed where the task wants a permission that the present
        principal lacks; UnknownTask, BadInput (cannot be pickled, too large, breaks the
        task's schema), LimitReached or BadOption; nothing is stored then.
        """

    def addMany(task, inputs, startLater=False, **options):
        """Make a job for each input; the numbers, in order.  Options as in `add`."""

    def addOrFind(task, input=None, startLater=False, **options):
        """As `add`; (number, True), or with False where `unique` has found one that
        stands for this add: then nothing was made.
        """

    def addOnce(key, task, input=None, startLater=False, **options):
        """As `add`, unless the present principal has used that key before: then the
        number of the job made at that time.

        key: a text.  It is known for `idempotency_hours`, also after a restart.
        Raises KeyReused when task, input or options were others.
        """

    def madeUnder(key, fingerprint):
        """Number of the job that the present principal made under a key, or None.

        fingerprint: bytes that tell what was asked for.  Raises KeyReused when they
        were others.
        """

    def noteMade(key, fingerprint, jobid):
        """Keep that a job was made under a key; in the transaction that adds it."""

    def addCronJob(task, input=None, minute=(), hour=(), dayOfMonth=(), month=(),
                   dayOfWeek=(), delay=None, *, schedule=None, timezone=None,
                   missed="once", overlap="skip", title="", priority=10, tags=(),
                   concerns=(), timeout=None, retries=None, locks=(), owner=None):
        """Make a job that runs at certain times, and return its number.

        Tuples of numbers as in ICronJob, in UTC unless a timezone (IANA name) is
        given; or schedule: cron text ('*/5 2-4 * * mon', '@daily', '@every 90s')
        or an ISchedule; or delay: once, after so many seconds.  missed: which of
        the runs that came due while nobody looked are made up for.  overlap: what
        happens when the last run is not finished yet.

        Raises as `add`, and BadSchedule.
        """

    def copy(jobid, **changes):
        """Add a job like this one, with options of `add` changed; its number.

        A job without start time starts at once, even if the model waited.
        """

    # -- changing

    def changeJob(jobid, **changes):
        """Change a job that waits: title, priority, startAt, timeout, retries, input.

        As in `add`; what is not named stays.  Of a cron job as `changeCronJob`.
        Raises NotWaiting when it has begun or ended, and as `add`; nothing has changed
        then.  Who changes the input of somebody else's job needs the permission to act
        for others.
        """

    def changeCronJob(jobid, **changes):
        """Change a cron job: its times as in `addCronJob`, missed, overlap, title,
        priority, timeout, retries, input.

        Of the fields of a schedule those that are not named stay; cron text, fields
        and delay take each other's place.  Raises NoCronJob, and as `addCronJob`.
        """

    # -- steering

    def startJob(jobid):
        """Queue a job that was added with startLater.  False if it was not waiting."""

    def cancel(jobid):
        """See to it that the job does not take effect any more.

        A waiting job never starts.  A running one is asked to stop and cannot
        commit.  Nothing happens to unknown and finished jobs.
        """

    def retry(jobid):
        """Queue a job that ended in error or was cancelled, with full budgets.

        Raises UnknownJob, or IllegalMove when it is not at an end.
        """

    def cancelOwn(jobid):
        """As `cancel`.  Raises NotAllowed unless the present principal added the job."""

    def retryOwn(jobid):
        """As `retry`.  Raises NotAllowed unless the present principal added the job."""

    def retryAll(task=None, tag=None, errorText=None, olderThan=None, limit=None):
        """Retry the jobs in error that match; how many.

        errorText: is part of the error, in any case; olderThan: seconds since
        they ended.
        """

    def reschedule(jobid):
        """Make an updated cron job wait for its new time."""

    def pause(jobid):
        """Stop a cron job from firing until `resume`."""

    def resume(jobid):
        """Let a paused cron job fire again, from now on."""

    def runNow(jobid):
        """Make a cron job's run at once, beside its schedule; the number of the run.

        A job that waits for its time or its next attempt is queued instead.
        """

    # -- reading

    def getJob(jobid):
        """The job.  Raises UnknownJob."""

    def getStatus(jobid):
        """The status word.  Never lags.  Raises UnknownJob."""

    def getResult(jobid):
        """The output, or None; of a cron job that of its last finished run."""

    def getError(jobid):
        """The text of the error; 'None' when there is none, as ever."""

    def waitFor(jobid, timeout=None):
        """Wait until a job has ended, at most so many seconds; its output.

        Raises JobFailed with the text of its error, JobCancelled, StillRunning (a
        TimeoutError; the job goes on), and UnknownJob, also when it is removed while one
        waits.  A cron job itself ends by being cancelled only.

        The caller's transaction ends without commit, and another one has begun on
        return, which sees the job's end.  Raises UnsavedChanges, and does nothing, when
        there are changes to lose: so a job that was just added is to be committed first.
        """

    def waitAsync(jobid, timeout=None):
        """The same to be awaited, in asyncio: `await service.waitAsync(jobid)`.

        The caller's transaction is not touched: it looks on connections of its own, in
        other threads.  Outputs that hold stored objects cannot be used: get them
        from the job.  What was not committed before is an UnknownJob.
        """

    def getProgress(jobid):
        """What the task told last (done, total, message, moment), or None."""

    def counts():
        """{status: number of jobs}; costs the same for any number of jobs."""

    def queueLength():
        """How many jobs wait to be started now."""

    def oldestWaiting():
        """Seconds that the longest waiting queued job has waited; 0.0 if none."""

    def listJobs(status=None, task=None, owner=None, tag=None, after=None, limit=50):
        """A page of jobs that match, the newest first: (jobs, key).

        Pass *key* as *after* for the next page; None when there is none.
        """

    def findJobs(status=None, task=None, owner=None, tag=None, createdFrom=None,
                 createdBefore=None, text=None, order="newest", after=None, limit=50,
                 seconds=None, looked=0, inputs=True, errors=True):
        """A page of jobs that match: a finding.Found (jobs, next, looked, stopped).

        status: one word or several.  createdFrom, createdBefore: aware datetimes.
        text: is part of the title, of the input or of the error, in any case; of what
        matches else, the newest 10,000 are looked at.  inputs, errors: whether these are looked at.
        order: "newest" or "oldest" (made); "ended last" or "ended first", of finished
        jobs; "status".  A page of one status is in the order in which they came there.
        Pass *next* as *after* and *looked* for the next page.  seconds: about as long
        is looked for them; `stopped` says that the page is not full because of that.
        """

    def countJobs(status=None, task=None, owner=None, tag=None, createdFrom=None,
                  createdBefore=None, text=None, after=None, seconds=None, looked=0,
                  inputs=True, errors=True):
        """How many jobs match: a finding.Counted (number, next, looked).

        Of one status alone that is known; else they are counted, for so many seconds.
        Where *next* is not None, count on with it as *after*, and add up.
        """

    def facetValues(kind, limit=200):
        """The tasks, owners or tags (kind: "task", "owner", "tag") that jobs have."""

    def waitingOf(owner, limit):
        """How many jobs of a principal wait, counted up to *limit*."""

    def listTrail(after=None, limit=50):
        """A page of what people did, the newest first: (entries, key).

        Entries have `moment` (microseconds), `who`, `verb`, `jobs` (the first
        numbers), `number` (of jobs) and `detail`.  Paging as with `listJobs`.
        """

    def statistics(step="minute", count=60):
        """What workers have done in the last so many minutes or hours, oldest first.

        [{moment, tasks: {task: {completed, error, cancelled, retried, conflicts,
        waited, ran}}}]: attempts by how they ended, commits that were repeated, and
        seconds waited in line and run, in all.  May lag by a second.
        """

    def totals():
        """The same since the service was made, {task: figures}, with `bounds` (seconds)
        and how many waited and ran so long: `waitedSpread`, `ranSpread`."""

    def jobsFor(object):
        """The jobs that concern a stored object, the newest first."""

    def madeBy(jobid, limit=50):
        """The jobs that a job or a cron job has made, the newest first."""

    def workers():
        """Who works for this service, also while idle: a list of dictionaries.

        name; host, pid; since: aware datetime; threads: how many jobs it runs at
        once (0: jobs are claimed by hand); takes: the text of its filter, '' for all;
        state: '' takes jobs, 'paused', 'stopped'; holds: numbers of jobs; alive: True,
        False, or None where this process cannot tell.
        """

    # -- tidying

    def clean(status=(CANCELLED, ERROR, COMPLETED)):
        """Remove the jobs with such a status; how many.

        Raises BadStatus, a ValueError, for jobs that are not at their end.
        """

    def remove(jobid):
        """Remove a job that is at its end."""

    def prune(limit=200):
        """Remove what has been kept long enough by the settings; how many.

        Called by the runtime, in transactions of their own.
        """

    def check(repair=False):
        """Compare all books with the jobs: a list of texts, empty when they agree."""

    # -- processing by hand: the caller's transaction, no thread

    def process(now=None):
        """Run all that is due and within its limits.  *now*: seconds since 1970."""

    def processNext(now=None, jobid=None):
        """Run the next job that is due, or this claimed one.  True if there was one.

        A job at its limit is passed over.  One that is named and was not claimed before
        raises LimitReached then; it stays where it is.
        """

    def hasJobsWaiting(now=None):
        """Whether `processNext` would find one.  Writes nothing."""

    def claimNextJob(now=None):
        """Take the next job off the queue, for `processNext(jobid=…)`; None if none."""

    # -- processing by threads

    def startProcessing(**arguments):
        """Start this service's thread in this process, at once.

        arguments: of the processor, in the place of those that are stored.  Raises
        NotCommitted when the service is not stored in a database yet.
        """

    def stopProcessing():
        """Take no more jobs in this process; returns at once.

        What is in hand may end within the grace time, or is handed back.
        """

    def isProcessing():
        """Whether the service is being processed in this process."""

    # -- wishes: stored with the service, and obeyed by the workers of all processes

    def pauseProcessing(by=None):
        """Have no worker start a job, in any process, until `resumeProcessing`.

        What runs goes on; schedules are kept, and what they bring waits.  by: whose
        wish it is; the present principal by default, or who is at the command line.
        """

    def resumeProcessing():
        """Let jobs be started again."""

    def isPaused():
        """Whether jobs are not to be started."""

    def wishThreads(number, worker=None, by=None):
        """Have each worker, or this one, run so many jobs at once.

        None: as many as its process was started with.  What runs comes to its end
        first.  A wish for one worker wins over that for all.  Raises BadOption, and
        UnknownWorker for a name that no worker has; the beginning of a name is enough.
        """

    def wishStop(worker, by=None):
        """Have one worker start no other job until `wishStart`: its process stays."""

    def wishStart(worker):
        """Let a stopped worker start jobs again.

        As every wish for one worker, this one can be taken back when the worker is gone.
        Raises UnknownWorker for a name that neither a worker nor a wish has.
        """

    def wishes():
        """The wishes in force, the oldest first: a list of dictionaries.

        what: 'pause', 'threads' or 'stop'; worker: its name, None for all; number: of
        threads; by, since: whose, and from when; concerns: names of the workers that
        it is for; obeyedBy: of those who do so already.  Wishes for workers that are
        gone are forgotten.
        """


class IServiceDesk(Interface):
    """The verbs of the runtime: it calls each in a transaction of its own."""

    def dispatch(name, finished=(), fold=False, want=None, unstarted=(), in_hand=(),
                 known=(), rescuing=False):
        """The clerk's round for the dispatcher of that name: a clerk.Round.

        finished: outcomes to fold in, at the latest when *fold* is true.  want: what to
        claim, a clerk.Want.  unstarted: claims to put back.  in_hand: (id, token) of what
        runs; known: all ids that the dispatcher has.  rescuing: look for leases of the dead too.
        """

    def runJob(claim, context, worker="", start_once=None):
        """One attempt of a claimed job, up to the commit: its Outcome.

        Raises NotMine when the job was taken away, and whatever the task raises.
        start_once(claim, worker, mark): commits the start of a job that runs at most
        once.
        """

    def failJob(claim, failure, error, worker="", reason=None, silently=False, now=None):
        """Keep why an attempt failed, and decide what follows: its Outcome.

        Raises NotMine when the job was taken away meanwhile.
        """

    def startOnce(claim, worker="", mark=True):
        """Write that a job begins, before its task's code runs.

        mark: a text of this attempt's own; who repeats it finds what he has written.
        Raises NotMine when somebody else has begun.
        """

    def attend(name, begun, threads, takes="", state=""):
        """Enter a worker, or see that it still is; what it is to do: crew.Orders.

        begun: oid of the registration, where it was entered before; then `lost` says
        that it was taken for dead.
        threads, takes, state: what `workers` tells of it.
        """

    def beat(members):
        """Say for workers of one process, (path of their service, name), that they are
        there."""

    def touchJob(claim):
        """Write a claimed job as it is: whether the storage can be written.

        Raises NotMine when the job was taken away."""

    def handBack(name, finished=(), unstarted=(), running=(), close=False):
        """The end of a dispatcher: what it holds goes back in line."""


class IProcessor(Interface):
    """Works for a service: a callable that a thread runs until `running` ends."""

    running = Attribute("False: come to an end.")

    def __call__():
        """Process jobs until `running` is false."""


class IStartRemoteTasksEvent(Interface):
    """Ask for the services named in the configuration to be started."""


class IJobEvent(Interface):
    """Something happened to a job.  Sent inside the transaction that does it, and
    again when that is repeated: change stored data, or use an after-commit hook."""

    object = Attribute("The job.")
    job = Attribute("The job.")
    service = Attribute("The service.")


class IJobAdded(IJobEvent):
    """A job was made."""


class IJobMoved(IJobEvent):
    """A job has a new status."""

    origin = Attribute("The status before.")


class IJobDelayed(IJobMoved):
    """It waits for its time."""


class IJobQueued(IJobMoved):
    """It waits for its turn."""


class IJobStarted(IJobMoved):
    """An attempt begins."""


class IJobRetrying(IJobMoved):
    """An attempt failed and another follows."""


class IJobHandedBack(IJobMoved):
    """Its process stopped or died; it is queued again."""


class IJobEnded(IJobMoved):
    """It is at its end."""


class IJobCompleted(IJobEnded):
    """It did what it was made for."""


class IJobFailed(IJobEnded):
    """It ended in error."""


class IJobCancelled(IJobEnded):
    """Somebody cancelled it."""


class IJobExpired(IJobCancelled):
    """Its start deadline passed."""


class IJobRemoved(IJobEvent):
    """It is about to be removed from the service."""
