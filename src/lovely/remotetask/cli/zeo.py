"""The command `zeo`: a server that lets many processes have one Data.fs."""
from lovely.remotetask.cli import databases, times
from lovely.remotetask.cli.problems import BadArgument, NoDatabase

ADDRESS = "127.0.0.1:8100"
NEEDS_ZEO = ("a ZEO server needs packages that are not installed: pip install "
             "'lovely.remotetask[zeo]' ({})")


def serve(options, out) -> int:
    """Serve until a signal comes; the exit code."""
    try:
        from lovely.remotetask import zeoserver
    except ImportError as error:
        raise NoDatabase(NEEDS_ZEO.format(error)) from error
    with databases.opening(options.file or options.config):
        zeoserver.main(words(options))
    return 0


def words(options) -> list[str]:
    """The same, as runzeo takes it.  Raises BadArgument."""
    if bool(options.file) == bool(options.config):
        raise BadArgument("name a Data.fs, or a configuration by --config")
    if options.config and options.address:
        raise BadArgument("the address stands in the configuration")
    found = ["-C", options.config] if options.config else [
        "-f", options.file, "-a", options.address or ADDRESS]
    if options.timeout is not None:
        found += ["-t", str(times.duration(options.timeout))]
    return found
