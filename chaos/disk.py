"""The library of disk.c, made when it is needed."""
import shutil
import subprocess
import unittest
from pathlib import Path


def library(directory):
    """Compile it into a directory; its path.  Raises SkipTest without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise unittest.SkipTest("there is no C compiler to make the failing disk with")
    path = Path(directory) / "disk.so"
    if not path.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(path),
                        str(Path(__file__).with_name("disk.c")), "-ldl"], check=True)
    return path


def environment(directory, under, **more):
    """What a process needs to have such a disk under a directory."""
    return {"LD_PRELOAD": str(library(directory)),
            "CHAOS_FSYNC_UNDER": str(under), **more}
