"""Requests that say what is wrong with them, instead of falling over it.

They take the place of zope.publisher's own in an application that includes
requests.zcml, ours does.  A query like `?x:int=a`, or a path that is no UTF-8, is the
fault of who asks: 400, not 500.  The body of an XML-RPC call is looked at when it is
known who calls and whom, by a reader of our own.
"""
import re

from zope.authentication.interfaces import IUnauthenticatedPrincipal
from zope.publisher import browser, http, xmlrpc
from zope.security.interfaces import Unauthorized

from lovely.remotetask.guard.body import BODY_LIMIT, DIGITS, read_body, require_type
from lovely.remotetask.guard.call import read_call
from lovely.remotetask.guard.origin import require_own_site
from lovely.remotetask.guard.refusals import BadRequest, Refusal, TooLarge

FORM_LIMIT = 1_048_576     # bytes of a form, as it is read before anybody is known
UPLOAD_LIMIT = 10_485_760  # bytes of a form with files

HOST = re.compile(r"[A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
CONTROL = re.compile("[\x00-\x1f\x7f]")
PLAIN = ("REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL",
         "SERVER_SOFTWARE", "wsgi.url_scheme", "wsgi.input", "wsgi.errors",
         "wsgi.version", "HTTP_AUTHORIZATION")


class Checked:
    """Mixed into a request of zope.publisher."""

    body_limit = UPLOAD_LIMIT
    trouble: Refusal | None = None

    def __init__(self, body_instream, environ, response=None):
        trouble = trouble_with(environ, self.limit_of(environ))
        if trouble is None:
            try:
                super().__init__(body_instream, environ, response)
                return
            except Exception as error:  # of header lines that mean nothing
                trouble = BadRequest(f"the request cannot be read: {error}")
        plain = {name: environ[name] for name in PLAIN if name in environ}
        super().__init__(body_instream, {**plain, "PATH_INFO": "/"}, response)
        self.trouble = trouble

    def limit_of(self, environ):
        return self.body_limit

    def processInputs(self):
        """See IPublisherRequest"""
        if self.trouble is not None:
            raise self.trouble
        try:
            super().processInputs()
        except Refusal:
            raise
        except Exception as error:  # there is nothing here yet but what was sent
            raise BadRequest(f"the form or query cannot be read: {error}") from error


def trouble_with(environ, limit: int) -> Refusal | None:
    """What is wrong with a request before it is read, or None."""
    path = environ.get("PATH_INFO", "")
    try:
        path = (path if isinstance(path, bytes) else path.encode("latin-1")).decode()
    except UnicodeError:
        return BadRequest("the path is not UTF-8")
    if CONTROL.search(path):
        return BadRequest("a control character in the path")
    if not HOST.fullmatch(environ.get("HTTP_HOST", "")):
        return BadRequest("the Host header names no host")
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        return BadRequest("the length of the body is no number")
    if len(length) > DIGITS or int(length) > limit:
        return TooLarge(f"more than {limit:,} bytes are not read")
    return None


class BrowserRequest(Checked, browser.BrowserRequest):
    """A request of a browser."""

    def limit_of(self, environ):
        """A form with files may be larger: it is not taken apart byte by byte."""
        kind = environ.get("CONTENT_TYPE", "").lower()
        return UPLOAD_LIMIT if kind.startswith("multipart/") else FORM_LIMIT


class HTTPRequest(Checked, http.HTTPRequest):
    """A request by another method than a browser's."""


class XMLRPCRequest(Checked, xmlrpc.XMLRPCRequest):
    """A call, which is read once it has come to the object that it calls.

    Who is not logged in is told so, and nothing is read.  An application that has
    something to say to everybody sets `anonymous`.
    """

    body_limit = BODY_LIMIT
    anonymous = False

    def processInputs(self):
        """See IPublisherRequest: nothing is read here."""
        if self.trouble is not None:
            raise self.trouble

    def traverse(self, object):
        """See IPublisherRequest"""
        found = super().traverse(object)
        if not self.anonymous and (
                self.principal is None
                or IUnauthenticatedPrincipal.providedBy(self.principal)):
            raise Unauthorized("log in to call anything here")
        require_own_site(self)
        require_type(self, "text/xml")
        self._args, names = read_call(read_body(self, self.body_limit))
        self.setTraversalStack(names[::-1])
        return super().traverse(found)
