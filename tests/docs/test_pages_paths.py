"""The pages name things that exist: paths, links, anchors, options. And their lines are short."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
ROOMS = ("benchmarks", "csrc", "docs", "examples", "python", "tests", "toolchains", "tools", ".ci")
PAGES = sorted(
    [
        *(TREE / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(page for room in ROOMS for page in (TREE / room).rglob("*.md")),
    ]
)
CHECKED = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what once was
COLUMNS = 100

# What has the suffix of a file of ours, and is a file of somebody else's or one that a command
# makes.
ELSEWHERE = {
    "app.py",  # an example of threads.md
    "csrc/backends/mydev/",  # the example of adding_a_backend.md
    *("ask.py", "planets.py", "questions.py"),  # the reader of first_hour.md writes them
    "HAP_compute_res.h",
    "qurt_memory.h",
    "rtos/qurt/compute*/include/posix",
}
# Pages that describe files of other projects, under those projects' paths.
FOREIGN = {"docs/hexagon_driver.md"}
SUFFIXES = re.compile(r"\.(py|h|c|cpp|cu|cuh|inl|inc|def|md|sh|cmake|js|css|html|toml|java)$")


def everything():
    """Paths of all files and folders of the repository, as it names them."""
    found = {path.name for path in TREE.iterdir()}
    for room in ROOMS:
        for path in [TREE / room, *(TREE / room).rglob("*")]:
            found.add(path.relative_to(TREE).as_posix())
    return found


EVERYTHING = everything()
FOLDERS = {path.name for room in ("csrc", "csrc/backends") for path in (TREE / room).iterdir()}


def name_of(page):
    return page.relative_to(TREE).as_posix()


def spans(text):
    """What stands in single backticks, outside of blocks."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    return re.findall(r"`([^`\n]+)`", text)


def looks_like_a_path(span):
    span = span.split("#")[0]
    if not re.fullmatch(r"[\w./*{},-]+", span) or span.startswith(("/", "-", ".", "build/")):
        return False
    if SUFFIXES.search(span):
        return True
    first = span.split("/")[0]
    return "/" in span and first in {*ROOMS, *FOLDERS}


def expanded(span):
    """`a.{h,cpp}` is two paths."""
    braces = re.search(r"\{([^{}]*)\}", span)
    if not braces:
        return [span]
    return [
        path
        for one in braces[1].split(",")
        for path in expanded(span[: braces.start()] + one + span[braces.end() :])
    ]


def exists(path):
    """From the root of the tree, or from any folder in it, as `core/graph.h` and `engine.py`."""
    path = path.rstrip("/")
    return any(fnmatch(one, path) or fnmatch(one, f"*/{path}") for one in EVERYTHING)


@pytest.mark.parametrize("page", CHECKED, ids=name_of)
def test_the_paths_of(page):
    if name_of(page) in FOREIGN:
        return
    named = {span for span in spans(page.read_text(encoding="utf-8")) if looks_like_a_path(span)}
    paths = {path for span in named for path in expanded(span)} - ELSEWHERE
    assert [path for path in sorted(paths) if not exists(path)] == []


def test_the_rooms_of_the_architecture():
    page = (TREE / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = re.search(r"## 1\. Rooms\n\n```\n(.*?)```", page, re.S)[1]
    named = set(re.findall(r"(?<!\w)[\w/]+/", rooms))
    assert len(named) > 30
    assert {path for path in named if not exists(path)} == set()


def anchors(page):
    """The ids that a page's headings get."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ +(.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert TREE in there.resolve().parents, target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_lines_of(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_points_out_of_the_repository(page):
    text = page.read_text(encoding="utf-8")
    if page.parent == TREE / "docs" / "api":  # one folder deeper; test_the_links_of follows these
        text = text.replace("](../", "](")
    assert re.findall(r"shared/|prototypes/|(?<!\.)\.\./", text) == []


def test_the_index_has_every_page():
    listed = set(re.findall(r"\]\(([a-z_0-9]+\.md)\)", (TREE / "docs" / "index.md").read_text()))
    assert {page.name for page in (TREE / "docs").glob("*.md")} - {"index.md"} == listed


def test_the_figures_of_the_readme_are_those_of_performance():
    """Each number with a fraction or a unit of speed; 11 and 37 ms of the server too."""
    readme = (TREE / "README.md").read_text(encoding="utf-8")
    virtues = readme[readme.index("## Why pillion") : readme.index("**Limits.**")]
    measured = (TREE / "docs" / "performance.md").read_text(encoding="utf-8")
    figures = set(re.findall(r"\d+\.\d+|\d+(?= ms)", virtues))
    assert len(figures) > 12
    assert {one for one in figures if not re.search(rf"(?<![\d.]){one}(?![\d])", measured)} == set()


def test_the_options_of_the_command_line(pillion):
    from pillion.cli.main import app
    from pillion.cli.words import options_of

    known = {"--help", "--version", "--verbose"}
    for command in app.registered_commands:
        known |= options_of(command.callback)
    named = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", (TREE / "docs" / "cli.md").read_text()))
    assert len(named) > 40
    assert named <= known, named - known
