"""Which requests are let in, and what every answer carries.

    request ──> method ──> site it comes from ──> content type ──> size ──> shape
                  405             403                 415           413      400

A view asks for what it needs, before it reads or does anything; what is refused is
a Refusal, which knows its HTTP status and is shown in the manner of the request.
"""
from lovely.remotetask.guard.body import json_body, read_body
from lovely.remotetask.guard.caps import require_room
from lovely.remotetask.guard.headers import secure
from lovely.remotetask.guard.origin import require_change, require_method
from lovely.remotetask.guard.refusals import (
    BadRequest, ForeignSite, MethodNotAllowed, Refusal, TooLarge, TooManyJobs,
    WrongContentType)

__all__ = [
    "BadRequest", "ForeignSite", "MethodNotAllowed", "Refusal", "TooLarge",
    "TooManyJobs", "WrongContentType", "json_body", "read_body", "require_change",
    "require_method", "require_room", "secure"]
