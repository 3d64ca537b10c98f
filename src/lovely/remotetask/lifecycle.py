"""Where a job can be, and where it can go from there.

    start later ─┐                        ┌───> completed
        delayed ─┼──> queued ──> processing ──> error ───────┐ retry
           ^     │      ^           │ │   └───> cancelled ───┤
           │     │      └ hand-back ┘ │                      v
           │     └> cancelled         └──> delayed         queued
           └────────── a later attempt ────┘

A cron job rests as `cronjob` and is never processed itself: it fires by making
jobs, its children.  `delayed` is a job with a start time, or one that waits for
its next attempt.  The stored *reason* says which, and why a job ended so.
"""

STARTLATER, DELAYED, CRONJOB = "start later", "delayed", "cronjob"
QUEUED, PROCESSING = "queued", "processing"
COMPLETED, ERROR, CANCELLED = "completed", "error", "cancelled"

STATUSES = (
    STARTLATER, DELAYED, CRONJOB, QUEUED, PROCESSING, COMPLETED, ERROR, CANCELLED)
FINISHED = frozenset({COMPLETED, ERROR, CANCELLED})
WAITING = frozenset({STARTLATER, DELAYED, CRONJOB, QUEUED})

MOVES: dict[str, frozenset[str]] = {
    STARTLATER: frozenset({QUEUED, DELAYED, CANCELLED}),
    DELAYED: frozenset({QUEUED, CRONJOB, CANCELLED}),
    CRONJOB: frozenset({DELAYED, CANCELLED}),
    QUEUED: frozenset({PROCESSING, CANCELLED}),
    PROCESSING: frozenset({COMPLETED, ERROR, CANCELLED, QUEUED, DELAYED}),
    ERROR: frozenset({QUEUED}),
    CANCELLED: frozenset({QUEUED}),
    COMPLETED: frozenset(),
}

# Why a job is where it is, where the status alone does not tell.
RETRY = "retry"              # delayed: the last attempt failed, another follows
HANDED_BACK = "handed back"  # queued: its process stopped before it was done
INTERRUPTED = "interrupted"  # its process died; error: it may run at most once
CRASHED = "crashed"          # error: it took its process down, three times
EXPIRED = "expired"          # cancelled: its start deadline had passed
TIMED_OUT = "timed out"      # error or delayed: it ran past its limit
BY_HAND = "by hand"          # queued: retried; cancelled: somebody cancelled it
REPLACED = "replaced"        # cancelled: another add with the same key took its place
UNDONE = "undone"            # cancelled: what it had changed was taken back
