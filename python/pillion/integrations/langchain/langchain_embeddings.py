"""`PillionEmbeddings`: vectors of texts for LangChain's vector stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.embeddings import Embeddings

from ...arguments import check_bool, check_text, unknown_names, wrong
from ..keywords import LLM_KEYWORDS
from .own_llm import opened


class PillionEmbeddings(Embeddings):
    """Embeds texts in this process: the mean of a text's hidden rows, see `LLM.embed`.

    model: what `LLM` opens. llm: an open `LLM` instead, which stays open at close(). normalize:
    True: the vectors have length 1. options: of `LLM`.
    """

    def __init__(
        self, model: Any = "", *, llm: Any = None, normalize: bool = True, **options: Any
    ) -> None:
        unknown_names("PillionEmbeddings()", options, {"model", "llm", "normalize", *LLM_KEYWORDS})
        self.normalize = check_bool("normalize", normalize)
        """True: the vectors have length 1."""
        self.llm, self._owns_llm = opened(model, llm, options)
        """The open `LLM`."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of `texts`, each with n_embd numbers. Raises `ContextFullError` for a text of
        more tokens than n_ctx."""
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
            wrong("texts", texts, "a list of strings")
        listed = [check_text(f"texts[{at}]", one) for at, one in enumerate(texts)]
        if not listed:
            return []
        found: list[list[float]] = self.llm.embed(listed, normalize=self.normalize).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text, n_embd numbers."""
        found: list[float] = self.llm.embed(
            check_text("text", text), normalize=self.normalize
        ).tolist()
        return found

    def close(self) -> None:
        """Frees the model, unless it came as `llm`."""
        if self._owns_llm:
            self.llm.close()
