"""``python -m lovely.remotetask.cli``: the same as ``remotetask``."""
import sys

from lovely.remotetask.cli import main

if __name__ == "__main__":
    sys.exit(main())
