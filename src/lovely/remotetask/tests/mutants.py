"""Bugs to be planted: each undoes one of the precautions that keep jobs safe.

A test that finds none of them proves nothing.  Each is a context manager that patches
the real code; its docstring says what is broken.
"""
from contextlib import contextmanager, nullcontext

MUTANTS = {}


def mutant(function):
    MUTANTS[function.__name__.replace("_", "-")] = contextmanager(function)
    return function


def planted(name):
    """The context in which that bug is there; no bug without a name."""
    return nullcontext() if name is None else MUTANTS[name]()
