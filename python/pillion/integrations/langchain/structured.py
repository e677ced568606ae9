"""Answers that follow a schema, as a chain of LangChain: the model, bound to the form, and a
parser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass

from ...arguments import check_choice, unknown_names

Chain = Callable[[Any, Any, bool], Runnable[Any, Any]]


class _JsonAnswer(JsonOutputParser):
    """Reads JSON. LangChain's own parser would close what max_tokens cut off."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        _refuse_cut(result)
        return super().parse_result(result, partial=partial)


class _PydanticAnswer(PydanticOutputParser[Any]):
    """The same for a class of pydantic."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        _refuse_cut(result)
        return super().parse_result(result, partial=partial)


def _refuse_cut(result: list[Generation]) -> None:
    one = result[0]
    if not isinstance(one, ChatGeneration):
        return
    if one.message.response_metadata.get("finish_reason") == "length":
        raise OutputParserException(
            "the answer reached max_tokens, or the end of the context, before its JSON ended",
            llm_output=one.text,
        )


def structured(schema: Any, method: str, unknown: Mapping[str, Any]) -> tuple[Chain, Any]:
    """The chain for a schema, and its parser. Raises `UsageError` for another method and for
    keywords that nobody knows."""
    check_choice("method", method, ("json_schema", "function_calling", "json_mode"))
    unknown_names("with_structured_output()", unknown, ("method", "include_raw", "strict"))
    shape: dict[str, Any] = {"type": "json_object"}
    if method == "json_schema":
        wanted = convert_to_json_schema(schema)
        name = str(wanted.get("title") or "answer")
        shape = {"type": "json_schema", "json_schema": {"name": name, "schema": wanted}}
    is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser = _PydanticAnswer(pydantic_object=schema) if is_class else _JsonAnswer()

    def chain(model: Any, parser: Any, include_raw: bool) -> Runnable[Any, Any]:
        told = {"kwargs": {"method": method}, "schema": schema}
        bound = model.bind(response_format=shape, ls_structured_output_format=told)
        if not include_raw:
            found: Runnable[Any, Any] = bound | parser
            return found
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=bound) | parsed.with_fallbacks(
            [failed], exception_key="parsing_error"
        )

    return chain, parser
