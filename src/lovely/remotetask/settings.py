"""What can be set, where it is read from, and what is allowed.

Three sources, one model: what a service stores wins over the environment, that
over the section of zope.conf, that over the default.

    <product-config lovely.remotetask>          REMOTETASK_MAX_THREADS=8
      autostart site1@tasks, @tasks             service.configure(max_threads=8)
      max-threads 8
    </product-config>

A wrong value is one clear message; the value that stood before goes on.
"""
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lovely.remotetask import clock, filters
from lovely.remotetask.errors import BadSetting
from lovely.remotetask.failure import in_log

log = logging.getLogger("lovely.remotetask")

SECTION = "lovely.remotetask"
PREFIX = "REMOTETASK_"


def _number(default: float, low: float, high: float, text: str) -> Any:
    return field(default=default, metadata=dict(low=low, high=high, text=text))


@dataclass(frozen=True)
class Settings:
    """One field per setting; `text` says what it does, `low` and `high` bound it."""

    autostart: str = field(default="", metadata=dict(
        text="services to start with the database: site@name, site@*, *@name, *@*, @name"))
    wait_seconds: float = _number(
        1.0, 0.001, 3600, "longest nap of an idle service where nothing can wake it, seconds")
    max_threads: int = _number(5, 1, 1000, "threads of a MultiProcessor")
    grace_seconds: float = _number(
        10.0, 0, 86_400, "how long a stopping service lets jobs run on, seconds")
    prefetch: int = _number(
        50, 1, 1000, "most jobs claimed in one commit, while jobs are short")
    input_limit: int = _number(1_000_000, 100, 2**31, "largest input, bytes pickled")
    output_limit: int = _number(1_000_000, 100, 2**31, "largest output, bytes pickled")
    crash_limit: int = _number(3, 1, 100, "processes a job may take down by itself")
    conflict_tries: int = _number(
        5, 0, 100, "how often one attempt is repeated because of conflicts")
    retain_completed: float = _number(
        7.0, 0, 36_500, "days that completed and cancelled jobs are kept; 0: for ever")
    retain_errors: float = _number(30.0, 0, 36_500, "days that jobs in error are kept; 0: for ever")
    retain_count: int = _number(
        100_000, 0, 2**31, "most finished jobs kept per status; 0: any number")
    own_hosts: str = field(default="", metadata=dict(
        text="names (host or host:port) that browsers know this server by, where a "
        "proxy sends another Host"))
    waiting_limit: int = _number(
        100_000, 0, 2**31, "most jobs that may wait when one is added from the web")
    waiting_limit_each: int = _number(
        10_000, 0, 2**31, "most jobs of one principal that may wait then")
    idempotency_hours: float = _number(
        24.0, 0, 8_760, "how long the idempotency keys of added jobs are known, hours")
    retain_interval: float = _number(60.0, 0.01, 86_400, "seconds from one tidying to the next")
    take_tasks: str = field(default="", metadata=dict(
        check=lambda given: filters.read(tasks=given),
        text="names of tasks: workers of this process take their jobs only"))
    take_tags: str = field(default="", metadata=dict(
        check=lambda given: filters.read(tags=given),
        text="tags: workers of this process take jobs that have one of them only"))
    take_priorities: str = field(default="", metadata=dict(
        check=lambda given: filters.read(priorities=given),
        text="range of priorities, as 0-5: workers of this process take such jobs only"))
    lease_seconds: float = _number(
        30.0, 1, 86_400, "a worker on another machine that says nothing for so long is "
        "taken for dead, seconds")
    beat_seconds: float = _number(
        10.0, 0.1, 3600, "how often workers that others can only watch say that they are "
        "there, seconds; a third of lease-seconds or less")
    missed_bound: int = _number(100, 1, 10_000, "most missed runs of a schedule made up for")
    missed_grace: float = _number(
        60.0, 0, 86_400, "seconds that a run may be late and is not yet missed")
    trail_days: float = _number(
        365.0, 0, 36_500, "days that it is kept who did what; 0: for ever")
    trail_count: int = _number(
        10_000, 0, 2**31, "most of what people did that is kept; 0: all of it")
    secret_names: str = field(
        default="password passwd passphrase secret token apikey api_key private_key "
        "authorization cookie credentials", metadata=dict(
            text="names of keys whose values nobody is shown"))
    naive_timezone: str = field(default="", metadata=dict(
        check=clock.zone, text="zone (IANA name) of the times without zone that "
        "release 0.5 stored; empty: the zone of this machine"))

    def changed(self, values: Mapping[str, object]) -> "Settings":
        """These settings with some replaced.  Raises BadSetting."""
        return replace(self, **{
            (name := _name(key)): _value(name, given) for key, given in values.items()})


FIELDS = {each.name: each for each in fields(Settings)}


def _name(key: str) -> str:
    name = str(key).lower().replace("-", "_")
    if name not in FIELDS:
        raise BadSetting(f"there is no setting {key!r}; settings are {', '.join(FIELDS)}")
    return name


def _value(name: str, given: Any) -> Any:
    default, meta = FIELDS[name].default, FIELDS[name].metadata
    if isinstance(default, str):
        return _text(name, str(given), meta)
    kind = int if isinstance(default, int) else float
    try:
        value = float(given)
        if isinstance(given, bool) or kind is int and value != int(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        wanted = "a whole number" if kind is int else "a number"
        raise BadSetting(
            f"setting {name.replace('_', '-')} cannot be {given!r}: "
            f"{wanted} is wanted ({meta['text']})") from None
    if not meta["low"] <= value <= meta["high"]:
        raise BadSetting(
            f"setting {name.replace('_', '-')} cannot be {given!r}: it goes from "
            f"{meta['low']} to {meta['high']} ({meta['text']})")
    return kind(value)


def _text(name: str, given: str, meta: Mapping[str, Any]) -> str:
    try:
        meta.get("check", str)(given)
    except ValueError as error:
        raise BadSetting(f"setting {name.replace('_', '-')} cannot be {given!r}: "
                         f"{error} ({meta['text']})") from None
    return given


def read(base: Settings, values: Mapping[str, object], source: str) -> Settings:
    """*base* with the values of a source; each wrong one is a line in the log."""
    for key, given in values.items():
        try:
            base = base.changed({key: given})
        except BadSetting as error:
            log.error("%s: %s", source, in_log(error))
    return base


def product_configuration() -> Mapping[str, str]:
    """The section of zope.conf, of either family of Zope; {} without."""
    try:
        from zope.app.appsetup.product import getProductConfiguration
    except ImportError:
        found = None
    else:
        found = getProductConfiguration(SECTION)
    if found is None:
        try:
            from App.config import getConfiguration
        except ImportError:
            return {}
        found = getattr(getConfiguration(), "product_config", {}).get(SECTION)
    return found or {}


def environment() -> Mapping[str, str]:
    return {key[len(PREFIX):]: value for key, value in os.environ.items()
            if key.startswith(PREFIX) and key[len(PREFIX):].lower() in FIELDS}


_process: Settings | None = None


def process() -> Settings:
    """The settings of this process, without what services store."""
    global _process
    if _process is None:
        _process = _adopt(load())
    return _process


def _adopt(settings: Settings) -> Settings:
    clock.naive_zone = clock.zone(settings.naive_timezone)
    return settings


def load() -> Settings:
    base = read(Settings(), product_configuration(), f"product-config {SECTION}")
    return read(base, environment(), "environment")


def reload() -> Settings:
    """Read the sources again, at the start of an application."""
    global _process
    _process = _adopt(load())
    return _process
