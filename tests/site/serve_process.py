"""`pillion serve` as a user starts it: a process of its own."""

import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

PILLION = Path(sys.executable).with_name("pillion")


@contextlib.contextmanager
def serving(*arguments, **options):
    """The address of a server, on a free port where the arguments name none."""
    port = () if "--port" in arguments else ("--port", "0")
    command = [PILLION, "serve", *arguments, *port]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    ) as process:
        try:
            yield address_of(process)
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=60)
            process.kill()


def address_of(process):
    """Reads until the server says where it answers."""
    said = ""
    for line in process.stdout:
        said += line
        found = re.search(r"http://[\w.]+:\d+", line)
        if found:
            return found[0]
    raise AssertionError(f"the server ended: {said}")
