"""What is refused, and how it is said in HTTP."""
from zope.interface import Attribute, Interface, implementer

from lovely.remotetask.errors import RemoteTaskError


class IRefusal(Interface):
    """A request that is not answered as it was meant."""

    status = Attribute("HTTP status, a number.")
    title = Attribute("The condition in a few words, the same for every case.")
    headers = Attribute("Dictionary of headers that the answer needs.")


@implementer(IRefusal)
class Refusal(RemoteTaskError):
    """See IRefusal.  The text of the error says what, and what would be right."""

    status = 400
    title = "Bad Request"
    headers: dict[str, str] = {}


class BadRequest(Refusal, ValueError):
    """It cannot be read, or what it says cannot be."""


class ForeignSite(Refusal):
    """A change that another site has made the browser ask for."""

    status = 403
    title = "Forbidden"


class MethodNotAllowed(Refusal):
    """A page that changes something, asked for by a method that must not."""

    status = 405
    title = "Method Not Allowed"

    def __init__(self, method, allowed):
        self.headers = {"Allow": ", ".join(allowed)}
        super().__init__(f"{method} is not for this; {' or '.join(allowed)} is")


class TooLarge(Refusal):
    """More bytes than are read."""

    status = 413
    title = "Content Too Large"


class TooLong(Refusal):
    """A longer address than is read."""

    status = 414
    title = "URI Too Long"


class WrongContentType(Refusal):
    """A body of a kind that is not taken here."""

    status = 415
    title = "Unsupported Media Type"


class TooManyJobs(Refusal):
    """As many jobs wait already as may, of this principal or in all."""

    status = 429
    title = "Too Many Requests"

    def __init__(self, text, retry_after_seconds):
        self.headers = {"Retry-After": str(retry_after_seconds)}
        super().__init__(text)
