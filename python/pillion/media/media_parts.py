"""The images and sounds in the content of messages, by all the names that clients have for them.

| part | of |
| --- | --- |
| {"type": "image_url", "image_url": {"url": …, "detail": …}} | OpenAI's chat |
| {"type": "input_audio", "input_audio": {"data": base64, "format": …}} | OpenAI's chat |
| {"type": "input_image", "image_url": …, "detail": …} | OpenAI's responses |
| {"type": "image", "image": …}, also "url", "path", "base64" | transformers |
| {"type": "audio", "audio": …}, also "url", "path", "base64" | transformers |
| {"type": "audio_url", "audio_url": {"url": …}} | vLLM |

"image_tokens" beside the type is the image's budget. "strict": True beside a sound's type refuses a
sound that the model would hear in several pieces.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..arguments import check_bool, shown
from ..errors import MediaError
from .budget import ImageTokens, budget_of_detail, checked_budget
from .images import Pixels, read_image
from .media_limits import MEDIA_MAX
from .sounds import Samples, read_sound
from .sources import base64_bytes, bytes_of

IMAGE: Final = "image"
AUDIO: Final = "audio"

_KINDS = {
    "image_url": IMAGE,
    "input_image": IMAGE,
    "image": IMAGE,
    "audio_url": AUDIO,
    "input_audio": AUDIO,
    "audio": AUDIO,
}


@dataclass(frozen=True)
class MediaPart:
    """An image or a sound of a message, not decoded yet."""

    kind: str
    """ "image" or "audio"."""
    name: str
    """Names it in sentences."""
    source: Any
    """What `read_image` or `read_sound` take."""
    is_base64: bool = False
    """`source` is base64 without a URL."""
    image_tokens: ImageTokens | None = None
    """The budget of this image; None: that of the LLM."""
    strict: bool = False
    """A sound in several pieces is an error."""
    rate: int | None = None
    """Samples a second, where the source is an array."""

    def loaded(self, files: bool) -> Any:
        """The bytes of its file; an image of Pillow or an array as it is. files: False: paths are
        refused. Raises `MediaError`."""
        if self.is_base64:
            return base64_bytes(self.name, self.source)
        if isinstance(self.source, (str, bytes, bytearray, memoryview, os.PathLike)) or not files:
            return bytes_of(self.name, self.source, files)
        return self.source

    def pixels(self, source: Any) -> Pixels:
        """The image, decoded. source: what `loaded` gave."""
        return read_image(source, name=self.name)

    def samples(self, source: Any) -> Samples:
        """The sound, decoded, as `pixels`."""
        return read_sound(source, rate=self.rate, name=self.name)


def has_media(value: Any) -> bool:
    """True if messages, or the parts of a prompt, hold an image or a sound. Anything that is no
    conversation has none."""
    return any(_is_medium(one) or any(map(_is_medium, _content(one))) for one in _listed(value))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _content(message: Any) -> Sequence[Any]:
    return _listed(message.get("content")) if isinstance(message, Mapping) else ()


def _is_medium(part: Any) -> bool:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and kind in _KINDS


def media_part(where: str, part: Mapping[str, Any]) -> MediaPart | None:
    """The image or sound of a content part; None: it is none of both. where: the message, for
    sentences. Raises `MediaError` and `UsageError` for one that is not complete."""
    said = part.get("type")
    kind = _KINDS.get(said) if isinstance(said, str) else None
    if kind is None:
        return None
    name = f"the {'image' if kind == IMAGE else 'sound'} of {where}"
    inner = part.get(str(said))
    of = inner if isinstance(inner, Mapping) and "array" not in inner else part
    source, is_base64 = _source(name, str(said), part)
    budget = part.get("image_tokens", of.get("image_tokens"))
    if budget is not None:
        budget = checked_budget(f"image_tokens of {name}", budget)
    elif kind == IMAGE:
        budget = budget_of_detail(f"detail of {name}", of.get("detail", part.get("detail")))
    strict = part.get("strict")
    return MediaPart(
        kind,
        name,
        source,
        is_base64,
        budget,
        strict=check_bool(f"strict of {name}", strict) if strict is not None else False,
        rate=part.get("sampling_rate"),
    )


def _source(name: str, said: str, part: Mapping[str, Any]) -> tuple[Any, bool]:
    """What the part shows or sounds, and True if it is bare base64."""
    inner = part.get("image_url" if said == "input_image" else said)
    if isinstance(inner, Mapping) and "array" not in inner:
        if said == "input_audio":
            return _base64(name, inner.get("data"))
        inner = inner.get("url")
    if said == "input_audio" and isinstance(inner, str):
        return _base64(name, inner)
    if inner is not None:
        return inner, False
    if said in (IMAGE, AUDIO):
        for key in ("url", "path"):
            if part.get(key) is not None:
                return part[key], False
        if part.get("base64") is not None:
            return part["base64"], True
    key = "image_url" if said == "input_image" else said
    raise MediaError(f"{name} is missing: its part is {shown(dict(part))}, without {key!r}")


def _base64(name: str, data: Any) -> tuple[Any, bool]:
    """OpenAI's `data`, which some clients write as a data URL."""
    if data is None:
        raise MediaError(f"{name} is missing: its part has no 'data'")
    return data, isinstance(data, str) and data[:5].lower() != "data:"


def check_count(n: int) -> None:
    """Raises `MediaError` for more images and sounds than a request may have."""
    if n > MEDIA_MAX:
        raise MediaError(
            f"the messages have more than {MEDIA_MAX} images and sounds, which is the limit of a "
            "request: leave old ones out"
        )
