"""What can be typed: commands, options, and help with examples."""
import argparse
from importlib.metadata import PackageNotFoundError, version

from lovely.remotetask import lifecycle
from lovely.remotetask.cli import commands, trail, work, workers, zeo
from lovely.remotetask.missed import MISSED, OVERLAP
from lovely.remotetask.admission import AT_LIMIT
from lovely.remotetask.unique import DUPLICATE

DESCRIPTION = "Background jobs that commit with your data, in a ZODB."

EPILOG = """\
The database is the one of the application in ./var, as `remotetask run` makes it;
--db or REMOTETASK_DB name another: a directory, a zope.conf, a Data.fs, or a URI
(file:// zeo:// postgresql:// sqlite:///).

  remotetask run                          the application, with a web page
  remotetask add echo '"hello"'           a job; prints its number
  remotetask list                         the newest jobs
  remotetask show 7                       all about one of them
  remotetask cron add backup '0 2 * * *'  a job for every night
  remotetask COMMAND --help               more, with examples

exit codes: 0 done; 1 what was asked for failed; 2 wrong usage or value; 3 the
database cannot be opened, or has gone; 4 waited in vain; 130 interrupted.
"""


def parse(words=None):
    main = parser()
    options = main.parse_args(words)
    if not hasattr(options, "verbose"):
        options.verbose = False
    if options.main_db is not None:  # it was said before the command
        if not hasattr(options, "db"):
            main.error("zeo takes no --db, but a path: remotetask zeo FILE")
        options.db = options.db or options.main_db
    return options


def parser():
    main = argparse.ArgumentParser(
        prog="remotetask", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    main.add_argument("--version", action="version", version=_version())
    main.add_argument("--db", metavar="WHERE", dest="main_db", help=argparse.SUPPRESS)
    main.set_defaults(verbose=False)
    these = main.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _long_lived(these)
    _adding(these)
    _reading(these)
    _steering(these)
    _workers(these)
    _cron(these)
    return main


def _version() -> str:
    try:
        return f"lovely.remotetask {version('lovely.remotetask')}"
    except PackageNotFoundError:
        return "lovely.remotetask"


def _command(these, name, function, help, examples, parents=()):
    found = these.add_parser(
        name, help=help, description=help[0].upper() + help[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  remotetask {each}" for each in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter, parents=parents)
    found.set_defaults(command=function)
    return found


def _common(writes=False, one_service=True):
    """What every command that opens a database takes."""
    found = argparse.ArgumentParser(add_help=False)
    found.add_argument("--db", metavar="WHERE", help=(
        "the database: directory, zope.conf, Data.fs or URI (default: "
        "$REMOTETASK_DB, else ./var)"))
    if one_service:
        found.add_argument("--service", metavar="NAME", help=(
            "the service: name, site@name, @name or /path; not needed where there "
            "is only one, or where one starts by itself"))
    if writes:
        _registrations(found)
    found.add_argument("-v", "--verbose", action="store_true", help=(
        "show log lines, and where an error comes from"))
    return found


def _registrations(found):
    found.add_argument("--import", dest="modules", metavar="MODULE", action="append",
                       default=[], help="import a module that registers tasks, first")
    found.add_argument("--zcml", metavar="FILE", action="append", default=[],
                       help="execute ZCML that registers tasks, first")


def _answering(writes=False):
    found = _common(writes)
    found.add_argument("--json", action="store_true", help="answer in JSON")
    return found


# -- commands that stay


def _long_lived(these):
    run = _command(these, "run", work.run, "run the application, until Ctrl-C", [
        "run", "run /srv/tasks --port 8090", "run web --db zeo://127.0.0.1:8100"])
    run.add_argument("directory", nargs="?", default="var", help=(
        "where it keeps all that it has; made at the first start (default: var)"))
    run.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    run.add_argument("--port", type=int, default=8080, help=(
        "default: 8080; 0: any that is free"))
    run.add_argument("--db", metavar="URI", help=(
        "the database, for the first start, which writes it into zope.conf (default: a "
        "Data.fs in the directory)"))
    run.add_argument("--example", metavar="PACKAGE", help=(
        "directory of a package whose configure.zcml the first start includes"))
    run.add_argument("--no-example", dest="example", action="store_false", default=None,
                     help="begin without the example of a checkout")

    found = _command(these, "work", work.work,
                     "run jobs in a process without web, until Ctrl-C or SIGTERM", [
                         "work --db etc/zope.conf",
                         "work --db zeo://localhost:8100 --import myproject.tasks",
                         "work --service site@tasks --service @mail --grace 1m",
                         "work --threads 4 --task mail,report --priority 0-5"],
                     [_common(one_service=False)])
    _registrations(found)
    found.add_argument("--service", metavar="NAME", action="append", help=(
        "a service to start: name, site@name, @name, site@*, *@*, /path; may be "
        "given several times (default: those that autostart names, else the only one)"))
    found.add_argument("--threads", type=_count, metavar="NUMBER", help=(
        "how many jobs it runs at once (default: as the service is set up)"))
    found.add_argument("--task", metavar="NAME", action="append", help=(
        "take jobs of this task only; several with commas"))
    found.add_argument("--tag", metavar="NAME", action="append", help=(
        "take jobs only that have this tag, or one of several"))
    found.add_argument("--priority", metavar="RANGE", help=(
        "take jobs of such priorities only: 0-5, ..5, 3.. or 7"))
    found.add_argument("--grace", metavar="DURATION", help=(
        "how long jobs may run on when it stops; then they are handed back "
        "(default: the setting grace-seconds); a second signal stops at once"))

    found = _command(these, "zeo", zeo.serve,
                     "serve a Data.fs to many processes by ZEO, until Ctrl-C or SIGTERM", [
                         "zeo var/Data.fs",
                         "zeo var/Data.fs --address /srv/tasks/zeo.sock",
                         "zeo --config etc/zeo.conf"])
    found.add_argument("file", metavar="FILE", nargs="?", help=(
        "the Data.fs; made if it is not there"))
    found.add_argument("--address", metavar="ADDRESS", help=(
        "HOST:PORT, or the path of a socket (default: 127.0.0.1:8100)"))
    found.add_argument("--timeout", metavar="DURATION", help=(
        "how long a client may hold up all others by one commit; 0: for ever "
        "(default: 30s)"))
    found.add_argument("--config", metavar="FILE", help=(
        "a configuration of runzeo, instead of FILE and --address"))


# -- adding


def _adding(these):
    found = _command(these, "add", commands.add, "add a job; prints its number", [
        "add echo '\"hello\"'",
        "add resize --input '{\"width\": 300}' --priority 5",
        "add import --input @orders.json --at 02:30 --before 2h",
        "add sync --lock customer-7 --lock importers=3",
        "add reindex '\"/docs\"' --unique --duplicate allow-running",
        "add report --wait 1m                 (prints what the task returns)"],
        [_answering(writes=True)])
    _job_options(found)
    found.add_argument("--delay", metavar="DURATION", help="not before so long: 90s, 5m")
    found.add_argument("--at", metavar="TIME", help=(
        "not before: 2027-01-31T14:30 (local time, or with offset), or 14:30"))
    found.add_argument("--before", metavar="TIME", help=(
        "not after: a time, or a duration from its start time; then it is cancelled"))
    found.add_argument("--later", action="store_true", help=(
        "wait for `remotetask start`"))
    found.add_argument("--wait", metavar="DURATION", help=(
        "wait so long for its end and print what it returned"))
    _only_one(found)
    found.add_argument("--at-limit", choices=AT_LIMIT, help=(
        "where one of its limits is reached: wait, or refuse to add it; default: wait"))

    found = _command(these, "start", commands.start,
                     "queue jobs that were added with --later", ["start 7"],
                     [_answering(writes=True)])
    _ids(found)


def _only_one(found):
    found.add_argument("--unique", action="store_true", help=(
        "only one of this task and input: where there is one, print its number"))
    found.add_argument("--unique-key", metavar="TEXT", help=(
        "only one of this task and text"))
    found.add_argument("--unique-for", metavar="DURATION", help=(
        "one that is completed counts, too, for so long from its adding"))
    found.add_argument("--duplicate", choices=[word.replace(" ", "-") for word in DUPLICATE],
                       help=("what becomes of the one that is there: it stands for this "
                             "one (ignore), is cancelled while it waits (replace), or "
                             "does not count while it runs; default: ignore"))


def _lock(found):
    found.add_argument("--lock", metavar="NAME", action="append", help=(
        "of all jobs that name it one runs at a time; NAME=3: three; may be given "
        "several times"))


def _job_options(found):
    found.add_argument("task", metavar="TASK", help="name of the task")
    found.add_argument("given", metavar="INPUT", nargs="?", help=(
        "input of the task, in JSON; @FILE reads it from a file, - from standard input"))
    found.add_argument("--input", metavar="JSON", help="the same as INPUT")
    found.add_argument("--priority", type=int, help="smaller is more urgent; default 10")
    found.add_argument("--title", help="for people")
    found.add_argument("--tag", action="append", help="may be given several times")
    found.add_argument("--timeout", metavar="DURATION", help="how long it may run")
    found.add_argument("--retries", type=int, help="attempts after the first")
    _lock(found)


# -- reading


def _reading(these):
    found = _command(these, "list", commands.list_jobs, "list jobs, the newest first", [
        "list", "list --status error --task resize", "list --tag mail --limit 100 --json"],
        [_answering()])
    words = ", ".join(word.replace(" ", "-") for word in lifecycle.STATUSES)
    found.add_argument("--status", metavar="STATUS", help=f"one of {words}")
    found.add_argument("--task", help="name of the task")
    found.add_argument("--owner", help="id of the principal who added it")
    found.add_argument("--tag")
    found.add_argument("--limit", type=_count, default=20, help="default: 20")
    found.add_argument("--after", metavar="KEY", help=(
        "go on where a list ended, which names the key"))

    found = _command(these, "show", commands.show, "show all about a job", [
        "show 7", "show 7 --traceback", "show 7 --log", "show 7 --json"],
        [_answering()])
    found.add_argument("id", type=int, metavar="ID")
    found.add_argument("--traceback", action="store_true", help=(
        "where each attempt failed"))
    found.add_argument("--log", action="store_true", help=(
        "what its attempts have written into the log"))

    _command(these, "status", commands.status,
             "show what each service does: who works, what waits, what comes next", [
                 "status", "status --service site@tasks --json"], [_answering()])

    found = _command(these, "trail", trail.trail,
                     "show what people did with a service, the newest first", [
                         "trail", "trail --limit 100 --json"], [_answering()])
    found.add_argument("--limit", type=_count, default=20, help="default: 20")
    found.add_argument("--after", metavar="KEY", help=(
        "go on where a list ended, which names the key"))

    found = _command(these, "check", commands.check,
                     "compare the books of the services with their jobs", [
                         "check", "check --repair"], [_answering(writes=True)])
    found.add_argument("--repair", action="store_true", help=(
        "make the books again from the jobs where they disagree"))


# -- steering


def _steering(these):
    for name, function, help in (
            ("cancel", commands.cancel,
             "cancel jobs: a waiting one never starts, a running one cannot commit"),
            ("remove", commands.remove, "remove jobs that have come to their end")):
        found = _command(these, name, function, help, [f"{name} 7", f"{name} 7 8 9"],
                         [_answering(writes=True)])
        _ids(found)

    found = _command(these, "retry", commands.retry,
                     "queue jobs again that ended in error or were cancelled", [
                         "retry 7", "retry --all --task resize",
                         "retry --all --error 'connection refused' --older 10m"],
                     [_answering(writes=True)])
    found.add_argument("ids", type=int, nargs="*", metavar="ID")
    found.add_argument("--all", action="store_true", help="all in error that match:")
    found.add_argument("--task", help="name of the task")
    found.add_argument("--tag")
    found.add_argument("--error", metavar="TEXT", help="is part of the error, in any case")
    found.add_argument("--older", metavar="DURATION", help="ended so long ago, or longer")
    found.add_argument("--limit", type=_count, help="no more than so many, the newest")

    found = _command(these, "clean", commands.clean,
                     "remove the jobs that have come to their end, in small steps", [
                         "clean --status completed", "clean --older 30d"],
                     [_answering(writes=True)])
    found.add_argument("--status", action="append", metavar="STATUS", help=(
        "completed, cancelled or error; several with commas (default: all three)"))
    found.add_argument("--older", metavar="DURATION", help="ended so long ago, or longer")


def _ids(found):
    found.add_argument("ids", type=int, nargs="+", metavar="ID")


def _count(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


# -- workers


def _workers(these):
    _command(these, "workers", workers.workers,
             "show who works for a service, and what is wished", [
                 "workers", "workers --service site@tasks --json"], [_answering()])
    for name, help in (
            ("pause", "have no worker of a service start a job, in any process"),
            ("resume", "let the workers of a paused service start jobs again")):
        _command(these, name, getattr(workers, name), help, [name],
                 [_answering(writes=True)])
    found = _command(these, "threads", workers.threads,
                     "have the workers of a service run so many jobs at once", [
                         "threads 4", "threads 8 --worker 3f9a1c02", "threads default"],
                     [_answering(writes=True)])
    found.add_argument("number", metavar="NUMBER", help=(
        "how many; `default`: as many as each was started with"))
    found.add_argument("--worker", metavar="NAME", help=(
        "this one only: the beginning of its name, as `remotetask workers` shows it"))
    for name, function, help in (
            ("stop-worker", workers.stop_worker,
             "have one worker start no other job; its process stays"),
            ("start-worker", workers.start_worker,
             "let a worker that was stopped so start jobs again")):
        found = _command(these, name, function, help, [f"{name} 3f9a1c02"],
                         [_answering(writes=True)])
        found.add_argument("worker", metavar="NAME", help=(
            "the beginning of its name, as `remotetask workers` shows it"))


# -- cron jobs


def _cron(these):
    found = these.add_parser(
        "cron", help="list, add, pause, resume and run cron jobs", description=(
            "Jobs that make jobs, on time.  `remotetask cancel ID` ends one."))
    these = found.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _command(these, "list", commands.cron_list, "list cron jobs and when they run next",
             ["cron list"], [_answering()])

    found = _command(these, "add", commands.cron_add, "add a cron job; prints its number", [
        "cron add backup '0 2 * * *' --timezone Europe/Vienna",
        "cron add poll '*/5 9-17 * * mon-fri'",
        "cron add ping '@every 90s' --overlap allow"], [_answering(writes=True)])
    found.add_argument("task", metavar="TASK", help="name of the task")
    found.add_argument("schedule", metavar="SCHEDULE", help=(
        "cron text: minute hour day month weekday; or @daily, '@every 90s', ..."))
    found.add_argument("given", metavar="INPUT", nargs="?", help=(
        "input of the task, in JSON; @FILE reads it from a file, - from standard input"))
    found.add_argument("--input", metavar="JSON", help="the same as INPUT")
    found.add_argument("--timezone", metavar="ZONE", help=(
        "IANA name, as Europe/Vienna (default: UTC)"))
    found.add_argument("--missed", choices=MISSED, default="once", help=(
        "which runs are made up for that came due while nobody looked; default: once"))
    found.add_argument("--overlap", default="skip",
                       choices=[word.replace(" ", "-") for word in OVERLAP],
                       help="what happens while the last run goes on; default: skip")
    found.add_argument("--priority", type=int, help="smaller is more urgent; default 10")
    found.add_argument("--title", help="for people")
    found.add_argument("--tag", action="append", help="may be given several times")
    found.add_argument("--timeout", metavar="DURATION", help="how long a run may take")
    found.add_argument("--retries", type=int, help="attempts after the first")
    _lock(found)

    for name, function, help in (
            ("pause", commands.cron_pause, "keep cron jobs from firing until `resume`"),
            ("resume", commands.cron_resume, "let paused cron jobs fire, from now on"),
            ("run", commands.cron_run, "make a run at once, beside the schedule")):
        _ids(_command(these, name, function, help, [f"cron {name} 7"],
                      [_answering(writes=True)]))
