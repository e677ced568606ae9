"""pillion in LangChain: `ChatPillion` and `PillionEmbeddings`, in this process (extra
`langchain`). Raises `MissingExtra` where langchain-core is not installed."""

from __future__ import annotations

from .. import need

need("pillion.integrations.langchain", "langchain_core", "langchain")

from .chat_model import ChatPillion  # noqa: E402
from .langchain_embeddings import PillionEmbeddings  # noqa: E402

__all__ = ["ChatPillion", "PillionEmbeddings"]
