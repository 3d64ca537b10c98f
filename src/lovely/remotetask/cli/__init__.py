"""The command line: `remotetask`.

    arguments ──> commands ──> desk ──> verbs ──> the service
                     │          ├ to read: the database, open beside its writer
                  output        └ to write: through the socket of the process that
                                  has the database, or alone
"""
import logging
import os
import sys

from lovely.remotetask.cli import arguments
from lovely.remotetask.cli.output import Output
from lovely.remotetask.cli.problems import FAILED, INTERRUPTED, code_of, kind_of
from lovely.remotetask.errors import RemoteTaskError
from lovely.remotetask.failure import text_of

__all__ = ["main"]


def main(words=None) -> int:
    """Run one command; its exit code.  *words*: without the name of the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    options = arguments.parse(words)
    out = Output(getattr(options, "json", False))
    _log(options)
    try:
        code = options.command(options, out)
        sys.stdout.flush()
        return code
    except RemoteTaskError as error:
        if options.verbose:
            logging.getLogger(__name__).info("where it came from", exc_info=error)
        out.complain(error)
        return getattr(error, "exit_code", None) or code_of(kind_of(error))
    except KeyboardInterrupt:
        out.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Who read the answer has enough; the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.verbose:
            raise
        out.complain(f"{type(error).__name__}: {text_of(error)}; that should not happen, "
                     "--verbose shows where it did")
        return FAILED


def _log(options) -> None:
    """Nothing of the packages below goes to the terminal, unless it is wanted."""
    root = logging.getLogger()
    if options.verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
    elif not root.handlers:
        root.addHandler(logging.NullHandler())
