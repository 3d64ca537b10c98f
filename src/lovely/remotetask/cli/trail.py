"""The command that shows what people did."""
from lovely.remotetask.cli import times
from lovely.remotetask.cli.commands import desk_of
from lovely.remotetask.cli.output import number, table
from lovely.remotetask.cli.problems import DONE

FEW = 3   # numbers of jobs that are named in a line


def trail(options, out) -> int:
    arguments = dict(after=options.after, limit=options.limit)
    with desk_of(options).reading() as way:
        answer = way.ask("trail", options.service, arguments)
    out.give(answer, lambda answer: _lines(answer, out.width))
    if answer["after"]:
        out.note(f"older ones: add --after {answer['after']}")
    return DONE


def _lines(answer, width):
    if not answer["entries"]:
        yield "Nobody has done anything."
        return
    yield from table(("WHEN", "WHO", "DID", "JOBS", "DETAIL"), [
        (times.local(entry["moment"]), entry["who"], entry["verb"], _jobs(entry),
         entry["detail"]) for entry in answer["entries"]], width)


def _jobs(entry) -> str:
    if entry["number"] > FEW:
        return number(entry["number"], "job")
    return " ".join(map(str, entry["jobs"]))
