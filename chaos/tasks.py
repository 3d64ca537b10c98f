"""What the workers run: tasks with quantities that no fault may change.

    ledger
        accounts   {number: {balance, moves}}: the balances add up to nought
        effects    [{job: how often it took effect}], spread so that few meet
        counter    {value}: one object that every job of `chaos.count` writes

A transfer takes from one account, rests, gives to another and notes its effect:
half of it would unbalance the accounts, twice would be counted twice.
"""
import os
import time

from BTrees.LLBTree import LLBTree
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

from chaos import deaths, points
from lovely.remotetask.task import task

ACCOUNTS = 48
SHARDS = 16


def make_ledger(root):
    root["ledger"] = PersistentMapping(
        accounts=PersistentMapping({
            number: PersistentMapping(balance=0, moves=0) for number in range(ACCOUNTS)}),
        effects=PersistentList([LLBTree() for _ in range(SHARDS)]),
        counter=PersistentMapping(value=0))


def tell(*words):
    """Write a line at once, whole among those of other threads."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def take_effect(context):
    ledger = context.service._p_jar.root()["ledger"]
    effects = ledger["effects"][context.jobid % SHARDS]
    effects[context.jobid] = effects.get(context.jobid, 0) + 1
    return ledger


def move(ledger, number, amount):
    account = ledger["accounts"][number]
    account["balance"] += amount
    account["moves"] += 1


@task("chaos.transfer", wantsContext=True)
def transfer(input, context):
    """Move an amount between two accounts; `seconds` is the rest in between."""
    points.reach("started")
    ledger = take_effect(context)
    move(ledger, input["from"], -input["amount"])
    if input.get("seconds"):
        context.wait(input["seconds"])
    points.reach("midway")
    points.mark_commit(context.service._p_jar.transaction_manager)
    move(ledger, input["to"], input["amount"])


@task("chaos.hold", wantsContext=True)
def hold(input, context):
    """At first stay in hand until the process dies; later take effect at once."""
    tell("begins" if context.attempt > 1 else "holds", context.jobid, time.monotonic())
    while context.attempt == 1 and not context.wait(60):
        pass
    take_effect(context)


@task("chaos.nap", wantsContext=True)
def nap(input, context):
    """Take effect, and rest so many seconds, whatever asks it to stop."""
    take_effect(context)
    tell("naps", context.jobid, time.monotonic())
    time.sleep(input)


@task("chaos.count", wantsContext=True)
def count(input, context):
    """Add one to what all others write too."""
    counter = take_effect(context)["counter"]
    value = counter["value"]
    context.wait(input or 0)
    counter["value"] = value + 1


@task("chaos.nothing", wantsContext=True)
def nothing(input, context):
    """Only take effect."""
    take_effect(context)


CAP = 2            # of `chaos.capped`, in all processes together
RATE = 20, 2.0     # of `chaos.rated`: starts in so many seconds


@task("chaos.capped", wantsContext=True, concurrency=CAP)
def capped(input, context):
    """One of few at a time, of all and of those with its lock: tell when it ran."""
    tell("in", context.jobid, "capped", input or "none", time.monotonic())
    take_effect(context)
    context.wait(0.01)
    tell("out", context.jobid, time.monotonic())


@task("chaos.locked", wantsContext=True)
def locked(input, context):
    """The only one with its lock: tell when it ran."""
    tell("in", context.jobid, "locked", input, time.monotonic())
    take_effect(context)
    context.wait(0.01)
    tell("out", context.jobid, time.monotonic())


@task("chaos.rated", wantsContext=True, rate=RATE)
def rated(input, context):
    tell("in", context.jobid, "rated", "none", time.monotonic())
    take_effect(context)


@task("chaos.tick", wantsContext=True)
def tick(input, context):
    """Say that the work goes on."""
    tell("ticks", context.jobid)
    take_effect(context)


@task("chaos.fail", wantsContext=True, retries=0)
def fail(input, context):
    """Fail, until it was retried by hand."""
    if context.service.jobs[context.jobid].reason != "by hand":
        raise ValueError("not yet")
    take_effect(context)


@task("chaos.pill", wantsContext=True)
def pill(input, context):
    """Take the process down in the way that the input names."""
    tell("dies", context.jobid, input)
    take_effect(context)
    deaths.KINDS[input]()


@task("chaos.hang", wantsContext=True)
def hang(input, context):
    """Stay in code that knows of no stop."""
    take_effect(context)
    tell("hangs", context.jobid, input)
    deaths.HANGS[input]()


@task("chaos.read", wantsContext=True)
def read(input, context):
    """Read one account, rest, then read another: a pack may come in between."""
    ledger = take_effect(context)
    before = ledger["accounts"][input["from"]]["moves"]
    tell("reads", context.jobid, time.monotonic())
    context.service._p_jar.cacheMinimize()
    context.wait(input["seconds"])
    return before + ledger["accounts"][input["to"]]["moves"]
