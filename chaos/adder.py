"""A process that adds jobs, each in a commit of its own, and tells of each.

    python -m chaos.adder WHERE SEED
"""
import random
import sys

import transaction
from transaction.interfaces import TransientError

from chaos import tasks
from lovely.remotetask.cli import databases


def main(where, seed):
    chance = random.Random(int(seed))
    database = databases.find(where)
    database.configure(modules=["chaos.tasks"])
    connection = database.open().open(transaction.manager)
    service = connection.root()["tasks"]
    tasks.tell("adding")
    while True:
        giver, taker = chance.sample(range(tasks.ACCOUNTS), 2)
        transaction.begin()
        id = service.add("chaos.transfer", {
            "from": giver, "to": taker, "amount": chance.randrange(1, 100)})
        try:
            transaction.commit()
        except TransientError:
            transaction.abort()
        else:
            tasks.tell("added", id)


if __name__ == "__main__":
    main(*sys.argv[1:])
