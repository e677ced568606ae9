"""`ChatPillion`: a chat model of LangChain over an `LLM` of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr, ValidationError

from ...arguments import check_mapping, shown, unknown_names
from ...errors import UsageError
from ...llm.llm import LLM
from ..keywords import LLM_KEYWORDS
from .langchain_messages import answer_of, chunk_of, plain_messages
from .own_llm import name_of, opened
from .structured import structured

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool


class ChatPillion(BaseChatModel):
    """A chat model in this process, with its drafter.

        chat = ChatPillion("gemma-4-E2B-it-Q4_0.gguf", n_ctx=8192, temperature=0)
        chat.invoke("Why is the sky blue?")

    model: what `LLM` opens; with from_pretrained={…} a repository of the hub.
    llm: an open `LLM` instead, which stays open at close().
    Keywords of `LLM` (n_ctx, drafter, parallel, device, …) are taken beside the fields; `seed` and
    `draft` concern each call.

    Thinking is in the message's reasoning block, and in additional_kwargs["reasoning_content"].
    response_metadata has finish_reason, model_name, logprobs, timings and speculation. Any number
    of threads and tasks may call it; `parallel` answers are written at a time.

    Raises `UsageError` for unknown keywords, and what `LLM` and `LLM.chat` raise.
    """

    model: str = ""
    """Path of the model; behind `llm` the model's name."""
    llm: Any = Field(default=None, exclude=True, repr=False)
    """The open `LLM`."""
    llm_options: dict[str, Any] = Field(default_factory=dict)
    """Keywords of `LLM`."""

    temperature: float | None = None
    """0: always the most likely token; this and the next ones, None: what the file recommends."""
    max_tokens: int | None = None
    """The most tokens of an answer; None: until the context is full."""
    stop: list[str] | str | None = None
    """Texts that end an answer."""
    seed: int | None = None
    """The same one for each call; None: a random one."""
    top_k: int | None = None
    """Keeps the k most likely tokens."""
    top_p: float | None = None
    """Keeps the most likely tokens that together have this probability."""
    min_p: float | None = None
    """Drops tokens less likely than this fraction of the most likely one."""
    logprobs: bool = False
    """Lists each token's log-probability in response_metadata."""
    top_logprobs: int | None = None
    """How many other tokens to list with theirs."""
    draft: int | str | None = None
    """Draft length: 0 to 8 or "auto". It changes the speed, never the text."""
    thinking: bool | None = None
    """True lets the model think before it answers; None: as the template has it."""
    timeout: float | None = None
    """Seconds that an answer may take."""
    streaming: bool = False
    """True: invoke() streams inside, so that callbacks hear each piece of text."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More options of `LLM.chat`: repeat_penalty, logit_bias, regex, chat_template_kwargs, …"""

    _owns_llm: bool = PrivateAttr(default=False)

    def __init__(self, model: Any = "", **fields: Any) -> None:
        known = set(type(self).model_fields)
        for_llm = {name: fields.pop(name) for name in LLM_KEYWORDS - known if name in fields}
        unknown_names("ChatPillion()", fields, known | LLM_KEYWORDS)
        named = fields.pop("llm_options", None)
        for_llm = {**check_mapping("llm_options", {} if named is None else named), **for_llm}
        llm, owns = opened(model, fields.pop("llm", None), for_llm)
        fields.update(model=name_of(model, llm), llm=llm, llm_options=for_llm)
        try:
            super().__init__(**fields)
        except ValidationError as error:
            if owns:
                llm.close()
            raise UsageError(_of_field(error)) from error
        self._owns_llm = owns

    def __copy__(self) -> ChatPillion:
        """On the same LLM, which stays open at the copy's close()."""
        found = super().__copy__()
        found._owns_llm = False
        return found

    def close(self) -> None:
        """Frees the model, unless it came as `llm`."""
        if self._owns_llm:
            self.llm.close()

    def __enter__(self) -> ChatPillion:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- answers ----

    def _options(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of `LLM.chat`; what the call says goes before the fields."""
        names = ("temperature", "max_tokens", "stop", "seed", "top_k", "top_p", "min_p", "draft")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.logprobs:
            found |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        found |= self.model_kwargs
        said = {name: value for name, value in given.items() if name not in ("model", "thinking")}
        found |= said
        if stop is not None:
            found["stop"] = stop
        timeout = found.pop("timeout", self.timeout)
        if timeout is not None:
            found["total_timeout"] = timeout
        thinking = given.get("thinking", self.thinking)
        if thinking is not None:
            variables = found.get("chat_template_kwargs") or {}
            found["chat_template_kwargs"] = {"enable_thinking": thinking, **variables}
        return found

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        found = self._llm.chat(plain_messages(messages), **self._options(stop, kwargs))
        return _result(answer_of(found))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        given = self._options(stop, kwargs)
        found: Any = await self._llm.achat(plain_messages(messages), **given)
        return _result(answer_of(found))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        given = self._options(stop, kwargs)
        stream: Any = self._llm.chat(plain_messages(messages), stream=True, **given)
        with stream:
            for one in stream:
                chunk = ChatGenerationChunk(message=chunk_of(one))
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        given = self._options(stop, kwargs)
        stream: Any = await self._llm.achat(plain_messages(messages), stream=True, **given)
        async with stream:
            async for one in stream:
                chunk = ChatGenerationChunk(message=chunk_of(one))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    # ---- tools and forms ----

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools: functions, classes of pydantic, tools of LangChain or OpenAI's
        dicts.

        tool_choice: "auto" (None), "none", "any" (also "required" and True), or a tool's name.
        strict: True makes calls follow the tools' schemas. parallel_tool_calls: False: at most one
        call.
        """
        listed = [convert_to_openai_tool(one, strict=strict) for one in tools]
        if tool_choice in ("any", True):
            tool_choice = "required"
        elif isinstance(tool_choice, str) and tool_choice not in ("auto", "none", "required"):
            tool_choice = {"type": "function", "function": {"name": tool_choice}}
        return self.bind(tools=listed, tool_choice=tool_choice or None, **kwargs)

    def with_structured_output(
        self,
        schema: Any,
        *,
        method: str = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model whose answers follow a schema: a class of pydantic, a TypedDict, a JSON schema
        or a function's. Answers are instances of the class of pydantic, else dicts.

        method: "json_schema": the text follows the schema, behind any thinking.
        "function_calling": the schema is a tool that must be called. "json_mode": any JSON object,
        which is then checked. strict has no effect: a schema always holds. include_raw: True
        answers {"raw", "parsed", "parsing_error"}.

        An answer that max_tokens cuts short raises LangChain's `OutputParserException`.
        """
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        form, parser = structured(schema, method, kwargs)
        return form(self, parser, include_raw)

    # ---- tokens ----

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer."""
        return self._llm.tokenize(text, add_bos=False)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Tool] | None = None
    ) -> int:
        """Number of tokens of the prompt that these messages, with these tools, become."""
        listed = None if tools is None else [convert_to_openai_tool(one) for one in tools]
        rendered = self._llm.render_chat(plain_messages(messages), tools=listed)
        return len(self._llm.chat_tokens(rendered))

    # ---- what LangChain asks ----

    @property
    def _llm(self) -> LLM:
        found: LLM = self.llm
        return found

    @property
    def _llm_type(self) -> str:
        return "pillion"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, **self.llm_options, **self._options(None, {})}


def _of_field(error: ValidationError) -> str:
    """The first field that pydantic refused."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "a field"
    return f"{name} is {shown(first['input'])}: {first['msg']}"


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])
