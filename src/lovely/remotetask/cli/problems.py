"""What can go wrong at the command line, and the exit code that says so.

    0  done                        3    the database cannot be opened, or has gone
    1  what was asked for failed   4    waited in vain
    2  wrong usage or value        130  interrupted
"""
from lovely.remotetask.errors import IllegalMove, RemoteTaskError

DONE, FAILED, USAGE, DATABASE, IN_VAIN = range(5)
INTERRUPTED = 130


class Problem(RemoteTaskError):
    """Something that a user can put right: one clear text, no traceback."""

    exit_code = USAGE


class BadArgument(Problem):
    """A word on the command line means nothing."""


class NoSuchService(Problem):
    """There is no such service, or more than one."""


class BadRequest(Problem):
    """A request that this version does not understand."""


class NoDatabase(Problem):
    """There is no database, or it cannot be opened."""

    exit_code = DATABASE


class Busy(NoDatabase):
    """Somebody else has the database and takes no commands."""


class Gone(NoDatabase):
    """The process that was asked has gone before it answered."""


class Refused(Problem):
    """The process that was asked says no: *kind* is the name of its error."""

    def __init__(self, kind: str, text: str):
        self.kind, self.exit_code = kind, code_of(kind)
        super().__init__(text)


# The answer was understood, and it is no.
FAILURES = {"IllegalMove", "LimitReached", "Internal", "Conflict"}
CODES = {kind.__name__: kind.exit_code for kind in (NoDatabase, Busy, Gone)}


def code_of(kind: str) -> int:
    """The exit code for an error of that name."""
    return FAILED if kind in FAILURES else CODES.get(kind, USAGE)


def kind_of(error: Exception) -> str:
    if isinstance(error, IllegalMove):  # of any kind: programs know it by this name
        return IllegalMove.__name__
    return getattr(error, "kind", None) or type(error).__name__
