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
from lovely.remotetask.guard.refusals import BadRequest, Refusal, TooLarge, TooLong

FORM_LIMIT = 262_144       # bytes of a form: 1 MiB of '%41' took 107 ms to be read
UPLOAD_LIMIT = 10_485_760  # bytes of a form with files

QUERY_LIMIT = 16_384       # characters; 60,000 of 'a=&' took 50 ms to be read

HOST = re.compile(r"[A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
VIRTUAL = re.compile(r"\+\+vh\+\+https?:[^:/]+:[0-9]{1,5}")
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
    if not are_in_place(path.split("/")):
        return BadRequest("a virtual host or a skin where none can be named")
    if not HOST.fullmatch(environ.get("HTTP_HOST", "")):
        return BadRequest("the Host header names no host")
    if len(environ.get("QUERY_STRING", "")) > QUERY_LIMIT:
        return TooLong(f"more than {QUERY_LIMIT:,} characters of a query are not read")
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        return BadRequest("the length of the body is no number")
    if len(length) > DIGITS or int(length) > limit:
        return TooLarge(f"more than {limit:,} bytes are not read")
    return None


def are_in_place(names) -> bool:
    """Whether ++vh++ and ++skin++ stand where they mean something: else whoever
    traverses them raises what nobody catches."""
    names = [name for name in names if name]
    hosts = [n for n, name in enumerate(names) if name.startswith("++vh++")]
    if hosts:
        if len(hosts) > 1 or not VIRTUAL.fullmatch(names[hosts[0]]) \
                or "++" not in names[hosts[0]:]:
            return False
        names = names[names.index("++", hosts[0]) + 1:]
    return not any(name.startswith("++skin++") for name in names[1:])


class BrowserRequest(Checked, browser.BrowserRequest):
    """A request of a browser."""

    def limit_of(self, environ):
        """A form with files may be larger: it is not taken apart byte by byte."""
        kind = environ.get("CONTENT_TYPE", "").lower()
        return UPLOAD_LIMIT if kind.startswith("multipart/") else FORM_LIMIT


class HTTPResponse(http.HTTPResponse):
    """An answer that has a type, also where whoever made it has named none."""

    def _implicitResult(self, body):
        if not self.getHeader("Content-Type"):
            self.setHeader("Content-Type", "text/plain;charset=utf-8")
        return super()._implicitResult(body)


class HTTPRequest(Checked, http.HTTPRequest):
    """A request by another method than a browser's."""

    def _createResponse(self):
        return HTTPResponse()


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
