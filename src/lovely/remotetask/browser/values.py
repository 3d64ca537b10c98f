"""Inputs and outputs as people read them: JSON, text, links to objects; bounded."""
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from persistent import Persistent
from zope.traversing.browser.absoluteurl import absoluteURL

from lovely.remotetask.failure import clean

TEXT_LIMIT = 20_000   # characters of one value that are shown
NODES = 5_000         # values in it
DEEPEST = 40
LINKS = 50
REPR_LIMIT = 500


class Shown(NamedTuple):
    """One value to be shown.  kind: nothing, text, json, object, other."""

    kind: str
    text: str
    links: tuple = ()    # dictionaries: title, url or None
    cut: bool = False    # there is more of it


def shown(value: Any, request: Any) -> Shown:
    """A value for a page; never raises because of what the value is."""
    if value is None:
        return Shown("nothing", "")
    if isinstance(value, str):
        return _bounded("text", clean(value[:TEXT_LIMIT + 1]))
    if isinstance(value, Persistent):
        return Shown("object", "", (link(value, request),))
    writing = _Writing(request)
    plain = writing.plain(value)
    kind = "other" if isinstance(plain, str) else "json"
    text = plain if kind == "other" else json.dumps(plain, indent=2, ensure_ascii=False)
    found = _bounded(kind, text)
    return found._replace(links=tuple(writing.links), cut=found.cut or writing.cut)


def _bounded(kind: str, text: str) -> Shown:
    return Shown(kind, text[:TEXT_LIMIT], cut=len(text) > TEXT_LIMIT)


class _Writing:
    """Makes plain data of a value, and notes the objects in it."""

    def __init__(self, request: Any) -> None:
        self.request, self.left, self.cut = request, NODES, False
        self.links: list[dict] = []

    def plain(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            self.cut = True
            return "…"
        if value is None or isinstance(value, (bool, int, float)):
            return value if abs(value or 0) < 1e300 else _text(value)
        if isinstance(value, str):
            self.cut = self.cut or len(value) > TEXT_LIMIT
            return clean(value[:TEXT_LIMIT])
        if isinstance(value, Persistent):
            return self._object(value)
        if isinstance(value, Mapping):
            return {self._key(key): self.plain(each, depth + 1)
                    for key, each in self._some(value.items())}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.plain(each, depth + 1) for each in self._some(value)]
        if isinstance(value, bytes):
            return f"<{len(value):,} bytes> {clean(repr(value[:60]))}"
        if hasattr(value, "isoformat"):
            return clean(value.isoformat())
        return _text(value)

    def _some(self, values: Any) -> Any:
        for each in values:
            if self.left <= 0:
                self.cut = True
                return
            yield each

    def _key(self, key: Any) -> str:
        return clean(key[:REPR_LIMIT]) if isinstance(key, str) else _text(key)

    def _object(self, value: Any) -> str:
        found = link(value, self.request)
        if len(self.links) < LINKS and found not in self.links:
            self.links.append(found)
        return f"→ {found['title']}"


def _text(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}, its repr raises {type(error).__name__}>"
    return clean(text[:REPR_LIMIT])


def link(value: Any, request: Any) -> dict:
    """A persistent object by its class, its name and, where it has one, its address."""
    kind = type(value).__name__
    try:
        name = getattr(value, "__name__", None)
        url = absoluteURL(value, request) if getattr(value, "__parent__", None) is not None \
            else None
    except Exception:  # it has no place in the site, or is gone
        name = url = None
    title = f"{kind} {clean(str(name)[:200])}" if name else kind
    return dict(title=title, url=url)
