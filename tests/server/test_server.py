"""`pillion serve` over the embedded pair: each endpoint, and the shapes of OpenAI's API."""

import json
import re

import pytest

fastapi = pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from server_support import CHAT, TEXT, error_of, events, served  # noqa: E402


@pytest.fixture(scope="module")
def server(pillion, tiny_target):
    def load(check):
        return pillion.LLM(tiny_target, n_ctx=1024)

    with served(pillion, load) as server:
        yield server


@pytest.fixture(scope="module")
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=1024) as llm:
        yield llm


def chat(server, **more):
    return server.post("/v1/chat/completions", {**CHAT, "max_tokens": 12, **more})


def text(server, **more):
    return server.post("/v1/completions", {**TEXT, "max_tokens": 12, **more})


# ---- whole answers ----


def test_a_chat_is_what_the_library_writes(server, llm):
    found = chat(server, draft=2)
    assert found.status_code == 200 and found.headers["content-type"] == "application/json"
    expected = llm.chat(CHAT["messages"], temperature=0, max_tokens=12)
    found = found.json()
    assert found["choices"] == expected["choices"] and found["object"] == "chat.completion"
    assert found["id"].startswith("chatcmpl-") and found["model"] == "tiny-target"
    usage = found["usage"]
    n_prompt = len(llm.chat_tokens(llm.render_chat(CHAT["messages"])))
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (n_prompt, 12)
    assert usage["total_tokens"] == n_prompt + 12
    assert set(usage["prompt_tokens_details"]) == {"cached_tokens"}
    details = usage["completion_tokens_details"]
    assert details["reasoning_tokens"] == 0 and details["accepted_prediction_tokens"] > 0
    assert details["rejected_prediction_tokens"] >= 0
    assert found["timings"]["predicted_n"] == 12
    assert found["speculation"]["accepted"] == details["accepted_prediction_tokens"]


def test_the_prompts_of_a_completion(server, llm):
    expected = llm.complete(TEXT["prompt"], temperature=0, max_tokens=12)["choices"][0]["text"]
    ids = llm.tokenize(TEXT["prompt"])
    for prompt in (TEXT["prompt"], ids, [TEXT["prompt"]], [ids]):
        found = text(server, prompt=prompt).json()
        assert [one["text"] for one in found["choices"]] == [expected], prompt
    both = text(server, prompt=[TEXT["prompt"], "Psalms 23\n\nThe LORD"], n=2).json()
    texts = [one["text"] for one in both["choices"]]
    assert [one["index"] for one in both["choices"]] == [0, 1, 2, 3]
    assert texts[0] == texts[1] == expected and texts[2] == texts[3] != expected
    n_other = len(llm.tokenize("Psalms 23\n\nThe LORD"))
    assert both["usage"]["prompt_tokens"] == len(ids) + n_other  # not once for each answer
    assert both["usage"]["completion_tokens"] == 48
    assert text(server, prompt="").status_code == 200


def test_echo_and_default_length(server, llm):
    found = server.post("/v1/completions", {**TEXT, "echo": True}).json()
    assert found["choices"][0]["text"].startswith(TEXT["prompt"])
    assert found["usage"]["completion_tokens"] == 16
    stream = events(text(server, echo=True, stream=True))
    assert stream[0]["choices"][0]["text"] == TEXT["prompt"]
    joined = "".join(one["choices"][0]["text"] for one in stream[:-1])
    asked = {"echo": True, "logprobs": 1, "max_tokens": 4}
    scored = text(server, **asked).json()["choices"][0]["logprobs"]
    assert scored["token_logprobs"][0] is None
    assert len(scored["tokens"]) == found["usage"]["prompt_tokens"] + 4
    parts = [
        one["choices"][0]["logprobs"] for one in events(text(server, **asked, stream=True))[:-1]
    ]
    assert [token for one in parts for token in one["tokens"]] == scored["tokens"]
    assert [one for part in parts for one in part["token_logprobs"]] == scored["token_logprobs"]
    assert joined == text(server, echo=True).json()["choices"][0]["text"]


def test_several_answers_have_seeds_that_follow_one_another(server):
    found = chat(server, temperature=1.5, seed=7, n=3).json()["choices"]
    assert [one["index"] for one in found] == [0, 1, 2]
    alone = [chat(server, temperature=1.5, seed=7 + at).json()["choices"][0] for at in range(3)]
    assert [one["message"] for one in found] == [one["message"] for one in alone]
    assert len({one["message"]["content"] for one in found}) > 1


def test_max_completion_tokens_and_both_names(server):
    for names in ({"max_completion_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": 9}):
        found = server.post("/v1/chat/completions", {**CHAT, **names}).json()
        assert found["usage"]["completion_tokens"] == 3
        assert found["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("draft", [0, 1, 5, 8, "auto"])
def test_the_draft_length_of_a_request_never_changes_it(server, draft):
    plain = chat(server, max_tokens=40, draft=0).json()
    found = chat(server, max_tokens=40, draft=draft).json()
    assert found["choices"] == plain["choices"]
    assert found["usage"]["completion_tokens"] == 40  # drafts are not counted
    drafted = found["speculation"]["drafted"]
    assert draft == "auto" or (drafted > 0) == (draft > 0)  # "auto" may pause on a busy machine


def test_stop_bias_and_logprobs(server, llm):
    whole = text(server, max_tokens=30).json()["choices"][0]["text"]
    stopped = text(server, max_tokens=30, stop=[whole[9:14], "never"]).json()["choices"][0]
    assert stopped["text"] == whole[: whole.index(whole[9:14])]
    assert stopped["finish_reason"] == "stop"
    found = chat(server, max_tokens=4, logprobs=True, top_logprobs=2).json()["choices"][0]
    listed = found["logprobs"]["content"]
    assert len(listed) == 4
    for one in listed:
        assert set(one) == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(one["top_logprobs"]) == 2
        assert one["logprob"] == max(other["logprob"] for other in one["top_logprobs"])
    (token,) = text(server, max_tokens=1, logprobs=0).json()["choices"][0]["logprobs"]["tokens"]
    (banned,) = llm.tokenize(token, add_bos=False, special=True)[-1:]
    other = text(server, max_tokens=1, logprobs=0, logit_bias={str(banned): -100}).json()
    assert other["choices"][0]["logprobs"]["tokens"] != [token]


# ---- streams ----


def test_a_stream_byte_by_byte(server):
    """Role, deltas, end, [DONE]; nothing between them, and no usage that was not asked for."""
    whole = chat(server, max_tokens=5).json()
    response = chat(server, max_tokens=5, stream=True)
    headers = response.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store" and headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert re.fullmatch(r"(?:data: [^\n]+\n\n)+", response.text)
    assert response.text.endswith("\n\ndata: [DONE]\n\n")
    *chunks, done = events(response)
    head = {key: chunks[0][key] for key in ("id", "created", "model")}
    assert done == "[DONE]"

    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    assert chunks[0] == chunk({"role": "assistant", "content": ""})
    for one in chunks[1:-1]:
        assert one == chunk({"content": one["choices"][0]["delta"]["content"]})
    last = chunks[-1]
    assert last["timings"]["predicted_n"] == 5 and last["speculation"]["tokens"] == 5
    assert {key: value for key, value in last.items() if key not in ("timings", "speculation")} == (
        chunk({}, "length")
    )
    said = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)
    assert said == whole["choices"][0]["message"]["content"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_usage_has_a_chunk_of_its_own_when_asked_for(server, path):
    body = {**(CHAT if "chat" in path else TEXT), "max_tokens": 5}
    whole = server.post(path, body).json()["usage"]
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last, done = events(server.post(path, {**body, **asked}))
    assert done == "[DONE]" and last["choices"] == []
    assert all(one["usage"] is None and one["choices"] for one in chunks)
    assert {one["object"] for one in (*chunks, last)} == {chunks[0]["object"]}
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][key] == whole[key]
    for options in ({}, {"include_usage": False}, None):
        other = {"stream": True, "stream_options": options}
        assert all("usage" not in one for one in events(server.post(path, {**body, **other}))[:-1])


def test_several_choices_in_one_stream(server):
    whole = chat(server, temperature=1.2, seed=3, n=3, max_tokens=20).json()
    response = chat(server, temperature=1.2, seed=3, n=3, max_tokens=20, stream=True)
    texts, ends, ids = ["", "", ""], [], set()
    for one in events(response)[:-1]:
        (choice,) = one["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        ends += [choice["index"]] if choice["finish_reason"] else []
        ids.add(one["id"])
    assert texts == [one["message"]["content"] for one in whole["choices"]]
    assert sorted(ends) == [0, 1, 2] and len(ids) == 1


def test_pieces_show_what_was_drafted(server):
    asked = {"stream": True, "pillion": {"pieces": True}, "max_tokens": 40, "draft": 3}
    for path, field in (("/v1/chat/completions", "delta"), ("/v1/completions", "text")):
        body = {**(CHAT if field == "delta" else TEXT), **asked}
        chunks = events(server.post(path, body))[:-1]
        drafted = 0
        for one in chunks:
            choice = one["choices"][0]
            said = choice["delta"].get("content", "") if field == "delta" else choice["text"]
            pieces = one.get("pillion", {}).get("pieces", [])
            assert "".join(text for text, _ in pieces) == said
            drafted += sum(was for _, was in pieces)
        assert drafted == chunks[-1]["speculation"]["accepted"]
    plain = events(server.post("/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 3}))
    assert all("pillion" not in one for one in plain[:-1])


# ---- fields ----


def test_unknown_fields_are_named_and_do_no_harm(server):
    found = chat(server, beam_width=3, verbosity="low", user="me", store=True, metadata={"a": "b"})
    assert found.headers["x-pillion-ignored"] == "beam_width, verbosity"
    assert found.json()["choices"] == chat(server).json()["choices"]
    assert "x-pillion-ignored" not in chat(server, user="me").headers
    streamed = chat(server, stream=True, **{"nul\r\nx: y": 1, "other": 2})
    assert streamed.headers["x-pillion-ignored"] == "other" and "x" not in streamed.headers


def test_null_is_not_given(server):
    nulls = ("temperature", "stop", "n", "tools", "seed", "stream", "logit_bias", "draft", "user")
    body = {**{name: None for name in nulls}, "messages": CHAT["messages"], "max_tokens": 2}
    assert server.post("/v1/chat/completions", body).status_code == 200


def test_the_templates_variables(pillion, tiny_target):
    source = (
        "{% for m in messages %}{{ m.content }}{% endfor %}"
        "{{ '+' if enable_thinking else '-' }}{{ extra }}"
    )

    def load(check):
        return pillion.LLM(tiny_target, n_ctx=256, chat_template=source, drafter=None)

    with served(pillion, load, default_variables={"extra": "d"}) as server:

        def prompt(**more):
            body = {"messages": [{"role": "user", "content": "x"}], **more}
            return server.post("/apply-template", body).json()["prompt"]

        assert prompt() == "x-d"
        assert prompt(reasoning_effort="high") == "x+d"
        assert prompt(reasoning_effort="none") == "x-d" == prompt(reasoning_effort="minimal")
        assert prompt(chat_template_kwargs={"enable_thinking": True, "extra": 1}) == "x+1"
        # what the request says itself counts more than the effort
        more = {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}}
        assert prompt(**more) == "x-d"
        # and the same goes for an answer: its prompt is longer by that one word
        counts = [
            server.post(
                "/v1/chat/completions/input_tokens",
                {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": one},
            ).json()["input_tokens"]
            for one in ({"extra": ""}, {"extra": "In the beginning"})
        ]
        assert counts[1] > counts[0]
        refused = server.post("/v1/chat/completions", {**CHAT, "draft": 3})
        assert "no drafter" in error_of(refused, 400)["message"]


def test_content_parts(server):
    def said(content):
        return chat(server, messages=[{"role": "user", "content": content}])

    plain = said("Read Genesis 1.").json()["choices"]
    assert said([{"type": "text", "text": "Read Genesis 1."}]).json()["choices"] == plain
    for word, part in (
        ("image", {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}),
        ("sound", {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}),
        ("'file'", {"type": "file", "file": {"file_id": "/etc/passwd"}}),
    ):
        error = error_of(said([{"type": "text", "text": "a"}, part]), 400)
        assert word in error["message"]


# ---- the other endpoints ----


def test_models(server, llm):
    listed = server.get("/v1/models").json()
    assert listed["object"] == "list"
    (card,) = listed["data"]
    assert (card["id"], card["object"], card["owned_by"]) == ("tiny-target", "model", "pillion")
    assert card["meta"]["n_ctx"] == 1024 and card["meta"]["n_vocab"] == llm.n_vocab()
    assert server.get("/v1/models/tiny-target").json() == card
    assert server.get("/models").json() == listed
    error_of(server.get("/v1/models/gpt-4o"), 404, "model_not_found")


def test_tokenize_and_back(server, llm):
    body = {"content": "In the beginning <eos>"}
    found = server.post("/tokenize", body).json()
    assert found["tokens"] == llm.tokenize(body["content"], add_bos=False, special=True)
    more = server.post("/tokenize", {**body, "add_special": True, "parse_special": False}).json()
    assert more["tokens"] == llm.tokenize(body["content"], add_bos=True, special=False)
    pieces = server.post("/tokenize", {**body, "with_pieces": True}).json()["tokens"]
    assert "".join(one["piece"] for one in pieces) == body["content"]
    back = server.post("/detokenize", {"tokens": found["tokens"]}).json()
    assert back == {"content": body["content"]}
    error_of(server.post("/detokenize", {"tokens": [10**9]}), 400)
    error_of(server.post("/detokenize", {"tokens": ["a"]}), 400, "invalid_type")
    assert server.post("/tokenize", {"content": "\ud800"}).status_code == 200


def test_apply_template_and_input_tokens(server, llm):
    prompt = server.post("/apply-template", {"messages": CHAT["messages"]}).json()["prompt"]
    assert prompt == llm.render_chat(CHAT["messages"])
    counted = server.post("/v1/chat/completions/input_tokens", CHAT).json()
    n = chat(server).json()["usage"]["prompt_tokens"]
    assert counted == {"object": "chat.completion.input_tokens", "input_tokens": n}


def test_health_props_slots(server, llm):
    for path in ("/health", "/v1/health"):
        found = server.get(path)
        assert (found.status_code, found.json()) == (200, {"status": "ok"})
    props = server.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 1024
    assert props["total_slots"] == 1 and props["model_alias"] == "tiny-target"
    assert "{" in props["chat_template"] and props["bos_token"] == "<bos>"
    assert "/" not in props["model_path"]  # a client has no use for the server's folders
    slots = server.get("/slots").json()
    assert all("prompt" not in one for one in slots)
    assert server.get("/").status_code == 200


def test_openapi_names_what_it_refers_to(server):
    described = server.get("/openapi.json").json()
    known = described["components"]["schemas"]
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))
    assert names and names <= set(known)
    assert "/v1/chat/completions" in described["paths"]
    assert error_of(server.get("/docs"), 404)


def numbers(server):
    lines = server.get("/metrics").text.splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"
    }


def test_metrics_count(server):
    before = numbers(server)
    n = chat(server, max_tokens=7, draft=3).json()["usage"]
    chat(server, max_tokens=1)
    server.post("/v1/chat/completions", {"messages": []})
    after = numbers(server)

    def grown(name):
        return after[name] - before.get(name, 0)

    details = n["completion_tokens_details"]
    assert n["completion_tokens"] == 7 and details["accepted_prediction_tokens"] > 0
    assert grown('pillion_http_requests_total{code="200",route="/v1/chat/completions"}') == 2
    assert grown('pillion_http_requests_total{code="400",route="/v1/chat/completions"}') == 1
    assert grown("pillion_time_to_first_token_seconds_count") == 2
    assert grown("pillion_inter_token_seconds_count") == 6
    assert grown("pillion_generated_tokens_total") == 8
    assert grown("pillion_requests_completed_total") == 2
    assert grown('pillion_prompt_tokens_total{source="run"}') > 0
    positions = range(1, 9)
    for name, kind in (
        ("pillion_drafts_accepted_total", "accepted"),
        ("pillion_drafts_total", "accepted"),
    ):
        by_position = [grown(f'{name}{{position="{one}"}}') for one in positions]
        wanted = details[f"{kind}_prediction_tokens"]
        if name == "pillion_drafts_total":
            wanted += details["rejected_prediction_tokens"]
        assert sum(by_position) == wanted
    rounds = {k: grown(f'pillion_rounds_total{{drafts="{k}"}}') for k in range(9)}
    assert sum(rounds[k] for k in range(1, 9)) > 0
    assert grown('pillion_run_seconds_count{kind="write"}') > 0
    for ours, theirs in (
        ("pillion_generated_tokens_total", "llamacpp:tokens_predicted_total"),
        ('pillion_prompt_tokens_total{source="run"}', "llamacpp:prompt_tokens_total"),
        ("pillion_requests_queued", "llamacpp:requests_deferred"),
    ):
        assert after[ours] == after[theirs]


# ---- what the text must look like ----


@pytest.fixture(scope="module")
def formed(pillion):
    return pytest.importorskip("llguidance", reason="the extra `structured` is not installed")


def test_forms_are_passed_on(server, formed):
    schema = {
        "type": "object",
        "properties": {
            "book": {"enum": ["Genesis", "Psalms"]},
            "n": {"type": "integer", "maximum": 99, "minimum": 0},
        },
        "required": ["book", "n"],
        "additionalProperties": False,
    }
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "verse", "schema": schema, "strict": True},
    }
    for draft in (0, 3):
        found = chat(server, response_format=wanted, draft=draft, max_tokens=60).json()["choices"][
            0
        ]
        assert found["finish_reason"] == "stop"
        assert set(json.loads(found["message"]["content"])) == {"book", "n"}
    for more, pattern in (
        ({"regex": "(yes|no)!"}, r"(yes|no)!"),
        ({"choice": ["left", "right"]}, r"left|right"),
        ({"grammar": 'start: "ab" ("c" | "e") "d"'}, r"ab(c|e)d"),
    ):
        choice = text(server, max_tokens=60, **more).json()["choices"][0]
        assert re.fullmatch(pattern, choice["text"]) and choice["finish_reason"] == "stop"
        reply = chat(server, max_tokens=60, **more).json()["choices"][0]  # it may think first
        assert reply["finish_reason"] == "length" or re.fullmatch(
            pattern, reply["message"]["content"]
        )
    streamed = events(chat(server, regex="(yes|no)!", stream=True, max_tokens=60))[:-1]
    assert re.fullmatch(
        "(yes|no)!", "".join(one["choices"][0]["delta"].get("content", "") for one in streamed)
    )
    both = chat(server, choice=["left", "right"], n=3, temperature=1, seed=1).json()["choices"]
    assert all(one["message"]["content"] in ("left", "right") for one in both)


def test_wrong_forms_are_400(server, formed):
    for more in (
        {"regex": "("},
        {"grammar": "start: nowhere"},
        {"choice": []},
        {"regex": "a", "choice": ["b"]},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"type": "nothing"}},
            }
        },
    ):
        error_of(chat(server, **more), 400)
