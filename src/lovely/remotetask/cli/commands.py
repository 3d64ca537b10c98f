"""The commands: each asks its questions, and shows the answers."""
import json
import shlex
import sys
import time

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.cli import times
from lovely.remotetask.cli.desk import Desk
from lovely.remotetask.cli.output import block, number, pairs, table, text
from lovely.remotetask.cli.problems import DONE, FAILED, IN_VAIN, BadArgument, code_of
from lovely.remotetask.limits import lock_of, lock_text

RETRIED_AT_ONCE = 100
SHORT = 8                # letters of a worker's name that are shown, and tell it
LOOKS = (0.02, 0.5)      # seconds between two looks at a job, at first and later
REOPEN_SECONDS = 0.5     # the same where the database is opened for each look


def desk_of(options) -> Desk:
    return Desk(options.db, getattr(options, "zcml", ()), getattr(options, "modules", ()))


# -- adding


def add(options, out) -> int:
    arguments = dict(job_options(options), startLater=options.later)
    if options.delay is not None:
        arguments["delay"] = times.duration(options.delay)
    if options.at is not None:
        arguments["startAt"] = _start(options.at, out).isoformat()
    if options.before is not None:
        arguments["startBefore"] = deadline(options.before)
    arguments.update(only_one(options))
    wait = None if options.wait is None else times.duration(options.wait)
    desk = desk_of(options)
    with desk.writing() as way:
        answer = way.ask("add", options.service, arguments)
    if wait is not None:
        return wait_for(desk, options, out, answer["id"], wait)
    out.give(answer, lambda answer: [str(answer["id"])])
    done = "added" if answer["made"] else "it is there already"
    out.note(f"{done}; see what becomes of it: "
             f"remotetask show {answer['id']}{_there(options)}")
    return DONE


def _start(words, out):
    """A moment from its text; one that is past is allowed, and said."""
    moment = times.moment(words)
    if moment < clock.now():
        out.complain(f"--at {words} is past: the job starts at once")
    return moment


def job_options(options) -> dict:
    """What `add` and `cron add` share."""
    found = dict(task=options.task, input=given_input(options))
    for name in ("priority", "title", "retries"):
        if getattr(options, name) is not None:
            found[name] = getattr(options, name)
    if options.tag:
        found["tags"] = options.tag
    if options.timeout is not None:
        found["timeout"] = times.duration(options.timeout)
    if options.lock:
        found["locks"] = dict(map(lock_of, options.lock))
    return found


def only_one(options) -> dict:
    """What makes one job of many adds, or none."""
    found = {}
    if options.unique and options.unique_key is not None:
        raise BadArgument("give --unique or --unique-key, not both")
    if options.unique or options.unique_key is not None:
        found["unique"] = options.unique or options.unique_key
    if options.unique_for is not None:
        found["uniqueFor"] = times.duration(options.unique_for)
    if options.duplicate is not None:
        found["duplicate"] = options.duplicate.replace("-", " ")
    if options.at_limit is not None:
        found["atLimit"] = options.at_limit
    return found


def deadline(words):
    """A duration from the start time, or a moment."""
    try:
        return times.duration(words)
    except BadArgument:
        return times.moment(words).isoformat()


def given_input(options):
    """The input of a task from its JSON text.  Raises BadArgument."""
    if options.given is not None and options.input is not None:
        raise BadArgument("the input is given twice: as INPUT and by --input")
    words = options.given if options.given is not None else options.input
    if words is None:
        return None
    source, words = _read(words)
    try:
        return json.loads(words, parse_constant=_no_number)
    except ValueError as error:
        hint = "; a text needs quotes of its own: '\"hello\"'" if source == "INPUT" else ""
        raise BadArgument(f"{source} is no JSON: {error}{hint}") from None
    except RecursionError:
        raise BadArgument(f"{source} is nested too deeply") from None


def _read(words):
    """Where the JSON text comes from, and the text."""
    if words == "-":
        return "standard input", sys.stdin.read()
    if not words.startswith("@"):
        return "INPUT", words
    try:
        with open(words[1:], encoding="utf-8") as file:
            return words[1:], file.read()
    except (OSError, UnicodeError) as error:
        raise BadArgument(f"the input cannot be read: {error}") from None


def _no_number(word):
    raise ValueError(f"{word} is no number that JSON knows")


def wait_for(desk, options, out, id, seconds) -> int:
    """Wait until a job has ended, and show what it returned."""
    with out.bar(f"job {id}") as bar:
        found, alone = _last_look(desk, options, id, seconds, bar)
    return _outcome(options, out, found, seconds, alone)


def _last_look(desk, options, id, seconds, bar):
    """The job at its end or when the time is over, and whether nobody shares the
    database in which it was seen."""
    until = time.monotonic() + seconds
    pause, longest = LOOKS
    while True:
        with desk.watching() as way:
            reopened = desk.database.file is not None and hasattr(way, "db")
            while True:
                found = way.ask("outcome", options.service, dict(id=id))
                left = until - time.monotonic()
                if found["finished"] or left <= 0:
                    return found, reopened
                _picture(bar, found)
                time.sleep(min(left, REOPEN_SECONDS if reopened else pause))
                pause = min(pause * 1.5, longest)
                if reopened:
                    break


def _picture(bar, found):
    told = found["progress"] or {}
    bar(told.get("done") or 0, told.get("total"), told.get("message") or found["status"])


def _outcome(options, out, found, seconds, alone) -> int:
    out.give(found, lambda found: [
        json.dumps(found["output"], ensure_ascii=True, indent=2)]
        if found["status"] == lifecycle.COMPLETED else [])
    if found["status"] == lifecycle.COMPLETED:
        return DONE
    if found["finished"]:
        out.complain(f"job {found['id']} ended in {found['status']}"
                     f"{_because(found)}")
        return FAILED
    where = _there(options)
    hint = f"it stays, look with: remotetask show {found['id']}{where}"
    if alone:
        hint = "nobody works here now: start " + (
            f"`remotetask work{where}`" if where else "`remotetask run` or `work`")
    out.complain(f"job {found['id']} is still {found['status']} after "
                 f"{times.span(seconds)}; {hint}")
    return IN_VAIN


def _there(options) -> str:
    """What a command must be told to come to the same place as this one."""
    return "".join(f" --{name} {shlex.quote(value)}" for name in ("db", "service")
                   if (value := getattr(options, name)))


def _because(found) -> str:
    why = found["error"] or found["reason"]
    return f": {why}" if why else ""


# -- reading


def list_jobs(options, out) -> int:
    arguments = {name: getattr(options, name) for name in
                 ("task", "owner", "tag", "after") if getattr(options, name)}
    arguments["limit"] = options.limit
    if options.status:
        arguments["status"] = options.status.replace("-", " ")
    with desk_of(options).reading() as way:
        answer = way.ask("list", options.service, arguments)

    def lines(answer):
        if not answer["jobs"]:
            yield "No jobs."
            return
        yield from table(("ID", "STATUS", "CREATED", "TASK", "TITLE"), [
            (job["id"], job["status"], times.local(job["created"]), job["task"],
             job["title"]) for job in answer["jobs"]], out.width)
    out.give(answer, lines)
    if answer["after"]:
        out.note(f"older ones: add --after {answer['after']}")
    return DONE


def show(options, out) -> int:
    with desk_of(options).reading() as way:
        answer = way.ask("show", options.service, dict(id=options.id))
    out.give(answer, lambda job: _job_lines(job, options.traceback, options.log))
    return DONE


def _job_lines(job, with_traceback, with_log):
    yield from pairs([
        ("Job", job["id"]), ("Task", text(job["task"])), ("Title", text(job["title"])),
        ("Status", _status_words(job)), ("Tags", text(", ".join(job["tags"]))),
        ("Priority", job["priority"]),
        ("Locks", text(", ".join(lock_text(*each) for each in job["locks"].items()))),
        ("Owner", text(job["owner"])),
        ("Parent", job["parent"]),
        ("Created", times.local(job["created"])), ("Due", times.local(job["due"])),
        ("Not after", times.local(job["deadline"])),
        ("Started", times.local(job["started"])),
        ("Completed", times.local(job["completed"])),
        ("Attempts", _attempts_words(job)), ("Progress", _progress_words(job)),
        ("Schedule", _schedule_words(job)),
        ("Next", ", ".join(map(times.local, job.get("next", ())))),
        ("Input", text(job["input"]) if job["input"] is not None else None),
        ("Output", text(job["output"]) if job["output"] is not None else None),
        ("Error", text(job["error"]))])
    for each in job["attempts"]:
        yield ""
        yield (f"Attempt {each['number']}: {text(each['outcome'])}, "
               f"{times.local(each['ended'])}, {text(each['kind'])}: {text(each['error'])}")
        if with_traceback:
            yield from ("    " + line for line in block(each["traceback"]))
    if job["attempts"] and not with_traceback:
        yield "(--traceback shows where)"
    yield from _log_lines(job, with_log)
    if job.get("runs"):
        yield ""
        yield from table(("DUE", "JOB", "STATUS", "ERROR"), [
            (times.local(run["instant"]), run["job"], run["status"], run["error"])
            for run in job["runs"]])


def _log_lines(job, all_of_it):
    lines = job["log"]
    if lines and not all_of_it:
        yield f"({number(len(lines), 'line')} logged, --log shows them)"
    elif lines:
        yield ""
        if job["logLost"]:
            yield f"({number(job['logLost'], 'line')} before these not kept)"
        for each in lines:
            first, *others = each["text"].splitlines() or [""]
            yield (f"{each['attempt']}  {times.local(each['moment'])}  "
                   f"{text(each['level']):8} {text(first)}")
            yield from ("    " + line for line in block("\n".join(others)))


def _status_words(job) -> str:
    return job["status"] + (f" ({text(job['reason'])})" if job["reason"] else "")


def _attempts_words(job):
    words = [f"{job['startedCount']}"] if job["startedCount"] else []
    words += [number(job[name], one, name) for one, name in (
        ("failure", "failures"), ("crash", "crashes"), ("handback", "handbacks"))
        if job[name]]
    return ", ".join(words)


def _progress_words(job):
    told = job["progress"]
    if not told:
        return None
    of = f" of {text(told['total'])}" if told["total"] is not None else ""
    return f"{text(told['done'])}{of} {text(told['message'])}".rstrip()


def _schedule_words(job):
    if "schedule" not in job:
        return None
    words = [text(job["schedule"])]
    if job["timezone"]:
        words.append(f"in {text(job['timezone'])}")
    if job["paused"]:
        words.append("paused")
    if job["broken"]:
        words.append(f"broken: {text(job['broken'])}")
    return ", ".join(words)


def status(options, out) -> int:
    desk = desk_of(options)
    arguments = {} if options.service is None else dict(service=options.service)
    with desk.reading() as way:
        answer = way.ask("status", None, arguments)
    running = {each["path"]: each["pid"] for each in desk.running() if each["processing"]}
    for each in answer:
        each["processedBy"] = running.get(each["path"])
    out.give(answer, lambda answer: _status_lines(answer, out.width))
    return DONE


def _status_lines(answer, width):
    if not answer:
        yield "No services."
    for position, each in enumerate(answer):
        if position:
            yield ""
        counts = ", ".join(f"{count:,} {name}" for name, count in each["counts"].items()
                           if count) or "none"
        yield from pairs([
            ("Service", f"{text(each['directive'])}  ({text(each['path'])})"),
            ("Works in", _where(each)), ("Jobs", counts),
            ("Queue", _queue_words(each))])
        yield from map(wish_words, each.get("wishes", ()))
        if each["next"]:
            yield from table(("NEXT RUN", "CRON JOB", "TASK"), [
                (times.local(run["moment"]), run["id"], run["task"])
                for run in each["next"]], width)


def _where(each) -> str:
    if each["processedBy"]:
        places = [f"process {each['processedBy']}"]
    else:
        places = [f"process {worker['pid']} on {text(worker['host'])}"
                  for worker in each["workers"] if worker["alive"]]
    dead = sum(not worker["alive"] for worker in each["workers"]) \
        if not each["processedBy"] else 0
    held = sum(worker["holds"] for worker in each["workers"])
    words = ", ".join(places) or "no process that is known of"
    if held:
        words += f"; {number(held, 'job')} in hand"
    return words + (f"; {number(dead, 'worker')} gone" if dead else "")


def _queue_words(each) -> str:
    if not each["queueLength"]:
        return "empty"
    return (f"{each['queueLength']:,} waiting, the first for "
            f"{times.span(each['oldestWaiting'])}")


def wish_words(wish) -> str:
    what = {"pause": "paused", "stop": "stopped",
            "threads": number(wish["number"] or 0, "thread") + " each"}[wish["what"]]
    whom = f"worker {wish['worker'][:SHORT]}" if wish["worker"] else "service"
    by = f" by {text(wish['by'])}" if wish["by"] else ""
    obeyed = f"{len(wish['obeyedBy'])} of {number(len(wish['concerns']), 'worker')}"
    return f"Wished for the {whom}: {what}{by}, {times.local(wish['since'])}; " \
           f"obeyed by {obeyed}"


# -- steering


def steer(verb: str, done: str):
    """A command that does one thing to each of some jobs."""
    def command(options, out) -> int:
        with desk_of(options).writing() as way:
            answer = way.ask(verb, options.service, dict(ids=options.ids))
        out.give(answer, lambda answer: [
            done.format(**each) for each in answer if each["error"] is None])
        codes = [complained(out, each) for each in answer if each["error"] is not None]
        return max(codes, default=DONE)
    return command


def complained(out, each) -> int:
    if not out.as_json:
        out.complain(each["error"]["text"])
    return code_of(each["error"]["kind"])


cancel = steer("cancel", "job {id} is cancelled")
start = steer("start", "job {id} is queued")
remove = steer("remove", "job {id} is removed")
retry_some = steer("retry", "job {id} is queued again")


def retry(options, out) -> int:
    filters = ("task", "tag", "error", "older", "limit")
    if not options.all:
        if not options.ids:
            raise BadArgument("say which jobs: by their numbers, or --all")
        if any(getattr(options, name) is not None for name in filters):
            raise BadArgument("--task, --tag, --error, --older and --limit go with --all")
        return retry_some(options, out)
    if options.ids:
        raise BadArgument("give numbers, or --all; not both")
    with desk_of(options).writing() as way:
        ids = _matching(way, options)
        answer = _retry_all(way, options, out, ids)
    out.give(answer, lambda answer: [
        f"{number(answer['retried'], 'job')} queued again"])
    return DONE


def _matching(way, options) -> list[int]:
    arguments = dict(task=options.task, tag=options.tag, errorText=options.error)
    if options.older is not None:
        arguments["olderThan"] = times.duration(options.older)
    ids, after = [], None
    while True:
        page = way.ask("matching", options.service, dict(arguments, after=after))
        ids += page["ids"]
        after = page["after"]
        if after is None or options.limit is not None and len(ids) >= options.limit:
            # The oldest first, as they were added.
            return ids[:options.limit][::-1]


def _retry_all(way, options, out, ids) -> dict:
    retried = 0
    with out.bar("retrying") as bar:
        for first in range(0, len(ids), RETRIED_AT_ONCE):
            batch = ids[first:first + RETRIED_AT_ONCE]
            answer = way.ask("retry", options.service, dict(ids=batch))
            # Somebody else may have retried or removed one meanwhile.
            retried += sum(each["error"] is None for each in answer)
            bar(first + len(batch), len(ids))
    return dict(matched=len(ids), retried=retried)


def clean(options, out) -> int:
    wanted = list(dict.fromkeys(
        word for each in options.status or () for word in each.split(",") if word))
    for word in wanted:
        if word not in lifecycle.FINISHED:
            raise BadArgument(f"jobs that are {word!r} cannot be removed; those can that "
                              f"are {', '.join(sorted(lifecycle.FINISHED))}")
    before = clock.micros() - round(times.duration(options.older) * 1_000_000) \
        if options.older else clock.micros()
    removed = {}
    with desk_of(options).writing() as way, out.bar("removing") as bar:
        service = options.service
        for word in wanted or sorted(lifecycle.FINISHED):
            removed[word] = 0
            arguments = dict(status=word, before=before)
            while (done := way.ask("clean", service, arguments))["removed"]:
                removed[word] += done["removed"]
                total = None if options.older else removed[word] + done["left"]
                bar(removed[word], total, word)
    answer = dict(removed=removed)
    out.give(answer, lambda answer: [
        f"{number(count, 'job')} removed, {word}" for word, count in removed.items()])
    return DONE


# -- checking


def check(options, out) -> int:
    desk, verb = desk_of(options), "repair" if options.repair else "check"
    found = []
    with (desk.writing() if options.repair else desk.reading()) as way:
        for each in way.ask("services"):
            if options.service is None:
                found.append(_check(way, out, verb, each["path"], each["directive"]))
        if options.service is not None:
            found.append(_check(way, out, verb, options.service, options.service))
    out.give(found, lambda found: _check_lines(found))
    bad = any(each["left"] if options.repair else each["faults"] for each in found)
    return FAILED if bad else DONE


def _check(way, out, verb, service, name) -> dict:
    with out.bar(f"checking {text(name)}") as bar:
        return dict(service=name, **way.ask(verb, service, {}, bar))


def _check_lines(found):
    if not found:
        yield "No services."
    for each in found:
        head = f"{text(each['service'])}: {number(each['jobs'], 'job')}"
        if not each["faults"]:
            yield f"{head}, no faults"
            continue
        for fault in each["faults"]:
            yield f"{text(each['service'])}: {text(fault)}"
        end = "; --repair makes the books again"
        if "left" in each:
            end = f", {len(each['left'])} of them left" if each["left"] \
                else ", all repaired"
        yield f"{head}, {number(len(each['faults']), 'fault')}{end}"


# -- cron jobs


def cron_list(options, out) -> int:
    with desk_of(options).reading() as way:
        answer = way.ask("crons", options.service)

    def lines(answer):
        if not answer:
            yield "No cron jobs."
            return
        yield from table(("ID", "NEXT RUN", "LAST", "SCHEDULE", "TASK", "TITLE"), [
            (job["id"], _next_words(job), _last_words(job), job["schedule"], job["task"],
             job["title"]) for job in answer], out.width)
    out.give(answer, lines)
    return DONE


def _next_words(job) -> str:
    if job["paused"]:
        return "paused"
    if job["broken"]:
        return "broken"
    return times.local(job["next"][0]) if job["next"] else "never"


def _last_words(job) -> str:
    return job["runs"][-1]["status"] if job["runs"] else "-"


def cron_add(options, out) -> int:
    arguments = dict(job_options(options), schedule=options.schedule,
                     missed=options.missed, overlap=options.overlap.replace("-", " "))
    if options.timezone:
        arguments["timezone"] = options.timezone
    with desk_of(options).writing() as way:
        answer = way.ask("cron_add", options.service, arguments)
    out.give(answer, lambda answer: [str(answer["id"])])
    out.note(f"added; remotetask cron list{_there(options)} shows when it runs")
    return DONE


cron_pause = steer("pause", "cron job {id} is paused")
cron_resume = steer("resume", "cron job {id} fires again")
cron_run = steer("run_now", "cron job {id} runs now, as job {answer}")
