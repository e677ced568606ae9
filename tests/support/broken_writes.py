"""What commands that write a file must stand: a full disk, Ctrl-C, and a bound on their memory."""

import resource
import signal
import subprocess
import sys

from patience import PATIENCE, until


def _command(arguments):
    return [sys.executable, "-m", "pillion", *map(str, arguments)]


def check_full_disk(arguments, out):
    """A limit of 1 MB on the size of files stands for it. One sentence, nothing left behind, an
    older file untouched."""
    out.write_bytes(b"an older file")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    result = subprocess.run(_command(arguments), capture_output=True, text=True, preexec_fn=limit)
    assert (
        result.returncode == 1
        and "writing failed" in result.stderr
        and "Traceback" not in result.stderr
    ), result.stderr
    assert [path.name for path in out.parent.iterdir()] == [
        out.name
    ] and out.read_bytes() == b"an older file"


def check_ctrl_c(arguments, folder):
    """When there are bytes in `folder`, which is empty before and after."""
    process = subprocess.Popen(
        _command(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: any(path.stat().st_size > 0 for path in folder.iterdir()))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    left = [path.name for path in folder.iterdir()]
    assert left == [], left


def peak_mb(program, *arguments):
    """What a program of its own, which has pillion and gguf, takes at most beyond its imports."""
    before = (
        "import resource, sys, gguf, numpy, pillion, pillion.convert\nbefore = "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    )
    after = "\nprint((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    command = [sys.executable, "-c", before + program + after, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
