"""An XML-RPC call, read in time that grows with its length and no faster.

The body is taken as one piece, where the reader of zope.publisher adds line to line:
one MiB of lines of two bytes took it 6.4 s.  Nothing is declared in it (DTD, entities),
and it is given up as soon as it is too deep or has too many parts.
"""
import re
from typing import Any
from xml.parsers import expat
from xmlrpc.client import Fault, ResponseError, Unmarshaller

from lovely.remotetask.guard.body import (
    DEPTH_LIMIT, DIGITS, NODE_LIMIT, check)
from lovely.remotetask.guard.refusals import BadRequest

ELEMENTS = 4 * NODE_LIMIT          # a value is two or three elements
NESTED = 4 * DEPTH_LIMIT           # an array in an array is three, and a struct four
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}(\.[A-Za-z_][A-Za-z0-9_]{0,99}){0,9}")


class _Values(Unmarshaller):
    """Makes the values, and no number that is longer than numbers are."""

    dispatch: dict[str, Any] = dict(Unmarshaller.dispatch)

    def whole(self, data):
        if len(data) > DIGITS:
            raise ValueError("a whole number of more than 64 bits")
        self.end_int(data)

    for kind in "i1 i2 i4 i8 int biginteger".split():
        dispatch[kind] = whole
    for kind in "bigdecimal", "fault":
        dispatch.pop(kind, None)


class _Reader:

    def __init__(self) -> None:
        self.values = _Values(use_builtin_types=True)
        self.values.xml("", None)  # expat gives text, not bytes
        self.elements = self.depth = 0
        parser = self.parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.values.data
        parser.StartDoctypeDeclHandler = self.refuse
        parser.EntityDeclHandler = self.refuse
        parser.UnparsedEntityDeclHandler = self.refuse
        parser.ExternalEntityRefHandler = self.refuse

    def start(self, tag, attributes):
        self.elements += 1
        self.depth += 1
        if self.elements > ELEMENTS or self.depth > NESTED:
            raise BadRequest("the call has too many parts, or is nested too deeply")
        self.values.start(tag, attributes)

    def end(self, tag):
        self.depth -= 1
        self.values.end(tag)

    def refuse(self, *told):
        raise BadRequest("the call declares something: that is not read")


def read_call(body: bytes) -> tuple[tuple, list[str]]:
    """The arguments, and the name of the method in parts.  Raises BadRequest."""
    reader = _Reader()
    try:
        reader.parser.Parse(body, True)
        arguments = reader.values.close()
        method = reader.values.getmethodname()
    except BadRequest:
        raise
    except (expat.ExpatError, ResponseError, Fault, ValueError, TypeError, KeyError,
            IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BadRequest(f"the body is no call: {type(error).__name__}: {error}") from None
    if not isinstance(method, str) or not NAME.fullmatch(method):
        raise BadRequest("the call names no method")
    check(list(arguments))
    return arguments, method.split(".")
