"""What a source file says: its module, classes, functions and docstrings.

Reads text and never imports it; knows neither the database nor the service.
"""
import ast
import gc
import io
import threading
import tokenize
import warnings
from pathlib import PurePosixPath
from typing import NamedTuple

CLASS, FUNCTION = "class", "function"
SUMMARY = 200    # characters of the first paragraph that are kept
SHOWN = "read "  # stands before the path in what the compiler says of a file

# Python 3.11 counts the depth of the syntax trees that several threads make at once
# for all of them together, and says "SystemError: AST constructor recursion depth
# mismatch".  A thread loses its turn while it makes one only when garbage is collected
# in between: so none is, and nobody else, a traceback for one, can make a tree then.
_parsing = threading.Lock()

# What is doubtful in the files that are read is not ours to repair.
warnings.filterwarnings("ignore", module=SHOWN)


class Definition(NamedTuple):
    """A class or a function, wherever in its module it stands."""

    kind: str
    name: str  # with the names of what it stands in: JSONDecoder.decode
    line: int


class Reading(NamedTuple):
    """What was found in one file.  `trouble` says why nothing was."""

    module: str
    summary: str = ""
    definitions: tuple[Definition, ...] = ()
    text: str = ""  # names and docstrings: what the file is found by
    trouble: str | None = None

    def count(self, kind: str) -> int:
        return sum(definition.kind == kind for definition in self.definitions)


def read(path: str, source: bytes) -> Reading:
    """The reading of a file; *path* is relative to the directory of the modules."""
    try:
        return _reading(module_of(path), tree_of(text_of(source), SHOWN + path))
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError) as error:
        # Wrong syntax; bytes that are not in the encoding, or null characters; an
        # unknown encoding; brackets or operators nested too deep for the parser,
        # which says MemoryError for some of them.  The library tests them all.
        return unreadable(path, error)


def unreadable(path: str, error: Exception) -> Reading:
    """The reading of a file that cannot be read or understood, and why."""
    return Reading(
        module_of(path), trouble=storable(f"{type(error).__name__}: {error}"))


def text_of(source: bytes) -> str:
    """The text of a source file, in the encoding that it names itself."""
    file = io.BytesIO(source)
    encoding, _ = tokenize.detect_encoding(file.readline)
    file.seek(0)
    return io.TextIOWrapper(file, encoding).read()


def tree_of(text: str, name: str) -> ast.Module:
    with _parsing:
        collects = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(text, name)
        finally:
            if collects:
                gc.enable()


def module_of(path: str) -> str:
    """The name under which a file is imported: ``json/__init__.py`` is ``json``."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)


def storable(text: str) -> str:
    """Texts of the library may hold half of a surrogate pair; no database does."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _reading(module, tree) -> Reading:
    docstring = storable(ast.get_docstring(tree) or "")
    summary = " ".join(docstring.partition("\n\n")[0].split())[:SUMMARY]
    definitions, texts = [], [module, docstring]
    _collect(tree, "", definitions, texts)
    return Reading(module, summary, tuple(definitions), "\n".join(texts))


def _collect(node, prefix, definitions, texts) -> None:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            _collect(child, prefix, definitions, texts)
            continue
        kind = CLASS if isinstance(child, ast.ClassDef) else FUNCTION
        name = prefix + child.name
        definitions.append(Definition(kind, name, child.lineno))
        texts += [child.name, storable(ast.get_docstring(child) or "")]
        _collect(child, name + ".", definitions, texts)
