"""The application with a shop in it, and Chromium to look at it.

    python -m lovely.remotetask.tests.pictures docs/screenshots
"""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lovely.remotetask
from lovely.remotetask.app import Application

HERE = Path(__file__).parent / "pages"
CHECKOUT = Path(lovely.remotetask.__path__[0]).parents[2]
NODE_MODULES = Path(os.environ.get("REMOTETASK_NODE", CHECKOUT / ".node")) / "node_modules"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
NEEDED = ("playwright-core", "axe-core")
BOUND = 900  # seconds


def missing() -> str:
    """What is not here of what is needed, as a text; '' when all is."""
    if CHROMIUM is None:
        return "there is no chromium"
    if shutil.which("node") is None:
        return "there is no node"
    absent = [name for name in NEEDED if not (NODE_MODULES / name).is_dir()]
    return f"no {' and '.join(absent)} in {NODE_MODULES.parent}: make node" if absent else ""


@contextlib.contextmanager
def shop():
    """The running application; its jobs are worked for."""
    directory = tempfile.mkdtemp(prefix="remotetask-pages-")
    running = None
    try:
        with open(os.devnull, "w") as nothing:
            running = Application(
                Path(directory) / "var", port=0, example=HERE / "shop",
                stream=nothing).start()
            yield running
    finally:
        if running is not None:
            running.stop()
        shutil.rmtree(directory, ignore_errors=True)


def look(running, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Have Chromium do what a script beside `browser.js` says."""
    return subprocess.run(
        ["node", str(HERE / script), running.url, running.login.login,
         running.login.password, str(CHROMIUM), *arguments],
        capture_output=True, text=True, timeout=BOUND,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)})


def main(directory="docs/screenshots"):
    if missing():
        return missing()
    Path(directory).mkdir(parents=True, exist_ok=True)
    with shop() as running:
        done = look(running, "pictures.js", directory)
    print(done.stdout, end="")
    return done.stderr or done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
