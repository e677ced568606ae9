"""Images and sounds with llama-cpp-python's names: chat handlers name the mmproj file."""

import base64
import importlib

import pytest

pytest.importorskip("soundfile", reason="the extra `media` is not installed")


@pytest.fixture(scope="module")
def of_llama(pillion):
    return importlib.import_module("pillion.llama_cpp")


@pytest.fixture(scope="module")
def formats(pillion):
    return importlib.import_module("pillion.llama_cpp.llama_chat_format")


@pytest.fixture(scope="module")
def asked(pillion):
    from pillion.models import SEVEN_PNG

    url = "data:image/png;base64," + base64.b64encode(SEVEN_PNG.read_bytes()).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}},
             {"type": "text", "text": "What do you see?"}]  # fmt: skip
    return [{"role": "user", "content": parts}]


def said(found):
    return found["choices"][0]["message"]["content"]


OPTIONS = {"n_ctx": 512, "image_tokens": 70, "drafter": None}


@pytest.mark.parametrize("name", ["MTMDChatHandler", "Llava15ChatHandler", "Gemma4ChatHandler"])
def test_a_handler_names_the_file(of_llama, formats, tiny_target, asked, name):
    from pillion.models import TINY_MMPROJ

    handler = getattr(formats, name)(clip_model_path=str(TINY_MMPROJ), verbose=False)
    with of_llama.Llama(str(tiny_target), chat_handler=handler, **OPTIONS) as llama:
        assert llama.chat_handler is handler and str(llama.llm.media.towers.path) == str(
            TINY_MMPROJ
        )
        assert said(llama.create_chat_completion(asked, temperature=0, max_tokens=8)) == "seven"
        assert said(handler(llama=llama, messages=asked, temperature=0, max_tokens=8)) == "seven"


def test_as_an_argument_and_beside_the_model(of_llama, formats, pillion, tiny_target, asked):
    from pillion.models import TINY_MMPROJ

    for more in ({}, {"mmproj": str(TINY_MMPROJ)}):
        with of_llama.Llama(str(tiny_target), **OPTIONS, **more) as llama:
            assert said(llama.create_chat_completion(asked, temperature=0, max_tokens=8)) == "seven"
    handler = formats.MTMDChatHandler(TINY_MMPROJ)
    with pytest.raises(pillion.UsageError, match="chat_handler and mmproj were given"):
        of_llama.Llama(str(tiny_target), chat_handler=handler, mmproj=str(TINY_MMPROJ))
    with pytest.raises(pillion.UsageError, match="clip_model_path is 3; it must be a path"):
        formats.MTMDChatHandler(3)


def test_a_format_of_texts_does_not_lose_a_picture(of_llama, pillion, tiny_target, asked):
    with of_llama.Llama(str(tiny_target), chat_format="chatml", **OPTIONS) as llama:
        with pytest.raises(pillion.MediaError, match="leave chat_format out"):
            llama.create_chat_completion(asked)
