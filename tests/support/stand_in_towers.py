"""Towers that write down what they were given: rows of another picture are other rows."""

import numpy as np

import pillion
from pillion.media.budget import SIDE


class StandIn(pillion.Mmproj):
    """An mmproj without a file. Rows tell what they are rows of."""

    def __init__(self, path, n_embd, vision=True, audio="gemma4a"):
        self.path = str(path)
        self._vision, self._audio, self._width = vision, audio, n_embd
        self.encoded = []
        self.is_closed = False

    def describe(self):
        return {"vision": {"projector": "gemma4v"} if self._vision else None,
                "audio": {"projector": self._audio} if self._audio else None}  # fmt: skip

    image_tokens = 280
    has_vision = property(lambda self: self._vision)
    has_audio = property(lambda self: self._audio is not None)
    n_embd = property(lambda self: self._width)
    closed = property(lambda self: self.is_closed)

    def image_grid(self, height, width, image_tokens=280):
        scale = (image_tokens * SIDE**2 / (height * width)) ** 0.5
        return int(scale * height / SIDE), int(scale * width / SIDE)

    def encode_image(self, rgb, image_tokens=280):
        self.encoded.append(("image", rgb.shape, image_tokens))
        rows, cols = self.image_grid(*rgb.shape[:2], image_tokens)
        return self._rows(rows * cols, rgb)

    def audio_tokens(self, n_samples):
        frames = (n_samples - 161) // 160 + 1 if n_samples > 160 else 0
        return -(-(-(-frames // 2)) // 2)

    def encode_audio(self, samples):
        self.encoded.append(("audio", len(samples)))
        return self._rows(self.audio_tokens(len(samples)), samples)

    def _rows(self, n, of):
        random = np.random.default_rng(abs(int(1e4 * float(of.mean(dtype=np.float64)))))
        return random.standard_normal((n, self._width)).astype(np.float32)

    def close(self):
        self.is_closed = True
