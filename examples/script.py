"""A whole application: a database, a service, a task, and jobs that run.

    bin/py examples/script.py Data.fs
"""
import sys

import transaction
import ZODB

from lovely.remotetask import TaskService, processor
from lovely.remotetask.task import task
from lovely.remotetask.testing import wait_for_job


@task("greet", retries=2)
def greet(name):
    return f"Hello {name}"


def main(path):
    db = ZODB.DB(path)
    connection = db.open()
    root = connection.root()
    if "tasks" not in root:
        root["tasks"] = TaskService()
        transaction.commit()  # a service must be stored before it can be started
    service = root["tasks"]
    service.startProcessing()
    jobs = service.addMany("greet", ["Ada", "Grace", "Alan"])
    transaction.commit()      # now there is something to do
    for jobid in jobs:
        print(wait_for_job(service, jobid).output)
    processor.stop_all(db)    # waits for what is in hand; then the database may go
    connection.close()
    db.close()


if __name__ == "__main__":
    main(sys.argv[1])
