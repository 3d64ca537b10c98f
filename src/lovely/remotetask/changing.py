"""What can be changed of a job that waits, and of a schedule."""
from lovely.remotetask import access, acts, clock, lifecycle
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.errors import BadOption, NoCronJob, NotWaiting
from lovely.remotetask.job import CronJob
from lovely.remotetask.limits import line_of
from lovely.remotetask.missed import MISSED, OVERLAP
from lovely.remotetask.options import JobOptions, one_of

OPTIONS = ("title", "priority", "startAt", "timeout", "retries")
POLICIES = {"missed": MISSED, "overlap": OVERLAP}
FIELDS = ("minute", "hour", "dayOfMonth", "month", "dayOfWeek")
RULE = (*FIELDS, "delay", "schedule", "timezone")


class Changing:
    """The part of a TaskService that changes jobs."""

    def changeJob(self, jobid, **changes):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if job.recordedStatus not in lifecycle.WAITING or self.isHeld(job):
            raise NotWaiting(job)
        if isinstance(job, CronJob):
            return self.changeCronJob(jobid, **changes)
        facts = self._checked(job, changes)
        if "due" in facts and job.recordedStatus == lifecycle.QUEUED:
            raise BadOption("startAt", changes["startAt"], "the job is in line already")
        if "due" in facts and not facts["due"] and job.recordedStatus == lifecycle.DELAYED:
            raise BadOption("startAt", None, "to have it start at once, use runNow")
        if job.recordedStatus == lifecycle.QUEUED:
            with Clerk(self, clock.micros()) as books:
                books.settle(job)  # who does so at this moment must meet this
            self.shards.of(job).queue.remove(line_of(job), job.key)
            facts["token"] = job.token + 1  # whoever has just taken it, lets it go
        job.amend(facts)
        self._announce(jobid)
        acts.note(self, "change", jobid, detail=", ".join(sorted(changes)))

    def changeCronJob(self, jobid, **changes):
        """See ITaskService"""
        self._ready(jobid)
        cron = self.getJob(jobid)
        if not isinstance(cron, CronJob) or cron.recordedStatus not in lifecycle.WAITING:
            raise NoCronJob(cron)
        given = dict(changes)
        rule = {name: given.pop(name) for name in RULE if name in given}
        if "startAt" in given:
            raise BadOption("startAt", given["startAt"],
                            "the schedule says when a cron job runs")
        facts = self._checked(cron, given)
        if rule:
            cron.update(**_whole_rule(cron, rule))
            self.reschedule(jobid)
        cron.amend(facts)
        self._announce(jobid)
        acts.note(self, "change", jobid, detail=", ".join(sorted(changes)))

    def _checked(self, job, given):
        """The facts that a job gets by such options; raises, and then nothing changes."""
        given = dict(given)
        task = self.findTask(job.task)
        policies = {name: given.pop(name) for name in POLICIES if name in given}
        for name, value in policies.items():
            if not isinstance(job, CronJob):
                raise BadOption(name, value, "only schedules have it")
            one_of(name, value, POLICIES[name])
        has_input, value = "input" in given, given.pop("input", None)
        if strays := set(given) - set(OPTIONS):
            name = min(strays)
            raise BadOption(name, given[name], "it cannot be changed any more")
        checked = JobOptions(self, task, **given)
        facts = {**policies, **{
            name: given[name] for name in given if name != "startAt"}}
        if "startAt" in given:
            moment = given["startAt"]
            facts["due"] = None if moment is None else clock.to_micros(moment)
        if has_input:
            access.check_task(task, job.task, self)
            access.require_to_act_for(self, job.owner)  # it goes on running as its owner
            facts["input"], _ = checked.pack(value, f"input of {job.task!r}")
        return facts


def _whole_rule(cron, rule):
    """All arguments of `update`, where some are given: of the fields the others stay,
    but cron text, a delay and the fields take each other's place."""
    zone = {"timezone": rule.get("timezone", cron.timezone)}
    if rule.get("schedule") is not None or rule.get("delay") is not None:
        return {**rule, **zone}
    if any(name in rule for name in FIELDS) or {"schedule", "delay"} & set(rule):
        return {**{name: rule.get(name, getattr(cron, name)) for name in FIELDS}, **zone}
    if cron.text is not None or cron.delay:
        return dict(schedule=cron.text, delay=cron.delay, **zone)
    return {**{name: getattr(cron, name) for name in FIELDS}, **zone}
