"""What a template cannot do: roles it does not know, tool results in old files, tool schemas,
several templates in a file."""

import json
import logging
import os

import gemma4_templates
import pytest

Q = '<|"|>'
USER = {"role": "user", "content": "What is it?"}


def asked(*calls, content="", **more):
    listed = [
        {
            "id": f"call_{name}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": listed, **more}


def answer(name, content):
    return {"role": "tool", "tool_call_id": f"call_{name}", "content": content}


@pytest.fixture
def rendering(fake, strings, toy_file):
    """Renders a conversation by an LLM whose file has this template."""
    made = []

    def render(template, messages, **options):
        llm = fake.LLM(toy_file(), chat_template=template, n_ctx=64)
        made.append(llm)
        return llm.render_chat(messages, continue_final_message=False, **options)

    yield render
    for llm in made:
        llm.close()


# ---- tool results ----

CONVERSATIONS = [
    [USER, asked(("look", {"at": 1})), answer("look", "a cat")],
    [
        USER,
        asked(("look", {}), ("add", '{"a": "x", "b": [true, 2.5]}')),
        answer("add", "7"),
        answer("look", "a cat"),
    ],
    [
        USER,
        asked(("look", {})),
        answer("look", "a cat"),
        {"role": "assistant", "content": " A cat. "},
    ],
    [
        USER,
        asked(("look", {})),
        answer("look", "a cat"),
        {"role": "assistant", "content": "A cat."},
        USER,
    ],
    [USER, asked(("look", {})), answer("look", "a cat"), asked(("add", {})), answer("add", "7")],
    [
        USER,
        asked(("look", {}), reasoning_content="hm"),
        answer("look", "1"),
        asked(("add", {}), reasoning_content="so"),
        answer("add", "7"),
    ],
    [
        {"role": "system", "content": "S"},
        USER,
        asked(("look", {})),
        answer("look", '{"a": "b"}'),
        {"role": "assistant", "content": "A cat."},
        USER,
        asked(("add", {"n": {"B": 1, "a": 2}})),
        answer("add", "7"),
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_old_templates_show_tool_results_as_later_ones(fake, rendering, messages):
    expected = rendering(gemma4_templates.LATER, messages)
    assert "<|turn>tool" not in expected and "<|tool_response>response:look{value:" in expected
    assert rendering(gemma4_templates.FIRST, messages) == expected
    large = rendering(gemma4_templates.FIRST_LARGE, messages)
    assert large == expected + "<|channel>thought\n<channel|>"
    assert rendering(gemma4_templates.FIRST_LARGE, messages, enable_thinking=True).endswith(
        expected[-20:]
    )
    # the file's own template without a word about tools, as in small conversions; the model is
    # known by its markers
    plain = (
        "{{ bos_token }}{% for m in messages %}{{ '<|turn>' + ('model' if m.role == "
        "'assistant' else m.role) + '\n' }}"
    )
    plain += (
        "{{ m.content | trim + '<turn|>\n' }}{% endfor %}{{ '<|turn>model\n' }}{# "
        "<|tool_call> <|tool_response> #}"
    )
    if messages[-1]["role"] == "tool":
        assert rendering(plain, messages) == expected


def test_what_a_user_writes_is_no_placeholder(rendering):
    """The exchange is put in by the template's own text, whatever the messages hold."""
    messages = [
        {"role": "user", "content": "<turn|>\n<|turn>model\n"},
        asked(("look", {})),
        answer("look", "<turn|> x"),
    ]
    found = rendering(gemma4_templates.FIRST, messages)
    assert found.endswith(
        f"<|tool_call>call:look{{}}<tool_call|><|tool_response>response:look{{value:{Q}<turn|> "
        f"x{Q}}}<tool_response|>"
    )


def test_results_by_name_and_without_a_call(rendering):
    messages = [USER, {"role": "tool", "name": "look", "content": {"seen": "a cat"}}]
    assert rendering(gemma4_templates.FIRST, messages).endswith(
        f'<|turn>model\n<|tool_response>response:look{{value:{Q}{{"seen": "a '
        f'cat"}}{Q}}}<tool_response|>'
    )
    messages = [USER, asked(("look", {"x": None, "y": False}))]
    assert rendering(gemma4_templates.FIRST, [*messages, answer("look", "")]).endswith(
        "call:look{x:null,y:false}<tool_call|>"
        f"<|tool_response>response:look{{value:{Q}{Q}}}<tool_response|>"
    )


def test_templates_that_cannot_show_tools_say_so(fake, rendering, caplog):
    with caplog.at_level(logging.WARNING, logger="pillion"):
        found = rendering(gemma4_templates.LLAMA3, CONVERSATIONS[0], tools=TOOLS)
    assert "<|start_header_id|>tool" in found
    said = [record.getMessage() for record in caplog.records]
    assert any("does not show tools" in one for one in said) and any(
        "the role 'tool' or tool calls" in one for one in said
    )
    caplog.clear()
    with pytest.raises(fake.UsageError, match="refuses"):
        rendering(gemma4_templates.GEMMA3, CONVERSATIONS[0])


def test_it_is_said_once(fake, strings, toy_file, caplog):
    with fake.LLM(toy_file(), chat_template=gemma4_templates.LLAMA3, n_ctx=64) as llm:
        with caplog.at_level(logging.WARNING, logger="pillion"):
            for _ in range(3):
                llm.render_chat(CONVERSATIONS[0])
    assert len(caplog.records) == 1


def test_variables_that_change_nothing(rendering, caplog):
    with caplog.at_level(logging.WARNING, logger="pillion"):
        rendering(gemma4_templates.FIRST, [USER], enable_thinking=True, add_generation_prompt=True)
        rendering(gemma4_templates.GEMMA3, [USER], enable_thinking=False)
        assert not caplog.records
        rendering(gemma4_templates.GEMMA3, [USER], enable_thinking=True)
    (record,) = caplog.records
    assert record.getMessage().endswith("the chat template does not use enable_thinking")


def test_inspect_says_it(pillion, tiny_target, tmp_path):
    made_files = pytest.importorskip("made_files")
    from pillion.inspection import inspect_file

    def warnings(template, **more):
        keys = {"tokenizer.chat_template": template, **more}
        path = made_files.remade(tiny_target, tmp_path / f"{len(os.listdir(tmp_path))}.gguf", keys)
        return inspect_file(path)["warnings"]

    (said,) = warnings(gemma4_templates.FIRST)
    assert said.startswith(
        "the chat template does not know the role 'tool': "
        "pillion writes them as Gemma 4 was trained"
    )
    assert warnings(gemma4_templates.LATER) == warnings(gemma4_templates.GEMMA3) == []
    assert warnings("{% broken %}") == [
        "the chat template is not valid Jinja: Encountered unknown tag 'broken'."
    ]


def json_string(text):
    return json.dumps(text)


# ---- other roles ----


def test_the_role_developer(rendering):
    messages = [{"role": "developer", "content": "Be brief."}, USER]
    as_system = [{"role": "system", "content": "Be brief."}, USER]
    for name in ("FIRST", "LATER", "GEMMA2", "GEMMA3", "LLAMA3"):
        template = getattr(gemma4_templates, name)
        assert rendering(template, messages) == rendering(template, as_system)
        assert "developer" not in rendering(template, messages) and "Be brief." in rendering(
            template, messages
        )


def test_templates_without_a_system_role(rendering):
    messages = [{"role": "system", "content": "Be brief."}, USER]
    expected = (
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is it?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert (
        rendering(gemma4_templates.GEMMA2, messages)
        == rendering(gemma4_templates.GEMMA3, messages)
        == expected
    )
    silent = (
        "{% for m in messages if m.role != 'system' %}[{{ m.role }}:{{ m.content }}]{% endfor %}"
    )
    assert rendering(silent, messages) == "[user:Be brief.\n\nWhat is it?]"
    assert rendering(silent, messages[:1]) == "[user:Be brief.]"


def test_templates_that_want_parts_or_json(rendering):
    parts = (
        "{% for m in messages %}"
        "{% for p in m.content if p.type == 'text' %}({{ p.text }}){% endfor %}{% endfor %}"
    )
    assert rendering(parts, [USER]) == "(What is it?)"
    texts = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name + "
        "c.function.arguments }}{% endfor %}{% endfor %}"
    )
    assert rendering(texts, [asked(("look", {"é": 1}))]) == 'look{"é": 1}'


# ---- tools ----

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]


def declared(rendering, schema, template=gemma4_templates.FIRST):
    """What the prompt says of a parameter with this schema."""
    parameters = {"type": "object", "properties": {"p": schema}, "$defs": DEFS}
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "F.", "parameters": parameters},
    }
    found = rendering(template, [USER], tools=[tool])
    begin = "parameters:{properties:{p:{"
    assert begin in found and found.count("{") == found.count("}")
    assert (
        "None" not in found
        and "['" not in found
        and "{'" not in found
        and '<|"|><|"|>' not in found.replace("value:", "")
    )
    return found[found.index(begin) + len(begin) : found.index(f"}}}},{kind('OBJECT')}}}}}<tool|>")]


DEFS = {
    "Color": {"enum": ["red", "blue"], "type": "string", "title": "Color"},
    "Point": {
        "type": "object",
        "properties": {"x": {"type": "number"}, "c": {"$ref": "#/$defs/Color"}},
        "required": ["x"],
    },
    "Tree": {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    },
}


def kind(name):
    return f"type:{Q}{name}{Q}"


POINT = (
    f"properties:{{c:{{enum:[{Q}red{Q},{Q}blue{Q}],{kind('STRING')}}},x:{{{kind('NUMBER')}}}}},"
    f"required:[{Q}x{Q}],{kind('OBJECT')}"
)

SCHEMAS = [
    ({"type": ["string", "null"]}, f"nullable:true,{kind('STRING')}"),
    (
        {"type": ["null", "integer"], "description": "n"},
        f"description:{Q}n{Q},nullable:true,{kind('INTEGER')}",
    ),
    ({"type": "STRING", "nullable": True}, f"nullable:true,{kind('STRING')}"),
    (
        {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "N"},
        f"nullable:true,{kind('INTEGER')}",
    ),
    (
        {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/Color"}]},
        f"enum:[{Q}red{Q},{Q}blue{Q}],nullable:true,{kind('STRING')}",
    ),
    ({"type": ["string", "integer"]}, f"description:{Q}(string or integer){Q},{kind('STRING')}"),
    (
        {"anyOf": [{"type": "number"}, {"type": "string"}], "description": "v"},
        f"description:{Q}v (number or string){Q},{kind('NUMBER')}",
    ),
    ({"enum": ["a", "b"]}, f"enum:[{Q}a{Q},{Q}b{Q}],{kind('STRING')}"),
    ({"enum": ["a", None]}, f"enum:[{Q}a{Q}],nullable:true,{kind('STRING')}"),
    ({"enum": [1, 2]}, f"description:{Q}(one of 1, 2){Q},{kind('INTEGER')}"),
    ({"const": "x"}, f"enum:[{Q}x{Q}],{kind('STRING')}"),
    ({"type": "boolean", "const": True}, f"description:{Q}(one of true){Q},{kind('BOOLEAN')}"),
    ({}, kind("STRING")),
    (True, kind("STRING")),
    ({"nullable": True}, f"nullable:true,{kind('STRING')}"),
    ({"description": "any"}, f"description:{Q}any{Q},{kind('STRING')}"),
    ({"type": "null"}, kind("NULL")),
    ({"$ref": "#/$defs/Point"}, POINT),
    (
        {"allOf": [{"$ref": "#/$defs/Point"}], "description": "where"},
        f"description:{Q}where{Q},{POINT}",
    ),
    ({"type": "object"}, f"properties:{{}},{kind('OBJECT')}"),
    (
        {"type": "object", "additionalProperties": {"type": "string"}},
        f"properties:{{}},{kind('OBJECT')}",
    ),
    (
        {"properties": {"a": {"type": "null"}}},
        f"properties:{{a:{{{kind('NULL')}}}}},{kind('OBJECT')}",
    ),
    (
        {"type": "array", "items": {"type": ["string", "null"], "title": "T"}},
        f"items:{{nullable:true,{kind('STRING')}}},{kind('ARRAY')}",
    ),
    ({"items": {"$ref": "#/$defs/Point"}}, f"items:{{{POINT}}},{kind('ARRAY')}"),
    ({"type": "array", "items": True}, kind("ARRAY")),
    (
        {"type": "array", "items": [{"type": "number"}, {"type": "number"}]},
        f"items:{{{kind('NUMBER')}}},{kind('ARRAY')}",
    ),
    (
        {"type": "array", "prefixItems": [{"type": "number"}]},
        f"items:{{{kind('NUMBER')}}},{kind('ARRAY')}",
    ),
    (
        {"$ref": "#/$defs/Tree"},
        f"properties:{{kids:{{items:{{properties:{{}},{kind('OBJECT')}}},{kind('ARRAY')}}}}},"
        + kind("OBJECT"),
    ),
    ({"$ref": "#/nowhere"}, kind("STRING")),
    ({"$ref": "other.json"}, kind("STRING")),
]


@pytest.mark.parametrize("schema, expected", SCHEMAS, ids=range(len(SCHEMAS)))
def test_schemas(rendering, schema, expected):
    assert declared(rendering, schema) == expected
    assert declared(rendering, schema, gemma4_templates.LATER) == expected


def test_a_model_of_pydantic(rendering):
    """As `model_json_schema()` writes it."""
    schema = {
        "title": "Args",
        "type": "object",
        "$defs": DEFS,
        "properties": {
            "name": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
                "title": "Name",
            },
            "points": {"items": {"$ref": "#/$defs/Point"}, "title": "Points", "type": "array"},
        },
        "required": ["points"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}
    found = rendering(gemma4_templates.FIRST, [USER], tools=[tool])
    name = f"properties:{{name:{{nullable:true,{kind('STRING')}}},"
    assert f"declaration:f{{description:{Q}{Q},parameters:{{{name}" in found
    points = f"points:{{items:{{{POINT}}},{kind('ARRAY')}}}}},"
    assert f"{points}required:[{Q}points{Q}],{kind('OBJECT')}}}}}<tool|>" in found


@pytest.mark.parametrize(
    "function",
    [
        {"name": "f"},
        {"name": "f", "description": None, "parameters": None},
        {"name": "f", "parameters": {}},
    ],
)
def test_a_tool_without_parameters(rendering, function):
    found = rendering(
        gemma4_templates.FIRST, [USER], tools=[{"type": "function", "function": function}]
    )
    assert f"<|tool>declaration:f{{description:{Q}{Q}}}<tool|>" in found
    half = {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}
    assert (
        rendering(
            gemma4_templates.FIRST, [USER], tools=[{"type": "function", "function": half}]
        ).count("OBJECT")
        == 1
    )


def test_schemas_that_never_end(fake, rendering):
    twice = {
        f"d{n}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "ab"}}
        for n in range(30)
    }
    parameters = {"type": "object", "properties": {"p": {"$ref": "#/$defs/d0"}}, "$defs": twice}
    with pytest.raises(fake.UsageError, match="tool 'f' spell out to more than 10000 schemas"):
        rendering(
            gemma4_templates.FIRST,
            [USER],
            tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        )
    deep = {"type": "string"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    assert "ARRAY" in declared(
        rendering,
        {"anyOf": [{"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "array"}}]}]},
    )
    rendering(
        gemma4_templates.FIRST,
        [USER],
        tools=[{"name": "f", "parameters": {"type": "object", "properties": {"p": deep}}}],
    )


def test_other_models_get_the_schema_as_it_was(rendering):
    schema = {"type": "object", "properties": {"p": {"type": ["string", "null"]}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert rendering("{{ tools | tojson }}{{ messages }}", [USER], tools=[tool]).startswith(
        '[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", '
        '"properties": {"p": {"type": ["string", "null"]}}}}}]'
    )


def test_tools_without_the_wrapper_get_it(rendering):
    wrapped = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
    }
    expected = rendering(gemma4_templates.FIRST, [USER], tools=[wrapped])
    for tool in (
        {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
        {"name": "f", "description": "d", "input_schema": {"type": "object"}},
        {"name": "f", "description": "d", "inputSchema": {"type": "object"}},
    ):
        assert rendering(gemma4_templates.FIRST, [USER], tools=(tool,)) == expected


@pytest.mark.parametrize(
    "tools, sentence",
    [
        ("look", "tools is 'look'"),
        ({"type": "function"}, "tools is {'type': 'function'}"),
        (5, "tools is 5"),
        ([print], r"tools\[0\] is <built-in function print>"),
        ([{"type": "function"}], r"tools\[0\] .*without a 'function'"),
        ([{"type": "function", "function": "look"}], "without a 'function'"),
        ([{"type": "function", "function": {}}], "'name'"),
        ([{"type": "function", "function": {"name": " "}}], "'name'"),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], "'parameters'"),
        ([{"type": "function", "function": {"name": "f", "description": 5}}], "'description'"),
        ([{"type": "web_search"}], "type 'web_search'"),
    ],
)
def test_wrong_tools(fake, rendering, tools, sentence):
    with pytest.raises(fake.UsageError, match=sentence):
        rendering(gemma4_templates.FIRST, [USER], tools=tools)


# ---- several templates, and odd ones ----


def test_named_templates(fake, strings, toy_file):
    keys = {
        "tokenizer.chat_template": json_string("plain {{ messages[0].content }}"),
        "tokenizer.chat_template.tool_use": json_string("with {{ tools[0].function.name }}"),
        "tokenizer.chat_template.rag": json_string("rag"),
        "tokenizer.chat_templates": '["default", "tool_use", "rag"]',
    }
    path = toy_file(keys)
    with fake.LLM(path, n_ctx=64) as llm:
        assert llm.render_chat([USER]) == "plain What is it?"
        assert llm.render_chat([USER], tools=TOOLS) == "with look"
        assert llm.render_chat([USER], tools=[]) == "plain What is it?"
    with fake.LLM(path, n_ctx=64, chat_template="rag") as llm:
        assert llm.render_chat([USER]) == llm.render_chat([USER], tools=TOOLS) == "rag"
    with fake.LLM(path, n_ctx=64, chat_template="nope") as llm:
        with pytest.raises(
            fake.UsageError, match="'nope'; the file's templates are 'default', 'tool_use', 'rag'"
        ):
            llm.render_chat([USER])
    del keys["tokenizer.chat_template"], keys["tokenizer.chat_template.rag"]
    with fake.LLM(toy_file(keys, name="one.gguf"), n_ctx=64) as llm:
        assert llm.render_chat([USER], tools=TOOLS) == "with look"


@pytest.mark.parametrize("value", ["5", "true", '["a"]'])
def test_a_template_that_is_no_text(fake, strings, toy_file, value):
    with fake.LLM(toy_file({"tokenizer.chat_template": value}), n_ctx=64) as llm:
        with pytest.raises(
            fake.ModelFileError, match="key tokenizer.chat_template is .*; it must be a string"
        ):
            llm.render_chat([USER])


def test_a_byte_order_mark_and_line_ends(rendering):
    source = "{% if true %}\na\n{% endif %}\nb"
    for text in (
        source,
        "\ufeff" + source,
        source.replace("\n", "\r\n"),
        "\ufeff" + source.replace("\n", "\r\n"),
    ):
        assert rendering(text, [USER]) == "a\nb"


@pytest.mark.parametrize(
    "source, expected",
    [
        (
            "{% set ns = namespace(n=0) %}"
            "{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "1",
        ),
        ("{{ {'b': 1, 'a': {'é': none}} | tojson }}", '{"b": 1, "a": {"é": null}}'),
        ("{{ {'b': 1} | tojson(indent=2, separators=(',', ':')) }}", '{\n  "b":1\n}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}", '{"a": 2, "b": 1}'),
        ("{{ ('{\"a\": [1]}' | from_json).a[0] }}", "1"),
        ("{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}", "b1a2"),
        ("{% for k, v in {'b': 1, 'a': 2} | items %}{{ k }}{{ v }}{% endfor %}", "b1a2"),
        ("{{ 'a-%s' | format('b') }}{{ '{}'.format('c') }}{{ '%d' % 5 }}", "a-bc5"),
        (
            "{{ messages[0].get('name', 'none') }}{{ messages[0]['content'].split(' ')[-1] }}",
            "noneit?",
        ),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}y", "y"),
        (
            "{{ documents is none }}{{ tools is none }}{{ unk_token }}{{ bos_token }}",
            "TrueTrue<image><bos>",
        ),
        (
            "{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f('a') }}{{ messages[::-1] | length }}",
            "[a]1",
        ),
    ],
)
def test_what_templates_use(rendering, source, expected):
    """The environment of Hugging Face's libraries, and `from_json`, which some templates for
    llama.cpp use."""
    assert rendering(source, [USER]) == expected
