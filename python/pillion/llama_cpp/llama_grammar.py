"""`LlamaGrammar`: what a text must look like, from GBNF or from a JSON schema."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arguments import check_path, check_text, wrong
from ..calling import checked_class
from ..errors import NoSuchName, UsageError

LLAMA_GRAMMAR_DEFAULT_ROOT = "root"

JSON_GBNF = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" hex hex hex hex))* "\"" ws
hex    ::= [0-9a-fA-F]
number ::= ("-"? ([0-9] | [1-9] [0-9]*)) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= [ \t\n]?
"""


@checked_class
class LlamaGrammar:
    """A grammar for `grammar=` of the calls of `Llama`. It needs llguidance:
    `pip install 'pillion[structured]'`.

    A schema is kept as a schema, not turned into GBNF.
    """

    def __init__(self, *, _grammar: str = "", _schema: Mapping[str, Any] | None = None) -> None:
        self._grammar = _grammar
        self._schema = _schema

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> LlamaGrammar:
        """A grammar in GBNF, with a rule "root", or in Lark. verbose: nothing is printed."""
        return cls(_grammar=check_text("grammar", grammar))

    @classmethod
    def from_file(cls, file: str | os.PathLike[str], verbose: bool = True) -> LlamaGrammar:
        """The grammar in a file. Raises `UsageError` for a file that is absent or empty."""
        path = Path(check_path("file", file))
        try:
            grammar = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"the grammar of {path} can't be read: {error}") from None
        if not grammar.strip():
            raise UsageError(f"the grammar of {path} is empty")
        return cls.from_string(grammar, verbose=verbose)

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> LlamaGrammar:
        """The JSON that follows a schema, which is JSON itself, or a mapping."""
        schema: Any = json_schema
        if isinstance(json_schema, (str, bytes)):
            try:
                schema = json.loads(json_schema)
            except ValueError as error:
                raise UsageError(f"json_schema is not JSON: {error}") from None
        if not isinstance(schema, Mapping):
            wrong("json_schema", json_schema, "a JSON schema: the JSON of an object")
        return cls(_schema=schema)

    def form(self) -> dict[str, Any]:
        """The same demand as an argument of `pillion.LLM`'s calls."""
        if self._schema is None:
            return {"grammar": self._grammar}
        named = {"name": "grammar", "schema": self._schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}


def json_schema_to_gbnf(schema: str, prop_order: list[str] | None = None) -> str:
    """Is not here: pillion hands schemas to llguidance as they are."""
    raise NoSuchName(
        "pillion.llama_cpp has no json_schema_to_gbnf, because no schema becomes GBNF: use "
        "LlamaGrammar.from_json_schema(schema) or response_format"
    )


def form_of(grammar: Any) -> dict[str, Any]:
    """A `grammar` argument, a LlamaGrammar or a text, as arguments of `pillion.LLM`'s calls."""
    if grammar is None:
        return {}
    if isinstance(grammar, LlamaGrammar):
        return grammar.form()
    if isinstance(grammar, str):
        return {"grammar": grammar}
    wrong("grammar", grammar, "a LlamaGrammar, or a text in GBNF or Lark")
