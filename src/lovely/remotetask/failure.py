"""An error as text that can be stored and shown.

Exception objects are never stored: some pickle well and cannot be read back,
and then their job can never be read again.
"""
import traceback
from collections.abc import Collection
from dataclasses import dataclass

from lovely.remotetask.lines import Written

HIDDEN = "********"
TEXT_LIMIT = 10_000        # characters of the error's own text
TRACEBACK_LIMIT = 50_000   # characters of its traceback; the end is kept


@dataclass(frozen=True)
class Failure:
    """What is kept of an exception: three texts, and what was logged before it."""

    kind: str
    text: str
    traceback: str = ""
    written: Written | None = None

    @classmethod
    def of(cls, error: BaseException, written: Written | None = None,
           secrets: Collection[str] = ()) -> "Failure":
        """secrets: texts that must not stand in any of it."""
        if written is not None and secrets:
            written = written._replace(lines=tuple(
                line._replace(text=without(line.text, secrets)) for line in written.lines))
        return cls(type(error).__name__, without(text_of(error), secrets),
                   without(traceback_of(error), secrets), written)


def without(text: str, secrets: Collection[str]) -> str:
    """A text in which no secret stands."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def text_of(error: BaseException) -> str:
    """The text of an error; never raises, never empty, always storable."""
    try:
        text = str.__str__(str(error))
    except BaseException:
        text = "(its text cannot be made)"
    return clean(text[:TEXT_LIMIT] or type(error).__name__)[:TEXT_LIMIT] or "(no text)"


def traceback_of(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error)
    except BaseException:  # RecursionError, or a __str__ that raises
        try:
            lines = traceback.format_tb(error.__traceback__, limit=-20)
            lines.append(f"{type(error).__name__}: {text_of(error)}\n")
        except BaseException:
            return ""
    return clean("".join(lines))[-TRACEBACK_LIMIT:]


def clean(text: str) -> str:
    """Text without lone surrogates and without control characters but tab and newline."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(
        c if c >= " " or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def in_log(text: object, limit: int = 300) -> str:
    """Text of users in a log line: on one line, bounded, nothing to forge with."""
    text = str(text)
    if len(text) > limit:
        text = text[:limit] + "..."
    return text.encode("unicode_escape").decode("ascii") \
        if not text.isprintable() else text


def marked(text: str) -> str:
    """Text of several lines for the log, each marked as one that goes on."""
    return "\n".join(f"  | {in_log(line, 1_000)}" for line in text.splitlines())
