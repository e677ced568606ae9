"""The examples of docs/images_and_sound.md, on the embedded pair and its digits."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("soundfile", reason="the extra `media` is not installed")

TREE = Path(__file__).resolve().parents[2]
PAGE = (TREE / "docs" / "images_and_sound.md").read_text(encoding="utf-8")


def test_the_examples(tiny_target, tmp_path):
    from pillion.models import SEVEN_PNG, SEVEN_WAV

    (tmp_path / "gemma-4-E2B-it-Q4_0.gguf").symlink_to(tiny_target)
    for name, source in (("photo.jpg", SEVEN_PNG), ("note.wav", SEVEN_WAV)):
        (tmp_path / name).write_bytes(source.read_bytes())
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(examples) == 2
    program = "\n".join([*examples, "import json", "print(json.dumps(text['choices'][0]))"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    seen, counts, said = done.stdout.strip().splitlines()
    assert seen and "'audio_pieces': 1" in counts and json.loads(said)["text"]


def test_the_table_of_counts(pillion):
    from pillion.models import TINY_MMPROJ

    (row,) = re.findall(r"^\| 4 : 3, any size \| (.*) \|$", PAGE, re.M)
    with pillion.Mmproj(TINY_MMPROJ) as mmproj:
        grids = [mmproj.image_grid(3000, 4000, n) for n in (70, 140, 280, 560, 1120)]
    assert list(map(int, row.split(" | "))) == [rows * cols for rows, cols in grids]


def test_the_limits():
    from pillion.media import media_limits

    assert "64 million pixels, 50 MB a file, 30 minutes, and 16 images" in " ".join(PAGE.split())
    said = (media_limits.PIXELS_MAX, media_limits.FILE_BYTES_MAX, media_limits.MEDIA_MAX)
    assert said == (64_000_000, 50_000_000, 16) and media_limits.SECONDS_MAX == 30 * 60
