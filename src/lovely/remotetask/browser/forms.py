"""Forms: boxes with what was typed, and what is wrong with it beside each.

    boxes = Boxes(page)                     knows what was typed, if anything was
    title = boxes.line("title", _("Title"))
    ...
    values = boxes.read()                   {name: value}; `boxes.wrong` counts errors

A box says how its text becomes a value; what cannot be one is kept as it was typed,
with the reason.  `input_boxes` makes boxes from the inputSchema of a task, else one
for JSON.  In templates: <metal:box use-macro="view/forms/macros/boxes" /> shows
`boxes`, a sequence of them.
"""
import json
from datetime import datetime
from decimal import Decimal

from zope.schema import ValidationError, getFieldsInOrder
from zope.schema.interfaces import (
    IASCII, IBool, IBytes, IChoice, ICollection, IDate, IDatetime, IDecimal, IField, IFloat,
    IInt, IPassword, IText, ITextLine, ITime)

from lovely.remotetask.browser import _
from lovely.remotetask.errors import BadInput
from lovely.remotetask.guard.body import json_value
from lovely.remotetask.guard.refusals import BadRequest
from lovely.remotetask.masking import HIDDEN
from lovely.remotetask.payload import validate

PREFIX = "input."
CHOICES = 1_000   # terms of a choice that are offered
NOTHING = object()


class Wrong(ValueError):
    """A text cannot be the value of a box; the message says why."""

    def __init__(self, message):
        self.message = message
        super().__init__(str(message))


class Box:
    """One field of a form.

    kind: line, text, number, secret, tick, choice, moment.  convert(text): its
    value; raises Wrong.  text: what stands in it.
    """

    def __init__(self, name, title, convert, kind="line", hint="", options=(),
                 required=False, usual="", mono=False, extra=None):
        self.name, self.title, self.convert, self.kind = name, title, convert, kind
        self.hint, self.options, self.required = hint, options, required
        self.text, self.mono, self.extra = usual, mono, extra or {}
        self.wrong = None
        self.original = NOTHING   # a value, and the text in which it was shown
        self.shown = None

    @property
    def id(self):
        return "b-" + self.name.replace(".", "-")

    @property
    def isSet(self):
        return self.kind == "tick" and bool(self.text)

    @property
    def describedBy(self):
        return " ".join(
            [f"{self.id}-hint"] * bool(self.hint) + [f"{self.id}-wrong"] * bool(self.wrong)
        ) or None

    def keep(self, value, text):
        """Show *text* for *value*; who leaves the text as it is leaves the value."""
        self.original, self.shown, self.text = value, text, text

    def read(self):
        if self.original is not NOTHING and self.text == self.shown:
            return self.original
        return self.convert(self.text)


class Boxes:
    """The boxes of a form, in order."""

    def __init__(self, page, typed=None):
        form = page.request.form
        self.typed = form if typed is None else typed
        self.page = page
        self.all = []

    def __iter__(self):
        return iter(self.all)

    def __getitem__(self, name):
        return next(box for box in self.all if box.name == name)

    def __contains__(self, name):
        return any(box.name == name for box in self.all)

    @property
    def wrong(self):
        return sum(1 for box in self.all if box.wrong)

    def add(self, box):
        self.all.append(box)
        return box

    def group(self, *names):
        return [box for box in self.all if box.name in names]

    def take(self):
        """Put what was typed into the boxes."""
        for box in self.all:
            if box.kind == "tick":
                box.text = "on" if self.typed.get(box.name) else ""
            elif box.name in self.typed:
                value = self.typed[box.name]
                value = value[-1] if isinstance(value, list) and value else value
                if isinstance(value, str):
                    box.text = value.replace("\r\n", "\n")

    def read(self):
        """{name: value} of what can be one; the others are marked."""
        values = {}
        for box in self.all:
            try:
                values[box.name] = box.read()
            except Wrong as wrong:
                box.wrong = wrong.message
        return values

    def blame(self, name, message):
        """Mark a box; False where there is none of that name."""
        if name not in self:
            return False
        self[name].wrong = message
        return True


# -- what texts become


def text(value):
    return value.strip()


def tags(value):
    """Texts between commas."""
    return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)


def whole(value):
    value = value.strip()
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise Wrong(_("A whole number is wanted.")) from None


def seconds(value):
    value = value.strip().replace(",", ".")
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        raise Wrong(_("A number of seconds is wanted.")) from None
    if not 0 <= number < 1e10:
        raise Wrong(_("A number of seconds is wanted, 0 or more."))
    return number


def moment_in(zone):
    """A converter of the moments that browsers send, which name no zone."""
    def convert(value):
        value = value.strip()
        if not value:
            return None
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Wrong(_("A date and a time are wanted, as 2030-12-31T18:30.")) from None
        if not 1970 < moment.year < 9000:
            raise Wrong(_("This is no time at which a job could run."))
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return convert


def one_of(*allowed):
    def convert(value):
        if value not in allowed:
            raise Wrong(_("Choose one of these."))
        return value
    return convert


# -- the input of a task


def input_boxes(boxes, schema, model=NOTHING, shown=None):
    """Add the boxes for the input of a task: the function that reads its value.

    model: the input of another job to begin with; shown: the same as it may be seen.
    """
    if schema is None:
        box = boxes.add(Box(
            PREFIX + "json", _("Input"), json_text, "text", mono=True, hint=_(
                'JSON: a text stands in quotes, as "hello"; {"a": 1, "b": [true, null]}. '
                "Empty: none.")))
        if model is not NOTHING:
            box.keep(model, as_json(shown))
        return lambda values: values.get(box.name)
    if IField.providedBy(schema):
        _add(boxes, "value", schema, model, shown)
        return lambda values: values.get(PREFIX + "value")
    fields = getFieldsInOrder(schema)
    for name, field in fields:
        _add(boxes, name, field, _of(model, name), _of(shown, name))
    return lambda values: {
        name: values[PREFIX + name] for name, _field in fields
        if values.get(PREFIX + name) is not None}


def _of(value, name):
    if value is NOTHING or value is None:
        return NOTHING if value is NOTHING else None
    if isinstance(value, dict):
        return value.get(name)
    return getattr(value, name, None)


def _add(boxes, name, field, model, shown):
    box = boxes.add(box_of(PREFIX + name, field))
    if model is NOTHING:
        if field.default is not None:
            box.text = text_of(field, field.default)
    elif IPassword.providedBy(field) or shown == HIDDEN:
        box.keep(model, HIDDEN)
    elif model is not None:
        box.keep(model, text_of(field, shown))
    return box


def box_of(name, field):
    """The box for a field of zope.schema."""
    def convert(typed):
        value = value_of(field, typed)
        _check(field, value)
        return value

    common = dict(hint=field.description or "", required=field.required)
    title = field.title or name.removeprefix(PREFIX)
    if IBool.providedBy(field):
        return Box(name, title, convert, "tick", **{**common, "required": False})
    if IChoice.providedBy(field):
        return Box(name, title, convert, "choice", options=_options(field), **common)
    if IPassword.providedBy(field):
        return Box(name, title, convert, "secret", **common)
    if IInt.providedBy(field) or IFloat.providedBy(field) or IDecimal.providedBy(field):
        extra = dict(step="1" if IInt.providedBy(field) else "any")
        return Box(name, title, convert, "number", extra=extra, **common)
    if IDatetime.providedBy(field):
        return Box(name, title, convert, "moment", **common)
    if ITextLine.providedBy(field) or IDate.providedBy(field) or ITime.providedBy(field):
        return Box(name, title, convert, **common)
    if IText.providedBy(field) or IBytes.providedBy(field):
        return Box(name, title, convert, "text", **common)
    if _is_lines(field):
        common["hint"] = _joined(common["hint"], _("One in each line."))
    else:
        common["hint"] = _joined(common["hint"], _("As JSON."))
    return Box(name, title, convert, "text", mono=True, **common)


def _joined(hint, more):
    return more if not hint else [hint, more]


def _is_lines(field):
    kind = getattr(field, "value_type", None)
    return ICollection.providedBy(field) and kind is not None and any(
        each.providedBy(kind) for each in (ITextLine, IInt, IFloat, IDecimal, IChoice)) \
        and not IPassword.providedBy(kind)


def _terms(field):
    vocabulary = getattr(field.bind(None), "vocabulary", None)
    terms = []
    for term in vocabulary if vocabulary is not None else ():
        terms.append(term)
        if len(terms) == CHOICES:
            break
    return terms


def _options(field):
    found = [(term.token, getattr(term, "title", None) or term.token)
             for term in _terms(field)]
    return found if field.required else [("", "–"), *found]


def value_of(field, typed):
    """The value of a text in the box of a field; raises Wrong."""
    if IBool.providedBy(field):
        return typed == "on"
    exact = typed
    typed = typed.strip()
    if not typed:
        return field.missing_value
    try:
        if IChoice.providedBy(field):
            return next(term.value for term in _terms(field) if term.token == typed)
        if IInt.providedBy(field):
            return int(typed)
        if IFloat.providedBy(field):
            return float(typed.replace(",", "."))
        if IDecimal.providedBy(field):
            return Decimal(typed.replace(",", "."))
        if IDatetime.providedBy(field):
            return datetime.fromisoformat(typed)
        if IDate.providedBy(field):
            return datetime.fromisoformat(typed).date()
        if ITime.providedBy(field):
            return datetime.fromisoformat("1970-01-01T" + typed).time()
        if IASCII.providedBy(field) or not IBytes.providedBy(field) and IText.providedBy(field):
            return typed if ITextLine.providedBy(field) else exact
        if IBytes.providedBy(field):
            return exact.encode()
    except (ValueError, StopIteration, ArithmeticError):
        raise Wrong(_("This cannot be understood: ${kind} is wanted.",
                      mapping={"kind": _kind(field)})) from None
    if _is_lines(field):
        values = [value_of(field.value_type, line) for line in typed.splitlines()
                  if line.strip()]
        return _collected(field, values)
    return _collected(field, json_text(typed))


def _collected(field, value):
    kind = getattr(field, "_type", None)
    kind = kind[0] if isinstance(kind, tuple) and kind else kind
    if isinstance(value, list) and kind in (tuple, set, frozenset):
        return kind(value)
    return value


def _kind(field):
    for interface, title in (
            (IChoice, _("one of the values")), (IInt, _("a whole number")),
            (IFloat, _("a number")), (IDecimal, _("a number")),
            (IDatetime, _("a date and time, as 2030-12-31T18:30")),
            (IDate, _("a date, as 2030-12-31")), (ITime, _("a time, as 18:30"))):
        if interface.providedBy(field):
            return title
    return _("another value")


def _check(field, value):
    try:
        field.bind(None).validate(value)
    except ValidationError as error:
        raise Wrong(_reason(field, error)) from None


def _reason(field, error):
    """Why a value breaks a field, with the bounds that it has."""
    name = type(error).__name__
    low, high = getattr(field, "min", None), getattr(field, "max", None)
    if name == "RequiredMissing":
        return _("Something is wanted here.")
    if name in ("TooSmall", "TooBig") and low is not None and high is not None:
        return _("It goes from ${low} to ${high}.", mapping={"low": low, "high": high})
    if name == "TooSmall":
        return _("It is ${low} at least.", mapping={"low": low})
    if name == "TooBig":
        return _("It is ${high} at most.", mapping={"high": high})
    if name == "TooShort":
        return _("At least ${number} are wanted.", mapping={"number": field.min_length})
    if name == "TooLong":
        return _("At most ${number} are taken.", mapping={"number": field.max_length})
    return error.doc()


def text_of(field, value):
    """A value as the text of its box."""
    if value is None:
        return ""
    if IBool.providedBy(field):
        return "on" if value else ""
    if IChoice.providedBy(field):
        return next((term.token for term in _terms(field) if term.value == value), "")
    if IDatetime.providedBy(field):
        return value.isoformat(timespec="minutes")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (str, int, float, Decimal)):
        return str(value)
    if _is_lines(field):
        values = sorted(value) if isinstance(value, (set, frozenset)) else value
        return "\n".join(text_of(field.value_type, each) for each in values)
    return str(value) if hasattr(value, "isoformat") else as_json(value)


def json_text(typed):
    """The value of JSON; None of an empty text.  Raises Wrong."""
    if not typed.strip():
        return None
    try:
        return json_value(typed.encode("utf-8", "surrogatepass"))
    except BadRequest as error:
        raise Wrong(_("This is no JSON: ${why}", mapping={
            "why": str(error).rpartition(": ")[2] if ": " in str(error) else str(error)
        })) from None


def as_json(value):
    """A value as JSON to be edited; of what JSON cannot say a word in its place."""
    if value is None:
        return ""
    return json.dumps(value, indent=2, ensure_ascii=False,
                      default=lambda each: f"<{type(each).__name__}>")


def whole_input(schema, value):
    """Check an input as a whole.  Raises Wrong."""
    try:
        validate(schema, value, "input")
    except BadInput as error:
        raise Wrong(str(error)) from None
