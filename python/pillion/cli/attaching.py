"""Pictures and sounds of `pillion run`: those of --image and --audio, and those of a conversation's
lines `/image PATH` and `/audio PATH`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from .. import LLM, PillionError, UsageError
from ..media import read_image, read_sound
from ..media.media_towers import check_kind
from ..media.sources import bytes_of
from .console import fail

Part = dict[str, Any]


def given_parts(images: Sequence[Path], sounds: Sequence[Path]) -> list[Part]:
    """The files of --image and of --audio as parts of a message. A file that is missing ends the
    program before the model is loaded."""
    for path in (*images, *sounds):
        if not path.is_file():
            raise fail(f"{path}: No such file")
    return [
        *({"type": "image", "image": str(path)} for path in images),
        *({"type": "audio", "audio": str(path)} for path in sounds),
    ]


class Attached:
    """What the next message of a conversation shows beside its text."""

    def __init__(self, llm: LLM, parts: Sequence[Part]) -> None:
        self._llm = llm
        self._parts = list(parts)

    @property
    def help(self) -> str:
        """What the greeting says about it; "": the model takes no media."""
        kinds = self._llm.media.towers.kinds
        said = [f"/{one} PATH" for one in ("image", "audio") if one in kinds]
        return f"{' or '.join(said)} adds a file to the next one; " if said else ""

    def takes(self, line: str) -> bool:
        """True for a line that names a file, which the next message shows. A file that cannot be
        shown is told, and the conversation goes on."""
        command, _, rest = line.strip().partition(" ")
        if command not in ("/image", "/audio"):
            return False
        kind, path = command[1:], _path(rest)
        try:
            self._parts.append(self._part(kind, path))
        except PillionError as error:
            typer.echo(f"error: {error.sentence}", err=True)
            return True
        typer.echo(f"{path} goes with the next message", err=True)
        return True

    def _part(self, kind: str, path: str) -> Part:
        """The file's bytes, read now: it may be another one when the next turn needs it again."""
        if not path:
            raise UsageError(f"/{kind} needs a path: /{kind} PATH")
        check_kind(self._llm.media.towers.open(), kind, path)
        data = bytes_of(path, path)
        read_image(data, name=path) if kind == "image" else read_sound(data, name=path)
        return {"type": kind, kind: data}

    def message(self, text: str) -> dict[str, Any]:
        """A message of the user: what is attached, then the text."""
        parts, self._parts = self._parts, []
        if not parts:
            return {"role": "user", "content": text}
        return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def _path(text: str) -> str:
    """A path as people type or drop it: with quotes, or with ~."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return str(Path(text).expanduser()) if text else ""
