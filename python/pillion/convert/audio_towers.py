"""The audio towers of Gemma 4: the conformer of E2B and E4B, and the frames of 12B, which go into
the text model without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ModelFileError, UnsupportedModelError
from .checkpoint import Checkpoint
from .config import n_layers, whole
from .towers import EXACT, MATRIX, Tower, Wanted, softplus
from .vision_towers import projection

_MEL_BINS, _KERNEL = 128, 5
_FEATURES = {
    "sampling_rate": 16000,
    "feature_size": _MEL_BINS,
    "frame_length": 320,
    "hop_length": 160,
    "fft_length": 512,
    "min_frequency": 0.0,
    "max_frequency": 8000.0,
    "mel_floor": 1e-3,
    "dither": 0.0,
    "preemphasis": 0.0,
    "input_scale_factor": 1.0,
    "per_bin_mean": None,
    "per_bin_stddev": None,
}
"""How readers of an mmproj file turn samples into log-mel rows; a file says nothing of it."""


class Conformer(Tower):
    """gemma4a"""

    medium, projector_type = "audio", "gemma4a"
    prefixes = ("audio_tower.", "embed_audio.")
    fixed = {
        "hidden_act": "silu",
        "conv_kernel_size": _KERNEL,
        "residual_weight": 0.5,
        "attention_chunk_size": 12,
        "attention_context_left": 13,
        "attention_context_right": 0,
        "attention_logit_cap": 50.0,
        "rms_norm_eps": 1e-6,
    }
    defaults = {
        "hidden_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "subsampling_conv_channels": [128, 32],
        "use_clipped_linears": True,
        "output_proj_dims": 1536,
    }

    def __init__(self, source: Checkpoint, config: dict[str, Any], n_embd: int) -> None:
        super().__init__(source, config, n_embd)
        self.width, self.heads = (
            self.config.whole(key) for key in ("hidden_size", "num_attention_heads")
        )
        if self.width % self.heads:
            raise ModelFileError(
                f"{source.folder}: config.json gives the audio tower {self.heads} heads, which do "
                f"not divide its width of {self.width}"
            )
        part = source.json("processor_config.json", needed=False).get("feature_extractor")
        found = part if isinstance(part, dict) else {}
        for key, value in _FEATURES.items():
            if found.get(key, value) != value:
                raise UnsupportedModelError(
                    f"{source.folder}: processor_config.json gives {key} the value "
                    f"{found[key]!r}, readers of an mmproj file take {value!r}"
                )

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        keys = self.sizes(self.width, 4 * self.width, n_layers(self.config), self.heads)
        keys["num_mel_bins"] = _MEL_BINS
        keys["attention.layer_norm_epsilon"] = self.config.number("rms_norm_eps")
        return keys

    def tensors(self) -> Iterator[Wanted]:
        width, out = self.width, self.config.whole("output_proj_dims")
        given = self.config["subsampling_conv_channels"]
        if not isinstance(given, (list, tuple)) or len(given) != 2:
            raise ModelFileError(
                f"config.json gives subsampling_conv_channels the value {given!r}, two numbers "
                f"are needed"
            )
        first, second = (whole(n, "subsampling_conv_channels", 1, 65536) for n in given)
        tower = "audio_tower.subsample_conv_projection."
        for number, channels in enumerate(((first, 1), (second, first))):
            name, placed = f"{tower}layer{number}.", f"a.conv1d.{number}."
            yield Wanted(f"{name}conv.weight", f"{placed}weight", (*channels, 3, 3))
            yield Wanted(f"{name}norm.weight", f"{placed}norm.weight", channels[:1])
        name = f"{tower}input_proj_linear.weight"
        yield Wanted(name, "a.input_projection.weight", (width, _MEL_BINS // 4 * second))
        for layer in range(n_layers(self.config)):
            yield from self._layer(f"audio_tower.layers.{layer}.", f"a.blk.{layer}.")
        name, placed = "audio_tower.output_proj.", "a.pre_encode.out."
        yield Wanted(f"{name}weight", f"{placed}weight", (out, width), MATRIX)
        yield Wanted(f"{name}bias", f"{placed}bias", (out,))
        yield projection("audio", "mm.a", self.n_embd, out)

    def _layer(self, name: str, block: str) -> Iterator[Wanted]:
        width = self.width
        yield from self._feed_forward(f"{name}feed_forward1.", block, "")
        for norm, placed in (
            ("norm_pre_attn", "attn_pre_norm"),
            ("norm_post_attn", "attn_post_norm"),
        ):
            yield Wanted(f"{name}{norm}.weight", f"{block}{placed}.weight", (width,))
        yield from self._attention(f"{name}self_attn.", block)
        yield from self._convolution(f"{name}lconv1d.", block)
        yield from self._feed_forward(f"{name}feed_forward2.", block, "_1")
        yield Wanted(f"{name}norm_out.weight", f"{block}ln2.weight", (width,))

    def _feed_forward(self, name: str, block: str, end: str) -> Iterator[Wanted]:
        width = self.width
        for norm, placed in (("pre", "ffn_norm"), ("post", "ffn_post_norm")):
            yield Wanted(
                f"{name}{norm}_layer_norm.weight", f"{block}{placed}{end}.weight", (width,)
            )
        up, down = (4 * width, width), (width, 4 * width)
        yield from self.clipped(f"{name}ffw_layer_1", f"{block}ffn_up{end}", up)
        yield from self.clipped(f"{name}ffw_layer_2", f"{block}ffn_down{end}", down)

    def _attention(self, name: str, block: str) -> Iterator[Wanted]:
        square = (self.width, self.width)
        for part in "qkv":
            yield from self.clipped(f"{name}{part}_proj", f"{block}attn_{part}", square)
        yield from self.clipped(f"{name}post", f"{block}attn_out", square)
        placed = f"{block}attn_k_rel.weight"
        yield Wanted(f"{name}relative_k_proj.weight", placed, square, MATRIX)
        scale = (self.width // self.heads,)
        yield Wanted(f"{name}per_dim_scale", f"{block}per_dim_scale.weight", scale, change=softplus)

    def _convolution(self, name: str, block: str) -> Iterator[Wanted]:
        """Files call the norm before the module conv_norm, and the one inside norm_conv."""
        width = self.width
        norms = {"pre_layer_norm": "conv_norm", "conv_norm": "norm_conv"}
        for norm, placed in norms.items():
            yield Wanted(f"{name}{norm}.weight", f"{block}{placed}.weight", (width,))
        yield from self.clipped(f"{name}linear_start", f"{block}conv_pw1", (2 * width, width))
        yield Wanted(
            f"{name}depthwise_conv1d.weight",
            f"{block}conv_dw.weight",
            (width, 1, _KERNEL),
            EXACT,
            (width, _KERNEL),
        )
        yield from self.clipped(f"{name}linear_end", f"{block}conv_pw2", (width, width))


class AudioFrames(Tower):
    """gemma4ua"""

    medium, projector_type = "audio", "gemma4ua"
    prefixes = ("embed_audio.",)
    fixed = {"rms_norm_eps": 1e-6}
    defaults = {"audio_embed_dim": 640}

    def keys(self, source: Checkpoint) -> dict[str, Any]:
        keys = self.sizes(self.config.whole("audio_embed_dim"), 0, 0, 0)
        keys["num_mel_bins"] = _MEL_BINS  # nothing depends on it, but readers ask for it
        keys["attention.layer_norm_epsilon"] = self.config.number("rms_norm_eps")
        return keys

    def tensors(self) -> Iterator[Wanted]:
        yield projection("audio", "mm.a", self.n_embd, self.config.whole("audio_embed_dim"))
