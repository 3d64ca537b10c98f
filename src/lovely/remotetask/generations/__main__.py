"""python -m lovely.remotetask.generations [--dry-run] URI"""
import argparse
import logging

import zodburi
from ZODB.DB import DB

from lovely.remotetask.generations import upgrade_database


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lovely.remotetask.generations",
        description="Bring the services of release 0.5 into today's shape. It can be "
        "interrupted and called again; without it, each service is upgraded when it "
        "is first written to.")
    parser.add_argument("uri", help="the database: file:///path/to/Data.fs, zeo://...")
    parser.add_argument("-n", "--dry-run", action="store_true",
                        help="write nothing, tell what would be done")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(message)s")
    factory, settings = zodburi.resolve_uri(options.uri)
    db = DB(factory(), **settings)
    try:
        for report in upgrade_database(db, dry_run=options.dry_run):
            print(report)
    finally:
        db.close()


if __name__ == "__main__":
    main()
