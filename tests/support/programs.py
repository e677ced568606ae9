"""Small programs on the embedded pair, each in a process of its own: for what ends a process, or
makes more of them."""

import subprocess
import sys
import textwrap

from patience import PATIENCE

HEAD = """
import os, signal, sys, threading, time
signal.alarm({patience})  # whoever hangs dies of it, and so do its children
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: signal.alarm({patience}))

import pillion
from pillion.models import TINY_ASSISTANT, TINY_TARGET

PROMPT = "Genesis 1\\n\\nIn the beginning"


def text(llm, n=24, **options):
    return llm.complete(PROMPT, temperature=0, max_tokens=n, **options)["choices"][0]["text"]


def stream(llm, n=24):
    return llm.complete(PROMPT, temperature=0, max_tokens=n, stream=True)


def opened(**options):
    return pillion.LLM(TINY_TARGET, **{{"device": "cpu", "n_ctx": 256, "drafter": None, **options}})


def n_threads():
    return len(os.listdir("/proc/self/task"))


def settle(n):
    # Until the process has so many threads: one that carried a call may still be on its way out.
    while n_threads() != n:
        time.sleep(0.001)


def child(work):
    \"\"\"Runs it in a fork, to its quiet end; the exit status.\"\"\"
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        work()
        sys.exit(0)
    return os.waitpid(pid, 0)[1]
"""


def program(body, patience=2 * PATIENCE):
    return HEAD.format(patience=patience) + "\n\n" + textwrap.dedent(body)


def run(body, *arguments, file=None, patience=2 * PATIENCE, **options):
    """Its standard output. It must end with 0 and write no error."""
    words = [sys.executable, "-c", program(body, patience)]
    if file is not None:  # "spawn" imports it again
        file.write_text(program(body, patience), encoding="utf-8")
        words = [sys.executable, str(file)]
    words += map(str, arguments)
    done = subprocess.run(words, capture_output=True, text=True, timeout=3 * patience, **options)
    assert (done.returncode, done.stderr) == (0, ""), (
        done.returncode,
        done.stdout[-2000:],
        done.stderr[-4000:],
    )
    return done.stdout
