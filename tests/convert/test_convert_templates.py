"""The chat templates of a checkpoint: one file, lists and folders of named ones, byte order
marks."""

import json

import pytest
from test_convert import change_json, checkpoint, convert, fields  # noqa: F401 - fixtures

ONE, TWO = "{{ messages }}", "{{ tools }}{{ messages }}"
KEY = "tokenizer.chat_template"
LISTED = [{"name": "default", "template": ONE}, {"name": "tool_use", "template": TWO}]
NAMED = {KEY: ONE, f"{KEY}.tool_use": TWO, "tokenizer.chat_templates": ["tool_use"]}


def settle(folder, files):
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if name == "tokenizer_config.json":
            change_json(folder, name, chat_template=content)
        else:
            path.write_text(
                content if name.endswith(".jinja") else json.dumps({"chat_template": content}),
                "utf-8",
            )


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"chat_template.jinja": "\ufeff" + ONE}, {KEY: ONE}),
        ({"tokenizer_config.json": LISTED}, NAMED),
        ({"tokenizer_config.json": {"default": ONE, "tool_use": TWO}}, NAMED),
        ({"chat_template.json": LISTED}, NAMED),
        ({"tokenizer_config.json": TWO, "chat_template.jinja": ONE}, {KEY: ONE}),
        (
            {
                "chat_template.jinja": ONE,
                "additional_chat_templates/tool_use.jinja": "\ufeff" + TWO,
            },
            NAMED,
        ),
        (
            {"tokenizer_config.json": LISTED[1:]},
            {key: value for key, value in NAMED.items() if key != KEY},
        ),
        ({"tokenizer_config.json": None}, {}),
    ],
    ids=range(8),
)
def test_templates(pillion, convert, checkpoint, tmp_path, files, expected):  # noqa: F811
    folder, out = checkpoint("tiny-llama"), tmp_path / "out.gguf"
    settle(folder, files)
    convert(folder, out)
    assert {key: value for key, value in fields(out).items() if "chat_template" in key} == expected
    if f"{KEY}.tool_use" in expected:
        tools = [{"name": "look"}]
        with pillion.LLM(out, n_ctx=64, drafter=None) as llm:
            assert "look" in llm.render_chat([{"role": "user", "content": "a"}], tools=tools)


@pytest.mark.parametrize("value", [5, [5], [{"name": "default"}], {"default": 5}])
def test_what_is_no_template(pillion, convert, checkpoint, tmp_path, value):  # noqa: F811
    folder = checkpoint("tiny-llama")
    settle(folder, {"tokenizer_config.json": value})
    with pytest.raises(pillion.ModelFileError, match="tokenizer_config.json has a chat_template"):
        convert(folder, tmp_path / "out.gguf")
