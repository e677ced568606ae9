"""`pull` against the stand-in of the hub: what comes, from where, and each refusal's sentence."""

import json
import logging

import hub_standin
import pytest
from hub_standin import ALONE, PAIR, TOKEN

TARGET = "gemma-4-tiny-it-Q4_0.gguf"
ASSISTANT = "gemma-4-tiny-it-assistant-Q4_0.gguf"


def about(standin, repo=PAIR, **facts):
    (standin.folder / repo / "_repo.json").write_text(json.dumps(facts))


def make(standin, repo, **files):
    for name, data in files.items():
        path = standin.folder / repo / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def a_model(name="llama"):
    return hub_standin.gguf(**{"general.architecture": name})


def test_a_pair(pull, cache, tiny_target):
    seen = []
    found = pull(PAIR, progress=lambda *step: seen.append(step))
    assert found.path.read_bytes() == tiny_target.read_bytes()
    assert found.path.name == TARGET and found.drafter.name == ASSISTANT
    assert found.path.is_relative_to(cache) and found.files == (found.path,)
    assert (found.kind, found.quantization, found.reason) == ("target", "Q4_0", "the only one")
    assert found.size == tiny_target.stat().st_size and not found.was_cached
    assert found.drafter_repo == PAIR and found.no_drafter == "" and len(found.commit) == 40
    assert json.loads(json.dumps(found.as_dict()))["path"] == str(found.path)
    steps = [done for name, done, total in seen if name == TARGET]
    assert steps == sorted(steps) and len(steps) > 5 and steps[-1] == found.size
    assert {total for name, _, total in seen if name == TARGET} == {found.size}


def test_the_second_time_only_the_list_is_asked_for(pull, standin):
    first = pull(PAIR)
    standin.requests.clear()
    second = pull(PAIR)
    assert (second.path, second.drafter) == (first.path, first.drafter) and second.was_cached
    assert len(standin.requests) == 1


def test_the_cache_is_that_of_huggingface_hub(pull, standin, cache):
    from huggingface_hub import hf_hub_download, scan_cache_dir

    mine = pull(PAIR, drafter=None).path
    standin.requests.clear()
    of_them = {"cache_dir": cache, "endpoint": standin.url}
    assert hf_hub_download(PAIR, TARGET, **of_them) == str(mine)
    assert standin.served("GET", "/cdn/") == []
    theirs = hf_hub_download(PAIR, ASSISTANT, **of_them)
    standin.requests.clear()
    assert str(pull(PAIR).drafter) == theirs and standin.served("GET", "/cdn/") == []
    (repo,) = scan_cache_dir(cache).repos
    (revision,) = repo.revisions
    assert revision.refs == {"main"} and len(revision.files) == 2


def test_the_token_stays_with_the_hub(pull, standin):
    about(standin, gated=True)
    assert pull(PAIR, token=TOKEN).drafter is not None
    assert standin.tokens_at_the_cdn == [] and standin.served("GET", "/cdn/")


def test_split_files(pull, standin):
    parts = {f"g-Q8_0-0000{n}-of-00002.gguf": a_model() + bytes([n]) for n in (1, 2)}
    make(standin, "o/split", **parts)
    found = pull("o/split:Q8_0")
    assert [path.name for path in found.files] == list(parts)
    assert found.path == found.files[0] and found.size == sum(map(len, parts.values()))


def test_more_files_and_projectors_by_name(pull, standin):
    make(standin, "o/more", **{"g-Q8_0.gguf": a_model(), "mmproj-F16.gguf": a_model("clip")})
    found = pull("o/more", additional_files=["mmproj-F16.gguf"])
    assert [path.name for path in found.files] == ["g-Q8_0.gguf", "mmproj-F16.gguf"]
    assert pull("o/more:mmproj-F16.gguf").kind == "mmproj"


def test_a_folder_in_the_repository(pull, standin):
    make(standin, "o/deep", **{"BF16__g-BF16.gguf": a_model()})
    assert pull("o/deep:BF16").file == "BF16/g-BF16.gguf"


def test_revisions(pull, standin, pillion, refused):
    about(standin, branches=["v1"])
    first = pull(PAIR, revision="v1", drafter=None)
    assert first.revision == "v1" and pull(PAIR, revision=first.commit, drafter=None).was_cached
    assert pull(f"https://huggingface.co/{PAIR}/tree/v1").revision == "v1"
    sentence = refused(pillion.NotOnHubError, pull, PAIR, revision="v9")
    assert sentence == f"{PAIR} has no revision v9; it has main, v1"
    assert "branch" in refused(pillion.UsageError, pull, PAIR, revision="../x")


def test_a_new_commit_is_followed(pull, standin):
    make(standin, "o/new", **{"g-Q8_0.gguf": a_model()})
    old = pull("o/new")
    make(standin, "o/new", **{"g-Q8_0.gguf": a_model() + b"more"})
    new = pull("o/new")
    assert new.commit != old.commit and new.path.read_bytes().endswith(b"more")
    assert pull("o/new", local_files_only=True).path == new.path


# ---- without the hub ----


def test_offline_the_cache_serves(pull, standin, pillion, refused):
    online = pull(PAIR)
    standin.requests.clear()
    found = pull(PAIR, local_files_only=True)
    assert (found.path, found.drafter) == (online.path, online.drafter)
    sentence = refused(pillion.HubUnreachableError, pull, ALONE, local_files_only=True)
    assert "is not asked: local_files_only is set" in sentence
    assert f"does not hold {ALONE}" in sentence
    sentence = refused(pillion.NotOnHubError, pull, f"{PAIR}:Q8_0", local_files_only=True)
    assert sentence == f"the cache's copy of {PAIR} has no quantization Q8_0; it has Q4_0"
    assert standin.requests == []


def test_offline_by_the_environments_switch(pull, standin, monkeypatch):
    from huggingface_hub import constants

    pull(ALONE)
    standin.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(ALONE).drafter is not None  # of the sister repository, in the cache too
    assert standin.requests == []


def test_a_hub_that_does_not_answer(pull, pillion, refused, caplog):
    nowhere = "http://127.0.0.1:9"
    sentence = refused(pillion.HubUnreachableError, pull, PAIR, endpoint=nowhere)
    assert sentence.startswith("127.0.0.1:9 cannot be reached") and "HF_ENDPOINT" in sentence
    online = pull(PAIR)
    with caplog.at_level(logging.WARNING, "pillion"):
        assert pull(PAIR, endpoint=nowhere).drafter == online.drafter
    assert f"taking {PAIR} from the cache" in caplog.text


# ---- refusals ----


def test_a_gated_repository(pull, standin, pillion, refused):
    about(standin, gated=True)
    sentence = refused(pillion.HubAccessError, pull, PAIR, token=None)
    page = f"accept its terms at {standin.url}/{PAIR}"
    token = "give a token in HF_TOKEN or with `hf auth login`"
    assert sentence == f"{PAIR} is gated: {page}, then {token}"
    sentence = refused(pillion.HubAccessError, pull, PAIR, token="hf_other")
    assert sentence == f"{PAIR} is gated, and the token in use has no access: {page}"


def test_a_wrong_token(pull, pillion, refused):
    sentence = refused(pillion.HubAccessError, pull, PAIR, token="hf_wrong")
    assert "does not take the token in use" in sentence


def test_no_such_repository(pull, standin, pillion, refused):
    sentence = refused(pillion.NotOnHubError, pull, "o/none")
    assert "shows no model repository o/none: it does not exist, or it is private" in sentence
    about(standin, private=True)
    assert PAIR in refused(pillion.NotOnHubError, pull, PAIR, token="hf_other")
    assert pull(PAIR, token=TOKEN).path.exists()


def test_what_is_not_gguf(pull, standin, cache, pillion, refused):
    make(standin, "o/bad", **{"g-Q8_0.gguf": b"<html>sign in</html>"})
    sentence = refused(pillion.ModelFileError, pull, "o/bad")
    assert sentence == "g-Q8_0.gguf of o/bad is not a GGUF file: it begins with b'<htm'"
    assert not [path for path in cache.rglob("*") if path.is_file() and "blobs" in path.parts]


def test_a_hub_that_answers_with_trouble(pull, standin, pillion, refused):
    standin.faults.status = {TARGET: [410]}
    sentence = refused(pillion.HubUnreachableError, pull, PAIR)
    assert "answers with HTTP status 410: The stand-in was told to say this" in sentence


def test_names_that_would_leave_the_cache(pillion):
    from pillion.hub.names import is_inside

    for path in ("../x", "a/../../x", "/etc/x", "a//b", "a\\..\\b", "C:/x", "a/\0", "."):
        assert not is_inside(path), path
    assert is_inside("BF16/g-00001-of-00002.gguf")


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"drafter": 5}, "drafter is 5; it must be 'auto', OWNER/NAME"),
        ({"drafter": "no-such-file.gguf"}, "drafter is 'no-such-file.gguf'; it must be 'auto'"),
        ({"filename": 5}, "filename is 5; it must be a string"),
        ({"token": 5}, "token is 5"),
        ({"cache_dir": 5}, "cache_dir is 5; it must be a path"),
        ({"progress": 5}, "progress is 5; it must be something that can be called"),
        ({"additional_files": "x"}, "additional_files is 'x'; it must be a list of file names"),
        ({"local_files_only": 1}, "local_files_only is 1; it must be True or False"),
        ({"filenam": "x"}, "pull() has no argument 'filenam'; did you mean filename?"),
    ],
)
def test_wrong_arguments(pull, pillion, refused, options, sentence):
    assert refused(pillion.UsageError, pull, PAIR, **options).startswith(sentence)


def test_without_huggingface_hub(pull, pillion, refused, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    sentence = refused(pillion.UsageError, pull, PAIR)
    assert sentence.endswith("is not installed: pip install 'pillion[hub]'")


def test_importing_pillion_imports_nothing_of_it(pillion):
    import subprocess
    import sys

    code = "import pillion, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
