"""What transformers reads in a checkpoint, and computes from it. Needs torch and transformers.

Keys and values are rounded to f16, as pillion's cache holds them: else every expert that is chosen
by little differs."""

import importlib
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers as hf

hf.utils.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

_MODULES = ("llama", "gemma3", "gemma4", "gemma4_unified")
EXPERT_MARGIN = 1e-3  # experts that are chosen by less may differ between two float32 engines


def _round_the_cache(module):
    plain = module.eager_attention_forward

    def rounded(layer, query, key, value, *arguments, **options):
        return plain(layer, query, key.half().float(), value.half().float(), *arguments, **options)

    module.eager_attention_forward = rounded


for _name in _MODULES:
    _round_the_cache(importlib.import_module(f"transformers.models.{_name}.modeling_{_name}"))


class Unreadable(Exception):
    """transformers itself does not read it."""


def shapes_of(folder):
    """{name: shape} of the class that config.json names; raises Unreadable."""
    try:
        config = hf.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model = hf.AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    towers = ("vision", "audio", "embed_vision", "embed_audio", "multi_modal")
    found = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        name: shape
        for name, shape in found.items()
        if not name.removeprefix("model.").startswith(towers)
    }


def load(folder):
    model = hf.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    return model


@torch.no_grad()
def logits_of(folder, ids):
    """([tokens, vocabulary], how clearly every expert was chosen)."""
    model, margins = load(folder), [np.inf]
    routers = [module for name, module in model.named_modules() if name.endswith(".router")]

    def watch(module, _, output):
        k, n = module.config.top_k_experts, module.config.num_experts
        if k < n:
            top = output[0].log().topk(k + 1).values
            margins.append(float((top[:, -2] - top[:, -1]).min()))

    for router in routers:
        router.register_forward_hook(watch)
    logits = model(
        input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True
    ).logits[0]
    return logits.float().numpy(), min(margins)


@torch.no_grad()
def drafts_of(target_folder, assistant_folder, ids, n):
    """(token for the next position, [(token, logits, state, clear)] of n chained greedy steps from
    it). clear: neither the token nor a centroid was chosen by little. The rows that a step sees:
    docs of tests/golden/make_golden.py, Pair.draft."""
    target, assistant = load(target_folder), load(assistant_folder)
    out = target(
        torch.tensor([ids]),
        output_hidden_states=True,
        return_shared_kv_states=True,
        use_cache=False,
    )
    position, window = len(ids), target.config.sliding_window
    first = {"full_attention": 0, "sliding_attention": max(0, position - window + 1)}
    kv = {
        kind: tuple(t[:, :, first[kind] : position] for t in rows)
        for kind, rows in out.shared_kv_states.items()
    }
    head, features = assistant.masked_embedding, []
    assistant.model.register_forward_hook(lambda module, inputs, output: features.append(output[0]))
    start = token = int(out.logits[0, -1].argmax())
    state, found = out.hidden_states[-1][:, -1:], []
    for _ in range(n):
        pair = torch.cat([target.get_input_embeddings()(torch.tensor([[token]])), state], -1)
        step = assistant(
            inputs_embeds=pair, position_ids=torch.tensor([[position]]), shared_kv_states=kv
        )
        state, logits = step.last_hidden_state, step.logits[0, 0]
        margins = [float(logits.topk(2).values.diff().abs())]
        if head is not None:
            scores = (
                head.centroids(features[-1])[0, 0]
                .topk(assistant.config.centroid_intermediate_top_k + 1)
                .values
            )
            margins.append(float(scores[-2] - scores[-1]))
        token = int(logits.argmax())
        found.append((token, logits.numpy(), state[0, 0].numpy(), min(margins) > EXPERT_MARGIN))
    return start, found
