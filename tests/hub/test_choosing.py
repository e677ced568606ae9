"""Which files a name means, over lists of files as repositories have them."""

import pytest


@pytest.fixture
def choose(pillion):
    from pillion.hub import choosing
    from pillion.hub.listing import Listing, RemoteFile
    from pillion.hub.names import parse_name

    def call(files, wanted="", cached_only=False, **options):
        listing = Listing(
            "a/b",
            "main",
            "0" * 40,
            tuple(RemoteFile(name, n << 20, "e") for n, name in enumerate(files.split(), 1)),
            cached_only=cached_only,
        )
        found = choosing.choose(listing, parse_name("repo_id", f"a/b{wanted}"), **options)
        return [file.name for file in found.choice.files], found.reason

    return call


UNSLOTH = """README.md config.json imatrix_unsloth.gguf mmproj-F16.gguf mtp-g-it.gguf
MTP/g-it-MTP-Q8_0.gguf g-it-Q3_K_M.gguf g-it-Q4_K_M.gguf g-it-Q4_0.gguf g-it-UD-Q4_K_XL.gguf
g-it-Q8_0.gguf BF16/g-it-BF16-00001-of-00002.gguf BF16/g-it-BF16-00002-of-00002.gguf"""


@pytest.mark.parametrize(
    "wanted, file",
    [
        (":Q3_K_M", "g-it-Q3_K_M.gguf"),
        (":q8_0", "g-it-Q8_0.gguf"),
        (":Q4_K_XL", "g-it-UD-Q4_K_XL.gguf"),
        (":ud-q4_k_xl", "g-it-UD-Q4_K_XL.gguf"),
        (":*Q4_0.gguf", "g-it-Q4_0.gguf"),
        (":g-it-Q8*", "g-it-Q8_0.gguf"),
        (":*Q8_0.gguf", "g-it-Q8_0.gguf"),  # the drafter in Q8_0 fits the pattern too
        (":mmproj-F16.gguf", "mmproj-F16.gguf"),
        (":MTP/*", "MTP/g-it-MTP-Q8_0.gguf"),
        (":g-it-MTP-Q8_0.gguf", "MTP/g-it-MTP-Q8_0.gguf"),
    ],
)
def test_one_file(choose, wanted, file):
    assert choose(UNSLOTH, wanted) == ([file], "")


def test_all_parts_come(choose):
    parts = [f"BF16/g-it-BF16-0000{n}-of-00002.gguf" for n in (1, 2)]
    for wanted in (":BF16", ":BF16/*", ":*BF16*", ":g-it-BF16-00001-of-00002.gguf"):
        assert choose(UNSLOTH, wanted) == (parts, "")


@pytest.mark.parametrize(
    "files, file, reason",
    [
        (UNSLOTH, "g-it-Q4_K_M.gguf", "Q4_K_M, the default"),
        ("g-Q8_0.gguf g-Q4_0.gguf", "g-Q4_0.gguf", "Q4_0, as there is no Q4_K_M"),
        ("g-Q8_0.gguf g-F16.gguf", "g-Q8_0.gguf", "Q8_0, as there is no Q4_K_M and no Q4_0"),
        ("g-IQ2_M.gguf g-F16.gguf", "g-F16.gguf", "the first by name, as there is no Q4_K_M"),
        ("g-UD-Q4_K_M.gguf g-Q8_0.gguf", "g-UD-Q4_K_M.gguf", "UD-Q4_K_M, the default"),
        ("model.gguf mmproj-model.gguf", "model.gguf", "the only one"),
        ("x-assistant-Q8_0.gguf", "x-assistant-Q8_0.gguf", "the only one"),
    ],
)
def test_without_a_quantization(choose, files, file, reason):
    found, why = choose(files)
    assert found == [file] and why.startswith(reason)


def test_a_drafter_is_preferred_where_one_is_sought(choose):
    assert choose(UNSLOTH, prefer="drafter")[0] == ["MTP/g-it-MTP-Q8_0.gguf"]
    assert choose("g-Q4_0.gguf", prefer="drafter")[0] == ["g-Q4_0.gguf"]


@pytest.mark.parametrize(
    "files, wanted, sentence",
    [
        (UNSLOTH, ":Q9_9", "a/b has no quantization Q9_9; it has BF16, Q3_K_M, Q4_0, Q4_K_M, "),
        ("a.gguf b.gguf", ":Q4_0", "it has a.gguf (1.0 MiB), b.gguf (2.0 MiB)"),
        (UNSLOTH, ":z.gguf", "a/b has no GGUF file z.gguf; it has BF16/g-it-BF16-00001"),
        (UNSLOTH, ":*mmproj*", "fits no model of a/b, only mmproj-F16.gguf (4.0 MiB)"),
        ("mmproj-F16.gguf README.md", "", "a/b holds no model, only mmproj-F16.gguf"),
        ("config.json model.safetensors", "", "a/b has no GGUF file; it has model.safetensors"),
        ("README.md", ":Q4_0", "a/b has no GGUF file; it has 1 other files"),
        ("x-Q4_0-00001-of-00003.gguf x-Q4_0-00003-of-00003.gguf", "", "in 3 parts, and the repo"),
    ],
)
def test_nothing_fits(pillion, choose, refused, files, wanted, sentence):
    assert sentence in refused(pillion.NotOnHubError, choose, files, wanted)


@pytest.mark.parametrize(
    "wanted, sentence",
    [
        (":Q4_0", "a/b has 2 models in Q4_0: a-Q4_0.gguf (1.0 MiB), b-Q4_0.gguf (2.0 MiB); name"),
        (":*Q4_0*", "*Q4_0* fits 2 models of a/b: a-Q4_0.gguf"),
        ("", "a/b has 2 models in Q4_0: a-Q4_0.gguf"),
    ],
)
def test_several_fit(pillion, choose, refused, wanted, sentence):
    files = "a-Q4_0.gguf b-Q4_0.gguf"
    assert sentence in refused(pillion.SeveralMatchesError, choose, files, wanted)


def test_long_lists_are_cut(pillion, choose, refused):
    files = " ".join(f"m{n:02}-Q4_0.gguf" for n in range(50))
    assert "and 30 more" in refused(pillion.SeveralMatchesError, choose, files)


def test_the_caches_list_says_so(pillion, choose, refused):
    sentence = refused(pillion.NotOnHubError, choose, "g-Q4_0.gguf", ":Q8_0", cached_only=True)
    assert sentence == "the cache's copy of a/b has no quantization Q8_0; it has Q4_0"
