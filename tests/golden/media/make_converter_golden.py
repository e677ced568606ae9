"""What llama.cpp's converter makes of the towers of the random checkpoints: converter.json.

    python tests/golden/media/make_converter_golden.py path/to/llama.cpp

Needs a checkout of llama.cpp (b11434 was taken) and, in the Python that runs this, what its
convert_hf_to_gguf.py needs: torch, transformers, numpy.

{model: {type: {"keys": {name: [type, value]}, "tensors": {name: [type, shape, digest]}}}}
The shape begins with the contiguous dimension; the digest is the first 16 digits of the bytes'
SHA-256. For per_dim_scale, whose softplus may differ in its last bit, the values stand in its
place. Keys about the model's name are left out.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LEFT_OUT = ("GGUF.", "general.name", "general.basename", "general.finetune", "general.size_label")


def digest(tensor):
    if "per_dim_scale" in tensor.name:
        return [float(value) for value in tensor.data]
    return hashlib.sha256(tensor.data.tobytes()).hexdigest()[:16]


def described(path):
    import gguf

    file = gguf.GGUFReader(path)
    keys = {
        name: [field.types[0].name, field.contents()]
        for name, field in file.fields.items()
        if not name.startswith(LEFT_OUT)
    }
    tensors = {
        t.name: [t.tensor_type.name, [int(n) for n in t.shape], digest(t)] for t in file.tensors
    }
    return {"keys": keys, "tensors": tensors}


def main():
    llama = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(llama / "gguf-py"))
    found = {}
    for name in ("tiny-mm-e2b", "tiny-mm-31b", "tiny-mm-12b"):
        found[name] = {}
        for kind in ("f32", "f16", "bf16", "q8_0"):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "mmproj.gguf"
                converter = [sys.executable, llama / "convert_hf_to_gguf.py", HERE / name]
                options = ["--mmproj", "--outtype", kind, "--outfile", out]
                subprocess.run(converter + options, check=True)
                found[name][kind] = described(out)
    text = json.dumps(found, indent=0, separators=(",", ":"))
    (HERE / "converter.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
