"""Loads the C library, turns its codes into exceptions, owns its handles and feeds `logging`.

Nothing else in the package touches cffi's module directly. cffi releases the GIL in every call, so
anything here may run while another thread is inside the library.
"""

from __future__ import annotations

import _thread
import atexit
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from . import _loading
from ._locks import Caller, forks
from .arguments import wrong
from .errors import Cancelled, Closed, UsageError, error_for
from .held import Held

ffi: Any = _loading.ffi
lib: Any = _loading.lib

Tokens = Sequence[int] | npt.NDArray[np.integer[Any]] | Iterable[int]
T = TypeVar("T")
H = TypeVar("H", bound="Handle")

_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
_TOO_SMALL: int = lib.PILLION_ERROR_BUFFER_TOO_SMALL


def version() -> str:
    """Version of the library as text."""
    return as_str(ffi.string(lib.pillion_version()))


# ---- codes, handles, buffers ----


def check(status: int) -> None:
    """Raises the exception of a status other than success."""
    if status:
        raise error_for(status, as_str(ffi.string(lib.pillion_last_error())))


class Handle(Held):
    """Owns one C object and frees it on close(), at the end of `with`, or with the last reference.

    The cffi pointer is counted, and a call that runs in another thread holds it too. So close()
    never frees an object in use. Methods write `self._c` straight into the call and keep no name
    for it, so that nothing else holds it.
    """

    _kind = "object"
    _made_by = "the package makes it"

    def __init__(self, pointer: Any, free: Any) -> None:
        if not isinstance(pointer, ffi.CData):
            raise UsageError(f"a {type(self).__name__} is not made by hand; {self._made_by}")
        self._pointer = ffi.gc(pointer, free)

    @property
    def _c(self) -> Any:
        pointer = self._pointer
        if pointer is None:
            raise Closed(f"this {self._kind} is closed")
        return pointer

    @property
    def closed(self) -> bool:
        """True after close()."""
        return self._pointer is None

    def close(self) -> None:
        """Frees what the object holds. Closing twice is fine; any later use raises `Closed`."""
        self._pointer = None

    def __enter__(self: H) -> H:
        self._c  # noqa: B018 - raises Closed
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_handle(name: str, value: Any, kind: str, allowed: str) -> Any:
    """The C object of an argument that is a `Handle` of that kind. Raises `UsageError` for
    anything else, `Closed` for a closed one."""
    if not isinstance(value, Handle) or value._kind != kind:
        wrong(name, value, allowed)
    return value._c


def as_str(raw: bytes) -> str:
    """Bytes of the library as text; what is not UTF-8 becomes U+FFFD."""
    return raw.decode("utf-8", "replace")


def as_bytes(text: str) -> bytes:
    """Text for the library. Surrogate pairs are joined and lone surrogates become U+FFFD: str can
    hold them, UTF-8 cannot."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8")


def read_bytes(call: Callable[[Any, int, Any], int], capacity: int = 1024) -> bytes:
    """Runs `call(out, capacity, needed)` until the answer fits."""
    needed = ffi.new("size_t*")
    while True:
        out = _new_uncleared("char[]", capacity)
        status = call(out, capacity, needed)
        if status != _TOO_SMALL:
            check(status)
            return bytes(ffi.buffer(out, needed[0]))
        capacity = max(needed[0], capacity + 1)


def read_json(call: Callable[[Any, int, Any], int], capacity: int = 1024) -> Any:
    """`read_bytes` for calls that return JSON."""
    return json.loads(as_str(read_bytes(call, capacity)))


def read_tokens(call: Callable[[Any, int, Any], int], capacity: int = 64) -> list[int]:
    """`read_bytes` for calls that return token ids."""
    needed = ffi.new("size_t*")
    while True:
        out = _new_uncleared("int32_t[]", max(capacity, 1))
        status = call(out, max(capacity, 1), needed)
        if status != _TOO_SMALL:
            check(status)
            return list(ffi.unpack(out, needed[0])) if needed[0] else []
        capacity = max(needed[0], capacity + 1)


_TOKENS = "a flat sequence of token ids"


def token_array(tokens: Tokens, name: str = "tokens") -> tuple[Any, int]:
    """Token ids as (int32_t*, count). Arrays that are int32 already are not copied. name: of the
    argument, for sentences."""
    given = tokens
    if type(tokens) is np.ndarray and tokens.dtype == np.int32:  # once a round: the short way
        if tokens.ndim == 1 and tokens.size and tokens.flags.c_contiguous:
            return ffi.from_buffer("int32_t[]", tokens), tokens.size
    elif isinstance(tokens, (str, bytes, bytearray, Mapping, set, frozenset)):
        wrong(name, given, _TOKENS)
    try:
        if not isinstance(tokens, (np.ndarray, list, tuple)):
            tokens = list(tokens)
        array = np.asarray(tokens)
    except (TypeError, ValueError, OverflowError):  # what cannot be iterated, or is nested unevenly
        wrong(name, given, _TOKENS)
    if array.size == 0 and array.ndim == 1:
        return ffi.new("int32_t[1]"), 0
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(
            "token ids must be a flat sequence of integers, "
            f"not {array.ndim}-dimensional {array.dtype}"
        )
    if array.dtype != np.int32 and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
        raise UsageError("token ids must fit 32 bits")
    return ffi.from_buffer("int32_t[]", np.ascontiguousarray(array, dtype=np.int32)), int(
        array.size
    )


# ---- Ctrl-C ----


_LOOK = 0.05
"""Seconds between two looks for a signal. The system may give a signal to any thread, and only that
thread's wait ends then."""


def interruptible(work: Callable[[], T], cancel: Callable[[], object]) -> T:
    """Runs a long call so that Ctrl-C reaches it.

    Python's signal handlers run in the main thread, between its instructions: never while it is
    inside C. So the main thread hands the call to a worker and waits; on KeyboardInterrupt (or
    whatever a handler raises) it cancels, waits for the worker to leave the library, and raises.
    Other threads never see Ctrl-C and call directly. So does the main thread where no worker can be
    had: when the interpreter is about to end, or at the system's limit."""
    if threading.current_thread() is not threading.main_thread():
        return work()

    result: list[T] = []
    failure: list[BaseException] = []
    over: list[bool] = []
    done = _thread.allocate_lock()  # until it is over; a wait for it has an end, as a child's must
    done.acquire()
    begun_after = forks()
    # Who comes first: the worker, or the interrupted caller who cancels its work.
    first: dict[str, str] = {}

    def run() -> None:
        if first.setdefault("is", "worker") != "worker":
            return
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)
        finally:
            over.append(True)
            done.release()

    try:
        # Thread.start() would wait for its thread, and in a child of a signal handler's fork() for
        # ever.
        _thread.start_new_thread(run, ())
        while not done.acquire(timeout=_LOOK):
            if forks() != begun_after:  # a signal handler called fork(), and this is the child
                raise Cancelled(
                    "the call under way went on in the parent of this process, not here"
                )
    except BaseException as error:
        no_worker = isinstance(error, RuntimeError) and "new thread" in str(error)
        if no_worker and first.setdefault("is", "caller") == "caller":
            return work()
        if forks() == begun_after:
            _leave(first, over, done, cancel)
        raise
    if failure:
        raise failure.pop()
    return result.pop()


def _leave(
    first: dict[str, str], over: list[bool], done: Any, cancel: Callable[[], object]
) -> None:
    """Cancels until the worker has left the library, if it ever was in. Further presses of Ctrl-C
    do not hurry it."""
    while True:
        try:
            while first.setdefault("is", "caller") == "worker" and not over:
                cancel()
                done.acquire(timeout=0.01)
            return
        except KeyboardInterrupt:
            continue


# ---- callbacks ----

_log = logging.getLogger("pillion")
_log.addHandler(logging.NullHandler())


def _put_back(kind: type[BaseException], error: BaseException, traceback: object) -> None:
    """An exception cannot cross C. Ctrl-C during a log call is delivered again right after. A
    faulty handler is ignored."""
    if isinstance(error, KeyboardInterrupt):
        _thread.interrupt_main()


@ffi.def_extern(onerror=_put_back)  # type: ignore[untyped-decorator]
def pillion_py_log(level: int, message: Any, _user: Any) -> None:
    _log.log(level, "%s", as_str(ffi.string(message)))


class Progress:
    """Passes load progress to a Python function and remembers what it raised.

    The call that reports runs inside `with`.
    """

    _running: set[Progress] = set()

    def __init__(self, report: Callable[[int, int], object] | None) -> None:
        self._report = report
        self.error: BaseException | None = None
        self.cancelled = False
        self._caller = Caller()

    def __enter__(self) -> Progress:
        _stay_if_ending()
        Progress._running.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        Progress._running.discard(self)
        _stay_if_ending()

    @classmethod
    def running(cls) -> list[Progress]:
        """Loads of this process, without those of threads that a fork() left behind."""
        return [one for one in list(cls._running) if one._caller.is_here]

    def cancel(self) -> None:
        """Stops the load."""
        self.cancelled = True

    def __call__(self, done: int, total: int) -> int:
        if self._report is not None and self.error is None:
            try:
                self._report(done, total)
            except BaseException as error:
                self.error = error
        return 1 if self.cancelled or self.error is not None else 0


@ffi.def_extern(error=1, onerror=_put_back)  # type: ignore[untyped-decorator]
def pillion_py_progress(done: int, total: int, user: Any) -> int:
    progress: Progress = ffi.from_handle(user)
    return progress(done, total)


# ---- the end ----

_LAST_WAIT = 10.0  # seconds
_ending = False


def _end_loads() -> None:
    """Stops the loads of daemon threads: their callbacks would enter an interpreter that is gone,
    which ends the thread in the middle of C++."""
    global _ending
    _ending = True
    until = time.monotonic() + _LAST_WAIT
    while time.monotonic() < until:
        running = Progress.running()
        for progress in running:
            progress.cancel()
        if not running:
            return
        time.sleep(0.001)


def _stay_if_ending() -> None:
    """Keeps a daemon thread whose load was stopped here until the interpreter ends it."""
    if not _ending or threading.current_thread() is threading.main_thread():
        return
    until = time.monotonic() + _LAST_WAIT
    while time.monotonic() < until:
        time.sleep(0.01)


check(lib.pillion_set_log(lib.pillion_py_log, ffi.NULL))
atexit.register(lib.pillion_set_log, ffi.NULL, ffi.NULL)  # after it no message is under way
atexit.register(_end_loads)
