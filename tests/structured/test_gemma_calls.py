"""Tool calls under a grammar: what is written by chance is read by tool_calls.py into arguments
that validate."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("llguidance")

from structured_walks import TOOL_SETS, Walk, allowed, closing_tokens, validate  # noqa: E402

Q, CALL, END = '<|"|>', "<|tool_call>", "<tool_call|>"


@pytest.fixture(scope="module")
def llm(pillion):
    from pillion.models import TINY_TARGET

    with pillion.LLM(TINY_TARGET, n_ctx=256, drafter=None) as found:
        yield found


@pytest.fixture(scope="module")
def closing(llm):
    quote = llm.tokenizer.encode(Q, add_special=False, parse_special=True)
    return closing_tokens(llm.tokenizer, quote)


@pytest.fixture
def reply(llm):
    """The grammar of a reply with these tools."""
    from pillion.chat.tools import checked_tools

    def compile(tools, forced="", several=None, forms={}, prompt="x", thinks=True):
        from pillion.chat.quoting import Prompt

        listed = checked_tools(tools)
        parser = llm._chat.parser([tool["function"]["name"] for tool in listed])
        prompt, compiled = llm.structured.of_reply(
            Prompt(prompt), parser, listed, forms, forced, several, thinks
        )
        return parser, compiled

    return compile


def tool(parameters, name="f", **more):
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def of(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


def parsed(llm, parser, tokens):
    """The reply of these tokens, read as chat() reads it."""
    from pillion.chat.replies import Reply

    markers = llm._chat.marker_tokens
    text, at = "", []
    for token in tokens:
        if token in markers:
            at.append((len(text), markers[token]))
        text += llm.tokenizer.token_bytes(token, special=token in markers).decode("latin-1")
    raw = text.encode("latin-1")
    at = [(len(raw[:place].decode()), marker) for place, marker in at]
    return Reply().add(parser.feed(raw.decode(), at)).add(parser.finish(complete=True))


def follows(llm, compiled, text):
    constraint = compiled.start()
    for token in llm.tokenizer.encode(text, add_special=False, parse_special=True):
        kept, masks = constraint.plan([token], 1)
        if constraint.stopped or (kept[:1] != [token] and token not in allowed(masks[0])):
            return False
        constraint.accept([token])
    return constraint.stopped or bool(
        set(allowed(constraint.plan([], 0)[1][0])) & llm.tokenizer.end_tokens
    )


@pytest.mark.parametrize("name", TOOL_SETS)
def test_random_calls_are_read_and_valid(llm, reply, closing, name):
    tools = TOOL_SETS[name]
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    seen, n_ended = set(), 0
    for seed in range(12):
        parser, compiled = reply(tools, several=False, prompt="<|channel>thought\n<channel|>")
        walk = Walk(llm.tokenizer, compiled.start(), seed, closing).run(500)
        if not walk.ended:
            continue
        n_ended += 1
        found = parsed(llm, parser, walk.tokens)
        assert not found.broken and len(found.calls) == 1, llm.tokenizer.decode(
            walk.tokens, special=True
        )
        seen.add(found.calls[0].name)
        validate(json.loads(found.calls[0].arguments), schemas[found.calls[0].name])
    assert n_ended >= 6 and seen <= set(schemas) and len(seen) >= min(len(schemas), 2)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)
SCALARS = st.one_of(
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-999, 999),
        st.integers(0, 99),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.one_of(NAMES, st.integers(), st.booleans(), st.none()), min_size=1, max_size=3),
    ),
    st.builds(lambda value: {"const": value}, NAMES),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}]),
)


def objects(inner):
    def build(properties, share):
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties)[:share],
            "additionalProperties": False,
        }

    return st.builds(
        build, st.dictionaries(NAMES, inner, min_size=1, max_size=4), st.integers(0, 4)
    )


def arrays(inner):
    build = lambda items, low, more: {
        "type": "array",
        "items": items,
        "minItems": low,
        "maxItems": low + more,
    }  # noqa: E731
    return st.builds(build, inner, st.integers(0, 2), st.integers(0, 2))


NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        objects(inner),
        arrays(inner),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schema=objects(NESTED), seed=st.integers(0, 99))
def test_any_schema_gives_calls_that_are_read_and_valid(llm, reply, closing, schema, seed):
    parser, compiled = reply([tool(schema)], several=False, prompt="<|channel>thought\n<channel|>")
    walk = Walk(llm.tokenizer, compiled.start(), seed, closing).run(400)
    if walk.ended:
        found = parsed(llm, parser, walk.tokens)
        assert not found.broken and len(found.calls) == 1, llm.tokenizer.decode(
            walk.tokens, special=True
        )
        validate(json.loads(found.calls[0].arguments), schema)


def test_properties_come_in_any_order_and_once(llm, reply):
    _, compiled = reply(
        [
            tool(
                {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {}},
                    "required": ["b"],
                }
            )
        ]
    )
    for body in (
        "b:true",
        "a:1,b:true",
        "b:false,a:1",
        "c:null,b:true,a:-3",
        "a:1,c:[1,{x:2}],b:true",
    ):
        assert follows(llm, compiled, f"{CALL}call:f{{{body}}}{END}"), body
    for body in (
        "",
        "a:1",
        "b:true,b:true",
        "a:1,b:true,a:2",
        "b:1",
        "d:1,b:true",
        "b:true,",
        ",b:true",
        " b:true",
    ):
        assert not follows(llm, compiled, f"{CALL}call:f{{{body}}}{END}"), body


@pytest.mark.parametrize(
    "schema, good, bad",
    [
        ({"type": "string"}, [f"{Q}{Q}", f"{Q}a \"{{}}\n'{Q}"], ["a", '"a"', "1"]),
        (
            {"type": "string", "minLength": 2, "maxLength": 3},
            [f"{Q}日本{Q}", f"{Q}abc{Q}"],
            [f"{Q}a{Q}", f"{Q}abcd{Q}"],
        ),
        ({"type": "string", "pattern": "^a+$"}, [f"{Q}aa{Q}"], [f"{Q}ab{Q}", f"{Q}{Q}"]),
        ({"type": "string", "pattern": "b"}, [f"{Q}abc{Q}", f"{Q}b{Q}"], [f"{Q}a{Q}"]),
        ({"type": "string", "pattern": "a\\$"}, [f"{Q}xa$x{Q}"], [f"{Q}a{Q}"]),
        ({"type": "string", "pattern": "^(a|b)$"}, [f"{Q}a{Q}"], [f"{Q}ab{Q}"]),
        (
            {"type": "string", "pattern": "^a", "maxLength": 2},
            [f"{Q}ab{Q}"],
            [f"{Q}abc{Q}", f"{Q}ba{Q}"],
        ),
        ({"type": "string", "format": "date"}, [f"{Q}2026-11-28{Q}"], [f"{Q}2026-13-28{Q}"]),
        ({"enum": ["x", 1, None]}, [f"{Q}x{Q}", "1", "null"], ["x", "2", f"{Q}1{Q}"]),
        ({"enum": ["x", 1], "type": "string"}, [f"{Q}x{Q}"], ["1"]),
        ({"const": {"k": [1, "v"]}}, ["{k:[1," + Q + "v" + Q + "]}"], ["{k:[1]}"]),
        ({"type": "integer"}, ["0", "-12"], ["01", "1.5", "1e3", "+1"]),
        ({"type": "integer", "minimum": 3, "maximum": 12}, ["3", "12"], ["2", "13"]),
        ({"type": "number"}, ["0.5", "-1e-9", "7"], [".5", "1.", "1e999"]),
        ({"type": "number", "minimum": 0, "maximum": 1}, ["0.25", "1"], ["-0.1", "1.1"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "1"]),
        ({"type": "null"}, ["null"], ["None"]),
        ({"type": ["null", "boolean"]}, ["null", "true"], ["1"]),
        ({"type": "boolean", "nullable": True}, ["null", "true"], ["1"]),
        (
            {"anyOf": [{"type": "boolean"}, of(a={"type": "null"})]},
            ["true", "{a:null}"],
            ["{}", "null"],
        ),
        (
            {"type": "array", "items": {"type": "boolean"}},
            ["[]", "[true]", "[true,false]"],
            ["[1]", "[true,]", "[ ]"],
        ),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2},
            ["[null]", "[null,null]"],
            ["[]", "[null,null,null]"],
        ),
        ({"type": "array", "minItems": 2, "items": {"const": 1}}, ["[1,1]", "[1,1,1]"], ["[1]"]),
        (
            {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}},
            ["[]", "[1]", "[1,2]", "[1,2,3,3]"],
            ["[2]", "[1,3]"],
        ),
        (
            {
                "type": "array",
                "prefixItems": [{"const": 1}, {"const": 2}],
                "items": False,
                "minItems": 1,
            },
            ["[1]", "[1,2]"],
            ["[]", "[1,2,3]"],
        ),
        (
            {"type": "array", "items": [{"const": 1}], "additionalItems": False},
            ["[]", "[1]"],
            ["[1,1]"],
        ),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"type": "object", "properties": {}}, ["{}"], ["{a:1}"]),
        ({"type": "object"}, ["{}", "{a:1,b_c:{d:[]}}"], ["[]"]),
        (
            {"type": "object", "additionalProperties": {"type": "boolean"}},
            ["{}", "{a:true}"],
            ["{a:1}"],
        ),
        ({"type": "object", "additionalProperties": False}, ["{}"], ["{a:1}"]),
        (of(**{"a:b": {"const": 1}}), ["{" + Q + "a:b" + Q + ":1}"], ["{a:b:1}"]),
        (of(**{"with space": {"const": 1}}), ["{with space:1}"], ["{withspace:1}"]),
        ({}, ["1", "null", f"{Q}x{Q}", "[[1]]", "{a:{b:true}}"], ["x"]),
        (True, ["1"], []),
    ],
)
def test_values(llm, reply, schema, good, bad):
    _, compiled = reply([tool(of(v=schema))], several=False)
    for value in good:
        assert follows(llm, compiled, f"{CALL}call:f{{v:{value}}}{END}"), value
    for value in bad:
        assert not follows(llm, compiled, f"{CALL}call:f{{v:{value}}}{END}"), value


def test_references(llm, reply):
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#/$defs/a~1b"}, {"type": "null"}]}},
        "required": ["next"],
    }
    _, compiled = reply([tool({**of(root={"$ref": "#/$defs/a~1b"}), "$defs": {"a/b": node}})])
    assert follows(llm, compiled, f"{CALL}call:f{{root:{{next:{{next:null}}}}}}{END}")
    assert not follows(llm, compiled, f"{CALL}call:f{{root:{{}}}}{END}")


def test_choices_of_tools(llm, reply):
    tools = [tool(of(), "one"), tool(of(), "two"), tool(of(), "three", strict=True)]
    one, two = (f"{CALL}call:{name}{{}}{END}" for name in ("one", "two"))
    thought = "<|channel>thought\nhm\n<channel|>"
    _, required = reply(tools, thinks=False)
    assert not follows(llm, required, thought + one)
    _, required = reply(tools)
    assert all(follows(llm, required, text) for text in (one, two + one, thought + one))
    assert not any(
        follows(llm, required, text)
        for text in ("", "text", one + "text", f"{CALL}call:four{{}}{END}")
    )
    _, single = reply(tools, several=False)
    assert follows(llm, single, one) and not follows(llm, single, one + two)
    _, named = reply(tools, forced="two")
    assert (
        follows(llm, named, thought + two)
        and not follows(llm, named, one)
        and not follows(llm, named, two + two)
    )
    _, auto = reply(tools, forced=None)
    assert all(
        follows(llm, auto, text)
        for text in ("", "text", "a" + one + "b" + two, thought + "x" + one)
    )
    _, at_most_one = reply(tools, forced=None, several=False)
    assert follows(llm, at_most_one, "a" + one) and not follows(llm, at_most_one, one + two)
    _, free = reply(tools[:2], forced=None)
    assert free is None


def test_calls_or_a_body(llm, reply):
    forms = {"response_format": {"type": "json_object"}}
    _, either = reply([tool(of(), "one")], forced=None, forms=forms)
    call = f"{CALL}call:one{{}}{END}"
    assert follows(llm, either, "{}") and follows(llm, either, call + call)
    assert not follows(llm, either, "text") and not follows(llm, either, call + "{}")
    _, demanded = reply([tool(of(), "one")], forms=forms)
    assert follows(llm, demanded, call) and not follows(llm, demanded, "{}")


def test_thinking_that_the_template_began(llm, reply):
    call = f"{CALL}call:one{{}}{END}"
    _, compiled = reply([tool(of(), "one")], prompt="x<|turn>model\n<|channel>thought\n")
    assert follows(llm, compiled, "hm\n<channel|>" + call) and not follows(llm, compiled, call)
    _, compiled = reply([tool(of(), "one")], prompt="x<|turn>model\n<|channel>thought\n<channel|>")
    assert follows(llm, compiled, call) and not follows(
        llm, compiled, "<|channel>thought\nx<channel|>" + call
    )


def refused(pillion, reply, parameters, name="f", **more):
    with pytest.raises(pillion.UsageError) as caught:
        reply([tool(parameters, name, **more)])
    said = str(caught.value)
    assert "\n" not in said and len(said) < 400
    return said


def test_what_cannot_be_written(pillion, reply):
    assert "'my tool'" in refused(pillion, reply, of(), "my tool")
    assert "leads to itself" in refused(
        pillion, reply, {**of(a={"$ref": "#/$defs/a"}), "$defs": {"a": {"$ref": "#/$defs/a"}}}
    )
    assert "'#/$defs/b'" in refused(pillion, reply, of(a={"$ref": "#/$defs/b"}))
    assert "False" in refused(pillion, reply, of(a={"not": {}, "anyOf": [False]}))
    assert "at least 3" in refused(
        pillion, reply, of(a={"type": "array", "minItems": 3, "maxItems": 2})
    )
    assert "20000" in refused(
        pillion, reply, of(a={"type": "array", "minItems": 10**9, "items": {"const": 1}})
    )
    assert "20000" in refused(
        pillion, reply, of(a={"type": "string", "pattern": "^(x{1000}){1000}$"})
    )
    assert "no value has its type" in refused(
        pillion, reply, of(a={"type": "integer", "enum": ["x"]})
    )
    deep = {}
    for _ in range(10_000):
        deep = {"items": deep}
    assert "64" in refused(pillion, reply, of(a=deep))
    doubling = {
        f"d{n}": of(x={"$ref": f"#/$defs/d{n + 1}"}, y={"$ref": f"#/$defs/d{n + 1}"})
        for n in range(40)
    }
    assert "20000" in refused(
        pillion, reply, {**of(a={"$ref": "#/$defs/d0"}), "$defs": {**doubling, "d40": {"const": 1}}}
    )
    wide = {
        f"d{n}": {
            "anyOf": [
                of(x={"$ref": f"#/$defs/d{n + 1}", "title": 1, "minLength": m}) for m in range(9)
            ]
        }
        for n in range(9)
    }
    assert "5000 rules" in refused(
        pillion, reply, {**of(a={"$ref": "#/$defs/d0"}), "$defs": {**wide, "d9": {}}}
    )


def test_what_is_not_enforced_is_said(pillion, reply, caplog):
    unsaid = of(a={"type": "array", "uniqueItems": True}, b={"type": "string", "format": "uri"})
    with caplog.at_level(logging.WARNING, "pillion"):
        reply([tool(unsaid, "loose")]), reply([tool(unsaid, "loose")])
    assert [
        record.getMessage().count("'uniqueItems', 'format', which is not enforced")
        for record in caplog.records
    ] == [1]
    assert "'strict'" in refused(pillion, reply, unsaid, "tight", strict=True)


def test_models_without_a_syntax_for_calls(pillion, tmp_path):
    from pillion.structured import Structured

    class Chat:
        marker_tokens = {}

        def knows(self, marker):
            return False

        def opening(self, prompt, parser, forced):
            return prompt

    tools = [tool(of())]
    from pillion.chat.quoting import Prompt

    structured = Structured(Chat(), None, 10, "Llama")
    for arguments, word in (
        ((None, False), "parallel_tool_calls"),
        ((None, None), "response_format"),
    ):
        forms = {"response_format": {"type": "json_object"}} if word == "response_format" else {}
        with pytest.raises(
            pillion.UsageError, match=f"{word}.*Llama has no known syntax for tool calls"
        ):
            structured.of_reply(Prompt("x"), None, tools, forms, *arguments)
    assert structured.of_reply(Prompt("x"), None, tools, {}, None, None) == ("x", None)


# ---- hostile schemas ----


def doubling(n):
    """Each reference leads to the next one twice."""
    defs = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(n)}
    return {**defs, f"d{n}": {"properties": {"a": {"type": "string"}}}}


def test_references_that_double(llm, reply):
    root = {"$defs": doubling(60), "allOf": [{"$ref": "#/$defs/d0"}]}
    _, compiled = reply([tool(root)])
    assert follows(llm, compiled, f'{CALL}call:f{{a:<|"|>x<|"|>}}{END}')


def test_a_reference_that_leads_to_itself_through_allof(pillion, reply):
    root = {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "allOf": [{"$ref": "#/$defs/a"}]}
    with pytest.raises(pillion.UsageError, match="leads to itself"):
        reply([tool(root)])


def test_objects_of_thousands_of_properties(llm, reply, pillion):
    names = [f"p{i}" for i in range(600)]
    schema = {"type": "object", "properties": {name: {"type": "boolean"} for name in names}}
    parser, compiled = reply([tool(schema)])
    assert follows(llm, compiled, f"{CALL}call:f{{p3:true,p7:false,p599:true}}{END}")
    assert follows(llm, compiled, f"{CALL}call:f{{}}{END}")
    assert not follows(llm, compiled, f"{CALL}call:f{{p7:true,p3:false}}{END}")
    schema["properties"] = {f"p{i}": {"type": "boolean"} for i in range(4_000)}
    with pytest.raises(pillion.UsageError, match="4000 optional properties; at most 600"):
        reply([tool(schema)])


def test_enums_of_thousands_of_texts(llm, reply):
    values = [f"v{i}" for i in range(20_000)]
    _, compiled = reply([tool(of(a={"enum": [*values, None, ""]}))])
    for text in ('<|"|>v19999<|"|>', "null", '<|"|><|"|>'):
        assert follows(llm, compiled, f"{CALL}call:f{{a:{text}}}{END}")
    assert not follows(llm, compiled, f'{CALL}call:f{{a:<|"|>v20000<|"|>}}{END}')
