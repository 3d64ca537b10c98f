"""Shapes of JSON values: JSON Schema as far as we use it, and checks by it.

One description serves both: it is published in the OpenAPI document, and what
comes in is checked by it.
"""
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lovely.remotetask.http.problems import Problem

KINDS: dict[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool)
        or isinstance(value, float) and value.is_integer(),
    "number": lambda value: isinstance(value, (int, float))
        and not isinstance(value, bool) and math.isfinite(value),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def text(limit: int = 200, **more) -> dict:
    return {"type": "string", "maxLength": limit, **more}


def moment(**more) -> dict:
    return {"type": "string", "format": "date-time", **more}


def maybe(shape: dict) -> dict:
    """The same, or null."""
    kind = shape["type"]
    return {**shape, "type": [*([kind] if isinstance(kind, str) else kind), "null"]}


def record(required=(), closed=True, **properties) -> dict:
    """An object; closed: it has no other members."""
    found: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        found["required"] = list(required)
    if closed:
        found["additionalProperties"] = False
    return found


def faults(shape: dict, value: object, pointer: str = "") -> Iterator[dict]:
    """What is wrong with *value*: where (a JSON pointer) and what would be right."""
    kinds = shape.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if kinds and not any(KINDS[kind](value) for kind in kinds):
        yield _fault(pointer, f"must be {' or '.join(kinds)}")
    elif "enum" in shape and value not in shape["enum"]:
        yield _fault(pointer, f"must be one of {', '.join(map(str, shape['enum']))}")
    elif isinstance(value, str):
        yield from _of_text(shape, value, pointer)
    elif isinstance(value, dict):
        yield from _of_record(shape, value, pointer)
    elif isinstance(value, list):
        yield from _of_list(shape, value, pointer)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = shape.get("minimum"), shape.get("maximum")
        above = shape.get("exclusiveMinimum")
        if low is not None and value < low or high is not None and value > high \
                or above is not None and value <= above:
            yield _fault(pointer, "must be " + " and ".join(
                words.format(limit) for words, limit in (
                    ("at least {}", low), ("more than {}", above), ("at most {}", high))
                if limit is not None))


def _of_text(shape, value, pointer):
    if not shape.get("minLength", 0) <= len(value) <= shape.get("maxLength", math.inf):
        yield _fault(pointer, f"must have {shape.get('minLength', 0)} to "
                     f"{shape.get('maxLength', 'any number of')} characters")
    elif "pattern" in shape and not re.search(shape["pattern"], value):
        yield _fault(pointer, f"must match {shape['pattern']}")
    elif shape.get("format") == "date-time" and parse_moment(value) is None:
        yield _fault(pointer, "must be a moment with its offset, as RFC 3339 has it: "
                     "2027-01-31T13:30:00Z")


def _of_record(shape, value, pointer):
    if len(value) < shape.get("minProperties", 0):
        yield _fault(pointer, "must name something")
    if len(value) > shape.get("maxProperties", math.inf):
        yield _fault(pointer, f"must have {shape['maxProperties']} members at most")
    properties = shape.get("properties", {})
    others = shape.get("additionalProperties", True)
    for name in shape.get("required", ()):
        if name not in value:
            yield _fault(pointer, f"must have {name!r}")
    for name, each in value.items():
        below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in properties:
            yield from faults(properties[name], each, below)
        elif others is False:
            yield _fault(below, f"is not known; known are {', '.join(properties)}")
        elif others is not True:
            yield from faults(shape.get("propertyNames", {}), name, below)
            yield from faults(others, each, below)


def _of_list(shape, value, pointer):
    if not shape.get("minItems", 0) <= len(value) <= shape.get("maxItems", math.inf):
        yield _fault(pointer, f"must have {shape.get('minItems', 0)} to "
                     f"{shape.get('maxItems', 'any number of')} members")
    else:
        for number, each in enumerate(value):
            yield from faults(shape.get("items", {}), each, f"{pointer}/{number}")


def _fault(pointer, text):
    return {"pointer": pointer, "detail": text}


def require(shape: dict, value: object) -> Any:
    """The value.  Raises Problem 'invalid', with every fault (20 at most)."""
    found = []
    for fault in faults(shape, value):
        found.append(fault)
        if len(found) == 20:
            break
    if found:
        first = found[0]
        raise Problem("invalid", f"{first['pointer'] or 'the body'} {first['detail']}",
                      errors=found)
    return value


RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def parse_moment(value: str) -> datetime | None:
    """An aware datetime from RFC 3339; None when it is none."""
    if not value.isascii() or not RFC_3339.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(
            re.sub(r"(\.\d{6})\d+", r"\1", value.upper().replace(" ", "T")))
    except ValueError:
        return None
