"""Which values nobody is shown: passwords, tokens, what a schema calls secret.

A field is secret when it is a Password, or when its schema says so:

    class IUpload(Interface):
        key = TextLine(title="Key")
        key.setTaggedValue("secret", True)

Where no schema tells, the names of keys do: the setting `secret_names`.
"""
import re
from functools import lru_cache
from typing import Any

from zope.schema import getFieldsInOrder
from zope.schema.interfaces import ICollection, IField, IMapping, IObject, IPassword

from lovely.remotetask import settings
from lovely.remotetask.failure import HIDDEN, without

__all__ = ["HIDDEN", "masked", "secrets_in", "without"]

DEEPEST = 100
SHORTEST = 4   # characters of a secret that is looked for in texts

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


def masked(schema: Any, value: Any, names: str | None = None) -> Any:
    """*value* as it may be shown: HIDDEN where a secret stands.

    schema: of a task's input or output, an interface, a field, or None.  names: the
    words that make a key secret; those of the process by default.  What holds no
    secret is the same object; an object whose schema has secret fields becomes a
    dictionary of its fields.
    """
    return _Mask(names).value(schema, value)


def secrets_in(schema: Any, value: Any, names: str | None = None) -> set[str]:
    """The texts that `masked` hides in *value*."""
    mask = _Mask(names)
    mask.value(schema, value)
    return {text for text in mask.hidden if len(text) >= SHORTEST}


class _Mask:

    def __init__(self, names: str | None) -> None:
        self.names = settings.process().secret_names if names is None else names
        self.hidden: list[str] = []

    def value(self, schema: Any, value: Any, depth: int = 0) -> Any:
        if depth > DEEPEST:
            return HIDDEN  # whoever looks for a secret down there is not shown it
        if is_secret(schema):
            return self._hide(value)
        if isinstance(value, dict):
            return self._dict(schema, value, depth)
        if isinstance(value, (list, tuple)):
            each_schema = schema.value_type if ICollection.providedBy(schema) else None
            made = [self.value(each_schema, each, depth + 1) for each in value]
            return value if _same(made, value) else type(value)(made) \
                if type(value) in (list, tuple) else made
        fields = fields_of(schema)
        if value is not None and any(_holds_secret(each) for each in fields.values()):
            return {name: self.value(field, getattr(value, name, None), depth + 1)
                    for name, field in fields.items()}
        return value

    def _dict(self, schema: Any, value: dict[Any, Any], depth: int) -> Any:
        fields = fields_of(schema)
        each_schema = schema.value_type if IMapping.providedBy(schema) else None
        made = {
            key: self._hide(each) if isinstance(key, str) and is_secret_name(
                key, self.names) else self.value(
                    fields.get(key, each_schema), each, depth + 1)
            for key, each in value.items()}
        return value if _same(made.values(), value.values()) else made

    def _hide(self, value: Any) -> Any:
        if value is None or value == "":
            return value
        self._note(value)
        return HIDDEN

    def _note(self, value: Any) -> None:
        todo = [value]
        while todo:
            each = todo.pop()
            if isinstance(each, str):
                self.hidden.append(each)
            elif isinstance(each, bytes):
                self.hidden.append(repr(each)[2:-1])
            elif isinstance(each, dict):
                todo.extend(each.values())
            elif isinstance(each, (list, tuple, set, frozenset)):
                todo.extend(each)
            elif isinstance(each, (int, float)) and not isinstance(each, bool):
                self.hidden.append(str(each))


def is_secret(field: Any) -> bool:
    """Whether a schema says that what stands in this field is a secret."""
    return IField.providedBy(field) and (
        IPassword.providedBy(field) or bool(field.queryTaggedValue("secret"))
        or is_secret(getattr(field, "value_type", None)))


def _holds_secret(field: Any, depth: int = 0) -> bool:
    return is_secret(field) or depth < 5 and any(
        _holds_secret(each, depth + 1) for each in fields_of(field).values())


def fields_of(schema: Any) -> dict[str, Any]:
    """The fields of a schema, or of what stands in an Object field; {} without."""
    if IObject.providedBy(schema):
        schema = schema.schema
    if schema is None or IField.providedBy(schema):
        return {}
    return dict(getFieldsInOrder(schema))


@lru_cache(maxsize=10_000)
def is_secret_name(key: str, names: str) -> bool:
    """Whether a key is named like a secret: 'dbPassword' for 'password', say."""
    parts = _words(key[:200])
    return any(
        parts[start:start + len(wanted)] == wanted
        for wanted in map(_words, names.replace(",", " ").split())
        for start in range(len(parts)) if wanted)


def _words(name: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(name)]


def _same(made: Any, given: Any) -> bool:
    return all(one is other for one, other in zip(made, given, strict=True))
