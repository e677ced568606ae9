"""`Predictor`: answers batches of prompts or conversations, for Ray Data's `map_batches`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...arguments import check_choice, check_text, shown, wrong
from ...calling import checked_class
from ...engine.work import Request
from ...errors import Busy, Closed, PillionError, TimedOut, UsageError
from ...llm.openai_format import Completion, Result
from ..keywords import parted
from .actor import opened
from .batches import ANY, COUNT, TEXT, column_names, values_of, with_columns

KINDS = {
    "text": TEXT,
    "reasoning": TEXT,
    "tool_calls": TEXT,
    "parsed": ANY,
    "finish_reason": TEXT,
    "prompt_tokens": COUNT,
    "cached_tokens": COUNT,
    "completion_tokens": COUNT,
    "error": TEXT,
}
"""What an answer can be written as, each with the kind of its column."""

Row = dict[str, Any]


@checked_class
class Predictor:
    """Answers each row of a batch. A class for `ray.data.Dataset.map_batches`; it needs no Ray.

    model: what `LLM` opens; with from_pretrained={…} a repository of the hub.
    prompt: the column of prompts: texts, or lists of token ids.
    messages: the column of conversations instead: lists of {"role": …, "content": …}, or texts,
    each of which is one message of the user. system: the system message of conversations that
    begin with none.
    output: the column that gets the text.
    columns: further columns: "finish_reason", "prompt_tokens", "cached_tokens",
    "completion_tokens", "reasoning", "tool_calls" (JSON), "parsed" (the text, read as JSON; for
    a response_format). A mapping gives them other names. None: finish_reason, prompt_tokens and
    completion_tokens; for conversations reasoning, too; with tools tool_calls, too.
    on_error: "raise": a row that cannot be answered ends the job; "column": its sentence goes to
    the column "error", which is None for all others. What concerns all rows, such as a lost
    device, always raises.
    options: of `LLM` (n_ctx, drafter, n_gpu_layers, …) and of `LLM.complete` or `LLM.chat`
    (max_tokens, temperature, stop, response_format, tools, …). parallel is 4, n_threads the
    actor's num_cpus unless given.

    All rows of a batch wait in the engine together; `parallel` of them are written at a time.
    Raises `UsageError` for wrong arguments, and what `LLM` raises.
    """

    def __init__(
        self,
        model: Any,
        *,
        prompt: str | None = None,
        messages: str | None = None,
        system: str | None = None,
        output: str = "text",
        columns: Sequence[str] | Mapping[str, str] | None = None,
        on_error: str = "raise",
        **options: Any,
    ) -> None:
        if (prompt is None) == (messages is None):
            said = "neither" if prompt is None else "both"
            raise UsageError(f"give the column of prompts or of messages; {said} was given")
        self._is_chat = messages is not None
        self._asked = check_text("messages" if self._is_chat else "prompt", messages or prompt)
        if system is not None and not self._is_chat:
            raise UsageError("system is for messages; put it into the prompts themselves")
        self._system = None if system is None else check_text("system", system)
        self._raises = check_choice("on_error", on_error, ("raise", "column")) == "raise"
        for_llm, self._options = parted(options)
        if self._options.get("stream"):
            raise UsageError(
                "stream has no use here: a batch goes on when all of its answers are whole; leave "
                "it out, or serve the model with pillion.integrations.ray.deployment"
            )
        self._columns = {"text": check_text("output", output)}
        self._columns |= _columns(columns, self._is_chat, self._options, not self._raises)
        twice = [one for one, n in Counter(self._columns.values()).items() if n > 1]
        if twice:
            raise UsageError(f"output and columns name {shown(twice[0])} twice; one would be lost")
        self.llm = opened(model, for_llm)
        """Writes the answers."""
        try:
            self._request("." if self._is_chat else [0])  # wrong options raise here, not row by row
        except BaseException:
            self.llm.close()
            raise

    def __call__(self, batch: Any) -> Any:
        """The batch with the columns of the answers, in the form in which it came.

        batch: a dict of arrays, a pandas DataFrame or a pyarrow Table. Raises `UsageError` if it
        lacks the column or has one of the answers' already, and, with on_error="raise", the error
        of the first row that cannot be answered.
        """
        taken = sorted(set(self._columns.values()) & set(column_names(batch)))
        if taken:
            said = f"the batch has a column {taken[0]!r} already"
            raise UsageError(f"{said}; give another name by output or columns")
        begun = [self._begin(at, one) for at, one in enumerate(values_of(batch, self._asked))]
        rows = [self._row(at, one) for at, one in enumerate(begun)]
        more = {
            name: (KINDS[fact], [row.get(fact) for row in rows])
            for fact, name in self._columns.items()
        }
        return with_columns(batch, more)

    def close(self) -> None:
        """Frees the model."""
        self.llm.close()

    # ---- one row ----

    def _request(self, asked: Any) -> tuple[Request, Callable[..., Completion]]:
        if not self._is_chat:
            return self.llm.requests.completion(asked, **self._options)
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        if self._system is not None and isinstance(messages, list) and not _has_system(messages):
            messages = [{"role": "system", "content": self._system}, *messages]
        return self.llm.requests.chat(messages, **self._options)

    def _begin(self, at: int, asked: Any) -> Completion | PillionError:
        """The answer to a row, under way, or why there is none."""
        try:
            request, make = self._request(asked)
            return make(self.llm.engine.submit(request))
        except UsageError as error:
            return self._failed(at, error)

    def _row(self, at: int, answer: Completion | PillionError) -> Row:
        if isinstance(answer, PillionError):
            return {"error": answer.sentence}
        try:
            row = _row_of(answer.whole())
        except (UsageError, TimedOut) as error:
            return {"error": self._failed(at, error).sentence}
        if "parsed" in self._columns:
            try:
                row["parsed"] = json.loads(row["text"] or "")
            except ValueError:
                said = f"the answer is no JSON; it ended by {row['finish_reason']!r}"
                row["error"] = self._failed(at, UsageError(said)).sentence
        return row

    def _failed(self, at: int, error: PillionError) -> PillionError:
        """The error of a row, if the job goes on."""
        if isinstance(error, (Busy, Closed)):
            raise error
        if self._raises:
            raise type(error)(f"row {at} of the batch: {error.sentence}", error.code) from error
        return error


def _row_of(result: Result) -> Row:
    choice, usage = result["choices"][0], result["usage"]
    message = choice.get("message") or {"content": choice.get("text")}
    calls = message.get("tool_calls")
    return {
        "text": message["content"],
        "reasoning": message.get("reasoning_content"),
        "tool_calls": json.dumps(calls, ensure_ascii=False) if calls else None,
        "finish_reason": choice["finish_reason"],
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "completion_tokens": usage["completion_tokens"],
    }


def _has_system(messages: Sequence[Any]) -> bool:
    first = messages[0] if messages else None
    return isinstance(first, Mapping) and first.get("role") in ("system", "developer")


def _columns(
    wanted: Any, is_chat: bool, options: Mapping[str, Any], with_error: bool
) -> dict[str, str]:
    """{what of an answer: its column}, without the text."""
    if wanted is None:
        wanted = ["finish_reason", "prompt_tokens", "completion_tokens"]
        wanted += ["reasoning"] if is_chat else []
        wanted += ["tool_calls"] if options.get("tools") else []
    elif isinstance(wanted, (str, bytes)) or not isinstance(wanted, (Mapping, Sequence)):
        wrong("columns", wanted, "a list of names, or a mapping of them to the names of columns")
    for fact in wanted:
        check_choice("a name in columns", fact, [one for one in KINDS if one != "text"])
    named = dict(wanted) if isinstance(wanted, Mapping) else {one: one for one in wanted}
    if with_error:
        named.setdefault("error", "error")
    else:
        named.pop("error", None)
    if "parsed" in named and not options.get("response_format"):
        raise UsageError("the column 'parsed' needs a response_format that demands JSON")
    for name in named.values():
        check_text("a column's name", name)
    return named
