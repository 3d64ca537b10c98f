"""The commands for workers: who is there, and what they are to do."""
from lovely.remotetask.cli import times
from lovely.remotetask.cli.commands import SHORT, desk_of, wish_words
from lovely.remotetask.cli.output import table, text
from lovely.remotetask.cli.problems import DONE, BadArgument

STATES = {True: "works", False: "gone", None: "not known"}


def workers(options, out) -> int:
    with desk_of(options).reading() as way:
        answer = way.ask("workers", options.service)
    out.give(answer, lambda answer: _lines(answer, out.width))
    return DONE


def _lines(answer, width):
    if not answer["workers"]:
        yield "No workers."
    else:
        yield from table(
            ("WORKER", "STATE", "THREADS", "IN HAND", "PROCESS", "SINCE", "HOST"), [
                (worker["name"][:SHORT], _state(worker), worker["threads"],
                 len(worker["holds"]), worker["pid"], times.local(worker["since"]),
                 worker["host"]) for worker in answer["workers"]], width)
    for worker in answer["workers"]:
        if worker["takes"]:
            yield f"Worker {worker['name'][:SHORT]} takes: {text(worker['takes'])}"
    for wish in answer["wishes"]:
        yield wish_words(wish)


def _state(worker) -> str:
    return worker["state"] if worker["alive"] and worker["state"] \
        else STATES[worker["alive"]]


def wish(verb: str, done: str):
    """A command that makes or takes back one wish."""
    def command(options, out) -> int:
        arguments = {}
        if hasattr(options, "worker"):
            arguments["worker"] = options.worker
        if hasattr(options, "number"):
            arguments["number"] = _threads(options.number)
        with desk_of(options).writing() as way:
            answer = way.ask(verb, options.service, arguments)
        out.give(answer, lambda answer: [done.format(
            worker=text(answer.get("worker") or "")[:SHORT],
            number=answer.get("number") or "their own number of")])
        return DONE
    return command


def _threads(given: str) -> int | None:
    if given == "default":
        return None
    try:
        return int(given)
    except ValueError:
        raise BadArgument(f"threads cannot be {given!r}: a number, or `default`") from None


pause = wish("pause_processing", "paused: no worker starts a job until "
             "`remotetask resume`; what runs goes on")
resume = wish("resume_processing", "jobs are started again")
threads = wish("wish_threads", "workers run {number} threads each")
stop_worker = wish("stop_worker", "worker {worker} starts no other job until "
                   "`remotetask start-worker {worker}`")
start_worker = wish("start_worker", "worker {worker} starts jobs again")
