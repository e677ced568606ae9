"""Whole models in the formats that are expanded at import: on the CPU, under the CUDA emulation and
on the simulated DSP."""

import gguf
import numpy as np
import pytest
from device_models import nmse
from expanded_models import oc, write
from made_files import remade

# A model of F32 weights has f32 inputs, these have int8 ones: a 254th of the largest of 32 values,
# which random layers amplify. Q8_0, Q6_K, Q4_0 and IQ4_XS show 2e-4 to 4e-4 here, and 2e-4 between
# the CPU and the devices, whose scores are halves.
NMSE = 2e-3
NMSE_EXPERTS = 1e-2  # up to 2.2e-3: gates multiply what the experts round
DEVICES = ["cuda:sim", "htp:sim"]
MIXED = dict(
    zip(
        ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"],
        oc.EXPANDED[1:],
    )
)
IDS = [3, 100, 7, 250, 31, 400, 12, 9, 77, 500, 1, 64, 65, 66, 8, 300, 301, 302, 303, 40]


def logits_of(pillion, path, device="cpu"):
    """Of all rows: in one run, and token by token."""
    try:
        model = pillion.Model.open(path, device=device)
    except pillion.NoBackendError as error:
        pytest.skip(f"no {device}: {error}")
    with model:
        with model.context(n_ctx=64, n_outputs=len(IDS)) as context:
            context.prefill(IDS, outputs=len(IDS))
            many = np.stack([context.logits(row) for row in range(len(IDS))])
        few = []
        with model.context(n_ctx=64) as context:
            for token in IDS:
                context.decode(token)
                few.append(context.logits())
    return many, np.stack(few)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(model, kind) -> (file, the same values as F32).

    kind "mixed": another for each matrix of a layer."""
    files, folder = {}, tmp_path_factory.mktemp("expanded")

    def make(name, kind):
        if (name, kind) not in files:

            def kind_of(tensor):
                short = tensor.removesuffix(".weight").split(".")[-1]
                return (
                    kind
                    if kind != "mixed"
                    else MIXED.get(short, "iq2_xxs" if "exps" in short else "iq3_s")
                )

            path = folder / f"{name}-{kind}"
            files[name, kind] = [
                write(name, f"{path}{end}.gguf", kind_of, bool(end)) for end in ("", "-f32")
            ]
        return files[name, kind]

    return make


@pytest.mark.parametrize("kind", [*oc.EXPANDED, "mixed"])
def test_logits_are_those_of_the_values(pillion, made, kind):
    file, plain = made("tiny-llama", kind)
    want, _ = logits_of(pillion, plain)
    many, few = logits_of(pillion, file)
    assert nmse(many, want) < NMSE
    assert np.array_equal(many, few)  # on the CPU a row's bits don't depend on its neighbours


@pytest.mark.parametrize(
    "kind",
    ["mxfp4", "mixed", *(pytest.param(k, marks=pytest.mark.slow) for k in ("iq2_xxs", "iq1_m"))],
)
def test_experts(pillion, made, kind):
    file, plain = made("tiny-moe", kind)
    want, _ = logits_of(pillion, plain)
    many, few = logits_of(pillion, file)
    assert nmse(many, want) < NMSE_EXPERTS
    assert np.array_equal(many, few)


def test_inspect_names_the_types_and_tells_the_memory(pillion, made):
    from pillion.inspection import inspect_file

    file, _ = made("tiny-llama", "mixed")
    facts = inspect_file(file, ctx=[64], tensors=True)
    types = {one["name"]: one["type"] for one in facts["tensors"]}
    assert {short: types[f"blk.0.{short}.weight"] for short in MIXED} == {
        short: kind.upper() for short, kind in MIXED.items()
    }
    with pillion.Model.open(file) as model:
        # Computed, and of a loaded model.
        assert facts["memory"][0]["weights"] == model.weight_bytes
    # Expanded: more than the file's bytes, less than 8-bit codes would take.
    n_params, tensor_bytes = facts["file"]["n_params"], facts["file"]["tensor_bytes"]
    assert tensor_bytes < facts["memory"][0]["weights"] < n_params


@pytest.mark.parametrize("kind", oc.EXPANDED)
def test_quantize_reads_them(pillion, made, tmp_path, kind):
    """As F32 the values come out exactly; another quantized type has to be allowed."""
    file, plain = made("tiny-llama", kind)
    out = tmp_path / "out.gguf"
    pillion.quantize(file, out, "F32", allow_requantize=True)
    got, want = ({t.name: t.data for t in gguf.GGUFReader(path).tensors} for path in (out, plain))
    for name, values in want.items():
        np.testing.assert_array_equal(got[name], values)
    with pytest.raises(pillion.UsageError, match=f"is {kind.upper()} already"):
        pillion.quantize(file, out, "Q8_0")


def test_a_factor_of_a_whole_tensor_is_no_detail(pillion, made, tmp_path):
    """NVFP4 files may have one: leaving it out would give other values."""
    file, _ = made("tiny-llama", "nvfp4")
    name = "blk.0.ffn_up.scale"
    ones = remade(file, tmp_path / "ones.gguf", tensors={name: (np.ones(1, np.float32), "F32")})
    with pillion.Model.open(ones) as model:
        assert model.describe()["unknown_tensors"] == [name]
    half = remade(
        file, tmp_path / "half.gguf", tensors={name: (np.full(1, 0.5, np.float32), "F32")}
    )
    with pytest.raises(
        pillion.PillionError, match=f"tensor {name}: a factor for a whole quantized tensor"
    ):
        pillion.Model.open(half)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "name, kind",
    [
        ("tiny-llama", "mxfp4"),
        ("tiny-moe", "mixed"),
        *(
            pytest.param("tiny-llama", kind, marks=pytest.mark.slow)
            for kind in oc.EXPANDED
            if kind != "mxfp4"
        ),
    ],
)
def test_devices_agree_with_the_cpu(pillion, made, device, name, kind):
    file, _ = made(name, kind)
    want, _ = logits_of(pillion, file)
    for got in logits_of(pillion, file, device):
        assert nmse(got, want) < NMSE
