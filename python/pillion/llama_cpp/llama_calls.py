"""`Calls`: the calls of `Llama` that write text, with llama-cpp-python's arguments and shapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..arguments import check_bool, check_int, check_mapping, check_text, wrong
from ..calling import checked_class
from ..chat.messages import Message
from ..engine.work import Request
from ..errors import UsageError
from ..llm.llm import LLM
from ..llm.openai_format import Completion
from ..llm.requests import checked_prompt
from .keywords import seed_of
from .llama_grammar import LlamaGrammar, form_of
from .llama_settings import checked_sampling
from .llama_speculative import DraftsOf
from .processors import LogitsProcessorList, StoppingCriteriaList
from .shapes import Result, Shaped, chat_chunk, chat_result, text_result

Stop = str | list[str] | None
_log = logging.getLogger("pillion")


@checked_class
class Calls:
    """See the module. A part of `Llama`."""

    _shown_as = "Llama"
    llm: LLM
    model_path: str
    last_n_tokens_size: int
    draft_model: Any
    chat_handler: Any
    _handler: Callable[..., Any] | None
    _guess: Any

    def create_completion(
        self,
        prompt: str | list[int],
        suffix: str | None = None,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: int | None = None,
        echo: bool = False,
        stop: Stop = [],  # noqa: B006 - nobody changes it
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: int | None = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        logits_processor: LogitsProcessorList | None = None,
        grammar: LlamaGrammar | None = None,
        logit_bias: Mapping[int, float] | None = None,
        **more: Any,
    ) -> Result | Iterator[Result]:
        """Continues a prompt, in which spellings of control tokens are those tokens. stream: an
        iterator of chunks. max_tokens below 1, or None: until the context ends. more: other options
        of `pillion.LLM.complete`.

        Raises `UsageError` for a wrong argument and `ContextFullError` for a long prompt; both are
        ValueErrors.
        """
        given = locals()
        options = self._options(given, more)
        name = self.model_path if model is None else check_text("model", model)
        check_bool("stream", stream)
        tokens, spelled = self._prompt(prompt)
        request, make = self.llm.requests.completion(
            tokens, suffix=suffix, echo=echo, logprobs=logprobs, **options
        )
        answer = self._begun(request, make, name)
        if echo and spelled is not None:
            answer.echo = spelled
        begin, bos = (0, self._bos_text()) if echo else (len(prompt), None)
        if stream:
            return Shaped(answer.chunks(), lambda chunk: text_result(chunk, begin, True, bos))
        return text_result(answer.whole(), begin, False, bos)

    __call__ = create_completion

    def create_chat_completion(
        self,
        messages: Sequence[Message],
        functions: Sequence[Mapping[str, Any]] | None = None,
        function_call: str | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: Stop = [],  # noqa: B006 - nobody changes it
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: LogitsProcessorList | None = None,
        grammar: LlamaGrammar | None = None,
        logit_bias: Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        **more: Any,
    ) -> Result | Iterator[Result]:
        """Answers a conversation. more: other options of `pillion.LLM.chat`, such as
        enable_thinking. A `chat_handler`, or a format registered in `llama_chat_format`, gets all
        arguments in pillion's place. Raises what `create_completion` raises."""
        given = locals()
        if self._handler is not None:
            handed = {name: given[name] for name in given if name not in ("self", "more")}
            return self._handler(llama=self, **handed, **more)  # type: ignore[no-any-return]
        options = self._options(given, more)
        name = self.model_path if model is None else check_text("model", model)
        check_bool("stream", stream)
        tools, tool_choice = _tools(functions, function_call, tools, tool_choice)
        request, make = self.llm.requests.chat(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            logprobs=bool(logprobs),
            top_logprobs=top_logprobs,
            **options,
        )
        answer = self._begun(request, make, name)
        calls = functions is not None or isinstance(tool_choice, Mapping)
        if stream:
            return Shaped(answer.chunks(), lambda chunk: chat_chunk(chunk, calls))
        return chat_result(answer.whole(), calls)

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """`create_chat_completion` as objects of the package openai: a ChatCompletion, or an
        iterator of ChatCompletionChunk."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk
        except ImportError:
            raise UsageError(
                "create_chat_completion_openai_v1 needs openai: pip install openai"
            ) from None
        found = self.create_chat_completion(*args, **kwargs)
        if isinstance(found, Mapping):
            return ChatCompletion(**found)
        return (ChatCompletionChunk(**chunk) for chunk in found)

    # ---- parts ----

    def _options(self, given: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of llama-cpp-python as those of `pillion.LLM`'s calls."""
        n = given["max_tokens"]
        n = None if n is None or check_int("max_tokens", n) < 1 else n
        seed = given["seed"]
        options: dict[str, Any] = {
            **checked_sampling(given, "temperature", self.last_n_tokens_size),
            "max_tokens": n,
            "stop": given["stop"],
            "seed": -1 if seed is not None and seed_of(seed) is None else seed,
            "logit_bias": given["logit_bias"],
            "logits_processor": given["logits_processor"],
            **form_of(given["grammar"]),
        }
        for name in ("stopping_criteria", "response_format"):
            if given.get(name) is not None:
                options[name] = given[name]
        return {**options, **more}

    def _prompt(self, prompt: Any) -> tuple[list[int], str | None]:
        """Token ids of a prompt, and its text if it was one."""
        checked = checked_prompt(prompt)
        if not isinstance(checked, str):
            return checked, None
        tokens = self.llm.tokenizer.encode(checked, parse_special=True)
        bos = self.llm.tokenizer.bos
        if bos is not None and tokens[:2] == [bos, bos]:
            _log.warning("the prompt begins with the token that texts begin with, and gets another")
        return tokens or ([] if bos is None else [bos]), checked

    def _bos_text(self) -> str | None:
        tokenizer = self.llm.tokenizer
        return None if tokenizer.bos is None else tokenizer.decode([tokenizer.bos], special=True)

    def _begun(self, request: Request, make: Callable[..., Completion], model: str) -> Completion:
        """The result of a request, its work begun."""
        if self._guess is not None:
            request.constraint = DraftsOf(self._guess, request.prompt, request.constraint)
        answer = make(self.llm.engine.submit(request))
        answer.head["model"] = model
        return answer


def _tools(functions: Any, function_call: Any, tools: Any, choice: Any) -> tuple[Any, Any]:
    """Tools and their choice, from OpenAI's older arguments too."""
    if functions is not None:
        if not isinstance(functions, (list, tuple)):
            wrong("functions", functions, "a list of functions, each with name and parameters")
        tools = [{"type": "function", "function": one} for one in functions]
    if isinstance(function_call, str):
        choice = function_call
    elif function_call is not None:
        name = check_mapping("function_call", function_call).get("name")
        choice = {"type": "function", "function": {"name": name}}
    return tools, choice
