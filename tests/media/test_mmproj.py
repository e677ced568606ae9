"""The mmproj file: what a reader refuses, and the handle: descriptions, Ctrl-C, closing, forks."""

import os
import threading
import time

import media_files
import numpy as np
import pytest
from made_files import remade

V, A = "clip.vision.", "clip.audio."


@pytest.fixture
def changed(tmp_path):
    """A copy of E2B's towers with other keys or tensors; None leaves one out."""

    def make(keys=None, tensors=None, model="tiny-mm-e2b"):
        path = tmp_path / "changed.gguf"
        floats, raw = {}, []
        for name, values in (tensors or {}).items():
            whole = values is not None and values.dtype == np.int16
            floats[name] = None if values is None or whole else (values, "F32")
            raw += [(name, values)] if whole else []
        return remade(media_files.mmproj(model), path, keys or {}, floats, raw)

    return make


def refused(pillion, path, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        pillion.Mmproj(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "keys, sentence",
    [
        ({"clip.has_vision_encoder": False, "clip.has_audio_encoder": None}, "neither clip.has_v"),
        ({V + "projection_dim": None}, "clip.vision.projection_dim"),
        ({V + "projection_dim": 65}, "projection_dim is 65, clip.audio.projection_dim 64"),
        ({V + "patch_size": 0}, "clip.vision.patch_size"),
        ({V + "patch_size": 100}, "300 pixels a token, at most 128"),
        ({V + "embedding_length": [64, 32]}, "clip.vision.embedding_length"),
        (
            {V + "attention.head_count": 7},
            "embedding_length is 64, expected a multiple of heads, 7",
        ),
        ({V + "attention.head_count": 32}, "heads have 2 dimensions, expected a multiple of 4"),
        ({V + "attention.layer_norm_epsilon": -1.0}, "layer_norm_epsilon is -1, expected"),
        ({V + "attention.layer_norm_epsilon": None}, "layer_norm_epsilon"),
        ({V + "block_count": 3}, r"tensor v.blk.2.ln1.weight: missing, expected \[64\]"),
        ({V + "feed_forward_length": 95}, r"v.blk.0.ffn_gate.weight: shape \[64, 96\], expected"),
        ({V + "projector_type": None, A + "projector_type": None}, "projector_type"),
        ({A + "attention.head_count": 5}, "embedding_length is 48, expected a multiple of heads"),
    ],
)
def test_wrong_keys(pillion, changed, keys, sentence):
    refused(pillion, changed(keys), pillion.ModelFileError, sentence)


@pytest.mark.parametrize(
    "keys, sentence",
    [
        ({V + "projector_type": "gemma3"}, 'vision projector "gemma3" is not supported'),
        ({A + "projector_type": "ultravox"}, 'audio projector "ultravox" is not supported'),
        ({V + "projector_type": None, "clip.projector_type": "mlp"}, 'projector "mlp" is not'),
    ],
)
def test_other_projectors(pillion, changed, keys, sentence):
    refused(pillion, changed(keys), pillion.UnsupportedModelError, sentence)


def test_one_projector_key_for_the_file(pillion, changed):
    """As older converters wrote it."""
    keys = {V + "projector_type": None, "clip.projector_type": "gemma4v"}
    with pillion.Mmproj(changed(keys, model="tiny-mm-31b")) as mmproj:
        assert mmproj.describe()["vision"]["projector"] == "gemma4v"


def test_another_kind_of_file(pillion):
    path = media_files.target("tiny-mm-e2b")
    refused(pillion, path, pillion.UnsupportedModelError, '"gemma4", an mmproj file has "clip"')


def test_no_file(pillion, tmp_path):
    with pytest.raises(pillion.ModelNotFoundError):
        pillion.Mmproj(tmp_path / "nothing.gguf")


VISION = [
    "v.patch_embd.weight",
    "v.position_embd.weight",
    "v.blk.1.attn_q.weight",
    "v.blk.0.attn_k_norm.weight",
    "v.blk.1.ffn_down.weight",
    "mm.input_projection.weight",
]
PLAIN = ["v.patch_embd.bias", "v.patch_norm.3.weight", "v.patch_norm.1.bias"]


@pytest.mark.parametrize(
    "model, name", [("tiny-mm-e2b", n) for n in VISION] + [("tiny-mm-12b", n) for n in PLAIN]
)
def test_wrong_tensors(pillion, changed, model, name):
    refused(pillion, changed({}, {name: None}, model), pillion.ModelFileError, f"{name}: missing")
    other = {name: np.zeros((3, 5), np.float32)}
    sentence = rf"{name}: shape \[5, 3\], expected \["
    refused(pillion, changed({}, other, model), pillion.ModelFileError, sentence)


def test_a_type_that_is_no_weight_format(pillion, changed):
    wrong = {"v.blk.0.ln1.weight": np.zeros(64, np.int16)}
    sentence = r"tensor v.blk.0.ln1.weight has type 25 \(I16\), which is not supported"
    refused(pillion, changed({}, wrong), pillion.UnsupportedModelError, sentence)


def test_std_comes_in_twos(pillion, changed):
    path = changed({}, {"v.std_scale": None}, "tiny-mm-31b")
    refused(pillion, path, pillion.ModelFileError, "v.std_scale: missing")


def test_a_bound_that_is_no_number(pillion, changed):
    path = changed({}, {"v.blk.0.attn_q.input_min": np.array([np.nan], np.float32)})
    refused(pillion, path, pillion.ModelFileError, "v.blk.0.attn_q.input_min is NaN")


def test_bounds_are_optional_one_by_one(pillion, changed):
    """Those of one matrix left out give other rows; an infinite bound bounds nothing."""
    picture = media_files.golden("tiny-mm-e2b")["img.wide.rgb"]
    names = [f"v.blk.0.attn_v.{end}" for end in ("input_min", "input_max", "output_min")]
    rows = []
    for tensors in (
        {},
        dict.fromkeys(names),
        {n: np.array([-np.inf if "min" in n else np.inf], np.float32) for n in names},
    ):
        with pillion.Mmproj(changed({}, tensors)) as mmproj:
            rows.append(mmproj.encode_image(picture, 70))
    assert (rows[1] == rows[2]).all() and not (rows[0] == rows[1]).all()


# ---- the handle ----


def test_what_it_says(pillion):
    with pillion.Mmproj(media_files.mmproj("tiny-mm-31b"), n_threads=1) as mmproj:
        said = mmproj.describe()
        assert mmproj.has_vision and not mmproj.has_audio and mmproj.n_embd == 64
        assert (said["n_threads"], said["audio"]) == (1, None)
        assert said["vision"]["head_dim"] == 36 and said["vision"]["unit"] == 24
        assert mmproj.file_bytes == os.path.getsize(mmproj.path)
        assert 0 < said["vision"]["file_bytes"] < mmproj.file_bytes


def test_a_closed_one(pillion):
    mmproj = pillion.Mmproj(media_files.mmproj("tiny-mm-31b"))
    mmproj.close()
    mmproj.close()
    assert mmproj.closed
    with pytest.raises(pillion.Closed, match="this mmproj is closed"):
        mmproj.encode_image(np.zeros((9, 9, 3), np.uint8))


def test_a_file_without_a_vision_tower(pillion, changed):
    path = changed({"clip.has_vision_encoder": False})
    with pillion.Mmproj(path) as mmproj:
        assert not mmproj.has_vision and mmproj.has_audio
        for call in (
            lambda: mmproj.image_grid(10, 10),
            lambda: mmproj.encode_image(np.zeros((9, 9, 3), np.uint8)),
        ):
            with pytest.raises(pillion.UsageError, match="has no vision tower: it reads no images"):
                call()


def test_a_cancel_stops_an_encoding(pillion):
    """From another thread, again and again until the call is over."""
    from pillion._native import lib

    with pillion.Mmproj(media_files.mmproj("tiny-mm-e2b"), n_threads=1) as mmproj:
        picture = np.zeros((1344, 1920, 3), np.uint8)
        over = threading.Event()

        def cancel():
            while not over.is_set():
                lib.pillion_mmproj_cancel(mmproj._c)
                time.sleep(0.0005)

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            with pytest.raises(pillion.Cancelled):
                for _ in range(100):
                    mmproj.encode_image(picture, 1120)
        finally:
            over.set()
            thread.join()
        assert mmproj.encode_image(picture, 70).shape[0] == 70 // 10 * 10


def test_a_child_encodes_too(pillion):
    with pillion.Mmproj(media_files.mmproj("tiny-mm-e2b")) as mmproj:
        picture = media_files.golden("tiny-mm-e2b")["img.wide.rgb"]
        want = mmproj.encode_image(picture, 70)
        child = os.fork()
        if child == 0:
            os._exit(0 if (mmproj.encode_image(picture, 70) == want).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
