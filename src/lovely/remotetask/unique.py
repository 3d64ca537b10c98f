"""Only one job of a kind: what becomes of an add that finds another one there."""
import hashlib
import json

from lovely.remotetask import access, acts, clock, lifecycle
from lovely.remotetask.errors import BadOption
from lovely.remotetask.store.index import object_key

IGNORE, REPLACE, ALLOW_RUNNING = "ignore", "replace", "allow running"
DUPLICATE = (IGNORE, REPLACE, ALLOW_RUNNING)
KEY_LIMIT = 1_000       # characters of a key
LONGEST = 366 * 86_400  # seconds


def key_of(task: str, unique, input) -> bytes:
    """What two jobs have in common that are to be one.

    unique: a text, or True for the input, which needs to be of plain data and stored
    objects then.  Raises BadOption.
    """
    if unique is True:
        try:
            text = json.dumps(input, sort_keys=True, default=_name_of)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadOption("unique", True, "give a text as key: the input has no stable "
                            f"form ({error})") from None
        said = ["input", task, text]
    elif isinstance(unique, str) and 0 < len(unique) <= KEY_LIMIT:
        said = ["key", task, unique]
    else:
        raise BadOption("unique", unique,
                        f"True, or a text of up to {KEY_LIMIT:,} characters")
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=16).digest()


def _name_of(value):
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    name = object_key(value)
    if name is not None:
        return {"object": name}
    if type(value).__module__ in ("datetime", "decimal", "uuid") or isinstance(value, bytes):
        return {type(value).__name__: repr(value)}
    raise TypeError(f"{type(value).__name__} is no plain data")


def found(service, key: bytes, duplicate: str):
    """The job that is there already, and whose place in the queue an add would take;
    None where a new one is to be made.

    Raises NotAllowed where one is to be replaced that the present principal may not
    cancel."""
    noted = service.uniques.find(key)
    if noted is None:
        return None
    id, until = noted
    job = service.jobs.get(id)
    if job is None:
        return None
    if job.recordedStatus in lifecycle.FINISHED:
        in_time = clock.micros() < until and job.recordedStatus == lifecycle.COMPLETED
        return job if in_time else None
    if service.isHeld(job) or job.recordedStatus == lifecycle.PROCESSING:
        return job if duplicate == IGNORE else None
    if duplicate == REPLACE:
        access.require_to_replace(job)
        if not access.is_own(job):
            acts.note(service, "cancel", job.id, detail=lifecycle.REPLACED)
        job.cancel(clock.micros(), lifecycle.REPLACED)
        service._announce(job.id)
        return None
    # A worker that takes it at this moment must not have begun before this add.
    job.merge()
    return job
