"""What is shown: JSON for programs, tables and lines for people.

User text cannot break the terminal: what cannot be printed is shown escaped.
"""
import json
import shutil
import sys
import time
import unicodedata

WIDTH = 80
BAR = 30
BAR_SECONDS = 0.1   # between two pictures of a bar
SHORTEST = 6
LONGEST = 2_000     # characters of a text that are shown


class Output:
    """Where the answers of one command go."""

    def __init__(self, as_json: bool = False, stream=None, errors=None):
        self.as_json = as_json
        self.stream = stream or sys.stdout
        self.errors = errors or sys.stderr

    def give(self, data, lines=None) -> None:
        """*data* for programs; else the lines that *lines* makes of it."""
        if self.as_json:
            self.line(json.dumps(data, indent=2))
        elif lines is not None:
            for line in lines(data):
                self.line(line)

    def line(self, text="") -> None:
        print(text, file=self.stream)

    def note(self, text) -> None:
        """For the one who watches; not part of the answer."""
        if not self.as_json and self.errors.isatty():
            print(text, file=self.errors, flush=True)

    def complain(self, text) -> None:
        # Its lines are ours, what users have put into them is not.
        for line in str(text).splitlines() or [""]:
            print(f"remotetask: {safe(line)}", file=self.errors, flush=True)

    def bar(self, label) -> "Bar":
        return Bar(label, self.errors)

    @property
    def width(self) -> int:
        return max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) \
            if self.stream.isatty() else WIDTH


def text(value, limit: int = LONGEST) -> str:
    """A value of an answer, on one line."""
    if value is None:
        return ""
    return safe(value if isinstance(value, str)
                else json.dumps(value, ensure_ascii=False), limit)


def safe(words: str, limit: int = LONGEST) -> str:
    """Text of users on one line, bounded, without what a terminal would obey."""
    if len(words) > limit:
        words = words[:limit] + "..."
    if words.isprintable():
        return words
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def block(value) -> list[str]:
    """A text of many lines, each of them safe."""
    return [safe(line) for line in (value or "").splitlines()]


def number(count: int, word: str, many: str = "") -> str:
    """'1 job', '2 jobs'."""
    return f"{count:,} {word if count == 1 else many or word + 's'}"


def wide(words: str) -> int:
    """How many columns of a terminal a text takes."""
    if words.isascii():
        return len(words)
    return sum(0 if unicodedata.combining(c)
               else 1 + (unicodedata.east_asian_width(c) in "WF") for c in words)


def table(headers, rows, width: int = WIDTH) -> list[str]:
    """Aligned columns; where they do not fit, the last ones are shortened."""
    rows = [[text(cell) for cell in row] for row in rows]
    widths = [max(map(wide, column)) for column in zip(headers, *rows)]
    surplus = sum(widths) + 2 * (len(widths) - 1) - width
    for number in reversed(range(1, len(widths))):
        cut = max(0, min(surplus, widths[number] - max(SHORTEST, len(headers[number]))))
        widths[number] -= cut
        surplus -= cut
    return ["  ".join(_fit(*pair) for pair in zip(row, widths)).rstrip()
            for row in (headers, *rows)]


def _fit(cell: str, width: int) -> str:
    if wide(cell) > width:
        while wide(cell) > width - 3:
            cell = cell[:-1]
        cell += "..."
    return cell + " " * (width - wide(cell))


def pairs(facts) -> list[str]:
    """'Name  value' lines; what has no value is left out."""
    shown = [(name, value) for name, value in facts if value not in (None, "", [])]
    longest = max((len(name) for name, _ in shown), default=0)
    return [f"{name.ljust(longest)}  {value}" for name, value in shown]


class Bar:
    """A line that grows, on a terminal; nothing elsewhere."""

    def __init__(self, label, stream):
        self.label, self.stream = label, stream
        self.shown = stream.isatty()
        self.last = 0.0
        self.wide = 0

    def __enter__(self):
        return self

    def __call__(self, done, total, message="") -> None:
        now = time.monotonic()
        if not self.shown or now - self.last < BAR_SECONDS:
            return
        self.last = now
        words = self.label, self._picture(done, total), safe(message, 30)
        line = " ".join(filter(None, words))[:WIDTH - 1]
        self.stream.write(f"\r{line.ljust(self.wide)}")
        self.stream.flush()
        self.wide = len(line)

    def _picture(self, done, total) -> str:
        if not total:
            return f"{done:,}" if done else ""
        full = int(BAR * min(done, total) / total)
        return f"[{'#' * full:{BAR}}] {done:,} of {total:,}"

    def __exit__(self, *error):
        if self.wide:
            self.stream.write(f"\r{' ' * self.wide}\r")
            self.stream.flush()
