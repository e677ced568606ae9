"""What the tests of the field cases share."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
PROMPT = "Genesis 1\n\nIn the beginning"


def text_of(result):
    return result["choices"][0]["text"]


def child(program, *arguments, **environment):
    """Runs a program of its own; it must end quietly. What it prints is JSON."""
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout) if result.stdout else None


class Watch:
    """Names of the files of a folder that anyone opens (inotify)."""

    IN_OPEN = 0x20

    def __init__(self, folder):
        self.folder = folder
        self.names = set()

    def __enter__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        assert (
            self.fd >= 0
            and libc.inotify_add_watch(self.fd, os.fsencode(self.folder), self.IN_OPEN) >= 0
        )
        return self

    def __exit__(self, *_):
        try:
            while True:
                raw = os.read(self.fd, 1 << 16)
                while raw:
                    length = int.from_bytes(raw[12:16], sys.byteorder)
                    self.names.add(raw[16 : 16 + length].rstrip(b"\0").decode())
                    raw = raw[16 + length :]
        except BlockingIOError:
            os.close(self.fd)
