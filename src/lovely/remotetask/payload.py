"""What may be stored as a job's input or output, and in which form.

Small plain values stand in the job's own record.  Everything else gets a record
of its own, so that a value that is large, or that cannot be read back one day,
never stands in the way of the job itself.

What is stored is a copy, and so is what a task gets: nobody who changes a value in
place changes it for anybody else.  Only persistent objects are everybody's.
"""
import io
from collections.abc import Sequence
from typing import Any

from persistent import Persistent
from zodbpickle import pickle
from zope.schema import getFieldsInOrder
from zope.schema.interfaces import IField, ValidationError
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask.errors import BadInput

INLINE_NODES = 64      # values in a plain input that still stands in the job
INLINE_TEXT = 2_000    # characters of text that do, in all
PLAIN = (type(None), bool, int, float)
UNSTORED = b"\0" * 8   # serial of what was not committed yet


class Payload(Persistent):
    """A value in a record of its own."""

    def __init__(self, value: object) -> None:
        self.value = value


class _Trial(pickle.Pickler):
    """Pickles a value without what the database stores elsewhere."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 3)
        self.persistent: list[Any] = []

    def persistent_id(self, value: object) -> int | None:
        if isinstance(value, Persistent) or hasattr(type(value), "_p_oid"):
            self.persistent.append(value)
            return len(self.persistent)
        return None


class _TrialReader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, persistent: Sequence[Any]) -> None:
        super().__init__(file)
        self.persistent_load = lambda number: persistent[number - 1]


def pack(value: object, limit: int, what: str) -> tuple[Any, tuple[Any, ...]]:
    """The stored form of a copy of *value*, and the persistent objects in it.

    Raises BadInput when it cannot be pickled and read back, or takes more than
    *limit* bytes; *what* names it in the text of the error.
    """
    value = removeSecurityProxy(value)
    if value is None:
        return None, ()
    if _weight(value) is not None:
        return _copy(value), ()
    data = io.BytesIO()
    try:
        trial = _Trial(data)
        trial.dump(value)
        objects = tuple(trial.persistent)
        for each in objects:
            _try_new(each)
    except Exception as error:
        raise BadInput(
            f"{what} cannot be stored: {type(error).__name__}: {error}") from error
    size = data.tell()
    if size > limit:
        raise BadInput(
            f"{what} takes {size:,} bytes, more than the {limit:,} allowed; store it "
            "as an object of its own, or as a blob, and pass that")
    try:
        copy = _read(data, objects)
    except Exception as error:
        raise BadInput(f"{what} could be stored but never read again: "
                       f"{type(error).__name__}: {error}") from error
    return Payload(copy), objects


def unpack(stored: object) -> Any:
    return stored.value if isinstance(stored, Payload) else stored


def lend(stored: object) -> Any:
    """The value for somebody who may change it: whoever asks next sees it unchanged."""
    if not isinstance(stored, Payload):
        return stored if _weight(stored) is None else _copy(stored)
    value = stored.value
    if stored._p_jar is not None and stored._p_serial != UNSTORED:
        stored._p_deactivate()  # this one is given away, the next is loaded anew
    if stored._p_changed is None:
        return value
    data = io.BytesIO()
    trial = _Trial(data)
    trial.dump(value)
    return _read(data, trial.persistent)


def _read(data: io.BytesIO, persistent: Sequence[Any]) -> Any:
    data.seek(0)
    return _TrialReader(data, persistent).load()


def _try_new(object: Any) -> None:
    """Raise what a commit would, of a persistent object that is stored with the job."""
    if isinstance(object, Persistent) and object._p_jar is None:
        _Trial(io.BytesIO()).dump((type(object), object.__getstate__()))


def _copy(value: Any) -> Any:
    """A copy of a small plain value."""
    kind = type(value)
    if kind is dict:
        return {key: _copy(each) for key, each in value.items()}
    if kind is list or kind is tuple:
        return kind([_copy(each) for each in value])
    return value


def _weight(value: Any) -> int | None:
    """How many nodes a small plain value has; None when it is not one."""
    nodes = text = 0
    todo = [value]
    while todo:
        node = todo.pop()
        nodes += 1
        kind = type(node)
        if kind is str or kind is bytes:
            text += len(node)
            if kind is str and not node.isascii():
                try:
                    node.encode()
                except UnicodeEncodeError:
                    return None
        elif kind is dict:
            todo.extend(node)
            todo.extend(node.values())
        elif kind is list or kind is tuple:
            todo.extend(node)
        elif kind not in PLAIN or kind is int and node.bit_length() > 2_000:
            return None
        if nodes + len(todo) > INLINE_NODES or text > INLINE_TEXT:
            return None
    return nodes


def validate(schema: Any, value: object, what: str) -> None:
    """Raise BadInput, naming the field, when *value* breaks *schema*.

    schema: a schema interface, for a mapping or for an object; or a single field.
    """
    if schema is None:
        return
    if IField.providedBy(schema):
        _check(schema, value, what)
        return
    fields = dict(getFieldsInOrder(schema))
    if isinstance(value, dict) or value is None:
        given = value or {}
        if strays := set(given) - set(fields):
            raise BadInput(f"{what} has no field {min(map(repr, strays))}; "
                           f"its fields are {', '.join(fields)}")
        for name, field in fields.items():
            field = field.bind(value)
            _check(field, given.get(name, field.missing_value), f"{what}, {name}")
    else:
        for name, field in fields.items():
            _check(field.bind(value), getattr(value, name, None), f"{what}, {name}")


def _check(field: Any, value: object, what: str) -> None:
    try:
        field.validate(value)
    except ValidationError as error:
        text = str(error.doc() if hasattr(error, "doc") else error)
        raise BadInput(f"{what}: {text} ({error!r})") from error
