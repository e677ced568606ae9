"""Chat templates: rendered as transformers renders them, in a sandbox, with clear errors."""

import datetime

import pytest

GEMMA = """{{ bos_token }}{% for message in messages %}
    {%- if message['role'] == 'assistant' -%}{%- set role = 'model' -%}
    {%- else -%}{%- set role = message['role'] -%}{%- endif -%}
    {{- '<start_of_turn>' + role + '\n' + (message['content'] | trim) + '<end_of_turn>\n' -}}
{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""


def render(fake, source, messages=({"role": "user", "content": "Hi"},), **variables):
    return fake.ChatTemplate(source, bos_token="<bos>", eos_token="<eos>").render(
        list(messages), **variables
    )


def test_a_real_template(fake):
    messages = [
        {"role": "user", "content": " Hi "},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Who?"},
    ]
    assert render(fake, GEMMA, messages) == (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert render(fake, GEMMA, messages[:1], add_generation_prompt=False).endswith(
        "<end_of_turn>\n"
    )


def test_blocks_are_trimmed(fake):
    assert render(fake, "  {% if true %}\na\n  {% endif %}\nb") == "a\nb"


def test_tojson_is_not_for_html(fake):
    source = "{{ tools | tojson }} {{ tools[0] | tojson(indent=2) }}"
    assert (
        render(fake, source, tools=[{"name": "f<é>&"}])
        == '[{"name": "f<é>&"}] {\n  "name": "f<é>&"\n}'
    )


def test_variables(fake):
    assert (
        render(
            fake, "{{ eos_token }}{{ enable_thinking }}{{ tools is none }}", enable_thinking=True
        )
        == "<eos>TrueTrue"
    )
    assert render(fake, "{{ strftime_now('%Y') }}") == str(datetime.datetime.now().year)
    assert (
        render(
            fake, "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        )
        == "1"
    )
    assert (
        render(fake, "a{% generation %}b{{ messages[0].content }}{% endgeneration %}c") == "abHic"
    )


def test_text_parts_are_joined_and_others_refused(fake):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert (
        render(fake, "{{ messages[0].content }}", [{"role": "user", "content": parts}])
        == "one\ntwo"
    )
    with pytest.raises(fake.UsageError, match="'image_url'"):
        render(fake, "", [{"role": "user", "content": [{"type": "image_url"}]}])


@pytest.mark.parametrize("messages", [[], "Hi", [{"content": "no role"}], ["Hi"]])
def test_wrong_messages(fake, messages):
    with pytest.raises(fake.UsageError, match="message"):
        fake.ChatTemplate("x").render(messages)


def test_the_template_may_refuse(fake):
    with pytest.raises(fake.UsageError, match="refuses.*only users"):
        render(fake, "{{ raise_exception('only users') }}")


@pytest.mark.parametrize("source", ["{% if %}", "{{ x", "{% unknown %}"])
def test_a_template_that_is_no_jinja(fake, source):
    with pytest.raises(fake.UsageError, match="not valid Jinja"):
        fake.ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ (1).__class__ }}{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages[0].content.undefined.deeper }}",
        "{{ 1 / 0 }}",
        "{% include '/etc/passwd' %}",
        "{{ '%s' | format() }}",
    ],
)
def test_a_hostile_or_broken_template_fails_with_a_sentence(fake, source):
    with pytest.raises(fake.UsageError, match="chat template"):
        render(fake, source)


def test_the_llm_uses_the_files_template(fake, strings, toy_file):
    source = (
        '"{{ bos_token }}{% for m in messages %}<turn>{{ m.content }}</turn>{% endfor %}<turn>"'
    )
    with fake.LLM(toy_file({"tokenizer.chat_template": source}), n_ctx=64) as llm:
        rendered = llm.render_chat([{"role": "user", "content": "Hi"}])
        assert rendered == "<bos><turn>Hi</turn><turn>"
        tokens = llm.chat_tokens(rendered)
        assert tokens == [256, 258, 72, 105, 259, 258]  # one BOS, control tokens as such
        strings.script(len(tokens), [*b"Yes.", 259, *b"never"])
        answer = llm.chat([{"role": "user", "content": "Hi"}], temperature=0)
        assert answer["object"] == "chat.completion"
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Yes."}
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"] == {
            "prompt_tokens": 6,
            "completion_tokens": 4,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


def test_a_file_without_template(fake, strings, toy_llm, toy_file):
    with pytest.raises(fake.UsageError, match="Toy has no chat template"):
        toy_llm.chat([{"role": "user", "content": "Hi"}])
    with fake.LLM(toy_file(), chat_template="{{ messages[0].content }}", n_ctx=32) as llm:
        assert (
            llm.chat([{"role": "user", "content": "ab"}], max_tokens=2, temperature=0)["choices"][
                0
            ]["message"]["content"]
            == "cd"
        )


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(64) }}",
    ],
)
def test_a_template_without_end(pillion, source):
    template = pillion.ChatTemplate(source)
    with pytest.raises(pillion.UsageError, match="took more steps than any real one"):
        template.render([{"role": "user", "content": "a"}])


def test_loops_are_what_they_were(pillion):
    from pillion.chat.template import ChatTemplate

    source = (
        "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}"
        "{{ loop.last }}{{ loop.previtem.content if loop.previtem }}{% else %}none{% endfor %}"
        "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}"
        "{% for x in [[1, [2]]] recursive %}{{ loop(x) if x is sequence else x }}{% endfor %}"
        "{% for x in missing %}x{% endfor %}"
    )
    messages = [{"role": "user", "content": one} for one in "ab"]
    assert ChatTemplate(source).render(messages) == "1/2False2/2Trueaa112"
