"""Short lines for the terminal: what the one who watches wants to see at once."""
import logging

from lovely.remotetask.failure import in_log

#: Loggers whose news is shown too; of all others only what is wrong.
SHOWN = {"lovely.remotetask", "lovely.remotetask.app"}


class Terminal(logging.StreamHandler):
    """Time and the first line of the text; all else is in the log file."""

    def __init__(self, stream=None):
        super().__init__(stream)
        self.setFormatter(Line("%(asctime)s %(mark)s%(text)s", "%H:%M:%S"))
        self.addFilter(is_shown)


class Line(logging.Formatter):

    def format(self, record):
        record.asctime = self.formatTime(record, self.datefmt)
        warned = record.levelno >= logging.WARNING
        record.mark = f"{record.levelname}: " if warned else ""
        lines = record.getMessage().strip().splitlines()
        record.text = in_log(lines[0] if lines else "", limit=500)
        return self.formatMessage(record)


def is_shown(record):
    return record.levelno >= logging.WARNING or record.name in SHOWN
