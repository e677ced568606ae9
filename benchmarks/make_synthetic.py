"""Writes GGUF files of true Gemma 4 shape with random Q4_0 weights: speed, memory and load time
without the real weights.

    python benchmarks/make_synthetic.py OUT.gguf [--size e2b|e4b] [--layers N] [--assistant]
        [--tokenizer FILE]

Shapes are those of the specification (2.1). Text from such a file means nothing. Weights are random
4-bit codes with scales that keep activations alive; a matrix repeats one random megabyte, which no
kernel notices."""

import argparse

import gguf
import numpy as np

SIZES = {
    "e2b": dict(
        layers=35,
        embd=1536,
        period=5,
        ff=6144,
        wide_from=15,
        ff_wide=12288,
        heads=8,
        kv=1,
        shared=20,
        window=512,
    ),
    "e4b": dict(
        layers=42,
        embd=2560,
        period=6,
        ff=10240,
        wide_from=42,
        ff_wide=10240,
        heads=8,
        kv=2,
        shared=18,
        window=512,
    ),
}
# The assistants of both (3): four layers, the last one full; centroid head of 2048 centroids, 32 of
# them active.
ASSISTANT = dict(
    layers=4, embd=256, period=4, ff=2048, wide_from=4, ff_wide=2048, heads=4, shared=4, window=512
)
N_CENTROIDS = 2048
HEAD_DIM, HEAD_DIM_SWA, PLE, VOCAB = 512, 256, 256, 262144
NORMAL, UNUSED = 1, 5  # types of tokens


class Synthetic:
    arch = "gemma4"

    def __init__(self, path, p, layers=None, like=None):
        self.p = p
        self.like = like
        self.layers = layers or p["layers"]
        self.writer = gguf.GGUFWriter(path, self.arch)
        self.rng = np.random.default_rng(1)

    def q4_0(self, name, inputs, rows):
        """A random matrix [rows, inputs] whose products have about the size of their inputs."""
        blocks = inputs // 32
        some = min(rows, max(1, (1 << 20) // (blocks * 18)))
        data = np.empty((some, blocks, 18), np.uint8)
        data[:, :, 2:] = self.rng.integers(0, 256, (some, blocks, 16), np.uint8)
        # Codes minus 8 have variance 21.25: scale so that a row's dot product with unit inputs has
        # variance 1.
        data[:, :, :2] = np.float16(1 / np.sqrt(21.25 * inputs)).reshape(1).view(np.uint8)
        repeated = np.resize(data.reshape(some, -1), (rows, blocks * 18))
        self.writer.add_tensor(name, repeated, raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    def ones(self, name, n, value=1.0):
        self.writer.add_tensor(name, np.full(n, value, np.float32))

    def metadata(self):
        w, p, n = self.writer, self.p, self.layers
        sliding = [layer % p["period"] != p["period"] - 1 for layer in range(n)]
        w.add_context_length(131072)
        w.add_block_count(n)
        w.add_embedding_length(p["embd"])
        w.add_feed_forward_length([self.ff(layer) for layer in range(n)])
        w.add_head_count(p["heads"])
        w.add_head_count_kv(p["kv"])
        w.add_key_length(HEAD_DIM)
        w.add_value_length(HEAD_DIM)
        w.add_layer_norm_rms_eps(1e-6)
        w.add_rope_freq_base(1e6)
        key = self.arch + "."
        w.add_uint32(key + "attention.key_length_swa", HEAD_DIM_SWA)
        w.add_uint32(key + "attention.value_length_swa", HEAD_DIM_SWA)
        w.add_uint32(key + "attention.sliding_window", p["window"])
        w.add_array(key + "attention.sliding_window_pattern", sliding)
        w.add_uint32(key + "attention.shared_kv_layers", p["shared"])
        w.add_float32(key + "rope.freq_base_swa", 1e4)
        w.add_uint32(key + "rope.dimension_count", HEAD_DIM)
        w.add_uint32(key + "rope.dimension_count_swa", HEAD_DIM_SWA)
        self.sliding = sliding
        self.own_metadata(key)

    def own_metadata(self, key):
        self.writer.add_uint32(key + "embedding_length_per_layer_input", PLE)
        self.writer.add_float32(key + "final_logit_softcapping", 30.0)

    def tokenizer(self):
        """A vocabulary of the right size: another file's, or controls and bytes; then filler."""
        if self.like:
            self.tokenizer_like(gguf.GGUFReader(self.like))
            return
        tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
        tokens += [f"<0x{b:02X}>" for b in range(256)]
        self.vocabulary(tokens, [3] * 5 + [6] * 256, ["t 1"], NORMAL)
        self.writer.add_bos_token_id(2)
        self.writer.add_eos_token_id(1)

    def vocabulary(self, tokens, types, merges, filler):
        n = VOCAB - len(tokens)
        self.writer.add_tokenizer_model("gemma4")
        self.writer.add_token_list(tokens + [f"t{len(tokens) + i}" for i in range(n)])
        self.writer.add_token_scores([-1000.0] * VOCAB)
        self.writer.add_token_types(types + [filler] * n)
        self.writer.add_token_merges(merges)

    def tokenizer_like(self, reader):
        """Text of this vocabulary has as many tokens as that of a trained model, and its chat
        template renders tools. Filler is unused: no grammar allows it."""
        value = lambda key: reader.fields["tokenizer." + key].contents()  # noqa: E731
        tokens, types = value("ggml.tokens"), value("ggml.token_type")
        self.vocabulary(tokens, types, value("ggml.merges"), UNUSED)
        self.writer.add_bos_token_id(value("ggml.bos_token_id"))
        self.writer.add_eos_token_id(value("ggml.eos_token_id"))
        self.writer.add_chat_template(value("chat_template"))

    def ff(self, layer):
        return self.p["ff_wide"] if layer >= self.p["wide_from"] else self.p["ff"]

    def tensors(self):
        h, n = self.p["embd"], self.layers
        self.q4_0("token_embd.weight", h, VOCAB)
        self.ones("output_norm.weight", h)
        factors = np.full(HEAD_DIM // 2, 1e30, np.float32)
        factors[: HEAD_DIM // 8] = 1
        self.writer.add_tensor("rope_freqs.weight", factors)
        self.own_tensors(h, n)
        for layer in range(n):
            self.layer(layer, h)

    def own_tensors(self, h, n):
        self.q4_0("per_layer_token_embd.weight", n * PLE, VOCAB)
        self.q4_0("per_layer_model_proj.weight", h, n * PLE)
        self.ones("per_layer_proj_norm.weight", PLE)

    def layer(self, layer, h):
        b, d = f"blk.{layer}.", HEAD_DIM_SWA if self.sliding[layer] else HEAD_DIM
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            self.ones(f"{b}{name}.weight", h)
        self.q4_0(b + "attn_q.weight", h, self.p["heads"] * d)
        self.ones(b + "attn_q_norm.weight", d, d**-0.25)
        if layer < self.layers - self.p["shared"]:
            self.q4_0(b + "attn_k.weight", h, self.p["kv"] * d)
            self.q4_0(b + "attn_v.weight", h, self.p["kv"] * d)
            self.ones(b + "attn_k_norm.weight", d, d**-0.25)
        self.q4_0(b + "attn_output.weight", self.p["heads"] * d, h)
        self.q4_0(b + "ffn_gate.weight", h, self.ff(layer))
        self.q4_0(b + "ffn_up.weight", h, self.ff(layer))
        self.q4_0(b + "ffn_down.weight", self.ff(layer), h)
        self.ones(b + "layer_output_scale.weight", 1, 0.5)
        self.own_layer(b, h)

    def own_layer(self, b, h):
        self.q4_0(b + "inp_gate.weight", h, PLE)
        self.q4_0(b + "proj.weight", PLE, h)
        self.ones(b + "post_norm.weight", h)

    def write(self):
        self.metadata()
        self.tokenizer()
        self.tensors()
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


class SyntheticAssistant(Synthetic):
    arch = "gemma4-assistant"

    def __init__(self, path, target, like=None):
        super().__init__(path, {**ASSISTANT, "kv": target["kv"]}, like=like)
        self.target = target

    def own_metadata(self, key):
        self.writer.add_uint32(key + "embedding_length_out", self.target["embd"])
        self.writer.add_uint32(key + "nextn_predict_layers", self.layers)
        self.writer.add_uint32(key + "masked_embedding.num_centroids", N_CENTROIDS)
        self.writer.add_uint32(key + "masked_embedding.centroid_top_k", 32)

    def own_tensors(self, h, n):
        self.q4_0("nextn.pre_projection.weight", 2 * self.target["embd"], h)
        self.q4_0("nextn.post_projection.weight", h, self.target["embd"])
        self.writer.add_tensor(
            "masked_embd_centroids.weight", self.rng.standard_normal((N_CENTROIDS, h), np.float32)
        )
        self.writer.add_tensor("masked_embd_ordering", self.rng.permutation(VOCAB).astype(np.int32))

    def own_layer(self, b, h):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--size", choices=SIZES, default="e2b")
    parser.add_argument("--layers", type=int, help="fewer layers, for a smaller file")
    parser.add_argument("--assistant", action="store_true", help="the drafter of that size instead")
    parser.add_argument("--tokenizer", help="a GGUF file whose vocabulary and chat template it has")
    args = parser.parse_args()
    if args.assistant:
        SyntheticAssistant(args.out, SIZES[args.size], args.tokenizer).write()
    else:
        Synthetic(args.out, SIZES[args.size], args.layers, args.tokenizer).write()


if __name__ == "__main__":
    main()
