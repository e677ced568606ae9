"""A Griffe extension: renders this package's docstrings, which tell of parameters in lines like

    n_ctx: positions (None: the model's own, at most 4096).
    n_batch, n_threads: see `Context`.

It makes an "Args" section of such lines and links of names in backticks. It writes out the keywords
that `options.takes` gives a function, and leaves out constructors that users do not call."""

from __future__ import annotations

import re
from collections.abc import Iterator

import griffe

ENDS = r"(?:Returns|Raises|Needs|Changes|Afterwards) "


def arguments_in(text: str, names: list[str]) -> tuple[str, list[tuple[str, str]], str]:
    """A docstring cut in three: what stands before its arguments, (name, text) of each, the
    rest."""
    if not names:
        return text, [], ""
    one = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    begin = re.compile(rf"(?:^|(?<=[.)] ))((?:{one})(?:, (?:{one}))*): ", re.M)
    found = list(begin.finditer(text))
    if not found:
        return text, [], ""
    entries, rest = [], []
    for index, match in enumerate(found):
        end = found[index + 1].start() if index + 1 < len(found) else len(text)
        said = text[match.end() : end]
        # A blank line, or a sentence of the function itself, ends the last argument's text.
        cut = re.search(rf"\n\s*\n|(?:(?<=[.] )|(?<=\n)){ENDS}", said)
        if cut:
            rest.append(said[cut.start() :].strip())
            said = said[: cut.start()]
        said = re.sub(r"\s+", " ", said).strip()
        entries += [(name, said) for name in match[1].split(", ")]
    return text[: found[0].start()].rstrip(), entries, "\n\n".join(part for part in rest if part)


class Docstrings(griffe.Extension):
    """What the handler of mkdocstrings loads through `extensions`."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        everything = list(walk(pkg))
        for one in everything:
            if isinstance(one, griffe.Function):
                write_out_keywords(one, pkg)
            if "_made_by" in one.members and "__init__" in one.members:
                one.del_member("__init__")  # users get it from a call
        links = links_of(pkg)
        for one in everything:
            if one.docstring:
                one.docstring.value = linked(rendered(one, pkg), links)


def walk(parent: griffe.Object) -> Iterator[griffe.Object]:
    for one in list(parent.members.values()):
        if isinstance(one, griffe.Object):
            yield one
            yield from walk(one)


def parameters_of(one: griffe.Object) -> list[str]:
    if not isinstance(one, griffe.Function | griffe.Class):
        return []
    return [each.name for each in one.parameters if each.name not in ("self", "cls")]


def rendered(one: griffe.Object, pkg: griffe.Module) -> str:
    """The docstring with its arguments in the form that Griffe's parser reads."""
    text = one.docstring.value if one.docstring else ""
    names = parameters_of(one)
    before, entries, rest = arguments_in(text, names)
    own = dict(entries)
    for name, said in taken_options(one, pkg).items():
        if name in names and (name not in own or own[name].startswith("see ")):
            own[name] = said
    if not own:
        return text
    listed = [name for name in names if name in own] or list(own)
    lines = [f"    {name}: {own[name]}" for name in listed]
    return "\n\n".join(part for part in (before, "Args:\n" + "\n".join(lines), rest) if part)


def taken_options(one: griffe.Object, pkg: griffe.Module) -> dict[str, str]:
    """The texts of the options that a function takes by `options.takes`."""
    maker = one.members.get("__init__", one) if isinstance(one, griffe.Class) else one
    options = takes(maker, pkg) if isinstance(maker, griffe.Function) else None
    if options is None:
        return {}
    return {
        name: re.sub(r"\s+", " ", field.docstring.value).strip()
        for name, field in fields_of(options[0]).items()
        if field.docstring
    }


def takes(one: griffe.Function, pkg: griffe.Module) -> tuple[griffe.Class, set[str]] | None:
    """The dataclass that `@takes` names, and the fields that it leaves out."""
    for decorator in one.decorators:
        text = str(decorator.value)
        if text.startswith("takes("):
            name, *without = re.findall(r"[\w]+", text[len("takes(") :])
            return pkg["options"][name], set(without)
    return None


def fields_of(options: griffe.Class) -> dict[str, griffe.Attribute]:
    found: dict[str, griffe.Attribute] = {}
    for base in options.bases:
        parent = options.parent and options.parent.members.get(str(base))
        if isinstance(parent, griffe.Class):
            found |= fields_of(parent)
    own = options.members.items()
    return found | {name: one for name, one in own if isinstance(one, griffe.Attribute)}


def write_out_keywords(one: griffe.Function, pkg: griffe.Module) -> None:
    options = takes(one, pkg)
    if options is None:
        return
    given = [each for each in one.parameters if each.kind != griffe.ParameterKind.var_keyword]
    known = {each.name for each in given} | options[1]
    more = [
        griffe.Parameter(
            name,
            annotation=field.annotation,
            kind=griffe.ParameterKind.keyword_only,
            default=field.value,
        )
        for name, field in fields_of(options[0]).items()
        if name not in known
    ]
    one.parameters = griffe.Parameters(*given, *more)


def links_of(pkg: griffe.Module) -> dict[str, str]:
    """What a name in backticks may mean: public names, and members as `Class.member`."""
    found = {}
    for name in pkg.exports or ():
        name = str(name)
        found[name] = f"pillion.{name}"
        one = pkg[name]
        if one.is_class:
            for member in one.all_members:
                if not member.startswith("_"):
                    found[f"{name}.{member}"] = f"pillion.{name}.{member}"
    return found


def linked(text: str, links: dict[str, str]) -> str:
    return re.sub(
        r"(?<!\[)`([A-Za-z_.]+)(\([^`]*\))?`",
        lambda m: f"[{m[0]}][{links[m[1]]}]" if m[1] in links else m[0],
        text,
    )
