"""Images and sounds: from files and data URLs to the rows that a model reads.

Read in this order:

- `media_limits`: how much may be decoded. `sources`: where bytes come from.
- `images`, `sounds`: bytes to RGB pixels and to samples of 16 kHz (extra `media`).
- `budget`: how many soft tokens an image gets. `media_parts`: the media of messages.
- `media_towers`: the mmproj file, opened at the first medium. `cache`: the rows that were encoded.
- `expanding`: puts the ids of a prompt's media in the places of their markers.
"""

from __future__ import annotations

from .images import read_image
from .sounds import SAMPLE_RATE, read_sound

__all__ = ["SAMPLE_RATE", "read_image", "read_sound"]
