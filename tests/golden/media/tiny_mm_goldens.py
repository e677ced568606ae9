"""Reference values of the random multimodal models, written by make_tiny_mm.py."""

import os

import numpy as np
import tiny_mm_base as base
import torch
from PIL import Image
from transformers import Gemma4UnifiedConfig

LEAD = 0.03
"""The least distance between the two best logits of every greedy choice."""


def picture(w, h, seed):
    """A deterministic RGB picture [h, w, 3]: gradients, a disc, stripes, specks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    r = 255.0 * x / max(w - 1, 1)
    g = 255.0 * y / max(h - 1, 1)
    b = 127.5 * (1 + np.sin(x / 5.0 + seed) * np.cos(y / 7.0))
    img = np.stack([r, g, b], -1)
    disc = (x - 0.6 * w) ** 2 + (y - 0.4 * h) ** 2 < (0.25 * min(w, h)) ** 2
    img[disc] = (240, 30, 60)
    img[(x // 6 + seed) % 7 == 0] *= 0.5
    img[rng.random((h, w)) < 0.02] = 255
    return np.clip(img, 0, 255).astype(np.uint8)


def sound(seconds, seed, rate=16000):
    """A deterministic mono waveform, float32 in -1..1: a chirp, a tone, pauses, noise."""
    n = int(round(seconds * rate))
    t = np.arange(n) / rate
    rng = np.random.default_rng(seed)
    x = 0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) + 0.2 * np.sin(2 * np.pi * 2500 * t)
    x *= np.sin(2 * np.pi * 1.7 * t + seed) > -0.4
    return (x + 0.01 * rng.standard_normal(n)).astype(np.float32)


PICTURES = {  # name: (width, height, seed)
    "wide": (150, 61, 1),
    "tall": (40, 131, 2),
    "exact": None,  # already of the target size: no resampling
}
SOUNDS = {  # name: (seconds, seed)
    "short": (0.71, 3),  # 11360 samples: 70 valid mel frames, 18 tokens (12b: 18)
    "long": (2.0037, 4),  # 32059 samples: 200 valid mel frames, 50 tokens (12b: 51)
}


def np32(x):
    return x.detach().to(torch.float32).numpy()


class NearTie(Exception):
    """A greedy choice too close to call in half precision, or a dull text: try another seed."""


def lead(logits):
    top = logits.topk(2, dim=-1).values
    return float((top[..., 0] - top[..., 1]).min())


class Taps:
    """outputs of named submodules during one call"""

    def __init__(self, root, names):
        self.out, self.handles = {}, []
        for n in names:
            m = root.get_submodule(n)
            self.handles.append(
                m.register_forward_hook(
                    lambda mod, i, o, n=n: self.out.__setitem__(
                        n, o[0] if isinstance(o, tuple) else o
                    )
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *e):
        for h in self.handles:
            h.remove()


class MMPair(base.Pair):
    def __init__(self, target, assistant, window):
        self.target, self.assistant, self.window = target.eval(), assistant.eval(), window

    def run_target(self, inputs):
        with torch.no_grad():
            out = self.target(
                **inputs, output_hidden_states=True, return_shared_kv_states=True, use_cache=False
            )
        return dict(logits=out.logits[0], hidden=out.hidden_states[-1][0], kv=out.shared_kv_states)


def prompts(spec):
    text = lambda t: {"type": "text", "text": t}
    img, aud = {"type": "image"}, {"type": "audio"}
    out = {"image": ([text("What is this?"), img, text("one word, please")], ["wide"], [])}
    if spec["audio"] is not None:
        out["audio"] = ([aud, text("write down what is said")], [], ["short"])
        out["mix"] = (
            [img, text("and"), img, text("and"), aud, text("which is the odd one?")],
            ["tall", "wide"],
            ["short"],
        )
    else:
        out["two"] = ([img, text("or"), img, text("?")], ["tall", "exact"], [])
    return out


def write_goldens(path, spec, target, assistant, proc, n_new=16, n_draft=4):
    """One npz.  H text width, h tower width, V vocabulary.

    img.N.rgb          [h,w,3] u8 source
    img.N.resized      [h',w',3] u8, absent: not resampled
    img.N.grid         patches across, patches down (merged patches for 12b)
    img.N.patch_embed  [P,h] rows after patch projection and position table (e2b, 31b; "wide")
    img.N.layer0       [P,h] after the first encoder layer                  (e2b, 31b; "wide")
    img.N.tower        [T,h] pooled, scaled, standardised; 12b: after the third norm
    img.N.embed        [T,H] rows that replace the placeholders
    aud.N.wave         [n] f32, 16 kHz
    aud.N.mel          [F,128] valid frames (e2b)
    aud.N.sub          [T,h] after the two convolutions and the input projection (e2b)
    aud.N.layer0       [T,h]
    aud.N.tower        [T,out] after the output projection (e2b)
    aud.N.embed        [T,H]
    P.ids              prompt ids with placeholders expanded
    P.types            0 text, 1 image, 3 audio
    P.media            names of the pictures and sounds, in order
    P.hidden           [n,H] target state after the final norm
    P.logits           [16,V] of the last 16 rows, after soft-capping
    P.greedy           16 greedy tokens
    P.draft_tokens     4 greedy draft steps for the first greedy token, committed rows only
    P.draft_hidden     [4,H] state after each step
    P.draft_logits     [4,V]
    """
    z = {}
    unified = spec["config"] is Gemma4UnifiedConfig
    ip = proc.image_processor
    side = spec["patch"] * 3
    for name, p in PICTURES.items():
        if name == "exact" and spec["patch"] == 16:
            continue  # half a megabyte that the other variants have smaller
        rgb = (
            picture(
                *p,
            )
            if p
            else picture(10 * side, 7 * side, 5)
        )  # 7 x 10 = 70 tokens exactly
        f = ip(images=[Image.fromarray(rgb)], return_tensors="pt")
        px, pos = f["pixel_values"][0], f["image_position_ids"][0]
        keep = pos[:, 0] >= 0
        gw, gh = int(pos[:, 0].max()) + 1, int(pos[:, 1].max()) + 1
        ps = side if unified else spec["patch"]
        rows = (
            px[keep]
            .numpy()
            .reshape(gh, gw, ps, ps, 3)
            .transpose(0, 2, 1, 3, 4)
            .reshape(gh * ps, gw * ps, 3)
        )
        resized = np.rint(rows * 255).astype(np.uint8)
        assert np.abs(resized / 255.0 - rows).max() < 1e-6
        z[f"img.{name}.rgb"] = rgb
        if resized.shape != rgb.shape:
            z[f"img.{name}.resized"] = resized
        z[f"img.{name}.grid"] = np.array([gw, gh], np.int32)
        with torch.no_grad():
            if unified:
                o = target.model.get_image_features(
                    f["pixel_values"], f["image_position_ids"], return_dict=True
                )
                z[f"img.{name}.tower"] = np32(
                    o.last_hidden_state[0, keep]
                    if o.last_hidden_state.ndim == 3
                    else o.last_hidden_state
                )
            else:
                vt = target.model.vision_tower
                with Taps(vt, ["patch_embedder", "encoder.layers.0"]) as taps:
                    o = target.model.get_image_features(
                        f["pixel_values"], f["image_position_ids"], return_dict=True
                    )
                if name == "wide":
                    z[f"img.{name}.patch_embed"] = np32(taps.out["patch_embedder"][0, keep])
                    z[f"img.{name}.layer0"] = np32(taps.out["encoder.layers.0"][0, keep])
                z[f"img.{name}.tower"] = np32(o.last_hidden_state)
            z[f"img.{name}.embed"] = np32(o.pooler_output[0])
        assert len(z[f"img.{name}.embed"]) == f["num_soft_tokens_per_image"][0]

    if spec["audio"] is not None:
        for name, a in SOUNDS.items():
            wave = sound(*a)
            f = proc.feature_extractor(
                [wave], return_tensors="pt"
            )  # a bare array takes a broken path
            mask = f["input_features_mask"][0].bool()
            z[f"aud.{name}.wave"] = wave
            with torch.no_grad():
                if unified:
                    o = target.model.get_audio_features(
                        f["input_features"], f["input_features_mask"], return_dict=True
                    )
                    z[f"aud.{name}.embed"] = np32(o.pooler_output[0])
                else:
                    z[f"aud.{name}.mel"] = f["input_features"][0][mask].numpy()
                    at = target.model.audio_tower
                    with Taps(at, ["subsample_conv_projection", "layers.0"]) as taps:
                        o = target.model.get_audio_features(
                            f["input_features"], f["input_features_mask"], return_dict=True
                        )
                    ok = o.attention_mask[0]
                    z[f"aud.{name}.sub"] = np32(taps.out["subsample_conv_projection"][0, ok])
                    z[f"aud.{name}.layer0"] = np32(taps.out["layers.0"][0, ok])
                    z[f"aud.{name}.tower"] = np32(o.last_hidden_state[0, ok])
                    z[f"aud.{name}.embed"] = np32(o.pooler_output[0, ok])

    pair = MMPair(target, assistant, spec["text"].sliding_window)
    for name, (content, imgs, auds) in prompts(spec).items():
        text = proc.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        kw = {}
        if imgs:
            kw["images"] = [[Image.fromarray(z[f"img.{i}.rgb"]) for i in imgs]]
        if auds:
            kw["audio"] = [z[f"aud.{a}.wave"] for a in auds]
        inputs = proc(text=[text], return_tensors="pt", add_special_tokens=False, **kw)
        ids = inputs["input_ids"][0]
        r = pair.run_target(inputs)
        T = len(ids)
        z[f"{name}.ids"] = ids.numpy().astype(np.int32)
        z[f"{name}.types"] = inputs["mm_token_type_ids"][0].numpy().astype(np.int8)
        z[f"{name}.media"] = np.array(imgs + auds)
        z[f"{name}.hidden"], z[f"{name}.logits"] = np32(r["hidden"]), np32(r["logits"][-16:])
        g = target.generate(
            **inputs,
            max_new_tokens=n_new,
            min_new_tokens=n_new,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        greedy = g.sequences[0, T:].tolist()
        assert greedy[0] == int(r["logits"][-1].argmax())
        z[f"{name}.greedy"] = np.array(greedy, np.int32)
        if lead(torch.stack(g.logits)) < LEAD or len(set(greedy)) < 4:
            raise NearTie
        d = pair.draft(greedy[0], r["hidden"][T - 1], T, r["kv"], n_draft)
        if lead(torch.stack(d["logits"])) < LEAD:
            raise NearTie
        z[f"{name}.draft_tokens"] = np.array(d["tokens"], np.int32)
        z[f"{name}.draft_hidden"] = np32(torch.stack(d["hidden"]))
        z[f"{name}.draft_logits"] = np32(torch.stack(d["logits"]))
        print(
            f"  {name}: {T} ids, {int((z[f'{name}.types'] == 1).sum())} image, "
            f"{int((z[f'{name}.types'] == 3).sum())} audio; "
            f"greedy {greedy[:6]} draft {d['tokens']}",
            flush=True,
        )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    np.savez_compressed(path, **z)
