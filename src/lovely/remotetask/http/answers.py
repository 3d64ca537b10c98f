"""What a handler answers."""
import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """Status, data (plain, or bytes as they are), headers; or a stream.

    tagged: it gets an ETag, and is left out where the client has the same.
    """

    status: int = 200
    data: Any = None
    headers: dict[str, str] = {}
    stream: Any = None
    tagged: bool = True


def encoded(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False,
                      separators=(",", ":")).encode()
