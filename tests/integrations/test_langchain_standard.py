"""LangChain's own tests of chat models and embeddings."""

import pytest

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed")

from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def llm(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=512, n_threads=1) as one:
        TestChatPillion.llm = TestPillionEmbeddings.llm = one
        yield


class TestChatPillion(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        from pillion.integrations.langchain import ChatPillion

        return ChatPillion

    @property
    def chat_model_params(self):
        return {"llm": self.llm}

    @property
    def standard_chat_model_params(self):
        """Theirs without retries and keys, which nothing in this process needs."""
        return {"temperature": 0, "max_tokens": 100, "timeout": 60, "stop": []}


class TestPillionEmbeddings(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        from pillion.integrations.langchain import PillionEmbeddings

        return PillionEmbeddings

    @property
    def embedding_model_params(self):
        return {"llm": self.llm}
