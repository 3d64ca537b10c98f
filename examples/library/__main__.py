"""Ask the library, also while the application runs.

    python -m library search json decoder        files that have both words
    python -m library search '"context manager"' words in this order
    python -m library search 'parse* NOT html'   any ending; without that word
    python -m library report                     totals
    python -m library verify                     compare with a count made anew

The database is opened for reading only.
"""
import argparse
import json
import logging
import sys
from contextlib import contextmanager
from pathlib import Path

import ZODB
from zope.index.text.parsetree import ParseError, QueryError
from ZODB.FileStorage import FileStorage

from lovely.remotetask.startup import application

from library import recount, tasks
from library.progress import closing, plural

MISTAKE, DIFFERENT = 2, 1  # exit codes


class Trouble(Exception):
    """What a user can do something about; the text says what."""


def main(arguments=None, out=None) -> int:
    out = out or sys.stdout
    options = parser().parse_args(arguments)
    # Beside a process that writes, the index of the file is always out of date.
    logging.getLogger("ZODB.FileStorage").setLevel(logging.ERROR)
    try:
        with library_in(Path(options.database)) as library:
            return options.answer(library, options, out)
    except Trouble as trouble:
        print(f"library: {trouble}", file=sys.stderr)
        return MISTAKE


def parser():
    parser = argparse.ArgumentParser(
        prog="python -m library", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    where = dict(metavar="FILE", help="the Data.fs of the application (var/Data.fs)")
    parser.add_argument("--database", default="var/Data.fs", **where)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, answer, text in [
            ("search", search, "files that have these words"),
            ("report", report, "totals of what is indexed"),
            ("verify", verify, "compare the index with a count made without it")]:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(answer=answer)
        # bin/py takes what stands before the command for its own options.
        command.add_argument("--database", default=argparse.SUPPRESS, **where)
        command.add_argument("--json", action="store_true", help="for programs")
        if name == "search":
            command.add_argument("words", nargs="+")
            command.add_argument("--limit", type=int, default=10, metavar="N",
                                 help="how many files are shown (10)")
    return parser


@contextmanager
def library_in(path: Path):
    """The library of a database that another process may be writing to."""
    if not path.exists():
        raise Trouble(f"there is no database {path}. Start the application first "
                      "(remotetask run), or say where it is: --database FILE")
    try:
        db = ZODB.DB(FileStorage(str(path), read_only=True))
    except Exception as error:
        raise Trouble(f"{path} cannot be read: {error}") from error
    try:
        with db.transaction() as connection:
            library = application(connection).get(tasks.NAME)
            if library is None:
                raise Trouble(f"{path} has no library in it; the application makes "
                              "one when it starts for the first time")
            yield library
    finally:
        db.close()


def search(library, options, out) -> int:
    """Show the files in which the words were found, the best first."""
    try:
        answers, number = library.search(" ".join(options.words), max(options.limit, 0))
    except (ParseError, QueryError) as error:
        raise Trouble(f"cannot search for that: {error}") from error
    if options.json:
        _as_json(out, found=number, waiting=library.counts()["waiting"], answers=[
            dict(answer._asdict(), definitions=[
                definition._asdict() for definition in answer.definitions])
            for answer in answers])
        return 0
    for answer in answers:
        print(f"{answer.path}   {answer.summary}".rstrip(), file=out)
        for kind, name, line in answer.definitions:
            print(f"    {kind} {name}, line {line}", file=out)
    print(_how_many(number, len(answers), library.counts()["waiting"]), file=out)
    return 0


def _how_many(number, shown, waiting):
    text = plural(number, "file")
    if shown < number:
        text += f", the best {shown} of them shown"
    if waiting:
        text += f"; {waiting:,} are still to be indexed"
    return text


def report(library, options, out) -> int:
    """Show the totals, and the files that could not be understood."""
    last, counts = library.reporting.last, library.counts()
    trouble = {entry.path: entry.trouble for entry in library.files.values()
               if entry.trouble}
    if options.json:
        _as_json(out, counts=counts, report=last, trouble=trouble)
        return 0
    if last is not None:
        print(closing(last), file=out)
    if last is None or counts["waiting"]:
        print(f"{counts['known'] - counts['waiting']:,} of {counts['known']:,} files "
              "are indexed", file=out)
    for path, text in trouble.items():
        print(f"{path}: {text}", file=out)
    return 0


def verify(library, options, out) -> int:
    """Count everything anew, without service and index, and show what differs."""
    differences = recount.compare(library)
    if options.json:
        _as_json(out, files=len(library.files), differences=differences)
    elif differences:
        print("\n".join(differences), file=out)
    else:
        print(f"{plural(len(library.files), 'file')}, "
              f"{plural(library.words.wordCount(), 'word')}: the index is exact", file=out)
    return DIFFERENT if differences else 0


def _as_json(out, **facts):
    json.dump(facts, out, indent=2, default=str)
    out.write("\n")


if __name__ == "__main__":
    sys.exit(main())
