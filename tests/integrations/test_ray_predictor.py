"""`Predictor` without a cluster: forms of batches, columns, errors of rows and of all."""

import json

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")

PROMPTS = ["In the beginning", "And God said", "Thou shalt not", "Now these are"]
GREEDY = {"temperature": 0, "max_tokens": 8, "n_ctx": 256, "n_threads": 1}


@pytest.fixture(scope="module")
def make(pillion, tiny_target):
    from pillion.integrations.ray import Predictor

    made = []

    def new(**options):
        made.append(Predictor(tiny_target, **{**GREEDY, **options}))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def local(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=256, n_threads=1) as llm:
        yield llm


@pytest.fixture(scope="module")
def texts(local):
    options = {"temperature": 0, "max_tokens": 8}
    return [local.complete(one, **options)["choices"][0]["text"] for one in PROMPTS]


FORMS = {
    "numpy": lambda columns: {
        name: np.array([*values, None], dtype=object)[:-1] for name, values in columns.items()
    },
    "pandas": pandas.DataFrame,
    "pyarrow": pyarrow.table,
}


def listed(batch, name):
    column = batch[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_keeps_its_form(make, texts, form):
    predict = make(prompt="q")
    given = FORMS[form]({"q": PROMPTS, "id": [3, 2, 1, 0]})
    found = predict(given)
    assert type(found) is type(given)
    names = list(found) if form != "pyarrow" else found.column_names
    wanted = ["q", "id", "text", "finish_reason", "prompt_tokens", "completion_tokens"]
    assert names == wanted
    assert listed(found, "text") == texts
    assert listed(found, "id") == [3, 2, 1, 0]
    assert listed(found, "finish_reason") == ["length"] * 4
    assert listed(found, "completion_tokens") == [8] * 4
    with pytest.raises(KeyError):
        given["text"]  # the given batch stays as it was


@pytest.mark.parametrize("form", FORMS)
def test_the_error_of_a_row_has_a_column(make, texts, form):
    predict = make(prompt="q", on_error="column", columns={"error": "why", "prompt_tokens": "n"})
    found = predict(FORMS[form]({"q": [PROMPTS[0], None, "x " * 500, PROMPTS[1]]}))
    answers, why = listed(found, "text"), listed(found, "why")
    assert (answers[0], answers[3]) == (texts[0], texts[1])
    assert why[0] is None and why[3] is None
    assert why[1].startswith("prompt is None; it must be a string")
    assert why[2] == "the prompt has 1001 tokens, but the context holds 256 (n_ctx)"
    n = [None if one is pandas.NA else one for one in listed(found, "n")]
    assert n[1:3] == [None, None] and all(n[at] > 0 for at in (0, 3))


def test_the_error_of_a_row_is_raised(pillion, make):
    predict = make(prompt="q")
    said = "row 1 of the batch: the prompt has 1001 tokens, but the context holds 256"
    with pytest.raises(pillion.ContextFullError, match=said):
        predict({"q": np.array([PROMPTS[0], "x " * 500])})
    assert list(predict({"q": np.array(PROMPTS[:1])})["finish_reason"]) == ["length"]


def test_an_empty_batch(make):
    found = make(prompt="q")(pyarrow.table({"q": pyarrow.array([], pyarrow.string())}))
    assert found.num_rows == 0
    assert found.schema.field("completion_tokens").type == pyarrow.int64()


def test_token_ids_are_prompts_too(make, local, texts):
    ids = [local.tokenize(one) for one in PROMPTS]
    predict = make(prompt="ids")
    assert predict(pyarrow.table({"ids": ids}))["text"].to_pylist() == texts
    arrays = np.empty(len(ids), dtype=object)
    arrays[:] = [np.int32(one) for one in ids]
    assert list(predict({"ids": arrays})["text"]) == texts


CHATS = [
    [{"role": "user", "content": "Who is it?"}],
    [
        {"role": "user", "content": "Who is it?"},
        {"role": "assistant", "content": "Moses."},
        {"role": "user", "content": "And who else?"},
    ],
]


@pytest.mark.parametrize("form", FORMS)
def test_conversations(make, local, form):
    told = [{"role": "system", "content": "Be brief."}]
    options = {"temperature": 0, "max_tokens": 8}
    wanted = [
        local.chat(told + one, **options)["choices"][0]["message"]["content"] for one in CHATS
    ]
    given = FORMS[form]({"chat": CHATS})
    if form == "numpy":  # as Ray passes lists of structs
        given["chat"][0] = np.array(CHATS[0], dtype=object)
    found = make(messages="chat", system="Be brief.", output="answer")(given)
    assert listed(found, "answer") == wanted
    assert all(one is None for one in listed(found, "reasoning"))


def test_a_text_is_a_message_of_the_user(make, local):
    found = make(messages="chat", output="answer")({"chat": np.array(["Who is it?"])})
    said = local.chat(CHATS[0], temperature=0, max_tokens=8)["choices"][0]["message"]["content"]
    assert list(found["answer"]) == [said]


VERSE = {
    "type": "object",
    "properties": {"book": {"enum": ["Genesis", "Exodus"]}, "chapter": {"enum": [1, 2, 3]}},
    "required": ["book", "chapter"],
    "additionalProperties": False,
}
AS_VERSE = {"type": "json_schema", "json_schema": {"name": "verse", "schema": VERSE}}


def test_parsed_json(make):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    options = {"messages": "q", "response_format": AS_VERSE, "columns": ["parsed"]}
    found = make(**options, max_tokens=64)(pyarrow.table({"q": ["Which?", "And then?"]}))
    assert found.column_names == ["q", "text", "parsed"]
    for text, parsed in zip(found["text"].to_pylist(), found["parsed"].to_pylist(), strict=True):
        assert parsed == json.loads(text) and set(parsed) == {"book", "chapter"}
    cut = make(**options, max_tokens=2, on_error="column")(pyarrow.table({"q": ["Which?"]}))
    assert cut["error"].to_pylist() == ["the answer is no JSON; it ended by 'length'"]
    assert cut["parsed"].to_pylist() == [None] and cut["text"].to_pylist() != [None]


TOOL = {"name": "look", "parameters": {"type": "object", "properties": {"at": {"enum": ["sky"]}}}}


def test_tool_calls(make):
    pytest.importorskip("llguidance", reason="the extra `structured` is not installed")
    tools = {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"}
    found = make(messages="q", **tools, parallel_tool_calls=False, max_tokens=100)(
        {"q": np.array(["Look!"])}
    )
    (call,) = json.loads(found["tool_calls"][0])
    assert call["function"]["name"] == "look"
    assert list(found["finish_reason"]) == ["tool_calls"]


WRONG = {
    "neither was given": {},
    "both was given": {"prompt": "q", "messages": "q"},
    "did you mean temperature?": {"prompt": "q", "temprature": 1},
    "system is for messages": {"prompt": "q", "system": "Be brief."},
    "a name in columns is 'score'": {"prompt": "q", "columns": ["score"]},
    "columns is 'reasoning'": {"prompt": "q", "columns": "reasoning"},
    "on_error is 'skip'": {"prompt": "q", "on_error": "skip"},
    "needs a response_format": {"messages": "q", "columns": ["parsed"]},
    "stream has no use here": {"prompt": "q", "stream": True},
    "parallel is 0": {"prompt": "q", "parallel": 0},
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_arguments(pillion, make, said):
    with pytest.raises(pillion.UsageError) as error:
        make(**WRONG[said])
    assert said in str(error.value)


def test_wrong_batches(pillion, make):
    predict = make(prompt="q")
    for batch, said in (
        ({"a": np.array(["x"])}, "the batch has no column 'q'; it has a"),
        ({"q": np.array(["x"]), "text": np.array(["y"])}, "has a column 'text' already"),
        ([1], "batch is [1]; it must be a dict of arrays"),
    ):
        with pytest.raises(pillion.UsageError) as error:
            predict(batch)
        assert said in str(error.value)


def test_a_closed_model_is_no_error_of_a_row(pillion, tiny_target):
    from pillion.integrations.ray import Predictor

    predict = Predictor(tiny_target, prompt="q", on_error="column", **GREEDY)
    predict.close()
    with pytest.raises(pillion.Closed):
        predict({"q": np.array(["x"])})


def test_nothing_of_ray_is_imported():
    import subprocess
    import sys

    code = (
        "import sys\nfrom pillion.integrations.ray import Predictor, deployment\n"
        "assert not {'ray', 'pandas', 'pyarrow', 'fastapi'} & set(sys.modules)\n"
        "sys.modules['ray'] = sys.modules['ray.serve'] = None\n"
        "try:\n    deployment('m.gguf')\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("deployment() needs ray.serve, which cannot be imported")
    assert done.stdout.endswith("pip install 'pillion[ray]'\n")
