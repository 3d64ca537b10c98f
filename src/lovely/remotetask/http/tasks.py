"""Tasks and the schemas of their input, as JSON Schema; input from JSON by them."""
import base64
import binascii
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from zope.i18nmessageid import Message
from zope.schema import getFieldsInOrder
from zope.schema import interfaces as fields
from zope.schema.interfaces import IField

from lovely.remotetask.failure import clean
from lovely.remotetask.http.problems import Problem
from lovely.remotetask.http.shapes import parse_moment
from lovely.remotetask.limits import Rate

DEEPEST = 10          # schemas inside schemas
CHOICES = 200         # values of a Choice that are told
FACTS = "retries timeout lane laneWidth concurrency rate group atMostOnce".split()

#: The first interface that a field provides says its type; more special ones first.
TYPES: tuple[tuple[Any, dict], ...] = (
    (fields.IBool, {"type": "boolean"}),
    (fields.IInt, {"type": "integer"}),
    (fields.IFloat, {"type": "number"}),
    (fields.IDecimal, {"type": "string", "format": "decimal"}),
    (fields.IDatetime, {"type": "string", "format": "date-time"}),
    (fields.IDate, {"type": "string", "format": "date"}),
    (fields.ITime, {"type": "string", "format": "time"}),
    (fields.ITimedelta, {"type": "number"}),
    (fields.IURI, {"type": "string", "format": "uri"}),
    (fields.IPassword, {"type": "string", "format": "password", "writeOnly": True}),
    (fields.ISourceText, {"type": "string"}),
    (fields.IText, {"type": "string"}),
    (fields.INativeString, {"type": "string"}),
    (fields.IBytes, {"type": "string", "contentEncoding": "base64"}),
    (fields.IAbstractSet, {"type": "array", "uniqueItems": True}),
    (fields.ISequence, {"type": "array"}),
    (fields.IMapping, {"type": "object"}),
    (fields.IObject, {"type": "object"}),
)


def described(name: str, task: Any) -> dict:
    """A task as it is told: what it takes, and how it is run."""
    facts = {each: getattr(task, each, None) for each in FACTS}
    if isinstance(facts["rate"], Rate):
        facts["rate"] = "{:d}/{:.12g}s".format(*facts["rate"])
    return {
        "name": name,
        "doc": clean(str(getattr(task, "doc", None) or type(task).__doc__ or "").strip()),
        "inputSchema": json_schema(getattr(task, "inputSchema", None)),
        "outputSchema": json_schema(getattr(task, "outputSchema", None)),
        **{each: value if isinstance(value, (int, float, str, type(None))) else None
           for each, value in facts.items()},
    }


def json_schema(schema: Any, depth: int = 0) -> dict:
    """A schema interface, or a single field, as JSON Schema; {} for anything."""
    if schema is None or depth > DEEPEST:
        return {}
    if IField.providedBy(schema):
        return _of_field(schema, depth)
    found: dict[str, Any] = {"type": "object", "properties": {}}
    required = []
    for name, field in getFieldsInOrder(schema):
        found["properties"][name] = _of_field(field, depth + 1)
        if field.required and field.missing_value is None:
            required.append(name)
    if required:
        found["required"] = required
    found["additionalProperties"] = False
    return found


def _of_field(field: Any, depth: int) -> dict:
    found: dict[str, Any] = {}
    if fields.IChoice.providedBy(field):
        found.update(_of_choice(field))
    else:
        found.update(next((shape for interface, shape in TYPES
                           if interface.providedBy(field)), {}))
    for name, value in (("title", field.title), ("description", field.description)):
        if value:
            found[name] = _text(value)
    if found.get("type") in ("integer", "number"):
        _limits(found, field, "min", "max", "minimum", "maximum")
    elif found.get("type") == "string" and "contentEncoding" not in found:
        _limits(found, field, "min_length", "max_length", "minLength", "maxLength")
    elif found.get("type") == "array":
        _limits(found, field, "min_length", "max_length", "minItems", "maxItems")
        if getattr(field, "value_type", None) is not None:
            found["items"] = _of_field(field.value_type, depth + 1)
    elif fields.IMapping.providedBy(field) and field.value_type is not None:
        found["additionalProperties"] = _of_field(field.value_type, depth + 1)
    elif fields.IObject.providedBy(field):
        found.update(json_schema(field.schema, depth + 1))
    if not field.required and "type" in found:
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    default = field.default
    if isinstance(default, (bool, int, float, str)) and "writeOnly" not in found:
        found["default"] = default
    return found


def _of_choice(field: Any) -> dict:
    """The tokens of its terms, where they can be listed."""
    try:
        terms = list(field.bind(None).vocabulary)
    except Exception:  # a vocabulary that needs a context, or is not registered
        return {}
    if len(terms) > CHOICES:
        return {}
    values = [term.value for term in terms]
    if all(isinstance(each, str) for each in values):
        return {"type": "string", "enum": values}
    if all(isinstance(each, int) and not isinstance(each, bool) for each in values):
        return {"type": "integer", "enum": values}
    return {"type": "string", "enum": [term.token for term in terms]}


def _limits(found, field, low, high, low_name, high_name):
    for given, name in ((getattr(field, low, None), low_name),
                        (getattr(field, high, None), high_name)):
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            if not (name == "minLength" and given == 0):
                found[name] = given


def _text(value) -> str:
    return str(value.default or value) if isinstance(value, Message) else str(value)


# -- input from JSON


def from_json(schema: Any, value: Any, pointer: str = "/input", depth: int = 0) -> Any:
    """What a task of that schema gets for a JSON value: moments, sets and the like
    have their own types in Python.  Raises Problem 'bad-input'.

    Whether it keeps to the schema is the service's to say.
    """
    if schema is None or value is None or depth > DEEPEST:
        return value
    if IField.providedBy(schema):
        return _to_field(schema, value, pointer, depth)
    if not isinstance(value, dict):
        return value
    known = dict(getFieldsInOrder(schema))
    return {name: _to_field(known[name], each, f"{pointer}/{name}", depth + 1)
            if name in known else each for name, each in value.items()}


def _to_field(field: Any, value: Any, pointer: str, depth: int) -> Any:
    if value is None:
        return None
    try:
        if fields.IChoice.providedBy(field):
            return _to_choice(field, value)
        for interface, convert in CONVERTERS:
            if interface.providedBy(field):
                return convert(field, value, pointer, depth + 1)
    except (ValueError, TypeError, AttributeError, InvalidOperation, OverflowError,
            binascii.Error):
        raise Problem("bad-input", f"{pointer} is not what it should be: "
                      f"{_wanted(field)}", errors=[
                          {"pointer": pointer, "detail": _wanted(field)}]) from None
    return value


def _wanted(field) -> str:
    shape = _of_field(field, DEEPEST)
    return " ".join(str(shape[name]) for name in ("type", "format", "contentEncoding")
                    if name in shape) or "another value"


def _to_choice(field, value):
    """Its term's value: given as such, or by the token where JSON has no such value."""
    vocabulary = getattr(field.bind(None), "vocabulary", None)
    if vocabulary is not None and value not in vocabulary and isinstance(value, str):
        by_token = getattr(vocabulary, "getTermByToken", None)
        if by_token is not None:
            try:
                return by_token(value).value
            except LookupError:
                pass
    return value


def _moment(field, value, pointer, depth):
    found = parse_moment(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError
    return found


def _many(field, value, pointer, depth):
    if not isinstance(value, list):
        raise ValueError
    kind = field._type if isinstance(field._type, type) else list
    inner = field.value_type
    made = [each if inner is None else _to_field(inner, each, f"{pointer}/{n}", depth)
            for n, each in enumerate(value)]
    return made if kind is list else kind(made)


def _mapping(field, value, pointer, depth):
    if not isinstance(value, dict):
        raise ValueError
    keys, values = field.key_type, field.value_type
    return {key if keys is None else _key(keys, key, pointer, depth):
            each if values is None else _to_field(values, each, f"{pointer}/{key}", depth)
            for key, each in value.items()}


def _key(field, key, pointer, depth):
    """A key of JSON is a text; of numbers it is their digits."""
    if fields.IInt.providedBy(field):
        return int(key)
    if fields.IFloat.providedBy(field):
        return float(key)
    return _to_field(field, key, pointer, depth)


def _native(make, kind):
    def convert(field, value, pointer, depth):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError
        return make(value)
    return convert


def _whole(field, value, pointer, depth):
    return int(value) if isinstance(value, float) and value.is_integer() else value


CONVERTERS = (
    (fields.IBool, lambda field, value, pointer, depth: value),
    (fields.IInt, _whole),
    (fields.IFloat, _native(float, (int, float))),
    (fields.IDecimal, _native(lambda value: Decimal(str(value)), (str, int, float))),
    (fields.IDatetime, _moment),
    (fields.IDate, _native(date.fromisoformat, str)),
    (fields.ITime, _native(time.fromisoformat, str)),
    (fields.ITimedelta, _native(lambda value: timedelta(seconds=value), (int, float))),
    (fields.IURI, _native(str, str)),
    (fields.IText, lambda field, value, pointer, depth: value),
    (fields.INativeString, lambda field, value, pointer, depth: value),
    (fields.IBytes, _native(lambda value: base64.b64decode(value, validate=True), str)),
    (fields.IAbstractSet, _many),
    (fields.ISequence, _many),
    (fields.IMapping, _mapping),
    (fields.IObject, lambda field, value, pointer, depth: from_json(
        field.schema, value, pointer, depth)),
)
