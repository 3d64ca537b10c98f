"""How a command comes to the database: to read, beside whoever writes; to write,
through the process that has it, or alone."""
import time
from contextlib import contextmanager

from lovely.remotetask.cli import databases
from lovely.remotetask.cli.problems import Busy, NoDatabase
from lovely.remotetask.cli.socket import connect, path_for
from lovely.remotetask.cli.verbs import perform, silent

PATIENCE_SECONDS = 5.0   # for others who have the database for a moment only
LOOK_SECONDS = 0.1


class Here:
    """Calls verbs on a database that this process has open."""

    def __init__(self, database, db):
        self.database, self.db = database, db

    def ask(self, verb, service=None, arguments=None, tell=silent):
        return perform(self.db, verb, service, arguments, tell)

    def close(self):
        self.database.close(self.db)


class Desk:
    """Where the commands of one call ask their questions."""

    def __init__(self, database: str | None = None, zcml=(), modules=()):
        self.database = databases.find(database)
        self.zcml, self.modules = zcml, modules

    @contextmanager
    def reading(self):
        yield from _closing(self._reader())

    @contextmanager
    def writing(self):
        yield from _closing(self._writer())

    @contextmanager
    def watching(self):
        """For who waits for news: through the process that has the database."""
        yield from _closing(self._client() or self._reader())

    def running(self):
        """What the process that has the database says of its services; [] without."""
        client = self._client()
        if client is None:
            return []
        try:
            return client.ask("services")
        except NoDatabase:  # it is about to stop
            return []
        finally:
            client.close()

    def _client(self):
        if self.database.file is None:
            return None
        return connect(path_for(self.database.file))

    def _reader(self):
        try:
            db = self.database.open_to_read()
        except NoDatabase:
            if self.database.file is None:
                raise
            # A pack puts another file in its place: look once more.
            time.sleep(LOOK_SECONDS)
            db = self.database.open_to_read()
        return Here(self.database, db)

    def _writer(self):
        client = self._client()
        if client is not None:
            return client
        self.database.configure(self.zcml, self.modules)
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return Here(self.database, self.database.open())
            except Busy:
                # It may have come to work meanwhile, or be done in a moment.
                client = self._client()
                if client is not None:
                    return client
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_SECONDS)


def _closing(way):
    try:
        yield way
    finally:
        way.close()
