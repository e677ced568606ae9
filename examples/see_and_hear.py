"""A picture and a sound, and what the model says of them.

python examples/see_and_hear.py [MODEL.gguf [FILE ...]]

The mmproj file, which holds the model's eyes and ears, lies beside the model.
"""

import sys
from pathlib import Path

import pillion
from pillion.models import SEVEN_PNG, SEVEN_WAV, TINY_TARGET

SOUNDS = (".wav", ".flac", ".mp3", ".ogg")


def part_of(path: Path) -> dict[str, str]:
    kind = "audio" if path.suffix.lower() in SOUNDS else "image"
    return {"type": kind, kind: str(path)}


def main(model: str, files: list[Path], image_tokens: int | str) -> None:
    with pillion.LLM(model, image_tokens=image_tokens) as llm:
        for path in files:
            part = part_of(path)
            question = "What do you see?" if part["type"] == "image" else "What do you hear?"
            content = [part, {"type": "text", "text": question}]
            answer = llm.chat([{"role": "user", "content": content}], temperature=0, max_tokens=200)
            counts = answer["usage"]["prompt_tokens_details"]
            n = counts.get("image_tokens", 0) + counts.get("audio_tokens", 0)
            print(f"{path.name} ({n} tokens): {answer['choices'][0]['message']['content']}")


if __name__ == "__main__":
    model, *files = sys.argv[1:] or [str(TINY_TARGET)]
    tiny = model == str(TINY_TARGET)  # its eyes know no other budget than 70
    main(model, [Path(one) for one in files] or [SEVEN_PNG, SEVEN_WAV], 70 if tiny else 280)
