"""What can stand in the way of a start, and how it is said."""
from lovely.remotetask.errors import RemoteTaskError


class CannotStart(RemoteTaskError):
    """The application cannot start; its text says what to do about it.

    `exit_code` is 1 for what stands in the way, 2 for a mistake in a file or
    an option.
    """

    def __init__(self, text: str, exit_code: int = 1):
        self.exit_code = exit_code
        super().__init__(text)
