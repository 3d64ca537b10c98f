"""python -m lovely.remotetask.generations [--dry-run] WHERE"""
import argparse
import logging
import sys

from lovely.remotetask.cli import databases
from lovely.remotetask.cli.problems import Problem
from lovely.remotetask.generations import upgrade_database

PROGRAM = "python -m lovely.remotetask.generations"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Bring the services of release 0.5 into today's shape. It can be "
        "interrupted and called again; without it, each service is upgraded when it "
        "is first written to.")
    parser.add_argument("uri", metavar="WHERE", help=(
        "the database: directory, zope.conf, Data.fs or URI (file:// zeo:// ...)"))
    parser.add_argument("-n", "--dry-run", action="store_true",
                        help="write nothing, tell what would be done")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        database = databases.find(options.uri)
        db = database.open_to_read() if options.dry_run else database.open()
    except Problem as problem:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
        return problem.exit_code
    try:
        reports = upgrade_database(db, dry_run=options.dry_run)
    finally:
        database.close(db)
    print("\n".join(map(str, reports)) or "nothing to do: no service of release 0.5 here")
    return 0


if __name__ == "__main__":
    sys.exit(main())
