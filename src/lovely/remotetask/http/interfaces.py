"""What the parts of this room are to each other and to the web server."""
from zope.interface import Attribute, Interface
from zope.publisher.interfaces.browser import IBrowserPublisher


class IApi(IBrowserPublisher):
    """The JSON interface of one service, at some path below it."""

    def __call__():
        """Answer the request."""


class IApiRequest(Interface):
    """Marks a request that has come to the JSON interface: errors are told as JSON."""


class IXMLRPCCall(Interface):
    """Marks an XML-RPC request that has come to a service: faults are ours."""


class ILine(Interface):
    """A connection that stays open after its request was answered: what a web
    server that can keep one without a thread gives to a stream."""

    open = Attribute("False once the client has gone or the line was closed.")

    def write(data):
        """Send bytes, without ever waiting.  False when the line is gone or clogged."""

    def close():
        """End the answer, once all is sent."""


class IStream(Interface):
    """The body of an answer that goes on: iterating over it waits in between.

    A web server that has a better way than a waiting thread calls `feed` instead.
    """

    def feed(line):
        """Send to an ILine from now on; returns at once."""
