"""The mmproj file of a model on the hub: which one comes, and that the header decides."""

import json
import shutil

import hub_standin
import media_files
import pytest
from hub_standin import PAIR
from made_files import remade

TARGET = "gemma-4-tiny-it-Q4_0.gguf"


@pytest.fixture
def put(standin, pillion):
    """Puts the embedded towers, or another file, into PAIR under a name."""
    from pillion.models import TINY_MMPROJ

    (standin.folder / PAIR / "mmproj-F16.gguf").unlink()

    def call(name, source=TINY_MMPROJ):
        path = standin.folder / PAIR / name
        path.parent.mkdir(exist_ok=True)
        return shutil.copy(source, path)

    return call


def test_only_on_demand(pull, put):
    put("mmproj-BF16.gguf")
    found = pull(PAIR)
    assert found.mmproj is None and found.no_mmproj == "none was asked for"
    found = pull(PAIR, mmproj="auto")
    assert found.mmproj.name == "mmproj-BF16.gguf" and found.no_mmproj == ""
    assert found.mmproj.parent == found.path.parent
    assert found.as_dict()["mmproj"] == str(found.mmproj)


def test_exact_and_small_first(pull, put):
    for name in ("mmproj-F32.gguf", "mmproj-Q8_0.gguf", "sub/mmproj-BF16.gguf", "mmproj-F16.gguf"):
        put(name)
    assert pull(PAIR, mmproj="auto").mmproj.name == "mmproj-F16.gguf"
    assert pull(PAIR, mmproj="*Q8_0*").mmproj.name == "mmproj-Q8_0.gguf"


def test_the_header_decides(pull, put, tmp_path):
    put("mmproj-BF16.gguf", media_files.mmproj("tiny-mm-e2b"))
    found = pull(PAIR, mmproj="auto")
    assert found.mmproj is None and found.no_mmproj == f"{PAIR} has no mmproj file that fits"
    from pillion.models import TINY_MMPROJ

    other = tmp_path / "gemma3.gguf"
    remade(TINY_MMPROJ, other, {"clip.vision.projector_type": "gemma3"})
    put("mmproj-F16.gguf", other)
    assert pull(PAIR, mmproj="auto").mmproj is None
    put("mmproj-Q8_0.gguf")
    assert pull(PAIR, mmproj="auto").mmproj.name == "mmproj-Q8_0.gguf"


def test_models_without_towers(pull, standin):
    llama = hub_standin.gguf(**{"general.architecture": "llama"})
    (standin.folder / "o/llama").mkdir(parents=True)
    (standin.folder / "o/llama/model.gguf").write_bytes(llama)
    sentence = "there are towers for Gemma 4, and this is llama"
    assert pull("o/llama", mmproj="auto").no_mmproj == sentence


def test_wrong_names(pull, put, pillion):
    put("mmproj-BF16.gguf")
    with pytest.raises(pillion.NotOnHubError, match="is no mmproj file"):
        pull(PAIR, mmproj=TARGET)
    with pytest.raises(pillion.NotOnHubError, match="has no GGUF file"):
        pull(PAIR, mmproj="none.gguf")
    with pytest.raises(pillion.UsageError, match="mmproj is 7"):
        pull(PAIR, mmproj=7)


def test_list_shows_what_it_belongs_to(pull, put, cache):
    from pillion import hub

    put("mmproj-BF16.gguf")
    found = pull(PAIR, mmproj="auto")
    rows = {row.name: row for row in hub.list_cached(cache)}
    towers, target = rows[f"{PAIR}:mmproj-BF16.gguf"], rows[f"{PAIR}:{TARGET}"]
    assert (towers.kind, towers.width, towers.path) == ("mmproj", 192, found.mmproj)
    assert towers.pairs_with == (target.name,) and towers.name in target.pairs_with


def test_the_commands(pillion_says, put):
    put("mmproj-BF16.gguf")
    code, out, _ = pillion_says("pull", PAIR, "--mmproj", "none", "--json")
    assert code == 0 and json.loads(out)["mmproj"] is None
    code, out, _ = pillion_says("pull", PAIR)
    assert code == 0 and out.splitlines()[-1].endswith("mmproj-BF16.gguf")
    code, out, _ = pillion_says("list")
    line = next(line for line in out.splitlines() if "  mmproj-BF16.gguf  " in line)
    assert line.rstrip().endswith(TARGET)


def test_an_llm_by_name(pillion, put, standin, cache):
    put("mmproj-BF16.gguf")
    options = {"endpoint": standin.url, "cache_dir": cache, "n_ctx": 64}
    with pillion.LLM.from_pretrained(PAIR, mmproj=None, **options) as llm:
        assert llm.media.towers.path is None
    assert not list(cache.rglob("mmproj*"))
    with pillion.LLM.from_pretrained(PAIR, **options) as llm:
        assert llm.media.towers.path.name == "mmproj-BF16.gguf" and not llm.media.towers.loaded
        assert llm.media.towers.kinds == {"image", "audio"} and not llm.media.towers.loaded


def test_a_file_of_this_disk(pull, tmp_path):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF")
    for given in (mine, str(mine)):
        assert pull(PAIR, mmproj=given, drafter=None).mmproj == mine
