"""The package's import graph: no circles, whatever is imported first, and rooms that know only what
stands below them."""

import ast
import importlib.util
import json
import subprocess
import sys

import pytest
from build import PACKAGE

OPTIONAL = {"server": "fastapi", "integrations": "langchain_core", "_pyinstaller": "PyInstaller"}
"""Rooms that need a package which may be missing."""

ROOMS = {
    "media": set(),
    "chat": {"media"},
    "structured": {"chat"},
    "engine": set(),
    "llm": {"chat", "engine", "hub", "media", "structured"},
    "convert": set(),
    "benchmark": {"engine"},
    "llama_cpp": {"chat", "engine", "hub", "llm", "media", "structured"},
    "server": {"chat", "engine", "llm", "media", "structured"},
    "hub": set(),
    "integrations": {"engine", "llm", "server", "structured"},
    "cli": {
        "benchmark",
        "chat",
        "convert",
        "engine",
        "hub",
        "llm",
        "media",
        "server",
        "structured",
    },
}
"""Each room with the rooms it may import. All may import the modules beside the rooms, and of
those only `pillion` itself imports from rooms: inspection.py is the exception."""
MAY_IMPORT_ROOMS = {"pillion", "pillion.__main__", "pillion.inspection"}


def module_of(path):
    parts = ("pillion", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FILES = {name: path for name, path in FILES.items() if name != "pillion._cdef"}  # the build's


def statements(node):
    """All nodes but those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from statements(child)


def imports(name, nodes):
    """The package's modules that a module imports."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in nodes:
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
        target = f"{base}.{node.module}" if node.module else base
        for alias in node.names:
            inner = f"{target}.{alias.name}"
            found.add(inner if inner in FILES else target)
    return {one for one in found if one in FILES and one != name}


def graph():
    """{module: what it imports, at once or when a function of it is called}."""
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
    return {name: imports(name, statements(tree)) for name, tree in trees.items()}


def circle(edges):
    """A circle as a list of names, or None."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        found = next(filter(None, map(visit, sorted(edges[name]))), None)
        path.pop()
        done.add(name)
        return found

    return next(filter(None, map(visit, sorted(edges))), None)


def test_the_search_for_circles_finds_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_imports_have_no_circle():
    assert len(FILES) > 100
    assert circle(graph()) is None


def test_rooms_import_what_stands_below_them():
    assert set(ROOMS) == {p.parent.name for p in PACKAGE.glob("*/__init__.py")} - {
        "models",
        "_pyinstaller",
    }
    wrong = []
    for name, found in graph().items():
        room = name.split(".")[1] if name.count(".") else ""
        allowed = ROOMS[room] | {room} if room in ROOMS else set()
        if name in MAY_IMPORT_ROOMS or name.startswith("pillion._pyinstaller"):
            continue
        for one in found:
            other = one.split(".")[1] if one.count(".") else ""
            if other in ROOMS and other not in allowed:
                wrong.append(f"{name} imports {one}")
    assert not wrong


FIRST = """
import importlib, json, os, sys, traceback
import cffi, jinja2, numpy, rich, typer
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print(json.dumps(failed))
"""
"""Imports each module in a process that has imported no other one of the package."""


def importable():
    for name in FILES:
        room = name.split(".")[1] if name.count(".") else ""
        if name == "pillion.__main__" or name.endswith("hook-pillion"):
            continue
        if room not in OPTIONAL or importlib.util.find_spec(OPTIONAL[room]):
            yield name


@pytest.mark.slow
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_each_module_can_be_the_first(every):
    names = list(importable())[::every]
    one = subprocess.run([sys.executable, "-c", FIRST, *names], capture_output=True, text=True)
    assert json.loads(one.stdout) == [], one.stderr
    assert len(names) > 80 / every
