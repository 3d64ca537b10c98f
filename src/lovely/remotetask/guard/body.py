"""The body of a request: read up to a limit, and JSON in which nothing hides."""
import json
import math
import re

from lovely.remotetask.guard.refusals import BadRequest, TooLarge, WrongContentType

BODY_LIMIT = 1_048_576     # bytes
DEPTH_LIMIT = 50
NODE_LIMIT = 10_000
TEXT_LIMIT = 262_144       # characters of one string
INTEGERS = range(-2**63, 2**63)
DIGITS = 20                # of a whole number; more are not even made into one
UNCLEAN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
BRACKET = re.compile(r"[\[\]{}]")


def read_body(request, limit: int = BODY_LIMIT) -> bytes:
    """The body.  Raises TooLarge, before it is read where its length is told."""
    length = request.getHeader("Content-Length", "") or ""
    if length.isascii() and length.isdigit() and int(length[:DIGITS]) > limit:
        raise TooLarge(f"more than {limit:,} bytes are not read")
    stream = request.bodyStream
    stream.read(limit + 1)  # into its cache, where a form may have been read before
    stream.cacheStream.seek(0)
    body = stream.cacheStream.read()
    if len(body) > limit:
        raise TooLarge(f"more than {limit:,} bytes are not read")
    return body


def require_type(request, *kinds) -> None:
    """Raise WrongContentType unless the body is said to be one of these."""
    given = request.getHeader("Content-Type", "") or ""
    if given.partition(";")[0].strip().lower() not in kinds:
        raise WrongContentType(
            f"the body must be {' or '.join(kinds)}, not {given[:100]!r}")


def json_body(request, limit: int = BODY_LIMIT):
    """The value that a JSON body says.  Raises WrongContentType, TooLarge, BadRequest."""
    require_type(request, "application/json")
    return json_value(read_body(request, limit))


def json_value(body: bytes):
    """The value of JSON text.  Raises BadRequest for what means nothing or too much:
    see the limits above; also NaN, a key given twice, lone surrogates, control
    characters."""
    try:
        text = body.decode("utf-8")
        _check_depth(text)
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number,
                           parse_int=_integer, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON that is taken: {error}") from None
    check(value)
    return value


def check(value) -> None:
    """Raise BadRequest for a plain value that is too deep, too large or unclean."""
    nodes, todo = 0, [(value, 1)]
    while todo:
        node, depth = todo.pop()
        nodes += 1
        if nodes + len(todo) > NODE_LIMIT:
            raise BadRequest(f"more than {NODE_LIMIT:,} values")
        if depth > DEPTH_LIMIT:
            raise BadRequest(f"nested deeper than {DEPTH_LIMIT}")
        if isinstance(node, str):
            check_text(node)
        elif isinstance(node, dict):
            todo.extend((each, depth + 1) for pair in node.items() for each in pair)
        elif isinstance(node, (list, tuple)):
            todo.extend((each, depth + 1) for each in node)
        elif isinstance(node, int) and node not in INTEGERS:
            raise BadRequest("a whole number of more than 64 bits")
        elif isinstance(node, float) and not math.isfinite(node):
            raise BadRequest("a number that is none, or endless")


def check_text(text: str) -> None:
    if len(text) > TEXT_LIMIT:
        raise BadRequest(f"a text of more than {TEXT_LIMIT:,} characters")
    if UNCLEAN.search(text):
        raise BadRequest("a control character or half a surrogate pair in a text")


def _check_depth(text):
    """Before parsing, which recurses."""
    depth = 0
    for number, found in enumerate(BRACKET.finditer(STRING.sub("", text))):
        depth += 1 if found[0] in "[{" else -1
        if depth > DEPTH_LIMIT:
            raise ValueError(f"nested deeper than {DEPTH_LIMIT}")
        if number > 2 * NODE_LIMIT:
            raise ValueError(f"more than {NODE_LIMIT:,} values")


def _object(pairs):
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice in one object")
    return made


def _no_number(word):
    raise ValueError(f"{word} is no number")


def _integer(digits):
    if len(digits) > DIGITS:
        raise ValueError("a whole number of more than 64 bits")
    return int(digits)


def _number(digits):
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number that is endless")
    return value
