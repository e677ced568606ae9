"""What users write for a model, and what names of files and repositories tell. The names are those
of real repositories."""

import pytest


_X_OF_MAIN = ("a/b", "x.gguf", None, "main")


@pytest.fixture(scope="module")
def names(pillion):
    from pillion.hub import names

    return names


@pytest.mark.parametrize(
    "text, repo, file, quantization, revision",
    [
        ("a/b", "a/b", None, None, None),
        ("a/b:Q4_K_M", "a/b", None, "Q4_K_M", None),
        ("a/b:q8_0", "a/b", None, "q8_0", None),
        ("a/b:UD-Q4_K_XL", "a/b", None, "UD-Q4_K_XL", None),
        ("a/b:latest", "a/b", None, None, None),
        ("a/b:oddity", "a/b", None, "oddity", None),
        ("a/b:x.gguf", "a/b", "x.gguf", None, None),
        ("a/b:*Q4_0*", "a/b", "*Q4_0*", None, None),
        ("a/b:MTP/x.gguf", "a/b", "MTP/x.gguf", None, None),
        ("hf://a/b:Q4_0", "a/b", None, "Q4_0", None),
        ("hf.co/a/b:Q4_0", "a/b", None, "Q4_0", None),
        ("https://huggingface.co/a/b", "a/b", None, None, None),
        ("https://huggingface.co/a/b/resolve/main/x.gguf?download=true", *_X_OF_MAIN),
        ("https://huggingface.co/a/b/blob/main/x.gguf#L1", *_X_OF_MAIN),
        ("https://huggingface.co/a/b?library=gguf", "a/b", None, None, None),
        ("https://huggingface.co/a/b/tree/main", "a/b", None, None, "main"),
        ("https://huggingface.co/a/b/blob/v1/x%20y.gguf", "a/b", "x y.gguf", None, "v1"),
        ("https://huggingface.co/a/b/resolve/refs%2Fpr%2F3/x.gguf", "a/b", "x.gguf", None, None),
    ],
)
def test_what_a_user_writes(names, text, repo, file, quantization, revision):
    found = names.parse_name("repo_id", text)
    assert (found.repo, found.file, found.quantization) == (repo, file, quantization)
    assert found.revision == ("refs/pr/3" if "refs" in text else revision)


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "a/b:", "/b", "a/", "a b/c", "../x:Q4_0"])
def test_what_is_no_name(pillion, refused, names, text):
    sentence = refused(pillion.UsageError, names.parse_name, "repo_id", text)
    assert sentence.startswith(f"repo_id is {text!r}; it must be OWNER/NAME")


def test_a_file_named_twice(pillion, refused, names):
    sentence = refused(pillion.UsageError, names.parse_name, "repo_id", "a/b:Q4_0", "x.gguf")
    assert "'Q4_0'" in sentence and "'x.gguf'" in sentence


@pytest.mark.parametrize(
    "file, quantization",
    [
        ("gemma-4-E2B-it-Q4_K_M.gguf", "Q4_K_M"),
        ("gemma-4-E4B_q4_0-it.gguf", "Q4_0"),
        ("gemma-4-E4B-it-assistant.Q8_0.gguf", "Q8_0"),
        ("gemma-4-12b-it-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("gemma-4-12b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("BF16/gemma-4-31B-it-BF16-00001-of-00002.gguf", "BF16"),
        ("Q8_0/gemma-00001-of-00002.gguf", "Q8_0"),
        ("MTP/gemma-4-12B-it-MTP-F16.gguf", "F16"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("gemma-4-E2B-it-assistant-IQ4_NL.gguf", "IQ4_NL"),
        ("tiny-target.gguf", None),
        ("Qwen3-F1-Q.gguf", None),
    ],
)
def test_quantizations_in_names(names, file, quantization):
    assert names.quantization_of(file) == quantization


@pytest.mark.parametrize(
    "file, kind",
    [
        ("gemma-4-E2B-it-Q4_0.gguf", "target"),
        ("mtp-gemma-4-12b-it.gguf", "drafter"),
        ("MTP/gemma-4-12B-it-MTP-F16.gguf", "drafter"),
        ("gemma-4-E4B-it-assistant.F16.gguf", "drafter"),
        ("gemma-4-E2B-it-assist-F16.gguf", "drafter"),
        ("draft-model-Q8_0.gguf", "drafter"),
        ("mmproj-F16.gguf", "mmproj"),
        ("gemma-3-4b-it-mmproj-f16.gguf", "mmproj"),
        ("imatrix_unsloth.gguf", "other"),
        ("my-lora-F16.gguf", "adapter"),
        ("Draftsman-7B-Q4_0.gguf", "target"),
        ("OpenAssistant-7B.gguf", "target"),
    ],
)
def test_kinds_in_names(names, file, kind):
    assert names.kind_by_name(file) == kind


@pytest.mark.parametrize(
    "repo, stem",
    [
        ("unsloth/gemma-4-E2B-it-GGUF", "gemma-4-e2b-it"),
        ("google/gemma-4-E2B-it", "gemma-4-e2b-it"),
        ("RachidAR/gemma-4-26B-A4B-it-qat-assistant-q4_0-gguf", "gemma-4-26b-a4b-it-qat-assistant"),
        ("mradermacher/gemma-4-E2B-it-i1-GGUF", "gemma-4-e2b-it"),
    ],
)
def test_the_models_name_in_a_repositorys(names, repo, stem):
    assert names.stem_of(repo) == stem


@pytest.mark.parametrize(
    "repo, is_sister",
    [
        ("o/gemma-4-E2B-it-assistant-GGUF", True),
        ("o/gemma-4-E2B-it-assistant-MTP-GGUF", True),
        ("o/gemma-4-E2B-it-qat-assistant-MTP-Q8_0-GGUF", True),
        ("o/gemma-4-E2B-it-GGUF", False),
        ("o/gemma-4-E4B-it-assistant-GGUF", False),
    ],
)
def test_names_of_sister_repositories(pillion, repo, is_sister):
    from pillion.hub.drafters import _is_sister

    assert _is_sister(repo, "gemma-4-e2b-it") is is_sister


@pytest.mark.parametrize(
    "text, is_name",
    [("a/b", True), ("a/b:Q4_0", True), ("a/b.gguf", False), ("x.gguf", False), ("a/b/c", False)],
)
def test_a_repository_or_a_path(names, text, is_name):
    assert names.looks_like_name(text) is is_name
