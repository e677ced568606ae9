"""`LLM`: a model, its engine and the tokenizer behind `complete` and `chat`, which threads may
share, and `acomplete` and `achat` for asyncio.

Argument names and defaults are llama-cpp-python's where it has them. Results have OpenAI's shape.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arguments import check_bool, check_int, check_path, check_text, unknown_names
from ..calling import checked_class
from ..chat.format import ChatFormat
from ..chat.messages import Message, continues_message
from ..context import Context, Floats
from ..engine.engine import Engine
from ..engine.machine import PARALLEL_MAX
from ..engine.slot import Slot
from ..errors import Closed, NoSuchName
from ..foreign_names import METHODS
from ..held import Held
from ..media.budget import ImageTokens, batch_for, checked_budget
from ..media.media_towers import Given as GivenMmproj
from ..media.media_towers import Towers
from ..media.reader import MediaReader
from ..model import Metadata, Model
from ..options import ContextOptions, LLMContextKeywords, takes
from ..pair import DRAFT_MAX, Draft, Drafter, Pair, PairStats
from ..placement import Placed
from ..sampling import SamplingParams
from ..structured import Structured
from ..tokenizer import Tokenizer
from .calls import TextCalls
from .embedding import Embedder, Texts
from .fitting import Fit, GivenFile, fit
from .openai_format import Result, embedding_list
from .opening import FileOptions, Speculation, open_slots
from .pretrained import open_pretrained
from .request_maker import RequestMaker, Tools
from .requests import (
    check_seed_and_template,
    checked_ids,
    checked_text,
    checked_variables,
    newline_token,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


@checked_class
class LLM(TextCalls, Held):
    """A model ready to write.

    path: the GGUF file, or an open `Model`, which stays open when the LLM is closed.
    n_ctx, n_batch, n_threads, kv_type, flash_attn, swa_full, n_snapshots: see `ContextOptions`.
    use_mmap, device, progress: see `Model.open`.
    n_gpu_layers: layers on the device (-1: as many as fit beside the cache and the drafter,
    with a warning when that is not all). strict: raises an error if anything of the model would not
    run on the device. device_bytes: how much of the device's memory may be used (0: what is free).
    seed: for calls that give none; None: a random one for each call.
    chat_template: Jinja source in place of the file's, or the name of one of the file's.
    drafter: what guesses ahead. "auto": the assistant beside the model, if there is exactly one;
    several log a warning that lists them. A path or a Model: an assistant, or any small model with
    the same vocabulary. "lookup": no model, guesses come from the text. None or False: nothing. The
    drafter changes the speed, never the text. `speculation` reports its work.
    draft: how many tokens it guesses: 0 to 8, or "auto": as many as pay off. Calls may override it.
    draft_p_min, draft_dense_head, draft_strict, draft_sampling, draft_lookup: see `Pair`.
    mmproj: what sees and hears: "auto": the mmproj file beside the model, if there is exactly one.
    A path or a `Mmproj`. None or False: nothing. It is opened when the first image or sound comes.
    image_tokens: the most tokens of an image: 70, 140, 280, 560, 1120, or "auto": as many as its
    pixels need. None: what the mmproj file says, which is 280 for the released models. A content
    part may have its own (docs/images_and_sound.md).
    draft_device: where the drafter runs. "auto": on the model's device; for a model on the Hexagon
    NPU on the CPU.
    parallel: how many answers are written at the same time, 1 to 64. One run has the rounds and
    the prompts of all, so the weights are read once for them. Further calls wait for a place.
    n_positions: positions of the full layers' cache that they share, at least n_ctx. None: parallel
    * n_ctx. With fewer an answer may have to wait, or to read its text again; none fails for it.

    Any number of threads and asyncio tasks may call it. The contexts are reused: a prompt that
    begins like an earlier text runs only its rest (`timings`: cache_n tokens kept, prompt_n run). A
    turn of a chat costs the last answer, as the template writes it into the history, and the new
    message.
    """

    @takes(ContextOptions, "n_outputs", "collect_activations")
    def __init__(
        self,
        path: str | os.PathLike[str] | Model,
        *,
        seed: int | None = None,
        use_mmap: bool = True,
        device: str = "auto",
        n_gpu_layers: int = -1,
        strict: bool = False,
        device_bytes: int = 0,
        chat_template: str | None = None,
        progress: Callable[[int, int], object] | None = None,
        drafter: Drafter | Literal[False] | None = "auto",
        draft: Draft = "auto",
        draft_p_min: float = 0.0,
        draft_dense_head: bool = False,
        draft_strict: bool = False,
        draft_sampling: str = "greedy",
        draft_lookup: bool = False,
        draft_device: str = "auto",
        mmproj: GivenMmproj = "auto",
        image_tokens: ImageTokens | None = None,
        parallel: int = 1,
        n_positions: int | None = None,
        **context: Unpack[LLMContextKeywords],
    ) -> None:
        if not isinstance(path, Model):
            path = check_path("path", path)
        check_seed_and_template(seed, chat_template)
        # A pair may come later, which needs an output for each draft and one more.
        options = ContextOptions(n_outputs=DRAFT_MAX + 1, collect_activations=False, **context)
        budget = None if image_tokens is None else checked_budget("image_tokens", image_tokens)
        if options.n_batch is None and mmproj is not None and mmproj is not False:
            options = replace(options, n_batch=batch_for(path, budget))
        opened = open_slots(
            path,
            FileOptions(use_mmap, device, n_gpu_layers, strict, device_bytes, progress),
            Speculation(
                drafter,
                draft,
                draft_p_min,
                draft_dense_head,
                draft_strict,
                draft_sampling,
                draft_lookup,
                draft_device,
            ),
            options,
            check_int("parallel", parallel, 1, PARALLEL_MAX),
            n_positions if n_positions is None else check_int("n_positions", n_positions, 1, 2**40),
            mmproj,
        )
        self.model = opened.model
        """The open file."""
        self._owns_model = opened.owns_model
        self._drafter = opened.drafter
        try:
            self.tokenizer: Tokenizer = self.model.tokenizer
            """The file's tokenizer."""
            assert opened.group is not None
            self.engine = Engine._on(opened.group)
            """Writes the text; `Engine.submit` takes requests without the forms of OpenAI's API."""
            self._metadata: Metadata = self.model.metadata
            self.name = str(self._metadata.get("general.name") or os.path.basename(self.model.path))
            """The model's name in results."""
            chat = self._chat = ChatFormat(self.tokenizer, self._metadata, self.name, chat_template)
            self.structured = Structured(chat, self.tokenizer, self.model.n_vocab, self.name)
            """The grammars of replies."""
            towers = Towers(self.model, mmproj, options.n_threads)
            n_batch = self.engine._slots[0].n_batch
            self.media = MediaReader(self.model, self.tokenizer, towers, budget, n_batch)
            """Reads images and sounds; `media.towers` is the mmproj file."""
            self.requests = RequestMaker(
                self.engine,
                self.tokenizer,
                chat,
                self.structured,
                self.media,
                name=self.name,
                defaults=SamplingParams.of_file(self.model),
                n_vocab=self.model.n_vocab,
                seed=seed,
                draft=draft,
                no_drafter="" if self.pair is not None else opened.why_no_pair,
            )
            """Makes the engine's requests from the arguments of calls."""
        except BaseException:
            opened.close()
            raise
        shared = ("n_batch", "n_threads", "kv_type", "flash_attn")
        sizes = {name: getattr(options, name) for name in shared}
        self.embedder = Embedder(self.model, self.n_ctx(), sizes, self.engine.between_turns)
        """Makes the vectors of `embed`."""

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None = None,
        *,
        drafter: Drafter | None = "auto",
        mmproj: GivenMmproj = "auto",
        **options: Any,
    ) -> LLM:
        """Opens a model of the hub, or of its cache on this machine (extra `hub`).

        repo_id, filename: see `hub.pull`. drafter: "auto": the assistant in the repository or in
        its sister repository. OWNER/NAME[:FILE|QUANT]: that one. Else as for `LLM`.
        mmproj: "auto": the mmproj file of the repository, which is fetched too. A file's name in
        the repository: that one. Else as for `LLM`; None fetches and opens none.
        options: `additional_files`, `revision`, `token`, `cache_dir`, `endpoint` and
        `local_files_only` of `hub.pull`; `download_progress`, which is its `progress`; the rest
        goes to `LLM`.

        Raises what `hub.pull` and `LLM` raise.
        """
        return open_pretrained(cls, repo_id, filename, drafter, mmproj, options)

    @classmethod
    def fit(
        cls,
        path: str | os.PathLike[str],
        memory_bytes: int | None = None,
        *,
        n_ctx: int | None = None,
        kv_type: str | None = None,
        drafter: GivenFile = "auto",
        mmproj: GivenFile = "auto",
    ) -> Fit:
        """Names what of a model fits a memory: context, cache, drafter and mmproj file. It counts
        from headers and loads nothing.

        memory_bytes: what may be taken; None: all of this machine's. n_ctx, kv_type: exactly
        these; None: the largest context, from the trained one down to 4096, in "f16", else in
        "q8_0". drafter, mmproj: a path, "auto" for the one beside the model, None for none.

        The first of these that has any room is taken: everything; without the drafter, which
        changes the speed alone; without the mmproj file; without both. `Fit.left_out` names the
        rest. The CPU is counted, where the towers run; `Model.fit` counts layers on a device.

        Raises OutOfMemoryError with the bytes that the least takes, PairingError for a drafter or
        an mmproj file of another model, and what `Model.open` raises.
        """
        return fit(path, memory_bytes, n_ctx, kv_type, drafter, mmproj)

    @property
    def context(self) -> Context:
        """The first context. Use it directly only while no answer is under way."""
        return self.engine._slots[0].context

    @property
    def pair(self) -> Pair | None:
        """The first context with its drafter; None without a drafter."""
        slot = self.engine._slots[0]
        return slot.pair if slot.drafts else None

    def placement(self) -> list[Placed]:
        """Where each op of the model and of its drafter runs, and by which kernel. Waits for a run
        that is under way."""
        found: list[Placed] = []

        def read() -> None:
            found.extend(Placed("target", **entry) for entry in self.context.placement())
            if self.pair is not None:
                found.extend(Placed("drafter", **entry) for entry in self.pair.placement())

        self.engine.between_turns(read)
        return found

    def cancel(self) -> None:
        """Stops all that is under way and all that waits, from any thread and in any state. Those
        calls raise `Cancelled`."""
        self.engine.cancel()

    @property
    def speculation(self) -> PairStats:
        """What the drafter did so far, for all answers together. Without a drafter the state is
        "off", and `reason` tells why. Any thread may ask, also during an answer."""
        return self.engine.speculation()

    # ---- a state to keep ----

    def save(self, path: str | os.PathLike[str], *, slot: int = 0) -> None:
        """Saves the text that a context holds, with its cache, in a file for `load`.

        path: the file. It appears when it is complete; until then an older one stays.
        slot: which of the `parallel` contexts (0 to parallel - 1; `engine.slots()` tells what they
        do).

        Any thread may call it; the file is written between two turns of what is under way, also in
        the middle of an answer. Each call has a sampler of its own, so none is saved. Raises what
        `Context.save` raises.
        """
        name, at = check_path("path", path), self._slot(slot)
        self.engine.between_turns(lambda: at.save(name))

    def load(self, path: str | os.PathLike[str], *, slot: int = 0, owner: str = "") -> int:
        """Brings a saved text back into a context: the next call whose prompt begins like it runs
        only its rest, and writes what it would have written.

        path: a file of `save` or of `Context.save`, of the same model and kv_type; n_ctx and the
        other options may differ. slot: as in `save`. owner: whose text it is, as in calls.

        Returns how many tokens had to run: 0, unless the drafter or a part of the model is on
        another device with a cache of another layout. The file is checked before anything changes.
        Raises what `Context.load` raises, and `Busy` while an answer is written in that context.
        """
        name, at = check_path("path", path), self._slot(slot)
        owner = check_text("owner", owner)
        ran: list[int] = []
        self.engine.between_turns(lambda: ran.append(at.load(name, owner)))
        return ran[0]

    def _slot(self, slot: int) -> Slot:
        slots = self.engine._slots
        return slots[check_int("slot", slot, 0, len(slots) - 1)]

    # ---- tokens and prompts ----

    def tokenize(
        self, text: str | bytes, add_bos: bool = True, special: bool = False, **unknown: Any
    ) -> list[int]:
        """Token ids of a text, which may be UTF-8 bytes.

        add_bos: puts the token that texts begin with first, if the file says so.
        special: the spelling of a control token becomes that token. Raises `UsageError` for any
        further argument."""
        unknown_names("tokenize()", unknown, ("text", "add_bos", "special"))
        text, add_bos = checked_text("text", text), check_bool("add_bos", add_bos)
        return self.tokenizer.encode(
            text, add_special=add_bos, parse_special=check_bool("special", special)
        )

    def detokenize(self, tokens: Sequence[int], special: bool = False, **unknown: Any) -> str:
        """The text of token ids. special: control tokens are spelled out. Raises `UsageError` for
        any further argument."""
        unknown_names("detokenize()", unknown, ("tokens", "special"))
        return self.tokenizer.decode(
            checked_ids("tokens", tokens), special=check_bool("special", special)
        )

    def render_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Tools | None = None,
        continue_final_message: bool | None = None,
        **variables: Any,
    ) -> str:
        """The prompt that `chat` would use. messages, tools, continue_final_message: as there.
        variables: as in chat_template_kwargs."""
        checked = checked_variables(variables)
        continues = continues_message(messages, continue_final_message, checked)
        return self._chat.render(messages, tools, continues, **checked)

    def chat_tokens(self, rendered: str) -> list[int]:
        """Token ids of a rendered conversation. A template that writes BOS gets no second one."""
        return self.requests.chat_tokens(checked_text("rendered", rendered))

    # ---- embeddings ----

    def embed(self, text: Texts, *, normalize: bool = True) -> Floats:
        """The vector of a text (or UTF-8 bytes, or token ids), float32 [n_embd]; for a list of
        texts a row each, [n, n_embd]. See `Context.embed`.

        normalize: divides each vector by its length.

        Embeddings have a context of their own, so the chats' contexts keep their content. Raises
        `ContextFullError` for a text of more tokens than n_ctx.
        """
        check_bool("normalize", normalize)
        ids, single = self.embedding_tokens("text", text)
        rows = [self.embedder.embed(one, normalize) for one in ids]
        return rows[0] if single else np.stack(rows)

    def create_embedding(self, input: Texts, model: str | None = None) -> Result:
        """`embed`, normalised, in the shape of OpenAI's API. input: a text or a list of texts.
        model: the name in the result; None: that of the file."""
        name = self.name if model is None else check_text("model", model)
        ids, _ = self.embedding_tokens("input", input)
        return embedding_list([self.embedder.embed(one) for one in ids], ids, name)

    def embedding_tokens(self, name: str, given: Texts) -> tuple[list[list[int]], bool]:
        """Token ids of texts to embed, with the token that texts begin with, and True if `given` is
        a single text. name: of the argument, for sentences."""
        return self.requests.embedding_tokens(name, given)

    # ---- llama-cpp-python's names ----

    def n_ctx(self) -> int:
        """Positions of a context. Answers also during a run."""
        if self.closed:
            raise Closed("this LLM is closed")
        return self.engine.n_ctx

    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self.model.n_vocab

    def n_embd(self) -> int:
        """Width of a hidden row, and of an embedding."""
        return self.model.n_embd

    def token_nl(self) -> int:
        """The token of a line's end; -1: it is not a single token."""
        return newline_token(self.tokenizer)

    def token_bos(self) -> int:
        """The token that texts begin with; -1: none."""
        return -1 if self.tokenizer.bos is None else self.tokenizer.bos

    def token_eos(self) -> int:
        """The token that ends a text; -1: none."""
        return -1 if self.tokenizer.eos is None else self.tokenizer.eos

    @property
    def metadata(self) -> Metadata:
        """The file's metadata."""
        return self._metadata

    def reset(self) -> None:
        """Empties the contexts. Those of answers under way are emptied when the answers are
        over."""
        if self.closed:
            raise Closed("this LLM is closed")
        self.engine.forget()

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            raise NoSuchName(f"LLM has no {name!r}: {METHODS[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # ---- life ----

    def close(self) -> None:
        """Calls off what is under way and frees all. Closing twice is fine; any later use raises
        `Closed`."""
        self.engine.close()
        self.media.close()
        self.embedder.close()
        if self._drafter is not None:
            self._drafter.close()
        if self._owns_model:
            self.tokenizer.close()
            self.model.close()

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self.engine.closed

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<pillion.LLM {self.name!r}{' (closed)' if self.closed else ''}>"
