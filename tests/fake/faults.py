"""A library whose calls fail on command: every other call goes through to the real one.

It stands in the place of cffi's `lib`, so it knows no function: what it fails, it fails by name.
"""

import threading
from collections import deque

MAKES = (
    "_new",
    "pillion_model_open",
    "pillion_model_tokenizer",
    "pillion_batch_context",
    "pillion_batch_pair",
)
# What a batch does for an entry is a call of a pair by itself.
OF_PROMPTS, OF_ROUNDS = ("pillion_pair_sync",), ("pillion_pair_step", "pillion_pair_run")


class FaultyLib:
    """`lib`, with `fail`, `log` and `live`."""

    def __init__(self, lib, ffi):
        self._lib, self._ffi = lib, ffi
        self._faults, self._sink = {}, (ffi.NULL, ffi.NULL)
        self._made, self._freed = deque(), deque()  # appends need no lock, also from a finalizer
        self._said = threading.local()

    def __getattr__(self, name):
        found = getattr(self._lib, name)
        is_call = name.startswith("pillion_") and not isinstance(found, self._ffi.CData)
        wrapped = self._wrapped(name, found) if is_call else found
        setattr(self, name, wrapped)  # the next look-up ends there
        return wrapped

    def _wrapped(self, name, function):
        def call(*arguments):
            waiting = self._faults.get(name)
            fault = waiting.pop(0) if waiting else None
            self._said.sentence = fault and self._ffi.new("char[]", fault[1].encode())
            if fault:
                return fault[0]
            if name == "pillion_batch_run":
                self._fail_entries(*arguments[1:])
            answer = function(*arguments)
            if name == "pillion_batch_run":
                self._count_first_tokens(*arguments[1:])
            if name.endswith("_free") and arguments[0] != self._ffi.NULL:
                self._freed.append(None)
            elif name.endswith(MAKES) and answer == 0:
                self._made.append(None)
            return answer

        return call

    def _fail_entries(self, entries, n):
        """A batch's entries fail as a pair's calls do, each by itself."""
        for entry in entries[0:n]:
            for name in OF_ROUNDS if entry.tokens == self._ffi.NULL else OF_PROMPTS:
                waiting = self._faults.get(name)
                fault = waiting.pop(0) if waiting else None
                if fault:
                    entry.code, entry.error = fault[0], fault[1].encode()

    def _count_first_tokens(self, entries, n):
        """The first token of a prompt is a step, which takes one of those that do not fail."""
        waiting = self._faults.get("pillion_pair_step")
        for entry in entries[0:n]:
            is_first = entry.tokens != self._ffi.NULL and entry.has_run
            if is_first and waiting and waiting[0] is None:
                waiting.pop(0)

    def pillion_last_error(self):
        return getattr(self._said, "sentence", None) or self._lib.pillion_last_error()

    def pillion_set_log(self, callback, user):
        self._sink = (callback, user)
        return self._lib.pillion_set_log(callback, user)

    # ---- what a test asks for ----

    def fail(self, function, code, sentence, after=0):
        """A call of `function` fails: the next one, or the one behind `after` more."""
        getattr(self._lib, function)  # a name that the library has
        self._faults[function] = [None] * after + [(code, sentence)]

    def no_faults(self):
        self._faults.clear()

    def log(self, level, message):
        """Sends a message to the sink, from a thread of its own."""
        callback, user = self._sink
        text = self._ffi.new("char[]", message.encode())
        if callback != self._ffi.NULL:
            thread = threading.Thread(target=callback, args=(level, text, user))
            thread.start()
            thread.join()

    @property
    def live(self):
        """Handles that were made and not freed."""
        return len(self._made) - len(self._freed)
