"""runzeo, with a commit lock that no client can keep.

    python -m lovely.remotetask.zeoserver -a 127.0.0.1:8100 -f var/Data.fs

Takes what runzeo takes, a configuration by -C included.  In ZEO 5.4 to 6.2 the
server closes the connection of a client that is past the transaction-timeout and
never tells its own storage, so that the commit lock stays taken: no client can
commit any more until the server is started again.  Here the storage is told.  And
there is a timeout, so that a client that hangs in a commit cannot hold up all others
for as long as it hangs.

Clients keep numbers for new objects that they were given and have not used.  A server
that starts again would give the same numbers to others: here it begins far beyond.

A FileStorage closes itself when fsync fails: nobody knows then what is on the disk.
runzeo goes on and answers every request by an error; here the process ends, so that a
supervisor starts another, which reads what there is.
"""
import logging
import os
import random
import sys
import threading

from ZEO import runzeo
from ZEO.asyncio import server
from ZEO.StorageServer import StorageServer
from ZODB.utils import p64, u64

from lovely.remotetask.runtime.engine import is_local

log = logging.getLogger("lovely.remotetask.zeoserver")

#: Seconds that a client may take from its vote to the end of its commit, unless -t
#: or the configuration says otherwise.
TIMEOUT = 30

LOOK_SECONDS = 0.5  # between two looks whether a storage has closed itself
GONE = 3            # exit code then
BATCH = 100         # numbers for new objects that a client is given at once


class Protocol(server.ServerProtocol):

    def close(self):
        """Close the connection; its transaction is over, and its lock free."""
        storage = self.zeo_storage
        super().close()
        if storage is not None:
            try:
                storage.notify_disconnected()
            except Exception:
                log.exception("what a client had begun could not be given up")


class Acceptor(server.Acceptor):

    def factory(self):
        protocol = super().factory()
        return Protocol(protocol.loop, protocol.addr, protocol.zeo_storage,
                        self.msgpack)


class Server(runzeo.ZEOServer):

    def setup_default_logging(self):
        """One line for each thing, where the configuration names no log."""
        if self.options.config_logger is None:
            logging.basicConfig(
                level=logging.INFO, stream=sys.stderr, force=True,
                format="%(asctime)s %(levelname)s %(name)s %(message)s")
            # Each client that comes and goes is half a dozen lines.
            logging.getLogger("ZEO").setLevel(logging.WARNING)

    def open_storages(self):
        """See runzeo; what clients may still have of numbers is left out."""
        super().open_storages()
        for storage in self.storages.values():
            if hasattr(storage, "set_max_oid"):
                beyond = BATCH * random.randrange(1_000, 1_000_000)
                storage.set_max_oid(p64(u64(storage._oid) + beyond))

    def create_server(self):
        """See runzeo.create_server, which does not let choose the Acceptor."""
        options = self.options
        timeout = options.transaction_timeout
        self.server = StorageServer(
            options.address, self.storages,
            read_only=options.read_only,
            client_conflict_resolution=options.client_conflict_resolution,
            msgpack=options.msgpack,
            invalidation_queue_size=options.invalidation_queue_size,
            invalidation_age=options.invalidation_age,
            transaction_timeout=TIMEOUT if timeout is None else timeout or None,
            ssl=options.ssl, Acceptor=Acceptor)
        address = self.server.addr
        log.info("serves %s at %s", ", ".join(sorted(self.storages)), address)
        if options.ssl is None and not is_local(address):
            log.warning("%s can be reached from other machines, and whoever reaches it "
                        "reads all data and can run code in its clients: give it "
                        "certificates (docs/cluster.txt), or a local address", address)

    def loop_forever(self):
        """Serve until a signal; end the process when a storage has closed itself."""
        over = threading.Event()
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            super().loop_forever()
        finally:
            over.set()

    def _watch(self, over):
        while not over.wait(LOOK_SECONDS):
            for name, storage in self.storages.items():
                if getattr(getattr(storage, "_file", None), "closed", False):
                    log.critical("storage %s has closed itself after an error: this "
                                 "server ends, start it again", name)
                    os._exit(GONE)


class Options(runzeo.ZEOOptions):
    __doc__ = runzeo.__doc__

    def usage(self, msg):
        """Say what is wrong with the options, and end."""
        print(f"ZEO server: {msg}", file=sys.stderr)
        sys.exit(2)


def main(args=None):
    """Serve until SIGTERM or SIGINT."""
    options = Options()
    options.realize(args)
    Server(options).main()


if __name__ == "__main__":
    main()
