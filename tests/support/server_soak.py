"""Mixed load on a server over the embedded pair: every text that comes whole must be the right one,
and nothing may be left when all is over.

    python tests/support/server_soak.py SECONDS [SEED]
"""

import asyncio
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import psutil
from server_support import Server

from patience import PATIENCE, until

CLIENTS = 6
ALONE = {"Connection": "close"}  # no connection is kept for later
TEXTS = (
    "Genesis 1\n\nIn the beginning",
    "Psalms 23\n\nThe LORD is my",
    "And God said",
    "Matthew 5\n\nAnd seeing the multitudes, he went up into a mountain",
    "a",
    "The word of the LORD came " * 12,
)


class Load:
    """What clients ask for, with the answers that a plain LLM gives."""

    def __init__(self, pillion, path, n_ctx=512):
        self.cases = []
        with pillion.LLM(path, n_ctx=n_ctx) as llm:
            for at, text in enumerate(TEXTS):
                options = {"temperature": 0, "max_tokens": (24, 90, 7, 160, 1, 48)[at]}
                expected = llm.complete(text, **options)["choices"][0]["text"]
                self.cases.append(("/v1/completions", {"prompt": text, **options}, expected))
                messages = [{"role": "user", "content": text}]
                expected = llm.chat(messages, **options)["choices"][0]["message"]["content"]
                self.cases.append(
                    ("/v1/chat/completions", {"messages": messages, **options}, expected)
                )
                options = {"temperature": 1.0, "seed": 5 + at, "max_tokens": 30, "draft": at % 3}
                expected = llm.complete(text, **options)["choices"][0]["text"]
                self.cases.append(("/v1/completions", {"prompt": text, **options}, expected))


class Client(threading.Thread):
    """One after another; some it leaves in the middle. What went wrong stands in `faults`."""

    def __init__(self, server, load, seed, until_when, leaves=0.4):
        super().__init__(daemon=True)
        self.server, self.load, self.random = server, load, random.Random(seed)
        self.until_when, self.leaves = until_when, leaves
        self.n_right = self.n_left = 0
        self.faults = []

    def run(self):
        try:
            while time.monotonic() < self.until_when:
                self.one()
        except Exception as error:
            self.faults.append(repr(error))

    def one(self):
        path, body, expected = self.random.choice(self.load.cases)
        stream = self.random.random() < 0.5
        if self.random.random() < self.leaves:
            return self.leave(path, {**body, "stream": stream})
        response = self.server.post(path, {**body, "stream": stream}, headers=ALONE)
        if response.status_code == 503:
            return
        found = text_of_stream(response) if stream else text_of_whole(response)
        if found == expected:
            self.n_right += 1
        else:
            self.faults.append((path, body, found, expected))

    def leave(self, path, body):
        """Before the body is there, while the prompt is read, in the text, or reading nothing."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        whole = f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
        with self.server.raw() as connection:
            connection.sendall(
                whole[: self.random.choice((7, len(whole) - 3, len(whole), len(whole)))]
            )
            time.sleep(self.random.choice((0, 0, 0.001, 0.01, 0.05)))
            if self.random.random() < 0.5:
                connection.settimeout(0.05)
                try:
                    connection.recv(self.random.choice((1, 100, 4096)))
                except TimeoutError:
                    pass
        self.n_left += 1


def text_of_whole(response):
    choice = response.json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


def text_of_stream(response):
    assert response.text.endswith("data: [DONE]\n\n"), response.text[-300:]
    text = ""
    for part in response.text.split("\n\n"):
        if part.startswith("data: {"):
            choice = json.loads(part[6:])["choices"][0]
            text += choice["text"] if "text" in choice else choice["delta"].get("content", "")
    return text


def left(server):
    """What the process holds: to be the same before and after."""
    return {
        "tasks": len(asyncio.all_tasks(server.running.loop)),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "connections": len(server.running.server_state.connections),
    }


def settled(server):
    """The same once nothing is under way and all that is made at first use is there."""
    together = threading.Barrier(2)
    for _ in range(2):  # both threads of the server's pool
        server.serving._threads.submit(together.wait)
    until(lambda: is_idle(server))
    server.get("/health")
    return left(server)


def until_as_before(server, before):
    """Waits until nothing more is held than before."""
    until(lambda: is_idle(server))
    more = {}

    def as_before():
        server.get("/health")
        now = left(server)
        more.clear()
        more.update({key: (before[key], n) for key, n in now.items() if n > before[key]})
        return not more

    try:
        until(as_before)
    except AssertionError:
        raise AssertionError(f"before and after: {more}") from None


def is_idle(server):
    stats = server.serving.engine.stats()
    return not server.serving.running and stats.queued + stats.reading + stats.writing == 0


def soak(pillion, path, seconds, seed=1, clients=CLIENTS, leaves=0.4):
    """Runs it. Returns counts and faults; waits until all is as it was before."""
    load = Load(pillion, path)
    server = Server(pillion, lambda check: pillion.LLM(path, n_ctx=512, parallel=2)).start()
    try:
        for case in load.cases[:4]:
            server.post(case[0], case[1])
        before = settled(server)
        rss = psutil.Process().memory_info().rss
        end = time.monotonic() + seconds
        workers = [Client(server, load, seed * 1000 + at, end, leaves) for at in range(clients)]
        for one in workers:
            one.start()
        for one in workers:
            one.join(seconds + PATIENCE)
            assert not one.is_alive()
        until_as_before(server, before)
        return {
            "right": sum(one.n_right for one in workers),
            "left": sum(one.n_left for one in workers),
            "faults": [fault for one in workers for fault in one.faults],
            "grown_mb": (psutil.Process().memory_info().rss - rss) / 1e6,
        }
    finally:
        server.close()


if __name__ == "__main__":
    import pillion
    from pillion.models import TINY_TARGET

    print(
        json.dumps(
            soak(pillion, TINY_TARGET, float(sys.argv[1]), *map(int, sys.argv[2:])), indent=1
        )
    )
