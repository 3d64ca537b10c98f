"""``python -m lovely.remotetask.app``: the application without the command line."""
import argparse
import sys

from lovely.remotetask.app import run


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m lovely.remotetask.app")
    parser.add_argument("directory", nargs="?", default="var")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--example", help="a package with a configure.zcml")
    parser.add_argument(
        "--no-example", dest="example", action="store_false", default=None)
    options = parser.parse_args(arguments)
    return run(
        options.directory, options.host, options.port, example=options.example)


if __name__ == "__main__":
    sys.exit(main())
