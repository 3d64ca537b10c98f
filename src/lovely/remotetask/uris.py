"""Which storage a URI names, and what can keep it from being opened.

    file:// zeo:// memory:// ...    what zodburi knows
    postgresql:// sqlite:///        RelStorage
"""
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import zodburi
from ZODB.POSException import ReadOnlyError

from lovely.remotetask.errors import RemoteTaskError
from lovely.remotetask.failure import in_log, text_of
from lovely.remotetask.runtime.engine import FULL

ZEO_SECONDS = 10     # how long a ZEO server may take to answer, unless the URI says
NEEDS_RELSTORAGE = ("a {}:// database needs RelStorage: pip install "
                    "'lovely.remotetask[relstorage]'")


class BadURI(RemoteTaskError, ValueError):
    """A URI that names no storage."""


class NotInstalled(RemoteTaskError, ImportError):
    """What a storage needs is not there; the text says how to get it."""


def file_of(uri: str) -> Path | None:
    """The path of the FileStorage that a URI names; None for other storages."""
    scheme, _, rest = uri.partition("://")
    return Path(rest.partition("?")[0]).absolute() if scheme == "file" else None


def resolve(uri):
    """(storage factory, options of ZODB.DB) of a URI."""
    scheme = uri.partition(":")[0]
    if scheme in ("postgres", "postgresql", "sqlite", "mysql", "oracle") \
            and find_spec("relstorage") is None:
        raise NotInstalled(NEEDS_RELSTORAGE.format(scheme))
    if scheme in ("postgres", "postgresql"):
        return _resolve_postgresql(uri)
    if scheme == "sqlite":
        return _resolve_sqlite(uri)
    if scheme == "zeo" and not {"wait", "wait_timeout"} & dict(
            parse_qsl(urlsplit(uri).query)).keys():
        uri += f"{'&' if '?' in uri else '?'}wait_timeout={ZEO_SECONDS}"
    return _resolve(uri, uri)


def _resolve(uri, given):
    """What zodburi makes of a URI, which was *given* in another form perhaps."""
    try:
        return zodburi.resolve_uri(uri)
    except zodburi.NoResolverForScheme:
        raise BadURI(
            f"{hidden(given)}: databases of that kind are not known; there are file://, "
            "zeo://, postgresql://, sqlite:///, memory:// and zconfig://") from None
    except zodburi.UnknownDatabaseKeywords as error:
        raise BadURI(f"{hidden(given)}: {error.args[0]}") from None


def sqlite_uri(uri: str) -> str:
    """sqlite:///directory as RelStorage says it: sqlite://?data_dir=/directory."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    if "data_dir" not in query:
        if parts.netloc or parts.path in ("", "/"):
            raise BadURI(
                f"{in_log(uri)}: write sqlite:///path/of/a/directory, with three slashes")
        query["data_dir"] = unquote(parts.path)
    if os.path.isfile(query["data_dir"]):
        raise BadURI(f"{in_log(query['data_dir'])} is a file: RelStorage keeps "
                          "several files in a directory, name that")
    return "sqlite://?" + urlencode(query)


def _resolve_sqlite(uri: str):
    return _resolve_relstorage(_sqlite_adapter, sqlite_uri(uri), uri)


def _sqlite_adapter(parts, query):
    """RelStorage's own helper cannot set pragmas, and the default, NORMAL, can lose
    commits when the power fails."""
    query = dict(query)
    directory = query.pop("data_dir")

    def factory(options):
        from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
        return Sqlite3Adapter(
            directory, pragmas={"synchronous": FULL}, options=options)
    return factory, query


def _resolve_postgresql(uri: str):
    return _resolve_relstorage(
        _PostgreSQL(), re.sub("^postgresql:", "postgres:", uri), uri)


def _resolve_relstorage(adapter, uri, given):
    from relstorage.zodburi_resolver import RelStorageURIResolver

    factory, rest = RelStorageURIResolver(adapter)(uri)
    # What is left is for ZODB.DB: zodburi reads it from any URI.
    return factory, _resolve("memory://?" + urlencode(rest), given)[1]


class _PostgreSQL:
    """Takes the place of RelStorage's own helper, which passes 'None' for what the
    URI leaves out, and %40 in a password as it stands."""

    PARAMETERS = ("application_name", "connect_timeout", "options", "passfile",
                  "service", "sslcert", "sslkey", "sslmode", "sslrootcert")

    def __call__(self, parts, query):
        dsn, rest = self.dsn(parts, query)

        def factory(options):
            from relstorage.adapters.postgresql import PostgreSQLAdapter
            return PostgreSQLAdapter(dsn=dsn, options=options)
        return factory, rest

    def dsn(self, parts, query):
        """What libpq is told, and what is left of the query for RelStorage."""
        facts = dict(
            dbname=unquote(parts.path[1:]), user=parts.username and unquote(parts.username),
            password=parts.password and unquote(parts.password), host=parts.hostname,
            port=parts.port)
        facts.update((name, query[name]) for name in self.PARAMETERS if name in query)
        return (" ".join(f"{name}={_quoted(value)}" for name, value in facts.items()
                         if value),
                {name: query[name] for name in query if name not in self.PARAMETERS})


def _quoted(value) -> str:
    text = str(value).replace("\\", r"\\").replace("'", r"\'")
    return f"'{text}'"


def hidden(uri: str) -> str:
    """A URI to be shown: without its password."""
    without = re.sub(r"(://[^/@:]*):.*@", r"\1:***@", uri)
    return in_log(re.sub(r"(password=)[^&]*", r"\1***", without))


@contextmanager
def said_once() -> Iterator[None]:
    """What goes wrong while a storage is opened is told by `trouble`, not logged too."""
    loggers = [logging.getLogger(name) for name in (
        "zc.lockfile", "relstorage.adapters.postgresql.connmanager")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before):
            logger.disabled = disabled


def trouble(name: object, error: BaseException) -> str:
    """What kept the storage of that name from being opened, in a sentence."""
    kind = type(error).__name__
    if kind == "ClientDisconnected":
        return f"the ZEO server of {name} does not answer"
    if kind == "NoDriversAvailableError":
        return (f"{name}: no driver for such a database is installed; the extras of "
                "RelStorage bring them, as in pip install 'RelStorage[postgresql]'")
    if isinstance(error, ImportError):
        return f"{name} needs a package that is not installed: {error}"
    if isinstance(error, PermissionError):
        return f"{name}: you may not open {error.filename}; its owner can"
    if isinstance(error, ReadOnlyError):
        return f"{name} is empty, or open for reading only"
    text = in_log(" ".join(text_of(error).split()))
    # Where zeros stand for the root's last record, it is as if it were packed away.
    if kind.startswith("Corrupted") or "load 0x00 " in text:
        return (f"{name} is damaged, or was not written to its end, as when the power "
                f"fails ({text}): `python -m ZODB.fsrecover OLD NEW` makes another file "
                "of what can be read")
    return f"{name} cannot be opened: {kind}: {text}"
