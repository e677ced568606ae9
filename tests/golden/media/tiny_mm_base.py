"""What the random text models of make_tiny_mm.py share: their tokenizer, their weights, and a
target with its assistant run step by step."""

import json
import math
import sys

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

# A torchvision wheel built for another torch (CUDA beside a CPU build) lacks its compiled
# operators; nothing here needs them, but the import stops at missing schemas.
try:
    import torchvision  # noqa: F401
except RuntimeError:
    for m in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[m]
    _ops = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _ops.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

PAD, EOS, BOS, UNK, MASK = "<pad>", "<eos>", "<bos>", "<unk>", "<mask>"
# the control tokens a Gemma 4 chat transcript uses; the real vocabulary has them too
CHAT_TOKENS = [
    "<|turn>",
    "<turn|>",
    "<|think|>",
    "<|channel>",
    "<channel|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
    "<|image|>",
    "<|audio|>",
    "<|video|>",
]
NEWLINE_RUNS = ["\n" * n for n in range(2, 9)]
BYTES = [f"<0x{b:02X}>" for b in range(256)]

SAMPLE_TEXT = """
A pillion is the seat behind the rider. The passenger looks over the shoulder of
the one who steers and guesses where the road will turn next. When the guess is
right, both lean together and lose no time; when it is wrong, the rider corrects
it and the passenger starts again from there.

The small model reads what the large model has already written down: keys and
values, the last hidden state, the last token. It owes the large model nothing
but a guess. Three guesses in a row, one check, and on to the next bend.

def verify(draft, truth):
    n = 0
    while n < len(draft) and draft[n] == truth[n]:
        n += 1
    return draft[:n] + [truth[n]]

Numbers: 0 1 2 3 4 5 6 7 8 9 10 12 16 24 32 35 42 48 60 64 100 128 256 512 1024.
Accents: caffè, naïve, Zürich, façade, señor. Other scripts: Привет мир, 東京, 안녕.

The morning was cold and the river was high. They crossed the bridge before the
sun came over the hill, and the horses were quiet in the mist. Nobody spoke.
There was nothing to say that the water was not saying already. On the far bank
the path went up between the stones and under the dark trees, and there they
stopped to eat what little bread they had and to look back at the town.
""".strip()


def train_tokenizer_json(texts, vocab_size):
    """Byte-fallback BPE in the layout Gemma tokenizers have: specials first, then
    newline runs, then the 256 byte tokens, then characters and merges, and
    `<unusedN>` filling what the merges leave."""
    head = [PAD, EOS, BOS, UNK, MASK] + CHAT_TOKENS
    n_fixed = len(head) + len(NEWLINE_RUNS) + 256
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Replace(" ", "▁")
    # merges may span words in this family, but never newlines; training on
    # words with their leading blank keeps the small vocabulary useful
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    lines = [ln for t in texts for ln in t.split("\n")]
    trainer = trainers.BpeTrainer(
        vocab_size=max(1, vocab_size - n_fixed - 1), min_frequency=2, show_progress=False
    )
    bpe.train_from_iterator(lines, trainer)
    learned = json.loads(bpe.to_str())["model"]
    pieces = [p for p, _ in sorted(learned["vocab"].items(), key=lambda kv: kv[1])]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]

    tokens = head + NEWLINE_RUNS + BYTES + ["\n"] + pieces
    # newline runs are built by ordinary merges, longest halves first
    nl = [("\n" * (n - 1), "\n") for n in range(2, 9)]
    merges = nl + merges
    assert len(tokens) <= vocab_size, (len(tokens), vocab_size)
    tokens += [f"<unused{i}>" for i in range(vocab_size - len(tokens))]
    return {t: i for i, t in enumerate(tokens)}, merges


S, A = "sliding_attention", "full_attention"


@torch.no_grad()
def randomize(model, seed, logit_std=3.0):
    """Random weights under which no stage saturates or dies out, with every norm
    weight, layer scalar and expert scale away from 1 so that a forgotten factor
    shows in the goldens."""
    g = torch.Generator().manual_seed(seed)

    def normal(shape, std):
        return torch.randn(shape, generator=g) * std

    def uniform(shape, lo, hi):
        return torch.rand(shape, generator=g) * (hi - lo) + lo

    tensors = dict(model.named_parameters())
    tensors.update({n: b for n, b in model.named_buffers() if n.endswith("layer_scalar")})
    for name, t in sorted(tensors.items()):
        if name.endswith("embed_tokens.weight"):
            v = normal(t.shape, logit_std / math.sqrt(t.shape[1]))
        elif name.endswith("embed_tokens_per_layer.weight"):
            v = normal(t.shape, 1.0 / math.sqrt(model.config.hidden_size_per_layer_input))
        elif name.endswith(("q_norm.weight", "k_norm.weight")):
            # attention scores are unscaled q.k sums: aim at a spread of about 2
            v = uniform(t.shape, 0.8, 1.2) * math.sqrt(2.0 / math.sqrt(t.shape[0]))
        elif name.endswith(
            ("norm.weight", "layernorm.weight", "layernorm_1.weight", "layernorm_2.weight")
        ):
            v = uniform(t.shape, 0.6, 1.4)
        elif name.endswith("layer_scalar"):
            v = uniform(t.shape, 0.6, 1.1)
        elif name.endswith(("router.scale", "per_expert_scale")):
            v = uniform(t.shape, 0.6, 1.4)
        elif name.endswith("router.proj.weight"):
            v = normal(t.shape, 1.5)
        elif name.endswith("centroids.weight"):
            v = normal(t.shape, 1.0 / math.sqrt(t.shape[1]))
        else:
            v = normal(t.shape, 1.0 / math.sqrt(t.shape[-1]))
        t.copy_(v)


class Pair:
    """Target and assistant driven directly, without the generation loop of
    transformers, with only committed KV rows shown to the assistant."""

    def __init__(self, target, assistant):
        self.target, self.assistant = target.eval(), assistant.eval()
        self.window = target.config.sliding_window

    @torch.no_grad()
    def run_target(self, ids):
        """Whole-sequence forward: logits [T,V], post-norm hidden [T,H], KV rows."""
        out = self.target(
            torch.tensor([list(ids)]),
            output_hidden_states=True,
            return_shared_kv_states=True,
            use_cache=False,
        )
        return dict(
            logits=out.logits[0],
            hidden=out.hidden_states[-1][0],
            layers=[h[0] for h in out.hidden_states],
            kv=out.shared_kv_states,
        )

    def kv_for_query(self, kv, p):
        """Rows with position < p; for the sliding layers also p - position < window."""
        lo = max(0, p - self.window + 1)
        return {A: tuple(t[:, :, :p] for t in kv[A]), S: tuple(t[:, :, lo:p] for t in kv[S])}

    @torch.no_grad()
    def draft(self, token, hidden, p, kv, n):
        """n greedy draft steps for the token at position p; `hidden` is the target's
        post-norm hidden state at position p-1."""
        kv = self.kv_for_query(kv, p)
        emb = self.target.get_input_embeddings()
        a = self.assistant
        res = dict(tokens=[], logits=[], dense=[], hidden=[], features=[], centroids=[])
        h = hidden.view(1, 1, -1)
        tok = int(token)
        for _ in range(n):
            x = torch.cat([emb(torch.tensor([[tok]])), h], dim=-1)
            feats = []
            hook = a.model.register_forward_hook(lambda m, i, o: feats.append(o.last_hidden_state))
            out = a(inputs_embeds=x, position_ids=torch.tensor([[p]]), shared_kv_states=kv)
            hook.remove()
            f = feats[0]
            h = out.last_hidden_state
            tok = int(out.logits.argmax(-1))
            res["tokens"].append(tok)
            res["logits"].append(out.logits[0, 0])
            res["hidden"].append(h[0, 0])
            res["features"].append(f[0, 0])
            res["dense"].append(a.lm_head(f)[0, 0])
            if a.masked_embedding is not None:
                k = a.config.centroid_intermediate_top_k
                res["centroids"].append(a.masked_embedding.centroids(f)[0, 0].topk(k).indices)
        return res
