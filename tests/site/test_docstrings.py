"""Every public name has a docstring that tells of each of its parameters, and a place on a page.

Read from the source, as the site does: attributes count as documented by the text behind them."""

import re

import pytest
from site_pages import TREE

griffe = pytest.importorskip("griffe", reason="the extra `docs` is not installed")

# Public modules beside `pillion.__all__`. pillion.llama_cpp is not among them: its names are those
# of llama-cpp-python, and docs/from_llama_cpp_python.md goes through them.
FURTHER = ("hub", "integrations.ray", "integrations.langchain")


def loaded():
    package = griffe.load("pillion", search_paths=[TREE / "python"], resolve_aliases=True)
    names = [str(name) for name in package.exports]
    names += [f"{module}.{name}" for module in FURTHER for name in package[module].exports]
    return package, [*names, "integrations.MissingExtra"]


PACKAGE, NAMES = loaded()


def target(one):
    return one.final_target if one.is_alias else one


def text_of(one):
    return one.docstring.value if one.docstring else ""


def untold(function, *texts):
    """Parameters whose name is not in the texts."""
    said = " ".join(texts)
    return [
        one.name
        for one in function.parameters
        if one.name not in ("self", "cls")
        and one.kind.name not in ("var_keyword", "var_positional")
        and not re.search(rf"(?<!\w){re.escape(one.name)}(?!\w)", said)
    ]


def is_plain_data(one):
    """Its fields are its parameters, and each has a text of its own."""
    bases = {str(base) for base in one.bases}
    return "dataclass" in one.labels or "NamedTuple" in bases


def is_made_elsewhere(one):
    """Users get it from a call: its constructor is the package's own."""
    return "_made_by" in one.members or one.name in ("Metadata", "Generation")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_explained(name):
    one = target(PACKAGE[name])
    assert text_of(one), f"{name} has no docstring"
    if one.is_function:
        assert untold(one, text_of(one)) == []
    if one.is_class:
        check_class(name, one)


def check_class(name, one):
    init = one.members.get("__init__")
    if init is not None and not is_plain_data(one) and not is_made_elsewhere(one):
        assert untold(init, text_of(one), text_of(init)) == [], name
    for member, found in one.all_members.items():
        found = target(found)
        is_ours = found.canonical_path.startswith("pillion.")
        if member.startswith("_") or is_retold(one, member) or not is_ours:
            continue
        assert text_of(found), f"{name}.{member} has no docstring"
        if found.is_function:
            assert untold(found, text_of(found)) == [], f"{name}.{member}"


def is_retold(one, member):
    """A constant of an error's class, such as `code`: the base tells what it is."""
    return member == "code" and "PillionError" in {base.name for base in one.mro()}


def test_every_name_is_on_one_page():
    pages = (TREE / "docs" / "api").glob("*.md")
    shown = [
        one
        for page in pages
        for one in re.findall(r"^::: pillion\.(\S+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    assert sorted(shown) == sorted(NAMES)


def test_the_check_sees_what_is_missing():
    code = 'def f(a, b, *rest):\n    """Adds a and something."""\n'
    with griffe.temporary_visited_module(code) as module:
        assert untold(module["f"], text_of(module["f"])) == ["b"]
