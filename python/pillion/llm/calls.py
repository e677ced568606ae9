"""`TextCalls`: the calls of `LLM` that write text. Arguments and results are OpenAI's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from ..arguments import check_bool
from ..calling import checked_class
from ..chat.messages import Message
from ..engine.engine import Engine
from ..engine.generation import Generation
from ..engine.work import Request
from ..media.media_parts import has_media
from ..pair import Draft
from .openai_format import ChatCompletion, Completion, Result
from .request_maker import Prompt, RequestMaker, ToolChoice, Tools
from .several import SeveralAnswers, SeveralAsyncStreams, options_of_each
from .streams import AsyncStream

Stop = str | Sequence[str] | None


@checked_class
class TextCalls:
    """`complete` and `chat`, the same for asyncio, and `generate` under them."""

    _shown_as = "LLM"
    engine: Engine
    """Writes the text; `engine.submit` takes requests without the forms of OpenAI's API."""
    requests: RequestMaker
    """Makes the engine's requests from the arguments of calls."""

    @property
    def seed(self) -> int | None:
        """The seed of calls that give none; None: a random one for each."""
        return self.requests.seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self.requests.seed = seed

    @property
    def draft(self) -> Draft:
        """The draft length of calls that give none."""
        return self.requests.draft

    @draft.setter
    def draft(self, draft: Draft) -> None:
        self.requests.draft = draft

    @overload
    def complete(
        self, prompt: Prompt, *, stream: Literal[False] = ..., **options: Any
    ) -> Result: ...
    @overload
    def complete(
        self, prompt: Prompt, *, stream: Literal[True], **options: Any
    ) -> Iterator[Result]: ...
    @overload
    def complete(
        self, prompt: Prompt, *, stream: bool, **options: Any
    ) -> Result | Iterator[Result]: ...

    def complete(
        self,
        prompt: Prompt,
        *,
        stream: bool = False,
        max_tokens: int | None = 16,
        logprobs: int | None = None,
        echo: bool = False,
        suffix: str | None = None,
        media_files: bool = True,
        **options: Any,
    ) -> Result | Iterator[Result]:
        """Continues a prompt: a text, UTF-8 bytes, token ids, or a list of strings and content
        parts, as `chat` has them, for images and sounds between texts.

        max_tokens: the most tokens of the answer; None or -1: until the context ends.
        stop: a string or a list of them; the text ends before the first.
        logprobs: how many alternatives to list for each token.
        echo: puts the prompt before the answer. With logprobs the prompt is scored too, which runs
        it a second time.
        suffix: not supported, since no model here fills in the middle; None.
        media_files: False: images and sounds come as data only, and paths are refused.
        stream: True returns an iterator of chunks. The work begins at the call. Leaving the
        iterator early stops it.
        options: temperature, top_k, top_p, min_p, repeat_penalty, frequency_penalty,
        presence_penalty, penalty_last_n, seed, n (answers, with the seeds seed, seed + 1 …, as
        choices of one result; 1 to 64), logit_bias, stop, draft (0 to 8 or "auto"; None: as
        the LLM was made), logits_processor, stopping_criteria (see `LogitsProcessors`), and one of
        response_format, regex, grammar and choice (see `chat`). Defaults come from the file where
        it has them (`general.sampling.*`), then from `SamplingParams`.

        Raises `UsageError` for a wrong argument, `ContextFullError` for a prompt longer than the
        context, and `Cancelled` or `Closed` when the work is called off."""
        check_bool("stream", stream)
        options.update(max_tokens=max_tokens, logprobs=logprobs, echo=echo, suffix=suffix)
        options.update(media_files=media_files)
        answer = self._completions(prompt, **options)
        return answer.chunks() if stream else answer.whole()

    async def acomplete(
        self, prompt: Prompt, *, stream: bool = False, **options: Any
    ) -> Result | AsyncStream | SeveralAsyncStreams:
        """`complete` for asyncio. prompt, options: as there. stream: True returns an iterator for
        `async for`. Cancelling the task that waits ends the work."""
        check_bool("stream", stream)
        answer: Any = self._begun(await _beside(self._made_completions, prompt, options))
        found: Result | AsyncStream | SeveralAsyncStreams
        found = answer.achunks() if stream else await answer.awhole()
        return found

    def _completion(self, prompt: Prompt, **options: Any) -> Completion:
        """The result of `complete`, its work begun."""
        request, make = self.requests.completion(prompt, **options)
        return make(self.engine.submit(request))

    def _completions(self, prompt: Prompt, **options: Any) -> Completion | SeveralAnswers:
        """The result of `complete`, one or n."""
        found: Completion | SeveralAnswers = self._begun(self._made_completions(prompt, options))
        return found

    def _made_completions(self, prompt: Prompt, options: dict[str, Any]) -> list[Any]:
        each = options_of_each(options, self.seed)
        return [self.requests.completion(prompt, **one) for one in each]

    def _begun(self, made: Sequence[tuple[Request, Any]]) -> Any:
        """Submits the requests. One answer, or several as one."""
        answers = [make(self.engine.submit(request)) for request, make in made]
        return answers[0] if len(answers) == 1 else SeveralAnswers(answers)

    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: Literal[False] = ..., **options: Any
    ) -> Result: ...
    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: Literal[True], **options: Any
    ) -> Iterator[Result]: ...
    @overload
    def chat(
        self, messages: Sequence[Message], *, stream: bool, **options: Any
    ) -> Result | Iterator[Result]: ...

    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        max_tokens: int | None = None,
        tools: Tools | None = None,
        tool_choice: ToolChoice = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        logprobs: bool = False,
        top_logprobs: int | None = None,
        response_format: Mapping[str, Any] | type | None = None,
        parallel_tool_calls: bool | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool | None = None,
        media_files: bool = True,
        **options: Any,
    ) -> Result | Iterator[Result]:
        """Answers a conversation through the file's chat template.

        messages: a list of {"role": …, "content": …}. Content is a text or a list of parts: texts,
        images and sounds, {"type": "image_url", "image_url": {"url": a data URL or a path}},
        {"type": "input_audio", "input_audio": {"data": base64}}, or {"type": "image", "image": a
        path, bytes, an image of Pillow, an array} and the same with "audio". They need an mmproj
        file (`LLM`) and the extra `media`: docs/images_and_sound.md.
        media_files: False: images and sounds come as data only, and paths are refused: for
        messages that strangers wrote.
        stream: True returns an iterator of chunks. The work begins at the call.
        max_tokens: the most tokens of the answer; None or -1: until the context ends.
        tools: OpenAI's list of functions, passed to the template. The model's calls come back as
        message["tool_calls"] with finish_reason "tool_calls". Gemma 4's syntax is understood
        (chat/tool_calls.py). A call that breaks off, cannot be read or names no tool is in
        message["malformed_tool_calls"], [{"text": …, "reason": …}]; its finish_reason is
        "malformed_tool_call" or "length". Markers of calls and of thinking never reach the content.
        tool_choice: "auto" (None); "none": as without tools; "required": the answer is calls only;
        {"type": "function", "function": {"name": …}}: the answer is one call of that function.
        Thinking may come before. Without llguidance the answer is made to begin with a call,
        without thinking. Calls follow their tools' schemas if one is demanded, if a tool has
        "strict": True, and beside a response_format.
        parallel_tool_calls: False: at most one call.
        chat_template_kwargs: more variables for the template. enable_thinking is one of them.
        continue_final_message: the reply goes on with the last message, an assistant's, and has
        what comes behind it. None: if the last message is an assistant's with a text.
        Thinking goes to message["reasoning_content"]. `stop` reads the raw text, thinking included.
        response_format: {"type": "json_schema", "json_schema": {"name": …, "schema": …}}, {"type":
        "json_object"}, {"type": "text"}, a pydantic class, or None. Instead of it, one of regex (a
        regular expression for all of the content), grammar (Lark or GBNF) and choice (a list of
        strings). The thinking before the content stays free. These need llguidance:
        docs/structured_output.md.
        logprobs, top_logprobs: as in OpenAI's API. Other options and errors: as in `complete`."""
        check_bool("stream", stream)
        options.update(
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            chat_template_kwargs=chat_template_kwargs,
        )
        options.update(
            logprobs=logprobs, top_logprobs=top_logprobs, response_format=response_format
        )
        options.update(
            parallel_tool_calls=parallel_tool_calls,
            enable_thinking=enable_thinking,
            continue_final_message=continue_final_message,
            media_files=media_files,
        )
        answer = self._answers(messages, **options)
        return answer.chunks() if stream else answer.whole()

    async def achat(
        self, messages: Sequence[Message], *, stream: bool = False, **options: Any
    ) -> Result | AsyncStream | SeveralAsyncStreams:
        """`chat` for asyncio. messages, options: as there. stream: True returns an iterator for
        `async for`. Cancelling the task that waits ends the work."""
        check_bool("stream", stream)
        answer: Any = self._begun(await _beside(self._made_answers, messages, options))
        found: Result | AsyncStream | SeveralAsyncStreams
        found = answer.achunks() if stream else await answer.awhole()
        return found

    def _answer(self, messages: Sequence[Message], **options: Any) -> ChatCompletion:
        """The result of `chat`, its work begun."""
        request, make = self.requests.chat(messages, **options)
        return make(self.engine.submit(request))

    def _answers(
        self, messages: Sequence[Message], **options: Any
    ) -> ChatCompletion | SeveralAnswers:
        """The result of `chat`, one or n."""
        found: ChatCompletion | SeveralAnswers = self._begun(self._made_answers(messages, options))
        return found

    def _made_answers(self, messages: Sequence[Message], options: dict[str, Any]) -> list[Any]:
        each = options_of_each(options, self.seed)
        return [self.requests.chat(messages, **one) for one in each]

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        stop: Stop = None,
        logprobs: int | None = None,
        seed: int | None = None,
        logit_bias: Mapping[Any, float] | None = None,
        draft: Draft | None = None,
        **settings: Any,
    ) -> Generation:
        """Returns the handle under `complete` and `chat`: pieces of text with their token ids. The
        work begins at the call. Errors: as in `complete`.

        prompt, stop, logprobs, seed, logit_bias, draft: as in `complete`.
        max_tokens: the most tokens of the answer; None: until the context ends.
        settings: further fields of `SamplingParams`, and response_format, regex, grammar or choice.
        """
        settings.update(stop=stop, logprobs=logprobs, seed=seed, logit_bias=logit_bias, draft=draft)
        request = self.requests.plain(prompt, max_tokens=max_tokens, **settings)
        return self.engine.submit(request)

    # ---- llama-cpp-python's names ----

    create_completion = complete
    """`complete`."""
    __call__ = complete
    create_chat_completion = chat
    """`chat`."""


async def _beside(
    make: Callable[[Any, dict[str, Any]], list[Any]], given: Any, options: Any
) -> Any:
    """Makes requests in a thread if they have media, whose encoding takes seconds; else here."""
    if not has_media(given):
        return make(given, options)
    return await asyncio.to_thread(make, given, options)
