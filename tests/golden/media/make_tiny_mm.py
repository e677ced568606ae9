#!/usr/bin/env python3
"""Build tiny random Gemma 4 checkpoints with vision and audio towers, and goldens.

    python make_tiny_mm.py --out DIR [--only NAME ...]

Needs torch, torchvision, transformers (5.24, with `gemma4`, `gemma4_unified`, `gemma4_assistant`),
Pillow and numpy; the tests need none of them but numpy and Pillow. pack.py puts the result here.
Everything runs in float32 on the CPU and is determined by seeds.

For every variant NAME:

    DIR/NAME/             target checkpoint: config, safetensors (BF16), tokenizer, processor
    DIR/NAME-assistant/   assistant checkpoint (random, dense head)
    DIR/goldens/NAME.npz  goldens, see `write_goldens`

Variants

    tiny-mm-e2b   like E2B/E4B: vision and audio towers with clipped linears,
                  PLE, KV-shared tail, causal everywhere
    tiny-mm-31b   like 26B-A4B/31B: vision only, standardised, no clipping, an odd
                  number of rotation pairs per axis (9, as 72/4/2 in the real one) and
                  an FFN width that is no multiple of 32; bidirectional image
                  blocks on the sliding layers
    tiny-mm-12b   the encoder-free "unified" model: patches of 3*patch pixels and raw
                  waveform frames; bidirectional as 31b

All weights are rounded to BF16 before anything is computed, so the file holds
exactly what the goldens were made with.
"""

import argparse
import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tiny_mm_base as base
import torch
from tiny_mm_goldens import NearTie, write_goldens

from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4AudioConfig,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessorPil,
    Gemma4Processor,
    Gemma4TextConfig,
    Gemma4UnifiedAudioConfig,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Gemma4UnifiedImageProcessor,
    Gemma4UnifiedProcessor,
    Gemma4UnifiedTextConfig,
    Gemma4UnifiedVideoProcessor,
    Gemma4UnifiedVisionConfig,
    Gemma4VideoProcessor,
    Gemma4VisionConfig,
    GemmaTokenizer,
)

S, A = base.S, base.A
VOCAB = 640
FIRST_SEED = {
    "tiny-mm-e2b": 5011,
    "tiny-mm-31b": 5101,
    "tiny-mm-12b": 5211,
}  # found by the rule in `write_goldens`
WORD = 0.7  # size of scaled word rows; with larger ones the greedy text repeats itself

# --------------------------------------------------------------------------
# tokenizer and processor
# --------------------------------------------------------------------------

MM_TOKENS = ["<|image>", "<image|>", "<|audio>", "<audio|>"]
SPECIAL = dict(
    image_token="<|image|>",
    boi_token="<|image>",
    eoi_token="<image|>",
    audio_token="<|audio|>",
    boa_token="<|audio>",
    eoa_token="<audio|>",
)

# text parts are trimmed, media parts become their one placeholder
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- for m in messages -%}"
    "{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' }}"
    "{%- if m['content'] is string -%}{{ m['content'] | trim }}"
    "{%- else -%}{%- for c in m['content'] -%}"
    "{%- if c['type'] == 'text' -%}{{ c['text'] | trim }}"
    "{%- elif c['type'] in ('image', 'audio', 'video') -%}{{ '<|' + c['type'] + '|>' }}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<turn|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|turn>model\\n' }}{%- endif -%}"
)


def make_tokenizer():
    base.CHAT_TOKENS[:] = [t for t in base.CHAT_TOKENS if t not in MM_TOKENS] + MM_TOKENS
    vocab, merges = base.train_tokenizer_json([base.SAMPLE_TEXT], VOCAB)
    tok = GemmaTokenizer(
        vocab=vocab,
        merges=merges,
        add_bos_token=True,
        extra_special_tokens={
            **SPECIAL,
            **{
                f"chat{i}_token": t
                for i, t in enumerate(base.CHAT_TOKENS)
                if t not in SPECIAL.values()
            },
        },
    )
    tok.chat_template = CHAT_TEMPLATE
    assert len(tok) == VOCAB, len(tok)
    return tok


def token_ids(tok):
    i = tok.convert_tokens_to_ids
    return dict(
        boi_token_id=i("<|image>"),
        eoi_token_id=i("<image|>"),
        image_token_id=i("<|image|>"),
        boa_token_id=i("<|audio>"),
        eoa_token_index=i("<audio|>"),
        audio_token_id=i("<|audio|>"),
        video_token_id=i("<|video|>"),
    )


# --------------------------------------------------------------------------
# configurations
# --------------------------------------------------------------------------


def variants():
    out = {}
    text = dict(
        vocab_size=VOCAB,
        max_position_embeddings=2048,
        final_logit_softcapping=30.0,
        hidden_size=64,
        sliding_window=24,
        head_dim=32,
        global_head_dim=64,
    )
    dense = dict(
        text,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        intermediate_size=96,
        num_hidden_layers=6,
        layer_types=[S, S, A] * 2,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_global_key_value_heads=2,
        attention_k_eq_v=True,
        use_bidirectional_attention="vision",
    )
    helper = dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        head_dim=32,
        global_head_dim=64,
        max_position_embeddings=2048,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        sliding_window=24,
        num_hidden_layers=4,
        num_kv_shared_layers=4,
        layer_types=[S, S, S, A],
    )

    out["tiny-mm-e2b"] = dict(
        cls=Gemma4ForConditionalGeneration,
        patch=16,
        text=Gemma4TextConfig(
            vocab_size_per_layer_input=VOCAB,
            hidden_size_per_layer_input=16,
            intermediate_size=96,
            num_hidden_layers=6,
            layer_types=[S, S, A] * 2,
            num_kv_shared_layers=3,
            use_double_wide_mlp=True,
            num_attention_heads=4,
            num_key_value_heads=1,
            **text,
        ),
        vision=Gemma4VisionConfig(
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=16,
            position_embedding_size=224,
            use_clipped_linears=True,
        ),
        audio=Gemma4AudioConfig(
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            subsampling_conv_channels=[128, 8],
            output_proj_dims=80,
        ),
        config=Gemma4Config,
        assistant=Gemma4TextConfig(num_attention_heads=2, num_key_value_heads=1, **helper),
    )

    out["tiny-mm-31b"] = dict(
        cls=Gemma4ForConditionalGeneration,
        patch=8,
        text=Gemma4TextConfig(**dense),
        vision=Gemma4VisionConfig(
            patch_size=8,
            hidden_size=72,
            intermediate_size=112,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=36,
            position_embedding_size=224,
            standardize=True,
        ),
        audio=None,
        config=Gemma4Config,
        assistant=Gemma4TextConfig(
            num_attention_heads=8,
            num_key_value_heads=4,
            num_global_key_value_heads=2,
            attention_k_eq_v=True,
            **helper,
        ),
    )

    unified = {
        k: v
        for k, v in dense.items()
        if k not in ("hidden_size_per_layer_input", "vocab_size_per_layer_input")
    }
    out["tiny-mm-12b"] = dict(
        cls=Gemma4UnifiedForConditionalGeneration,
        patch=8,
        text=Gemma4UnifiedTextConfig(
            moe_intermediate_size=None, **unified
        ),  # the converter of llama.cpp asks for it
        # no hidden layers here; mm_embed_dim and output_proj_dims equal the text width
        vision=Gemma4UnifiedVisionConfig(
            patch_size=8, mm_embed_dim=64, mm_posemb_size=80, output_proj_dims=64
        ),
        audio=Gemma4UnifiedAudioConfig(),
        config=Gemma4UnifiedConfig,
        assistant=Gemma4TextConfig(
            num_attention_heads=8,
            num_key_value_heads=4,
            num_global_key_value_heads=2,
            attention_k_eq_v=True,
            **helper,
        ),
    )
    return out


def make_processor(spec, tok):
    if spec["config"] is Gemma4UnifiedConfig:
        return Gemma4UnifiedProcessor(
            feature_extractor=Gemma4UnifiedAudioFeatureExtractor(),
            image_processor=Gemma4UnifiedImageProcessor(
                patch_size=spec["patch"], max_soft_tokens=70
            ),
            video_processor=Gemma4UnifiedVideoProcessor(
                patch_size=spec["patch"], max_soft_tokens=70
            ),
            tokenizer=tok,
            chat_template=CHAT_TEMPLATE,
            image_seq_length=70,
        )
    return Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessorPil(patch_size=spec["patch"], max_soft_tokens=70),
        video_processor=Gemma4VideoProcessor(patch_size=spec["patch"], max_soft_tokens=70),
        tokenizer=tok,
        chat_template=CHAT_TEMPLATE,
        image_seq_length=70,
    )


# --------------------------------------------------------------------------
# weights
# --------------------------------------------------------------------------


@torch.no_grad()
def randomize_towers(model, seed):
    """What make_tiny_hf.randomize does not know: buffers, convolutions, tables, biases.
    Clip ranges are drawn so that each of them bites on a few percent of the values."""
    g = torch.Generator().manual_seed(seed)

    def normal(shape, std):
        return torch.randn(shape, generator=g) * std

    def uniform(shape, lo, hi):
        return torch.rand(shape, generator=g) * (hi - lo) + lo

    tensors = dict(model.named_parameters())
    tensors.update(
        {
            n: b
            for n, b in model.named_buffers()
            if n.endswith(("_min", "_max", "std_bias", "std_scale"))
        }
    )
    for name, t in sorted(tensors.items()):
        v = None
        if "language_model" in name or name == "lm_head.weight":
            continue
        if name.endswith(("input_min", "output_min")):
            v = -uniform(t.shape, 1.2, 2.2)
        elif name.endswith(("input_max", "output_max")):
            v = uniform(t.shape, 1.2, 2.2)
        elif name.endswith("std_bias"):
            v = normal(t.shape, 4.0)
        elif name.endswith("std_scale"):
            v = uniform(t.shape, 0.05, 0.2)
        elif name.endswith(("position_embedding_table", "pos_embedding")):
            v = normal(t.shape, 0.5)
        elif name.endswith("per_dim_scale"):
            v = normal(t.shape, 0.5)
        elif name.endswith(".conv.weight"):
            v = normal(t.shape, 1.0 / (t.shape[1] * 9) ** 0.5)
        elif name.endswith("depthwise_conv1d.weight"):
            v = normal(t.shape, 0.5)
        elif name.endswith(".bias"):
            v = normal(t.shape, 0.3)
        elif name.endswith(("patch_ln1.weight", "patch_ln2.weight", "pos_norm.weight")):
            v = uniform(t.shape, 0.6, 1.4)
        elif name.endswith("embedding_projection.weight"):
            v = normal(t.shape, WORD / t.shape[-1] ** 0.5)  # soft tokens about as large as words
        if v is not None:
            t.copy_(v)


@torch.no_grad()
def round_bf16(model):
    for t in list(model.parameters()) + list(model.buffers()):
        if t.is_floating_point():
            t.copy_(t.to(torch.bfloat16).to(t.dtype))


def build_models(spec, tok, seed):
    mm = {"vision_config": spec["vision"], "audio_config": spec["audio"]}
    cfg = spec["config"](text_config=spec["text"], **mm, **token_ids(tok))
    target = spec["cls"](cfg).eval()
    for i, (_, part) in enumerate(sorted(target.model.named_children())):
        base.randomize(part, seed + 10 * i, logit_std=WORD)
    randomize_towers(target, seed + 7)
    with torch.no_grad():
        target.model.language_model.norm.weight *= 4  # clear leads in spite of small words
    round_bf16(target)
    target.generation_config.eos_token_id = None  # never stop early while making goldens
    acfg = Gemma4AssistantConfig(
        backbone_hidden_size=spec["text"].hidden_size,
        use_ordered_embeddings=False,
        text_config=spec["assistant"],
    )
    assistant = Gemma4AssistantForCausalLM(acfg).eval()
    base.randomize(assistant, seed + 1)
    round_bf16(assistant)
    return target, assistant


def mend_unified_masks():
    """transformers 5.24 still gives the unified model the mask Gemma 4 had before its PR 46850
    (image blocks bidirectional on all layers and beyond the window) unless a static cache is
    used.  Make its ordinary path build what its static path, `gemma4` and the original
    implementation build: full layers causal, sliding layers (causal or same image) and window."""
    from transformers.models.gemma4_unified import modeling_gemma4_unified as m

    plain = m.create_masks_for_generate

    def masks(block_sequence_ids=None, **kw):
        if (
            block_sequence_ids is None
            or kw["inputs_embeds"].shape[1] != block_sequence_ids.shape[1]
        ):
            return plain(**kw)
        return m.create_masks_for_vision_model(block_sequence_ids=block_sequence_ids, **kw)

    m.create_masks_for_generate = masks


def save(model, tok, path, processor=None):
    model.to(torch.bfloat16).save_pretrained(
        path
    )  # also rounds the rotary tables: load it again to use it
    (processor or tok).save_pretrained(path)
    if processor is not None:
        tok.save_pretrained(path)


def build(name, spec, out, seed):
    print(f"  seed {seed}", flush=True)
    tok = make_tokenizer()
    proc = make_processor(spec, tok)
    target, assistant = build_models(spec, tok, seed)
    save(assistant, tok, os.path.join(out, name + "-assistant"))
    d = os.path.join(out, name)
    target.generation_config.eos_token_id = [1, tok.convert_tokens_to_ids("<turn|>")]
    save(target, tok, d, proc)
    # read back what was written: the goldens belong to the file
    target = spec["cls"].from_pretrained(d, dtype=torch.float32, attn_implementation="eager").eval()
    assistant = Gemma4AssistantForCausalLM.from_pretrained(
        d + "-assistant", dtype=torch.float32
    ).eval()
    target.generation_config.eos_token_id = None
    write_goldens(os.path.join(out, "goldens", f"{name}.npz"), spec, target, assistant, proc)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--out", required=True)
    ap.add_argument("--only", nargs="*")
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    mend_unified_masks()
    for name in variants():
        if args.only and name not in args.only:
            continue
        t0 = time.time()
        print(name, flush=True)
        for seed in range(FIRST_SEED[name], FIRST_SEED[name] + 99):
            try:
                build(name, variants()[name], args.out, seed)
                break
            except NearTie:
                pass
        print(f"  done in {time.time() - t0:.0f} s", flush=True)


if __name__ == "__main__":
    main()
