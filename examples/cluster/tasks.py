"""The task: count the primes of a range, and keep the count."""
import os

from BTrees.Length import Length
from BTrees.OOBTree import OOBTree

from lovely.remotetask.app.first import add_service
from lovely.remotetask.startup import application

NAME = "cluster"  # of the service, and of the counts in the root
TASK = "cluster.primes"
STEP, RANGES = 10_000, 200


def primes(input, context):
    """input: [first, last].  The number of primes among them, also kept in the root.

    Counts that several workers write at once resolve their conflicts (Length), and
    each worker has a count of its own: no job is repeated for them.
    """
    first, last = input
    found = sum(map(is_prime, range(first, last + 1)))
    counts = counts_of(context.service)
    counts["primes"].change(found)
    worker = f"process {os.getpid()}"
    if worker not in counts["workers"]:
        counts["workers"][worker] = Length()
    counts["workers"][worker].change(1)
    return found


def is_prime(number):
    return number > 1 and all(number % each for each in range(2, int(number**0.5) + 1))


def counts_of(service):
    return application(service._p_jar)[NAME]


def at_first_start(event):
    """Make the service and a job for each ten thousand numbers up to two million."""
    root = event.root
    if NAME in root:
        return
    counts = root[NAME] = OOBTree()
    counts["primes"], counts["workers"] = Length(), OOBTree()
    add_service(root, NAME).addMany(TASK, [
        [1 + number * STEP, (number + 1) * STEP] for number in range(RANGES)])
