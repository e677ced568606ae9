"""Images and sounds in a conversation: until its prompt is rendered, each is a random word in the
text of its message, so that all that adapts messages may treat them as text.

A template that knows images gets them as parts of the content and writes its marker. In any other
template the word goes through, and the marker is put in its place.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from ..media.markers import MARKER
from ..media.media_parts import MediaPart, check_count, media_part


class MediaMarks:
    """The media of one conversation, and the words that stand for them."""

    def __init__(self) -> None:
        self.parts: list[MediaPart] = []
        """The media, in order."""
        word = uuid.uuid4().hex
        self._marks = {kind: f"pillion-{kind}-{word}" for kind in MARKER}
        self._any = re.compile(f"({'|'.join(self._marks.values())})")

    def mark(self, where: str, part: Mapping[str, Any]) -> str | None:
        """Takes an image or a sound, and returns the word that stands for it; None: the part is
        neither. where: its message, for sentences."""
        found = media_part(where, part)
        if found is None:
            return None
        self.parts.append(found)
        check_count(len(self.parts))
        return self._marks[found.kind]

    def with_parts(self, message: Mapping[str, Any], kinds: Collection[str]) -> dict[str, Any]:
        """The message with its media as parts of its content, if it has media and all of them are
        of these kinds."""
        content = message["content"]
        pieces = self.pieces(content) if isinstance(content, str) else []
        if len(pieces) < 2 or any(kind and kind not in kinds for _, kind in pieces):
            return dict(message)
        parts = [
            {"type": kind} if kind else {"type": "text", "text": text}
            for text, kind in pieces
            if kind or text
        ]
        return {**message, "content": parts}

    def pieces(self, text: str) -> list[tuple[str, str]]:
        """The text cut at the words of the media: pairs of a text and "", or of "" and the kind of
        a medium."""
        of = {mark: kind for kind, mark in self._marks.items()}
        found = self._any.split(text) if self.parts else [text]
        return [("", of[one]) if at % 2 else (one, "") for at, one in enumerate(found)]

    def written(self, rendered: str) -> str:
        """The prompt with the markers of those media that the template took for text."""
        if not self.parts:
            return rendered
        markers = {mark: MARKER[kind] for kind, mark in self._marks.items()}
        return self._any.sub(lambda one: markers[one[0]], rendered)
