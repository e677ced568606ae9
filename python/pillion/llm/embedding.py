"""Vectors of texts, from a context of their own, so that the caches of chats stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._locks import ForkLock
from ..arguments import wrong
from ..context import Context, Floats
from ..errors import Closed, ContextFullError
from ..model import Model

Text = str | bytes | Sequence[int]
Texts = Text | Sequence[Text]

_LEAST = 512  # positions of the smallest context


def listed_texts(name: str, given: Any) -> tuple[list[Any], bool]:
    """The texts, and True if `given` is a single one: a string, bytes or token ids. name: of the
    argument, for sentences. Raises `UsageError` for anything else."""
    if isinstance(given, (str, bytes, bytearray)):
        return [given], True
    try:
        texts = [] if isinstance(given, Mapping) else list(given)
    except TypeError:
        texts = []
    if not texts:
        wrong(name, given, "a string, a list of token ids, or a list of such, not empty")
    one = all(hasattr(text, "__index__") for text in texts)
    return ([texts], True) if one else (texts, False)


def _is_usable(context: Context) -> bool:
    """False for a closed context, and for half a context: fork() copied it while another thread was
    inside."""
    try:
        return not context.closed and context.n_past >= 0
    except Closed:
        return False


class Embedder:
    """Owns the context that embeds. It is made when the first text comes.

    n_ctx: the most positions it may have. options: of `Context`. turn: runs a function when it has
    its turn among other work on the same cores; by default at once.
    """

    def __init__(
        self,
        model: Model,
        n_ctx: int,
        options: dict[str, Any],
        turn: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        self._model = model
        self._n_ctx = n_ctx
        self._options = {**options, "n_snapshots": 0, "n_outputs": 1}
        self._turn = turn
        self._context: Context | None = None
        self._caller: object | None = None  # who is inside the context
        self._lock = ForkLock()  # of the context
        self._gate = ForkLock()  # of who is inside: never held for long

    def embed(
        self,
        tokens: Sequence[int],
        normalize: bool = True,
        caller: object | None = None,
    ) -> Floats:
        """As `Context.embed`, from any thread; one text at a time. caller: whom `cancel` names.

        Raises `ContextFullError` for a text longer than n_ctx.
        """
        if len(tokens) > self._n_ctx:
            held = f"the context holds {self._n_ctx} (n_ctx)"
            raise ContextFullError(f"the text has {len(tokens)} tokens, but {held}")
        caller = object() if caller is None else caller
        found: list[Floats] = []
        wanted = True

        def work() -> None:
            if wanted:
                found.append(self._embedded(tokens, normalize, caller))

        try:
            self._turn(work)
        except BaseException:  # also Ctrl-C while another thread does it
            wanted = False
            self.cancel(caller)
            raise
        return found[0]

    def _embedded(self, tokens: Sequence[int], normalize: bool, caller: object) -> Floats:
        with self._lock.here():
            context = self._of_size(len(tokens))
            with self._gate.here():
                self._caller = caller
            try:
                return context.embed(tokens, normalize=normalize)
            finally:
                with self._gate.here():
                    self._caller = None

    def cancel(self, caller: object) -> None:
        """Stops an embed of that caller that is under way: it raises `Cancelled`. An embed that is
        about to begin goes on, so repeat the cancel until the call is over. Any thread may call
        it."""
        with self._gate.here():
            context = self._context
            if self._caller is caller and context is not None and not context.closed:
                context.cancel()

    def close(self) -> None:
        """Frees the context."""
        context, self._context = self._context, None
        if context is not None:
            context.close()

    def _of_size(self, n: int) -> Context:
        """A context for n tokens: the current one, or a larger one in its place."""
        context = self._context
        if context is not None and _is_usable(context) and context.n_ctx >= n:
            return context
        self.close()
        n_ctx = _LEAST
        while n_ctx < n:
            n_ctx *= 2
        self._context = context = self._model.context(min(n_ctx, self._n_ctx), **self._options)
        return context
