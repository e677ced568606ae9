"""Makes the tiny models of this folder and their reference values.

    python tests/golden/make_golden.py [NAME ...] [--pair DIR]

Needs torch, transformers >= 5.24, tokenizers and numpy; the tests need none of them but numpy.
Every model gets random weights, rounded to the type its file stores; transformers then computes the
reference in float32 from the rounded weights, so the files lose nothing.

    tiny-e2b        PLE, KV-shared tail, double-wide MLP; masked head 32 x 16, top 4    BF16
    tiny-e4b-dims   head sizes 256/512, 8/2 heads, assistant 4/2; masked head, top 3    F16
    tiny-dense      V from K, fewer KV heads on full layers; dense head                 BF16
    tiny-moe        routed experts, otherwise as tiny-dense                             F16
    tiny-gemma3     Gemma 3: sliding 5:1, 1 + w norms in HF (the file holds the sum)    BF16
    tiny-llama      Llama: q/k rows permuted, llama3 RoPE scaling, own output head      F16

checkpoints/NAME is the target, checkpoints/NAME-assistant its assistant; `pillion convert` makes
NAME.gguf and NAME-assistant.gguf of them (tests/convert/test_convert.py compares).  NAME.npz is the
reference:

    tok.texts, tok.ids_I              strings and their ids (BOS included)
    long.ids, short.ids               prompts, longer and shorter than the sliding window
    long.logits                       [R,V] after soft-capping, rows long.logit_rows
    long.hidden                       [T,H] after the final norm
    long.layers                       [L+1,r,H] rows long.rows: scaled embedding, then the output of
                                      each layer; the last entry is after the final norm
    long.{k,v}_{full,swa}             [heads,r,d] rows long.rows of the cache of the last layer of
                                      the type that owns one: k after norm and RoPE, v after norm
  and for P in long, short:
    P.next                            greedy token for position T
    P.greedy, P.greedy_margin         [48] plain greedy continuation, and best minus second logit
  with an assistant also:
    P.draft_tokens, P.draft_logits    [4], [4,V] four chained greedy steps from P.next, logits with
                                      the fill value of the masked head
    P.draft_dense_logits              [4,V] through the whole vocabulary
    P.draft_features                  [4,h] assistant state after its final norm
    P.draft_hidden                    [4,H] state carried to the next step
    P.draft_centroids                 [4,k] chosen centroids, best first (masked head only)
    P.round_drafts, P.round_accepted  [n,3] (-1 filled) and [n]: rounds of greedy draft and verify
                                      that yield P.greedy, committed rows only, three drafts each
"""

import argparse
import copy
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent

FULL, SLIDING = "full_attention", "sliding_attention"
N_NEW, N_DRAFT = 48, 3
MARGIN = 2e-3  # no golden token may be decided by less: a correct float32 engine reproduces all
TEXTS = [
    "Hello world",
    " two  spaces\n\n\nand lines",
    "caffè 東京 \U0001f3cd",
    "a\tb <turn|> c",
    "def f(x):\n    return x",
]

# -- shapes --------------------------------------------------------------------


def shapes():
    """name -> (stored type, target configuration, assistant configuration or None)"""
    out = {}

    def gemma4(name, stored, target, assistant, head):
        shared = dict(vocab_size=512, max_position_embeddings=1024)
        no_ple = dict(hidden_size_per_layer_input=0, vocab_size_per_layer_input=0)
        target = {**shared, **no_ple, "final_logit_softcapping": 30.0, **target}
        n_layers = len(assistant["layer_types"])
        assistant = {
            **shared,
            **no_ple,
            **{k: target[k] for k in ("head_dim", "global_head_dim", "sliding_window")},
            "num_hidden_layers": n_layers,
            "num_kv_shared_layers": n_layers,
            **assistant,
        }
        target["num_hidden_layers"] = len(target["layer_types"])
        out[name] = (
            stored,
            hf.Gemma4TextConfig(**target),
            hf.Gemma4AssistantConfig(
                backbone_hidden_size=target["hidden_size"],
                use_ordered_embeddings=bool(head),
                num_centroids=head[0] if head else 32,
                centroid_intermediate_top_k=head[1] if head else 4,
                text_config=hf.Gemma4TextConfig(**assistant),
            ),
        )

    four = [SLIDING, SLIDING, SLIDING, FULL]
    gemma4(
        "tiny-e2b",
        "bf16",
        dict(
            hidden_size=64, intermediate_size=32, layer_types=[SLIDING, SLIDING, FULL] * 2,
            hidden_size_per_layer_input=16, vocab_size_per_layer_input=512,
            num_kv_shared_layers=3, use_double_wide_mlp=True, num_attention_heads=4,
            num_key_value_heads=1, head_dim=32, global_head_dim=64, sliding_window=16,
        ),
        dict(hidden_size=32, intermediate_size=64, layer_types=four, num_attention_heads=2,
             num_key_value_heads=1),
        (32, 4),
    )  # fmt: skip
    gemma4(
        "tiny-e4b-dims",
        "f16",
        dict(
            hidden_size=32, intermediate_size=32, layer_types=[SLIDING, FULL],
            hidden_size_per_layer_input=32, vocab_size_per_layer_input=512,
            num_attention_heads=8, num_key_value_heads=2, head_dim=256, global_head_dim=512,
            sliding_window=20,
        ),
        dict(hidden_size=32, intermediate_size=64, layer_types=[SLIDING, FULL],
             num_attention_heads=4, num_key_value_heads=2),
        (16, 3),
    )  # fmt: skip
    k_as_v = dict(
        num_attention_heads=4, num_key_value_heads=2, num_global_key_value_heads=1,
        attention_k_eq_v=True,
    )  # fmt: skip
    dense = dict(
        hidden_size=64, head_dim=32, global_head_dim=64, sliding_window=16,
        use_bidirectional_attention="vision", **k_as_v,
    )  # fmt: skip
    small = dict(hidden_size=32, intermediate_size=64, **k_as_v)
    gemma4(
        "tiny-dense",
        "bf16",
        dict(intermediate_size=96, layer_types=[SLIDING, FULL] * 2, **dense),
        dict(layer_types=four, **small),
        None,
    )
    experts = dict(enable_moe_block=True, num_experts=8, top_k_experts=3, moe_intermediate_size=32)
    gemma4(
        "tiny-moe",
        "f16",
        dict(intermediate_size=48, layer_types=[SLIDING, FULL], **dense, **experts),
        dict(layer_types=[SLIDING, FULL], **small),
        None,
    )

    gemma3 = hf.Gemma3TextConfig(
        vocab_size=512, hidden_size=48, intermediate_size=64, num_hidden_layers=7,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32,
        sliding_window=16, max_position_embeddings=1024, attn_logit_softcapping=None,
        final_logit_softcapping=None,
    )  # fmt: skip
    out["tiny-gemma3"] = ("bf16", gemma3, None)
    llama3 = dict(
        rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=64,
    )  # fmt: skip
    llama = hf.LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, rope_parameters=llama3,
        max_position_embeddings=1024, tie_word_embeddings=False, rms_norm_eps=1e-5,
        bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    out["tiny-llama"] = ("f16", llama, None)
    return out


# -- tokenizer -----------------------------------------------------------------

CHAT_TEMPLATE = (
    "{{ bos_token }}{%- for m in messages -%}"
    "{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' "
    "+ (m['content'] | trim) + '<turn|>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}"
)


def write_tokenizer(folder, vocab_size):
    """BPE with byte fallback in the order of Gemma's vocabulary: specials, newline runs, bytes,
    characters and merges learnt from the test text, and `<unusedN>` up to `vocab_size`."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|think|>"]
    specials += ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>"]
    specials += ["<|tool_response>", "<tool_response|>", '<|"|>']
    fixed = specials + ["\n" * n for n in range(2, 9)] + [f"<0x{b:02X}>" for b in range(256)]
    fixed.append("\n")
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    text = (HERE.parent / "data" / "text-en.txt").read_text("utf-8")
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(fixed), show_progress=False)
    learner.train_from_iterator(text.split("\n"), trainer)
    learnt = json.loads(learner.to_str())["model"]
    tokens = fixed + sorted(learnt["vocab"], key=learnt["vocab"].get)
    tokens += [f"<unused{i}>" for i in range(vocab_size - len(tokens))]
    assert len(tokens) == len(set(tokens)) == vocab_size
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": t, **flags} for i, t in enumerate(specials)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, sequence],
            "pair": [bos, sequence],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [["\n" * (n - 1), "\n"] for n in range(2, 9)] + learnt["merges"],
        },
    }
    names = {f"{n}_token": f"<{n}>" for n in ("pad", "eos", "bos", "unk", "mask")}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(names), "utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


# -- weights -------------------------------------------------------------------


@torch.no_grad()
def randomize(model, seed):
    """No stage saturates or dies out, and no factor is 1, so that a forgotten one shows."""
    random = torch.Generator().manual_seed(seed)
    is_gemma3 = isinstance(model, hf.Gemma3ForCausalLM)
    tensors = dict(model.named_parameters())
    tensors |= {n: b for n, b in model.named_buffers() if n.endswith("layer_scalar")}
    for name, tensor in sorted(tensors.items()):
        width = tensor.shape[-1]
        if "norm" in name or name.endswith(("layer_scalar", "router.scale", "expert_scale")):
            value = 0.6 + 0.7 * torch.rand(tensor.shape, generator=random)
            if name.endswith(("q_norm.weight", "k_norm.weight")) and not is_gemma3:
                value *= math.sqrt(2 / math.sqrt(width))  # q.k is not scaled afterwards
            if name == "model.norm.weight":  # with a tied head, tokens would repeat themselves
                value *= torch.randn(tensor.shape, generator=random).sign()
            value -= float(is_gemma3)
        else:
            spread = 1 / math.sqrt(width)
            if name.endswith(("embed_tokens.weight", "lm_head.weight")):
                spread *= 3  # of the logits
            elif name.endswith("router.proj.weight"):
                spread = 1.5
            elif name.endswith("embed_tokens_per_layer.weight"):
                spread = 1 / math.sqrt(model.config.hidden_size_per_layer_input)
            value = spread * torch.randn(tensor.shape, generator=random)
        tensor.copy_(value)


@torch.no_grad()
def round_to(model, stored):
    """Every weight becomes one that the stored type can hold."""
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16}[stored]
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.numel() > 0:
            tensor.copy_(tensor.to(dtype).to(tensor.dtype))


def fit(pair, prompts, steps=80, wrong=0.2, seed=0):
    """Lets the assistant learn the greedy text of the prompts by heart, some labels falsified,
    only so that the rounds have every acceptance length.  All positions are trained at once:
    row p-1 of a step stands for the round that starts at position p."""
    assistant, target = pair.assistant, pair.target
    vocab = target.config.vocab_size
    random = torch.Generator().manual_seed(seed)
    cases = []
    for prompt in prompts:
        ids = torch.tensor([prompt + pair.greedy(prompt)[0]])
        n = ids.shape[1]
        seen = pair.run(ids[0].tolist())
        key, query = torch.arange(n)[None, :], torch.arange(1, n)[:, None]
        before = key < query
        near = before & (query - key < pair.window)
        masks = {FULL: before[None, None], SLIDING: near[None, None]}
        falsified = torch.rand(ids.shape, generator=random) < wrong
        labels = torch.where(falsified, torch.randint(5, vocab, ids.shape, generator=random), ids)
        with torch.no_grad():
            embedded = target.get_input_embeddings()(ids)
        cases.append((seen, masks, query.T, embedded, labels[0]))
    head = assistant.masked_embedding
    if head is not None:
        cluster = torch.empty(vocab, dtype=torch.long)
        cluster[head.token_ordering.long()] = torch.arange(vocab) // head.vocab_size_per_centroid
    optimizer = torch.optim.Adam(assistant.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1, (step + 1) / 10) * (1 - step / steps)
        loss = 0
        for seen, masks, positions, embedded, labels in cases:
            state = seen["hidden"][None, :-1]
            for depth in range(N_DRAFT):
                token = F.pad(embedded[:, 1 + depth :], (0, 0, 0, depth))
                feature = assistant.model(
                    inputs_embeds=assistant.pre_projection(torch.cat([token, state], -1)),
                    attention_mask=masks,
                    position_ids=positions,
                    shared_kv_states=seen["kv"],
                    use_cache=False,
                    output_hidden_states=True,  # keeps all query rows
                ).last_hidden_state
                state = assistant.post_projection(feature)
                label = labels[2 + depth :]
                rows = feature[0, : len(label)]
                loss = loss + F.cross_entropy(assistant.lm_head(rows), label)
                if head is not None:
                    loss = loss + F.cross_entropy(head.centroids(rows), cluster[label])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(assistant.parameters(), 1.0)
        optimizer.step()


# -- reference -----------------------------------------------------------------


def best(logits):
    """(arg-max, best minus second) of one row"""
    top = logits.topk(2).values
    return int(logits.argmax()), float(top[0] - top[1])


class Pair:
    """Target and assistant driven step by step; only committed rows reach the assistant."""

    def __init__(self, target, assistant=None):
        self.target, self.assistant = target.eval(), assistant and assistant.eval()
        self.window = getattr(target.config, "sliding_window", None)
        self.types = getattr(target.config, "layer_types", None) or [FULL]

    @torch.no_grad()
    def run(self, ids):
        """Logits, hidden states, layer outputs and cache rows of a whole sequence."""
        keep = dict(output_hidden_states=True)
        if isinstance(self.target, hf.Gemma4ForCausalLM):
            keep |= dict(return_shared_kv_states=True, use_cache=False)
        else:
            keep |= dict(cache=hf.DynamicCache(), use_cache=True)
        out = self.target(torch.tensor([ids]), **keep)
        kv = getattr(out, "shared_kv_states", None)
        if kv is None:
            layers = keep["cache"].layers
            kinds = self.types * (1 if len(self.types) > 1 else len(layers))
            last = {kind: i for i, kind in enumerate(kinds)}
            kv = {kind: (layers[i].keys, layers[i].values) for kind, i in last.items()}
        layers = torch.stack(out.hidden_states)[:, 0]
        return dict(logits=out.logits[0], hidden=layers[-1], layers=layers, kv=kv)

    def greedy(self, prompt):
        """N_NEW tokens and their margins."""
        ids, margins = list(prompt), []
        for _ in range(N_NEW):
            token, margin = best(self.run(ids)["logits"][-1])
            ids.append(token)
            margins.append(margin)
        return ids[len(prompt) :], margins

    @torch.no_grad()
    def draft(self, token, hidden, position, kv, n):
        """n chained greedy steps for `token` at `position`; `hidden` belongs to the one before."""
        first = max(0, position - self.window + 1)
        kv = {
            FULL: tuple(t[:, :, :position] for t in kv[FULL]),
            SLIDING: tuple(t[:, :, first:position] for t in kv[SLIDING]),
        }
        embed, assistant = self.target.get_input_embeddings(), self.assistant
        head = assistant.masked_embedding
        names = ("tokens", "logits", "dense_logits", "features", "hidden", "centroids", "margins")
        out = {name: [] for name in names}
        state, features = hidden[None, None], []
        hook = assistant.model.register_forward_hook(lambda m, i, o: features.append(o[0]))
        for _ in range(n):
            pair = torch.cat([embed(torch.tensor([[token]])), state], -1)
            step = assistant(
                inputs_embeds=pair, position_ids=torch.tensor([[position]]), shared_kv_states=kv
            )
            state, feature = step.last_hidden_state, features[-1]
            token, margin = best(step.logits[0, 0])
            if head is not None:
                k = assistant.config.centroid_intermediate_top_k
                scores, chosen = head.centroids(feature)[0, 0].topk(k + 1)
                margin = min(margin, float(scores[-2] - scores[-1]))
                out["centroids"].append(chosen[:k])
            out["tokens"].append(token)
            out["margins"].append(margin)
            out["logits"].append(step.logits[0, 0])
            out["dense_logits"].append(assistant.lm_head(feature)[0, 0])
            out["features"].append(feature[0, 0])
            out["hidden"].append(state[0, 0])
        hook.remove()
        return out

    def rounds(self, prompt):
        """Greedy draft and verify: tokens, [(drafts, accepted)], smallest margin."""
        ids = list(prompt)
        seen = self.run(ids)
        last, least = best(seen["logits"][-1])
        out, records = [last], []
        while len(out) < N_NEW:
            n = len(ids)
            count = min(N_DRAFT, N_NEW - len(out) - 1)
            drafts = []
            if count > 0:
                d = self.draft(last, seen["hidden"][n - 1], n, seen["kv"], count)
                drafts, least = d["tokens"], min(least, *d["margins"])
            seen = self.run(ids + [last] + drafts)
            truth = [best(row)[0] for row in seen["logits"][n:]]
            accepted = 0
            while accepted < len(drafts) and drafts[accepted] == truth[accepted]:
                accepted += 1
            ids += [last, *drafts[:accepted]]
            last = truth[accepted]
            out += [*drafts[:accepted], last]
            records.append((drafts, accepted))
        return out, records, least


def expert_margin(target, ids):
    """How clearly every expert choice is made, as a difference of log probabilities."""
    if not getattr(target.config, "enable_moe_block", False):
        return math.inf
    k, margins = target.config.top_k_experts, []

    def watch(module, inputs, output):
        top = output[0].log().topk(k + 1).values
        margins.append(float((top[:, -2] - top[:, -1]).min()))

    hooks = [layer.router.register_forward_hook(watch) for layer in target.model.layers]
    with torch.no_grad():
        target(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return min(margins)


def chosen_rows(n, window):
    """First rows, both sides of the window's edge, last rows."""
    edge = window or n // 2
    return sorted({0, 1, edge - 1, edge, edge + 1, n - 2, n - 1})


def reference(pair, prompts, tokenizer):
    """The arrays of the npz, and the smallest margin that decided a token."""
    z = {"tok.texts": np.array(TEXTS)}
    for i, text in enumerate(TEXTS):
        z[f"tok.ids_{i}"] = np.array(tokenizer.encode(text).ids, np.int32)
    least = math.inf
    for name, ids in prompts.items():
        seen, n = pair.run(ids), len(ids)
        z[f"{name}.ids"] = np.array(ids, np.int32)
        if name == "long":
            rows = chosen_rows(n, pair.window)
            z["long.rows"], z["long.logit_rows"] = np.array(rows), np.arange(n)
            z["long.logits"], z["long.hidden"] = seen["logits"].numpy(), seen["hidden"].numpy()
            z["long.layers"] = seen["layers"][:, rows].numpy()
            for kind, short in ((FULL, "full"), (SLIDING, "swa")):
                if kind in seen["kv"]:
                    k, v = (t[0][:, rows].numpy() for t in seen["kv"][kind])
                    z[f"long.k_{short}"], z[f"long.v_{short}"] = k, v
        greedy, margins = pair.greedy(ids)
        assert greedy == transformers_greedy(pair.target, ids)
        least = min(least, *margins)
        z[f"{name}.next"] = np.int32(greedy[0])
        z[f"{name}.greedy"] = np.array(greedy, np.int32)
        z[f"{name}.greedy_margin"] = np.array(margins, np.float32)
        if pair.assistant is None:
            continue
        draft = pair.draft(greedy[0], seen["hidden"][n - 1], n, seen["kv"], N_DRAFT + 1)
        least = min(least, *draft.pop("margins"))
        z[f"{name}.draft_tokens"] = np.array(draft.pop("tokens"), np.int32)
        for key, values in draft.items():
            if values:
                stacked = torch.stack(values).numpy()
                z[f"{name}.draft_{key}"] = (
                    stacked.astype(np.int32) if key == "centroids" else stacked
                )
        tokens, records, margin = pair.rounds(ids)
        assert tokens == greedy, "draft and verify must not change the text"
        assert greedy == transformers_greedy(pair.target, ids, pair.assistant)
        least = min(least, margin)
        filled = [drafts + [-1] * (N_DRAFT - len(drafts)) for drafts, _ in records]
        z[f"{name}.round_drafts"] = np.array(filled, np.int32)
        z[f"{name}.round_accepted"] = np.array([m for _, m in records], np.int32)
    return z, least


def transformers_greedy(target, ids, assistant=None):
    x = torch.tensor([ids])
    options = dict(max_new_tokens=N_NEW, min_new_tokens=N_NEW, do_sample=False)
    if assistant is not None:
        assistant.generation_config.num_assistant_tokens = N_DRAFT
        options["assistant_model"] = assistant
    return target.generate(x, attention_mask=torch.ones_like(x), **options)[0, len(ids) :].tolist()


# -- files ---------------------------------------------------------------------


def make_model(config, seed, stored):
    kinds = {
        hf.Gemma4TextConfig: hf.Gemma4ForCausalLM,
        hf.Gemma4AssistantConfig: hf.Gemma4AssistantForCausalLM,
        hf.Gemma3TextConfig: hf.Gemma3ForCausalLM,
        hf.LlamaConfig: hf.LlamaForCausalLM,
    }
    model = kinds[type(config)](config).to(torch.float32)
    randomize(model, seed)
    round_to(model, stored)
    model.generation_config.eos_token_id = None  # these models speak no language: never stop
    return model


def build(name, stored, target_config, assistant_config, seed):
    """Writes the files of one name.  False when this seed leaves a token too close to call."""
    random = torch.Generator().manual_seed(seed + 3)
    window = getattr(target_config, "sliding_window", None) or 16
    lengths = {"long": 2 * window + 7, "short": window // 2}
    vocab = target_config.vocab_size
    prompts = {
        key: [2] + torch.randint(5, vocab, (length,), generator=random).tolist()
        for key, length in lengths.items()
    }
    pair = Pair(make_model(target_config, seed, stored))
    texts = [prompt + pair.greedy(prompt)[0] for prompt in prompts.values()]
    if min(expert_margin(pair.target, text) for text in texts) < MARGIN:
        return False
    if assistant_config is not None:
        pair.assistant = make_model(assistant_config, seed + 1, stored)
        if (head := pair.assistant.masked_embedding) is not None:
            head.token_ordering.copy_(torch.randperm(vocab, generator=random))
        fit(pair, prompts.values(), seed=seed)
        round_to(pair.assistant.eval(), stored)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = write_tokenizer(folder, vocab)
        arrays, margin = reference(pair, prompts, tokenizer)
        accepted = [arrays.get(f"{p}.round_accepted", np.arange(4)) for p in prompts]
        if margin < MARGIN or set(np.concatenate(accepted)) != set(range(N_DRAFT + 1)):
            return False
    write_model(pair.target, name, stored, vocab)
    if pair.assistant is not None:
        write_model(pair.assistant, f"{name}-assistant", stored, vocab)
    np.savez_compressed(HERE / f"{name}.npz", **arrays)
    rounds = {p: a.tolist() for p, a in zip(prompts, accepted, strict=True)}
    print(f"{name}: seed {seed}, smallest margin {margin:.4f}, accepted {rounds}", flush=True)
    return True


def write_model(model, name, stored, vocab):
    """Saves checkpoints/NAME, tokenizer included, in the stored type; make_gguf.py converts it."""
    folder = HERE / "checkpoints" / name
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, vocab)
    kinds = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    copy.deepcopy(model).to(kinds[stored]).save_pretrained(folder)


def reduce_pair(folder):
    """tiny-pair.npz: the reference of the trained pair, with fewer rows.  Keys as above, but 64
    greedy tokens; greedy_margin is recomputed from the weights in `folder`/target."""
    full = dict(np.load(folder / "goldens.npz"))
    target = hf.Gemma4ForCausalLM.from_pretrained(folder / "target", dtype=torch.float32)
    n = len(full["long.ids"])
    rows = chosen_rows(n, target.config.sliding_window)
    logit_rows = sorted({*range(0, n, 8), *rows})
    full["long.rows"], full["long.logit_rows"] = np.array(rows), np.array(logit_rows)
    full["long.logits"] = full["long.logits"][logit_rows]
    for key in ("layers", "k_full", "v_full", "k_swa", "v_swa"):
        full[f"long.{key}"] = full[f"long.{key}"][:, rows]
    pair = Pair(target)
    for prompt in ("long", "short"):
        ids, greedy = full[f"{prompt}.ids"].tolist(), full[f"{prompt}.greedy"].tolist()
        rows = pair.run(ids + greedy)["logits"][len(ids) - 1 : -1]
        assert [best(row)[0] for row in rows] == greedy
        full[f"{prompt}.greedy_margin"] = np.array([best(row)[1] for row in rows], np.float32)
    np.savez_compressed(HERE / "tiny-pair.npz", **full)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="models to make, all by default")
    parser.add_argument(
        "--pair", type=Path, help="folder of the trained pair: make only tiny-pair.npz"
    )
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    hf.utils.logging.disable_progress_bar()
    if args.pair:
        reduce_pair(args.pair)
        return
    for number, (name, shape) in enumerate(shapes().items()):
        if args.names and name not in args.names:
            continue
        seeds = range(1000 * (number + 1), 1000 * (number + 2), 10)
        if not any(build(name, *shape, seed) for seed in seeds):
            sys.exit(f"error: no seed of {name} has clear margins")


if __name__ == "__main__":
    main()
