"""Who may do what, with Zope's own security policy before real objects."""
import unittest

from zope.configuration import xmlconfig
from zope.configuration.exceptions import ConfigurationError
from zope.interface import Interface
from zope.schema import Password, TextLine
from zope.security.interfaces import ForbiddenAttribute, Unauthorized
from zope.security.management import endInteraction
from zope.security.proxy import ProxyFactory, removeSecurityProxy

from lovely.remotetask import access
from lovely.remotetask.errors import NotAllowed, PrincipalGone, TaskError
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.masking import HIDDEN
from lovely.remotetask.tests import people
from lovely.remotetask.tests.people import PEOPLE, acting_as
from lovely.remotetask.tests.support import ServiceCase

EVERYBODY = ("anonymous", *PEOPLE)


class Access(ServiceCase):
    storage = "mapping"

    def setUp(self):
        super().setUp()
        self.context = people.set_up(self)
        self.task("work", lambda input: input)

    def job_of(self, who, task="work", input=None, **options):
        with acting_as(who):
            return self.service.jobs[self.service.add(task, input, **options)]


class Roles(Access):

    def test_each_role_may_what_the_table_says(self):
        for who, role in [("anonymous", None), *PEOPLE.items()]:
            with acting_as(who):
                allowed = {each for each in access.PERMISSIONS
                           if access.may(each, self.service)}
            self.assertEqual(allowed, set(access.ROLES.get(role, ())), who)

    def test_each_role_may_what_the_one_before_may(self):
        before = set()
        for role in access.ROLES.values():
            self.assertLess(before, set(role))
            before = set(role)

    def test_without_an_interaction_nobody_may_anything(self):
        endInteraction()
        self.assertFalse(access.may(access.VIEW, self.service))
        with self.assertRaises(NotAllowed):
            access.require(access.VIEW, self.service)

    def test_what_is_refused_is_unauthorized_and_says_who_and_why(self):
        with acting_as("viewer"), self.assertRaises(Unauthorized) as caught:
            access.require(access.SUBMIT, self.service)
        self.assertIn("'viewer'", str(caught.exception))
        self.assertIn(access.SUBMIT, str(caught.exception))


class OnesOwn(Access):

    def may_cancel(self, owner):
        job = self.job_of(owner)
        return {who for who in EVERYBODY if self.ask(who, access.may_cancel, job)}

    def ask(self, who, function, *arguments):
        with acting_as(who):
            return function(*arguments)

    def test_a_submitter_cancels_own_jobs_only(self):
        self.assertEqual(self.may_cancel("submitter"),
                         {"submitter", "operator", "manager"})
        self.assertEqual(self.may_cancel("operator"), {"operator", "manager"})

    def test_who_owns_a_job_and_has_lost_the_role_may_nothing_with_it(self):
        self.assertEqual(self.may_cancel("viewer"), {"operator", "manager"})

    def test_nobody_owns_a_job_without_owner(self):
        endInteraction()
        job = self.service.jobs[self.service.add("work")]
        for who in "anonymous", "viewer", "submitter":
            self.assertFalse(self.ask(who, access.may_cancel, job), who)

    def test_a_submitter_reads_input_and_result_of_own_jobs_only(self):
        own, others = self.job_of("submitter", input="x"), self.job_of("manager")
        with acting_as("submitter"):
            self.assertEqual(access.input_of(own), "x")
            self.assertIsNone(access.output_of(own))
            for ask in access.input_of, access.output_of:
                with self.assertRaises(NotAllowed):
                    ask(others)


class Proxies(Access):
    """Python code behind security proxies meets the same walls."""

    def behind(self, who, function):
        with acting_as(who):
            return function(ProxyFactory(self.service))

    def allowed(self, function):
        found = set()
        for who in EVERYBODY:
            try:
                self.behind(who, function)
            except Unauthorized:
                continue
            found.add(who)
        return found

    def test_reading(self):
        job = self.job_of("submitter")
        self.assertEqual(self.allowed(lambda service: service.getStatus(job.id)),
                         set(PEOPLE))
        for read in (lambda service: service.getJob(job.id).input,
                     lambda service: service.getJob(job.id).output,
                     lambda service: service.getResult(job.id),
                     lambda service: service.copy(job.id)):
            self.assertEqual(self.allowed(read), {"operator", "manager"})

    def test_submitting(self):
        self.assertEqual(self.allowed(lambda service: service.add("work")),
                         {"submitter", "operator", "manager"})

    def test_cancelling_any(self):
        job = self.job_of("submitter")
        self.assertEqual(self.allowed(lambda service: service.cancel(job.id)),
                         {"operator", "manager"})

    def test_cancelling_own(self):
        job = self.job_of("submitter")
        self.assertEqual(self.allowed(lambda service: service.cancelOwn(job.id)),
                         {"submitter"})
        self.assertEqual(job.status, "cancelled")
        self.assertEqual(self.allowed(lambda service: service.retryOwn(job.id)),
                         {"submitter"})
        self.assertEqual(job.status, "queued")

    def test_managing(self):
        cron = self.service.addCronJob("work", minute=(0,))
        self.assertEqual(self.allowed(lambda service: service.pause(cron)),
                         {"operator", "manager"})
        for manage in (lambda service: service.clean(),
                       lambda service: service.configure(prefetch=9),
                       lambda service: service.listTrail(),
                       lambda service: service.stopProcessing()):
            self.assertEqual(self.allowed(manage), {"manager"})

    def test_nobody_changes_a_job_or_a_setting_from_behind(self):
        job = self.job_of("manager")

        def change(service):
            service.getJob(job.id).status = "completed"

        def call(service):
            service.getJob(job.id).complete(None, 1)

        def run(service):
            return service.runJob

        for function in change, call, run:
            with self.assertRaises((ForbiddenAttribute, Unauthorized)):
                self.behind("manager", function)


class TaskPermissions(Access):
    """A task names a permission: whoever adds needs it, and the owner at its run."""

    def setUp(self):
        super().setUp()
        self.task("dear", lambda input: "done", permission=access.MANAGE_SCHEDULES)

    def test_who_lacks_it_cannot_add(self):
        with acting_as("submitter"):
            for add in (lambda: self.service.add("dear"),
                        lambda: self.service.addMany("dear", [1, 2]),
                        lambda: self.service.addCronJob("dear", minute=(0,)),
                        lambda: self.service.execute("dear")):
                with self.assertRaises(NotAllowed) as caught:
                    add()
                self.assertIn(access.MANAGE_SCHEDULES, str(caught.exception))
        self.assertEqual(len(self.service.jobs), 0)

    def test_who_has_it_can_and_the_job_runs(self):
        job = self.job_of("operator", "dear")
        self.service.process()
        self.assertEqual(job.status, "completed")

    def test_trusted_code_without_an_interaction_can(self):
        jobid = self.service.add("dear")
        self.service.process()
        self.assertEqual(self.service.getStatus(jobid), "completed")

    def test_an_owner_who_has_lost_it_gets_an_error_that_is_not_retried(self):
        job = self.job_of("operator", "dear", retries=5)
        people.principalRoleManager.unsetRoleForPrincipal(access.OPERATOR, "operator")
        self.service.process()
        self.assertEqual((job.status, job.startedCount), ("error", 1))
        self.assertIn(access.MANAGE_SCHEDULES, job.error)
        self.assertEqual(job.attempts[0].kind, "NotAllowed")

    def test_a_manager_who_runs_it_does_not_lend_his_permission(self):
        self.task("dear", lambda input: "done")
        job = self.job_of("submitter", "dear")
        self.task("dear", lambda input: "done", permission=access.MANAGE)
        with acting_as("manager"):
            self.service.process()
        self.assertEqual(job.status, "error")

    def test_the_refusal_is_final_for_any_policy(self):
        self.assertTrue(issubclass(NotAllowed, TaskError))

    def test_zcml_names_it_and_knows_when_there_is_none(self):
        directive = """
            <configure xmlns:remotetask="http://namespaces.zope.org/remotetask">
              <remotetask:task name="named" permission="{}"
                  function="lovely.remotetask.task.echo" />
            </configure>"""
        xmlconfig.string(directive.format(access.CANCEL), self.context)
        from zope.component import getUtility
        self.assertEqual(getUtility(ITask, "named").permission, access.CANCEL)
        with self.assertRaises(ConfigurationError):
            xmlconfig.string(directive.format("no.such.permission"), self.context)


class SomebodyElse(Access):
    """A job's owner is who adds it; naming another needs a permission of its own."""

    def test_the_owner_is_the_present_principal(self):
        self.assertEqual(self.job_of("submitter").owner, "submitter")

    def test_only_who_may_act_for_others_names_another(self):
        for who in "anonymous", "submitter", "operator":
            with self.assertRaises(NotAllowed):
                self.job_of(who, owner="viewer")
        self.assertEqual(self.job_of("manager", owner="viewer").owner, "viewer")
        with acting_as("manager"):
            cron = self.service.addCronJob("work", minute=(0,), owner="viewer")
        self.assertEqual(self.service.jobs[cron].owner, "viewer")

    def test_oneself_may_be_named_by_everybody(self):
        self.assertEqual(self.job_of("submitter", owner="submitter").owner, "submitter")

    def test_the_system_is_nobody_s_to_act_for(self):
        for who in "submitter", "manager":
            with self.assertRaises(NotAllowed):
                self.job_of(who, owner="zope.security.management.system_user")
        endInteraction()
        with self.assertRaises(NotAllowed):
            self.service.add("work", owner="zope.security.management.system_user")

    def test_somebody_who_does_not_exist_owns_nothing(self):
        with self.assertRaises(PrincipalGone):
            self.job_of("manager", owner="nobody")

    def test_it_is_kept_who_did_so(self):
        job = self.job_of("manager", owner="viewer")
        entry, = self.service.listTrail()[0]
        self.assertEqual((entry.who, entry.verb, entry.jobs, entry.detail),
                         ("manager", "add", (job.id,), "for viewer"))

    def test_it_is_kept_when_a_job_does_so(self):
        self.task("deputy", lambda input, context: context.service.add(
            "work", owner="viewer"), wantsContext=True)
        self.job_of("manager", "deputy")
        self.service.process()
        entry, = self.service.listTrail()[0]
        self.assertEqual((entry.who, entry.detail), ("manager", "for viewer"))

    def test_who_changes_what_a_job_of_another_does_acts_for_that_one(self):
        """An operator may move a job, but not give it work in its owner's name."""
        endInteraction()
        ownerless = self.service.jobs[self.service.add("work", 1, startLater=True)]
        for job in ownerless, self.job_of("manager", input=1, startLater=True):
            with acting_as("operator"):
                self.service.changeJob(job.id, title="urgent")
                with self.assertRaises(NotAllowed):
                    self.service.changeJob(job.id, input=2)
            self.assertEqual((job.title, job.input), ("urgent", 1))
            with acting_as("manager"):
                self.service.changeJob(job.id, input=3)
            self.assertEqual(job.input, 3)
        own = self.job_of("operator", input=1, startLater=True)
        with acting_as("operator"):
            self.service.changeJob(own.id, input=2)
        self.assertEqual(own.input, 2)

    def test_such_a_job_runs_as_the_one_named(self):
        self.task("dear", lambda input: "done", permission=access.MANAGE)
        job = self.job_of("manager", "dear", owner="viewer")
        self.service.process()
        self.assertEqual(job.status, "error")


class Replacing(Access):
    """Who has a job replaced cancels it: that is for who may cancel it."""

    def replace(self, who, service=None):
        with acting_as(who):
            return (service or self.service).add(
                "work", who, unique="x", duplicate="replace")

    def test_a_submitter_replaces_own_jobs_only(self):
        first = self.job_of("submitter", unique="x")
        second = self.replace("submitter")
        self.assertEqual((first.status, first.reason), ("cancelled", "replaced"))
        others = self.job_of("manager", unique="y")
        with acting_as("submitter"), self.assertRaises(NotAllowed) as caught:
            self.service.add("work", unique="y", duplicate="replace")
        self.assertIn(f"replace job {others.id}", str(caught.exception))
        self.assertEqual(others.status, "queued")
        self.assertEqual(set(self.service.jobs), {first.id, second, others.id})

    def test_nor_from_behind_a_proxy_nor_in_a_job(self):
        others = self.job_of("manager", unique="x")
        with self.assertRaises(NotAllowed):
            self.replace("submitter", ProxyFactory(self.service))
        self.task("replace", lambda input, context: context.service.add(
            "work", unique="x", duplicate="replace"), wantsContext=True)
        with acting_as("manager"):
            self.service.changeJob(others.id, priority=99)
        job = self.job_of("submitter", "replace")
        self.service.processNext()
        self.assertEqual((job.status, job.attempts[0].kind), ("error", "NotAllowed"))
        self.assertEqual(others.status, "queued")

    def test_who_may_cancel_it_may_and_that_is_kept(self):
        others = self.job_of("submitter", unique="x")
        self.replace("operator")
        self.assertEqual(others.status, "cancelled")
        entry, = self.service.listTrail()[0]
        self.assertEqual((entry.who, entry.verb, entry.jobs, entry.detail),
                         ("operator", "cancel", (others.id,), "replaced"))

    def test_trusted_code_without_an_interaction_replaces_anybody_s(self):
        others = self.job_of("manager", unique="x")
        endInteraction()
        self.service.add("work", unique="x", duplicate="replace")
        self.assertEqual(others.status, "cancelled")

    def test_a_job_of_another_stands_for_an_add_and_is_not_touched(self):
        others = self.job_of("manager", unique="x")
        with acting_as("submitter"):
            self.assertEqual(self.service.add("work", unique="x"), others.id)
        self.assertEqual((others.owner, others.status), ("manager", "queued"))


class ILogin(Interface):
    user = TextLine(title="User")
    word = Password(title="Word")


class Secrets(Access):

    def test_who_may_read_the_input_is_not_shown_its_secrets(self):
        self.task("login", lambda input: {"token": "t0ps3cret"}, inputSchema=ILogin)
        job = self.job_of("manager", "login", {"user": "ada", "word": "hush-hush"})
        self.service.process()
        with acting_as("manager"):
            self.assertEqual(access.input_of(job), {"user": "ada", "word": HIDDEN})
            self.assertEqual(access.output_of(job), {"token": HIDDEN})
        self.assertEqual(job.input["word"], "hush-hush")

    def test_a_proxied_job_is_masked_too(self):
        self.task("login", lambda input: None, inputSchema=ILogin)
        job = self.job_of("manager", "login", {"user": "ada", "word": "hush-hush"})
        with acting_as("manager"):
            shown = removeSecurityProxy(access.input_of(ProxyFactory(job)))
        self.assertEqual(shown["word"], HIDDEN)

    def told_of(self, job):
        """All texts that a failed job leaves behind."""
        attempt = job.attempts[0]
        return [job.error, attempt.error, attempt.traceback,
                *(line.text for line in job.log), *self.lines.texts(0)]

    def test_an_error_does_not_tell_them(self):
        """Neither in the job, its attempts and lines, nor in the log of the process."""
        def fail(input, context):
            context.logger.error("no luck with %s", input["word"])
            raise TaskError(f"{input['word']} is no word for {input['user']}")

        def run_out(input, context):
            raise ValueError(f"cannot use {input!r}")

        for function in fail, run_out:
            self.task("login", function, inputSchema=ILogin, wantsContext=True, retries=0)
            job = self.job_of("manager", "login", {"user": "ada", "word": "hush-hush"})
            self.service.process()
            told = self.told_of(job)
            self.assertIn("ada", job.error)
            self.assertIn(HIDDEN, job.error)
            for text in told:
                if "no luck with" not in text or text in (each.text for each in job.log):
                    self.assertNotIn("hush-hush", text)

    def test_an_output_that_breaks_its_schema_does_not_tell_them(self):
        self.task("login", lambda input: {"user": 5, "word": "hush-hush"},
                  outputSchema=ILogin)
        job = self.job_of("manager", "login")
        self.service.process()
        self.assertEqual(job.status, "error")
        for text in self.told_of(job):
            self.assertNotIn("hush-hush", text)

    def test_a_service_has_its_own_names_for_secrets(self):
        self.service.configure(secret_names="pin")
        job = self.job_of("manager", input={"pin": 1234, "password": "x"})
        with acting_as("manager"):
            self.assertEqual(access.input_of(job), {"pin": HIDDEN, "password": "x"})


if __name__ == "__main__":
    unittest.main()
