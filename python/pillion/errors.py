"""The exceptions of the package. Each carries the C library's code and one sentence with the thing,
the value and the limit.

PillionError
├── UsageError (ValueError)          a call that cannot be right
│   ├── Busy                         another thread is inside this object
│   ├── Closed                       the object was closed, or is half of one after a fork()
│   ├── BufferTooSmallError          (never leaves the package)
│   ├── NoSuchName (AttributeError)  a name of another library
│   ├── ContextFullError             the tokens do not fit the context
│   └── MediaError                   an image or a sound that cannot be read or is too large
├── ModelFileError                   a file that cannot be used
│   ├── ModelNotFoundError (FileNotFoundError)
│   ├── UnsupportedModelError        a sound file of a kind this version does not run
│   └── PairingError                 a drafter without, or with the wrong, target
├── BackendError                     the machine cannot do it
│   ├── NoBackendError, UnsupportedOpError, DeviceLostError
│   └── OutOfMemoryError (MemoryError)
├── HubError                         a model could not be had by its name
│   ├── HubUnreachableError (ConnectionError)
│   ├── HubAccessError (PermissionError)      gated, or the token does not do
│   ├── NotOnHubError (FileNotFoundError)     no such repository, revision, file or quantization
│   ├── SeveralMatchesError          the name fits several files
│   ├── ChecksumError                what came is not what the hub has
│   └── DiskFullError (OSError)
├── Cancelled                        someone asked for it
├── QueueFull                        too many requests wait
├── TimedOut (TimeoutError)          it took longer than it may
└── InternalError                    a fault in pillion; please report it
"""

from __future__ import annotations


class PillionError(Exception):
    """Base of all exceptions of pillion.

    sentence: what happened, with the thing, the value and the limit.
    code: the number of the C library; None: that of the class.
    """

    code: int = 31
    """The number of the C library (`PILLION_ERROR_*`)."""

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        """What happened, in one sentence."""
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.sentence


class UsageError(PillionError, ValueError):
    """An argument is wrong, or a call came at the wrong time."""

    code = 1


class Busy(UsageError):
    """The object serves another caller. Nothing was changed. Try again later or use a context of
    your own."""

    code = 2


class Closed(UsageError):
    """The object was closed before this call, or a fork() copied it in another thread's call."""

    code = 3


class BufferTooSmallError(UsageError):
    """A buffer handed to the C library was too small. The package sizes its buffers itself, so
    users do not meet this one."""

    code = 4


class ContextFullError(UsageError):
    """The tokens do not fit the context. Nothing was run; the sentence has both numbers."""

    code = 5


class MediaError(UsageError):
    """An image or a sound that cannot be read, is too large, or that the model cannot see or hear.
    The sentence names which one, and why."""


class NoSuchName(UsageError, AttributeError):
    """A name of another library was asked for; the sentence says what to use here."""


class ModelFileError(PillionError):
    """The file is damaged: a length, count, offset or type in it cannot be right."""

    code = 11


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """There is no such file, or it cannot be opened."""

    code = 10


class UnsupportedModelError(ModelFileError):
    """A valid file of an architecture, version or tensor type that this version does not run."""

    code = 12


class PairingError(ModelFileError):
    """A drafter was used without its target, or with a target it does not fit."""

    code = 13


class BackendError(PillionError):
    """The machine cannot do what was asked."""

    code = 20


class NoBackendError(BackendError):
    """The requested device, or a forced kernel table, is not available here."""

    code = 20


class UnsupportedOpError(BackendError):
    """No backend runs one of the model's operations; the sentence names it."""

    code = 21


class OutOfMemoryError(BackendError, MemoryError):
    """Memory ran out. Nothing was changed."""

    code = 22


class DeviceLostError(BackendError):
    """The device stopped answering, or the process that this one was forked from uses it."""

    code = 23


class HubError(PillionError):
    """A model could not be had by its name."""


class HubUnreachableError(HubError, ConnectionError):
    """The hub does not answer, or stopped in the middle of a file. What came of it is kept, and the
    next call goes on from there."""


class HubAccessError(HubError, PermissionError):
    """The repository is gated or private, or the token is wrong."""


class NotOnHubError(HubError, FileNotFoundError):
    """There is no such repository, revision, file or quantization. The sentence lists what there
    is."""


class SeveralMatchesError(HubError):
    """The name fits several files. The sentence lists them."""


class ChecksumError(HubError):
    """What came is not what the hub has. The file was not kept."""


class DiskFullError(HubError, OSError):
    """The cache's disk has no room. What came of the file is kept."""


class Cancelled(PillionError):
    """The work was cancelled. The object is in the state before the call and can be used again."""

    code = 30


class QueueFull(PillionError):
    """The request was refused: too many wait already.

    sentence, code: as in `PillionError`. retry_after: seconds after which there may be room.
    """

    def __init__(self, sentence: str, code: int | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(sentence, code)
        self.retry_after = retry_after
        """Seconds after which there may be room; an estimate."""


class TimedOut(PillionError, TimeoutError):
    """The allowed time is over."""


class InternalError(PillionError):
    """A fault in pillion itself."""

    code = 31


_BY_CODE: dict[int, type[PillionError]] = {
    kind.code: kind
    for kind in (
        UsageError,
        Busy,
        Closed,
        BufferTooSmallError,
        ContextFullError,
        ModelNotFoundError,
        ModelFileError,
        UnsupportedModelError,
        PairingError,
        NoBackendError,
        UnsupportedOpError,
        OutOfMemoryError,
        DeviceLostError,
        Cancelled,
        InternalError,
    )
}


def error_for(code: int, sentence: str) -> PillionError:
    """The exception for a code of the C library. An unknown code becomes a plain PillionError."""
    return _BY_CODE.get(code, PillionError)(
        sentence or f"the library failed with code {code} and gave no reason", code
    )
