"""Grammars without a model: what they refuse and how, that random texts under them are valid, and
that drafts change nothing."""

import itertools
import json
import random
import threading
import time

import numpy as np
import pytest
import programs
from patience import in_thread, until

llguidance = pytest.importorskip("llguidance")

from structured_walks import (  # noqa: E402
    SCHEMAS,
    Walk,
    allowed,
    closing_tokens,
    response_format,
    validate,
)

NESTED = 2_000


@pytest.fixture(scope="module")
def structured(pillion):
    from pillion import structured

    return structured


@pytest.fixture(scope="module")
def model(pillion):
    from pillion.models import TINY_TARGET

    return pillion.Model.open(TINY_TARGET)


@pytest.fixture(scope="module")
def tokenizer(model):
    return model.tokenizer


@pytest.fixture(scope="module")
def marks(tokenizer):
    from pillion.chat.replies import MARKERS

    return {
        marker: tokenizer.encode(marker, add_special=False, parse_special=True)[0]
        for marker in MARKERS
    }


@pytest.fixture(scope="module")
def grammars(structured, model, tokenizer, marks):
    return structured.Grammars(structured.Vocabulary(tokenizer, model.n_vocab, marks.values()))


@pytest.fixture(scope="module")
def closing(tokenizer):
    return closing_tokens(tokenizer)


@pytest.fixture(scope="module")
def compiled(structured, grammars, marks):
    """Compiles what the arguments of a call ask for."""
    from pillion.structured import reply

    def compile(thinking=None, **forms):
        body = structured.wanted_body(**forms)
        state = (
            reply.Thinking(thinking, marks["<|channel>"], marks["<channel|>"])
            if thinking
            else reply.NO_THINKING
        )
        name = "the schema of response_format" if body.kind == "json" else f"the {body.kind}"
        return grammars.compile(reply.reply_grammar(body, state), name)

    return compile


def follows(tokenizer, constraint, text):
    """Whether the text may be written, and whether it may end then."""
    for token in tokenizer.encode(text, add_special=False, parse_special=True):
        kept, masks = constraint.plan([token], 1)
        if constraint.stopped or (kept[:1] != [token] and token not in allowed(masks[0])):
            return False
        constraint.accept([token])
    return constraint.stopped or bool(
        set(allowed(constraint.plan([], 0)[1][0])) & tokenizer.end_tokens
    )


# ---- texts ----


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_texts_are_valid(tokenizer, compiled, closing, name):
    """And the same with drafts of any kind on the way."""
    form = compiled(response_format=response_format(SCHEMAS[name]))
    n_ended = 0
    for seed in range(6):
        alone = Walk(tokenizer, form.start(), seed, closing).run()
        drafts = random.Random(seed)
        drafted = Walk(tokenizer, form.start(), seed, closing)
        while not drafted.ended and len(drafted.tokens) < 600:
            at = len(drafted.tokens)
            guess = alone.tokens[at : at + drafts.randrange(9)]
            if guess and drafts.random() < 0.5:
                guess[drafts.randrange(len(guess))] = drafts.randrange(len(tokenizer))
            if drafts.random() < 0.3:
                guess = drafted.constraint.forced(8)
            if drafted.step(guess, drafts.randrange(9)) == 0:
                break
        assert drafted.tokens[:600] == alone.tokens[: len(drafted.tokens)][:600]
        if alone.ended:
            n_ended += 1
            validate(json.loads(tokenizer.decode_bytes(alone.tokens)), SCHEMAS[name])
    assert n_ended >= 2, "texts must end"


def test_forced_tokens_are_what_the_masks_leave(tokenizer, compiled):
    """A forced token is the only one of its row's mask; the plan takes it without a drafter."""
    form = compiled(response_format=response_format(SCHEMAS["names with escapes"]))
    constraint, n_forced = form.start(), 0
    for _ in range(200):
        kept, masks = constraint.plan([], 8)
        for row, token in enumerate(kept):
            assert [token] == list(allowed(masks[row]))
        n_forced += len(kept)
        constraint.accept([*kept, int(allowed(masks[len(kept)])[-1])])
        if constraint.stopped:
            break
    assert n_forced > 5


def test_a_draft_that_completes_the_text_is_left_to_its_row(tokenizer, compiled):
    constraint = compiled(choice=["yes", "no"]).start()
    tokens = tokenizer.encode("yes", add_special=False)
    kept, masks = constraint.plan(tokens, 8)
    assert kept == tokens[:-1] and tokens[-1] in allowed(masks[len(kept)])
    constraint.accept(tokens)
    assert constraint.stopped


def test_end_tokens_are_never_drafted(tokenizer, compiled):
    constraint = compiled(regex="a+").start()
    constraint.accept(tokenizer.encode("a", add_special=False))
    for end in tokenizer.end_tokens:
        kept, masks = constraint.plan([end, end], 8)
        assert kept == [] and tokenizer.end_tokens <= set(allowed(masks[0]))
    constraint.accept([min(tokenizer.end_tokens)])
    assert not constraint.stopped


@pytest.mark.parametrize(
    "forms, good, bad",
    [
        ({"regex": "(yes|no)"}, ["yes", "no"], ["maybe", "yesno", "y"]),
        ({"regex": "^a/b\\/[c/]$"}, ["a/b/c", "a/b//"], ["a/b"]),
        ({"regex": "[0-9]{2,4}"}, ["12", "1234"], ["1", "12345"]),
        ({"choice": ["ab", "abc", "é\n", 'q"\\']}, ["ab", "abc", "é\n", 'q"\\'], ["a", "abcd"]),
        ({"grammar": "start: A+\n%ignore / /\nA: /a|b/"}, ["a b", "aab"], [" a", "c"]),
        (
            {
                "grammar": 'root ::= "a" [x-z]{2,3} ws "\\u00e9" | foo-Bar\nws ::= [ '
                "\\n]*\nfoo-Bar ::= "
                '"q\\"\\\\[" ("1" | "2")+'
            },
            ["axy é", 'q"\\[12'],
            ["axxxxé", "ax"],
        ),
        ({"grammar": 'root ::= "\\x41" [^\\x30-\\x39] # "comment"\n'}, ["AB"], ["A1", "B"]),
        (
            {"response_format": {"type": "json_object"}},
            ["{}", '{"a": [1, {"b": null}]}'],
            ["[]", "1"],
        ),
        ({"response_format": response_format(True)}, ["[]", "1", '"x"'], ["x"]),
        ({"response_format": {"type": "json_object", "schema": {"type": "array"}}}, ["[]"], ["{}"]),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "name": "flat",
                    "schema": {"type": "null"},
                }
            },
            ["null"],
            ["{}"],
        ),
    ],
)
def test_forms(tokenizer, compiled, forms, good, bad):
    form = compiled(**forms)
    for text in good:
        assert follows(tokenizer, form.start(), text), text
    for text in bad:
        assert not follows(tokenizer, form.start(), text), text


def test_blanks_are_bounded(tokenizer, compiled):
    form = compiled(response_format=response_format({"type": "object"}))
    assert follows(tokenizer, form.start(), "{" + " " * 8 + "}")
    assert not follows(tokenizer, form.start(), "{" + " " * 9 + "}")
    assert not follows(tokenizer, form.start(), " {}")


def test_control_tokens_are_no_text(tokenizer, compiled, marks):
    form = compiled(response_format=response_format({"type": "string"}))
    constraint = form.start()
    constraint.accept(tokenizer.encode('"a', add_special=False))
    found = set(allowed(constraint.plan([], 0)[1][0]))
    assert found and not found & (set(marks.values()) | tokenizer.end_tokens)
    spelled = form.start()  # the same characters by other tokens are text
    for token in tokenizer.encode('"<|turn>"', add_special=False):
        kept, masks = spelled.plan([token], 1)
        assert kept[:1] == [token] or token in allowed(masks[0])
        spelled.accept([token])
    assert spelled.stopped


def test_thinking_comes_first(tokenizer, compiled):
    form = compiled(thinking="maybe", choice=["x"])
    assert follows(tokenizer, form.start(), "x")
    assert follows(tokenizer, form.start(), "<|channel>thought\nwell {<channel|>x")
    assert not follows(tokenizer, form.start(), "<|channel>final\nwell<channel|>x")
    opened = compiled(thinking="open", choice=["x"])
    assert follows(tokenizer, opened.start(), "any thing<channel|>x") and follows(
        tokenizer, opened.start(), "<channel|>x"
    )
    assert not follows(tokenizer, opened.start(), "x")


def test_a_banned_token_is_never_allowed(structured, pillion, tokenizer, compiled):
    spellings = tokenizer.encode("yes", add_special=False)
    first = [
        token
        for token in range(len(tokenizer))
        if b"yes".startswith(tokenizer.token_bytes(token) or b"?")
    ]
    constraint = compiled(choice=["yes"]).start(banned=first)
    with pytest.raises(
        pillion.UsageError, match=r"the choice allows only tokens after 0 tokens .* logit_bias bans"
    ):
        constraint.plan(spellings, 8)
    # behind a draft it only ends the drafts
    some = compiled(choice=["yes", "no"]).start(banned=[spellings[-1]])
    kept, _ = some.plan(spellings, 8)
    assert kept == []
    assert some.plan(tokenizer.encode("no", add_special=False), 8)


# ---- the bridge ----


def test_the_vocabulary(structured, model, tokenizer, marks):
    vocabulary = structured.Vocabulary(tokenizer, model.n_vocab + 37, marks.values())
    bytes_of = vocabulary.spellings()
    assert len(bytes_of) == model.n_vocab + 37 and bytes_of[-37:] == [b""] * 37
    kinds = vocabulary.special()
    for token in range(len(tokenizer)):
        special = token in kinds
        assert (
            bytes_of[token].startswith(b"\xff<")
            if special
            else bytes_of[token] == tokenizer.token_bytes(token)
        )
    assert (
        set(marks.values()) <= vocabulary.special()
        and vocabulary.end_tokens == tokenizer.end_tokens
    )
    llg = vocabulary.llg()
    assert (
        llg is vocabulary.llg()
        and llg.vocab_size == vocabulary.n_vocab
        and set(llg.eos_tokens) == tokenizer.end_tokens
    )
    assert llg.tokenize_str("the light") == tokenizer.encode("the light", add_special=False)


def test_the_shortest_text_of_a_pattern():
    from pillion.structured.lark import shortest

    for pattern, least in (
        ("abc", 3),
        ("(ab){3}c", 7),
        ("[^a]{5}", 5),
        ("\\d{4}", 4),
        ("((x{10}){10}){10}", 1000),
        ("a{,5}", 1),
        ("[]x]{9}", 9),
    ):
        assert shortest(pattern) == least, pattern
    assert shortest("(" * 50_000) == 0 and shortest(")" * 50_000) >= 0


def test_it_can_be_prepared(pillion):
    from pillion.models import TINY_TARGET

    with pillion.LLM(TINY_TARGET, n_ctx=128, drafter=None) as llm:
        llm.structured.prepare()
        assert llm.structured.grammars.vocabulary._built is not None


def test_the_vocabulary_is_built_once(structured, model, tokenizer):
    vocabulary = structured.Vocabulary(tokenizer, model.n_vocab)
    found, n_built = [], []
    build = vocabulary._build
    vocabulary._build = lambda: n_built.append(1) or build()
    threads = [threading.Thread(target=lambda: found.append(vocabulary.llg())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(n_built) == 1 and len(set(map(id, found))) == 1


def test_suppressed_tokens_have_no_bytes(structured, model, tokenizer):
    class Suppressing:
        suppressed_tokens = [400, 401]

        def __len__(self):
            return len(tokenizer)

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    spelled = structured.Vocabulary(Suppressing(), model.n_vocab).spellings()
    assert spelled[400] == spelled[401] == b"" != spelled[402]


@pytest.mark.parametrize(
    "text",
    ["a \u2581b", "  x", "\u2581", "e\u0301\x00\x7f", "日本🦔", "\ufeff", "<bos>", "\r\n\t "],
)
def test_forced_texts_keep_their_bytes(tokenizer, compiled, text):
    """A vocabulary may spell a text in another way than it was written (U+2581 is its blank)."""
    constraint, tokens = compiled(choice=[text]).start(), []
    while not constraint.stopped:
        kept, masks = constraint.plan([], 8)
        tokens += [*kept, int(allowed(masks[len(kept)])[0])]
        constraint.accept([*kept, tokens[-1]])
    assert tokenizer.decode_bytes(tokens) == text.encode()


def test_a_closed_model_is_no_panic(pillion, structured, capfd):
    from pillion.models import TINY_TARGET

    with pillion.Model.open(TINY_TARGET) as model:
        grammars = structured.Grammars(structured.Vocabulary(model.tokenizer, model.n_vocab))
        constraint = grammars.compile('start: "a" "bcdef"', "it").start()
        model.tokenizer.close()
    assert constraint.plan([], 8)[1].any()
    assert capfd.readouterr() == ("", "")


def test_compiled_grammars_are_kept(structured, model, tokenizer):
    grammars = structured.Grammars(structured.Vocabulary(tokenizer, model.n_vocab))
    first = grammars.compile('start: "a"', "it")
    assert grammars.compile('start: "a"', "it") is first
    for number in range(64):
        grammars.compile(f'start: "b{number}"', "it")
    assert len(grammars._kept) == 64 and grammars.compile('start: "a"', "it") is not first


def test_compiling_holds_up_nobody(structured, model, tokenizer):
    """A grammar that takes long to compile, and one that is there already."""
    grammars = structured.Grammars(structured.Vocabulary(tokenizer, model.n_vocab))
    grammars.compile('start: "a"', "it")
    inside, go_on = threading.Event(), threading.Event()
    compile = grammars._matcher

    def slow(grammar, what):
        if "slow" in grammar:
            inside.set()
            assert go_on.wait(60)
        return compile(grammar, what)

    grammars._matcher = slow
    thread, outcome = in_thread(lambda: grammars.compile('start: "slow"', "it"))
    assert inside.wait(60)
    grammars.compile('start: "a"', "it"), grammars.compile('start: "c"', "it")
    go_on.set()
    thread.join(60)
    assert type(outcome[0]).__name__ == "Compiled"


# ---- refusals ----


def sentence(pillion, call, *args, **kwargs):
    begin = time.monotonic()
    with pytest.raises(pillion.UsageError) as caught:
        call(*args, **kwargs)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 500 and said[-1] != "."
    return said, time.monotonic() - begin


@pytest.mark.parametrize(
    "schema, words",
    [
        ({"type": "array", "uniqueItems": True}, ["'uniqueItems'", "cannot be enforced"]),
        ({"properties": {"a": {"properties": {"b": {"not": {"type": "string"}}}}}}, ["'not'"]),
        ({"if": {}, "then": {}}, ["'if'", "'then'"]),
        ({"contains": {"type": "string"}}, ["'contains'"]),
        ({"propertyNames": {"pattern": "a"}}, ["'propertyNames'"]),
        ({"dependentRequired": {"a": ["b"]}}, ["'dependentRequired'"]),
        ({"oneOf": [{"type": "string"}, {"minLength": 2}]}, ["'oneOf'", "'anyOf'"]),
        ({"type": "string", "format": "regex"}, ["'format'", "'regex'"]),
        ({"type": "strnig"}, ["strnig"]),
        ({"$ref": "#/$defs/none"}, ["/$defs/none"]),
        ({"$ref": "http://localhost/schema.json"}, ["http://localhost/schema.json"]),
        ({"type": "string", "pattern": "(?<=a)b"}, ["look-around"]),
        ({"type": "integer", "minimum": 5, "maximum": 3}, ["5", "3"]),
        ({"$ref": "#"}, ["schema"]),
        ({"minProperties": 2, "type": "object"}, ["'minProperties'"]),
    ],
)
def test_refused_schemas(pillion, compiled, schema, words):
    said, _ = sentence(pillion, compiled, response_format=response_format(schema))
    assert "the schema of response_format" in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "forms, words",
    [
        ({"regex": "(a"}, ["the regex", "unclosed group"]),
        ({"regex": "(?=a)b"}, ["the regex", "look-around"]),
        ({"regex": "(a)\\1"}, ["the regex", "backreferences"]),
        ({"grammar": "start: foo"}, ["the grammar", "foo", "line 1"]),
        ({"grammar": 'start: "a" <[99999]>'}, ["the grammar", "99999"]),
        ({"grammar": "start: a\na[max_tokens=3]: /x+/"}, ["max_tokens=", "draft"]),
        ({"grammar": 'start: a "b"\na[stop="c"]: /x+/'}, ["stop=", "draft"]),
        ({"grammar": 'foo ::= "a"'}, ["root"]),
        ({"grammar": "root ::= foo"}, ["foo"]),
        ({"grammar": 'root ::= "a'}, ["GBNF"]),
        ({"grammar": 'root ::= "\\uD800"'}, ["\\uD800"]),
        ({"grammar": "root ::= " + "(" * NESTED + '"a"' + ")" * NESTED}, ["groups"]),
        ({"grammar": "start: " + "(" * NESTED + '"a"' + ")" * NESTED}, ["the grammar"]),
        ({"regex": "(" * NESTED + "a" + ")" * NESTED}, ["the regex"]),
        ({"regex": "a" * 100_001}, ["regex", "100001", "100000"]),
        ({"choice": [str(number) for number in range(10_001)]}, ["choice", "10001", "10000"]),
        ({"choice": ["x" * 100_001]}, ["choice", "100000"]),
        ({"regex": "a", "choice": ["b"]}, ["regex and choice", "one of them"]),
        ({"regex": "a", "response_format": {"type": "json_object"}}, ["response_format and regex"]),
        ({"response_format": {"type": "xml"}}, ["'xml'", "json_schema"]),
        ({"response_format": {"type": "json_schema"}}, ["without a schema"]),
        ({"response_format": response_format({"description": "x" * 10_000_000})}, ["100000"]),
        ({"response_format": response_format({"enum": list(range(100_000))})}, ["50000"]),
        ({"response_format": response_format({"const": float("nan")})}, ["JSON"]),
        ({"response_format": response_format({5: 6})}, ["5"]),
    ],
)
def test_refused_forms(pillion, compiled, forms, words):
    said, _ = sentence(pillion, compiled, **forms)
    for word in words:
        assert word in said, said


def test_plain_text_is_no_form(structured):
    assert (
        structured.wanted_body() is None
        and structured.wanted_body(response_format={"type": "text"}) is None
    )
    assert structured.wanted_body(response_format={"type": "text"}, regex="a").kind == "regex"


def test_a_class_of_pydantic(structured):
    class Model:
        @staticmethod
        def model_json_schema():
            return {"type": "null"}

    assert json.loads(structured.wanted_body(response_format=Model).source)["type"] == "null"


def test_a_class_of_pydantic_has_its_fields_and_no_others(structured):
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class Inner(pydantic.BaseModel):
        type: str = ""

    class Open(pydantic.BaseModel, extra="allow"):
        properties: dict[str, Inner]

    class Outer(pydantic.BaseModel):
        many: list[Inner]
        either: "Inner | Open | None" = None
        pair: tuple[Open, Inner]

    Outer.model_rebuild(_types_namespace={"Inner": Inner, "Open": Open})
    schema = json.loads(structured.wanted_body(response_format=Outer).source)
    inner, opened = schema["$defs"]["Inner"], schema["$defs"]["Open"]
    assert schema["additionalProperties"] is inner["additionalProperties"] is False
    assert opened["additionalProperties"] is True
    assert opened["properties"]["properties"]["additionalProperties"] == {"$ref": "#/$defs/Inner"}


def test_a_schema_that_is_no_class_is_taken_as_it_stands(structured):
    schema = {"type": "object", "properties": {"a": {"type": "null"}}}
    body = structured.wanted_body(response_format=response_format(schema))
    assert "additionalProperties" not in json.loads(body.source)


def deep(levels):
    schema = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


BIG = {
    "deep": {"response_format": response_format(deep(100_000))},
    "wide union": {
        "response_format": response_format(
            {
                "allOf": [
                    {"anyOf": [{"required": [f"{c}{d}"]} for d in "abcdefgh"]} for c in "abcdefgh"
                ]
            }
        )
    },
    "many properties": {
        "response_format": response_format(
            {
                "type": "object",
                "properties": {
                    f"p{number}": {"type": "string", "maxLength": 1000} for number in range(3000)
                },
            }
        )
    },
    "huge enum": {
        "response_format": response_format(
            {"enum": [f"value number {number}" for number in range(20_000)]}
        )
    },
    "long lists": {
        "response_format": response_format(
            {"type": "array", "minItems": 10**9, "items": {"const": 1}}
        )
    },
    "long text": {"response_format": response_format({"type": "string", "minLength": 10**9})},
    "prime": {"response_format": response_format({"type": "integer", "multipleOf": 10**9 + 7})},
    "far bound": {
        "response_format": response_format({"type": "integer", "minimum": 1, "maximum": 10**1000})
    },
    "nested counts": {"regex": "(((x{1000}){1000}){1000}){1000}"},
    "one count": {"regex": "x{1000000000}"},
    "backtracking": {"regex": "(a*)*b((a|b|ab)*c){50}(.*a.{20}){20}"},
    "counts in a pattern": {
        "response_format": response_format({"type": "string", "pattern": "^(x{1000}){1000000}$"})
    },
    "doubling rules": {
        "grammar": "\n".join(
            ["start: a0", *(f"a{n}: a{n + 1} a{n + 1}" for n in range(40)), 'a40: "x"']
        )
    },
    "doubling GBNF": {
        "grammar": "\n".join(
            [
                "root ::= a0",
                *(f"a{n} ::= a{n + 1} a{n + 1}" for n in range(40)),
                'a40 ::= "x" | "y"',
            ]
        )
    },
    "forcing on demand": {
        "grammar": '%llguidance {"no_forcing": false}\n'
        + "\n".join(["start: a0", *(f"a{n}: a{n + 1} a{n + 1}" for n in range(40)), 'a40: "x"'])
    },
    "a JSON schema in Lark": {
        "grammar": "start: %json "
        + json.dumps(
            {
                "type": "array",
                "minItems": 10**9,
                "items": {"const": 1},
                "x-guidance": {"whitespace_flexible": False},
            }
        )
    },
    "counts of rules": {"grammar": 'start: a{1000}\na: b{1000}\nb: c{1000}\nc: "x"'},
    "left recursion": {"grammar": "start: start start | start\n"},
}


@pytest.mark.parametrize("name", BIG)
def test_hostile_forms_take_bounded_time(pillion, tokenizer, compiled, name):
    """They are refused, or they can be followed; either is quick, and so is every step."""
    begin = time.process_time()
    try:
        constraint = compiled(**BIG[name]).start()
        for _ in range(20):
            _, masks = constraint.plan(tokenizer.encode("aaaa", add_special=False), 8)
            constraint.accept([int(allowed(masks[0])[-1])])
            if constraint.stopped:
                break
    except pillion.UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
    assert time.process_time() - begin < 20


# ---- exactness ----


def test_masks_do_not_depend_on_the_way(tokenizer, compiled, closing):
    """The mask behind a text is the same however it was reached: token by token, after drafts that
    were taken back, or at once."""
    for name in ("weather report", "names with escapes", "tree", "format date-time"):
        form = compiled(response_format=response_format(SCHEMAS[name]))
        walk = Walk(tokenizer, form.start(), 1, closing).run(60)
        straight, winding = form.start(), form.start()
        rng = random.Random(7)
        for at, token in itertools.islice(enumerate(walk.tokens), 59):
            wild = [rng.randrange(len(tokenizer)) for _ in range(4)]
            winding.plan(walk.tokens[at : at + rng.randrange(6)] + wild, rng.randrange(9))
            winding.forced(8)
            at_once = form.start()
            at_once.accept(walk.tokens[:at])
            one, two, three = (c.plan([], 0)[1][0].copy() for c in (straight, winding, at_once))
            assert np.array_equal(one, two) and np.array_equal(one, three), (name, at)
            straight.accept([token]), winding.accept([token])
            if straight.stopped:
                break


@pytest.mark.parametrize("seed", range(8))
def test_random_grammars(tokenizer, compiled, closing, seed):
    """Rules made by chance over single characters, also of several bytes: what is written under
    them, drafted or not, is accepted by the grammar once more."""
    rng = random.Random(seed)
    letters = 'abé日 {"\\🦔'
    rules = []
    for number in range(5):
        choices = []
        for _ in range(rng.randrange(1, 4)):
            parts = [
                json.dumps(rng.choice(letters), ensure_ascii=False)
                for _ in range(rng.randrange(1, 4))
            ]
            if number < 4 and rng.random() < 0.7:
                parts.insert(
                    rng.randrange(len(parts) + 1),
                    f"r{rng.randrange(number + 1, 5)}{rng.choice(['', '?', '*', '+', '{1,3}'])}",
                )
            choices.append(" ".join(parts))
        rules.append(f"r{number}: {' | '.join(choices)}")
    form = compiled(grammar="start: r0 r1?\n" + "\n".join(rules))
    for n in range(4):
        alone = Walk(tokenizer, form.start(), n, closing).run(200)
        drafted = Walk(tokenizer, form.start(), n, closing)
        while not drafted.ended and len(drafted.tokens) < 200:
            at = len(drafted.tokens)
            drafted.step(alone.tokens[at : at + 5], 8)
        assert drafted.tokens[:200] == alone.tokens[:200]
        if alone.ended:
            assert follows(tokenizer, form.start(), tokenizer.decode_bytes(alone.tokens).decode())


# ---- depth ----


def chained(kind, n):
    """A form of n rules, each of which leads to the next one."""
    if kind == "lark":
        rules = "\n".join(f'a{i}: a{i + 1} "x"' for i in range(n))
        return {"grammar": f'start: a0\n{rules}\na{n}: "y"'}
    defs = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(n)}
    return {
        "response_format": response_format(
            {"$defs": {**defs, f"d{n}": {"type": "null"}}, "$ref": "#/$defs/d0"}
        )
    }


@pytest.mark.parametrize(("kind", "n"), [("lark", 5_000), ("schema", 9_000)])
def test_a_chain_of_thousands_of_rules(compiled, kind, n):
    """llguidance calls itself for each; on a usual stack that would end the process."""
    try:
        assert compiled(**chained(kind, n)).start().plan([], 0)[1] is not None
    except ValueError as error:
        assert "\n" not in str(error)


def test_the_interpreter_waits_for_who_is_inside_llguidance(pillion):
    """A daemon thread that came back from there into an ending interpreter would crash it."""
    from pillion.structured import ending

    leave, entered = threading.Event(), threading.Event()

    def call():
        with ending.inside():
            entered.set()
            leave.wait()

    caller, _ = in_thread(call)
    entered.wait()
    try:
        end, over = in_thread(ending._at_exit)
        until(lambda: ending._ended)
        with pytest.raises(pillion.Cancelled, match="interpreter is ending"), ending.inside():
            pass
        assert not over
        leave.set()
        until(lambda: over)
    finally:
        ending._ended.clear()
        leave.set()
    assert not ending._inside


def test_the_interpreter_ends_under_a_grammar():
    pytest.importorskip("resource")
    for _ in range(3):
        programs.run(
            r"""
            llm = opened()
            rules = r'start: s' + '\n' + r's: s s | /[a-z]/ | /[a-z ]+/ | /(.|\n)+/'
            ask = lambda: text(llm, 200, grammar=rules)
            threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
            for one in threads:
                one.start()
            while llm.engine.stats().tokens < 5:
                time.sleep(0.001)
            """
        )
