"""What goes wrong with the hub, as one sentence each, from the errors of `huggingface_hub`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import HubAccessError, HubError, HubUnreachableError, NotOnHubError, PillionError

_SAID_MAX = 300
_TOKEN = "give a token in HF_TOKEN or with `hf auth login`"


@dataclass(frozen=True)
class Asked:
    """What the hub was asked for."""

    endpoint: str
    repo: str
    revision: str | None = None
    file: str | None = None
    has_token: bool = False

    @property
    def host(self) -> str:
        """The hub's name in sentences."""
        return self.endpoint.split("://")[-1]


@contextmanager
def one_sentence(asked: Asked) -> Iterator[None]:
    """Turns the errors of `huggingface_hub` and of its transport into `HubError`s."""
    from huggingface_hub import errors

    transport: Any = errors.HfHubHTTPError.__mro__[1]  # httpx's or httpx2's HTTPError
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubAccessError(_gated(asked)) from error
    except errors.RepositoryNotFoundError as error:
        raise NotOnHubError(_no_repository(asked)) from error
    except errors.RevisionNotFoundError as error:
        raise NotOnHubError(f"{asked.repo} has no revision {asked.revision}") from error
    except errors.LocalEntryNotFoundError as error:  # it could not ask
        raise HubUnreachableError(unreachable(asked, error.__cause__ or error)) from error
    except errors.EntryNotFoundError as error:
        raise NotOnHubError(f"{asked.repo} has no file {asked.file}") from error
    except errors.HfHubHTTPError as error:
        raise _of_status(asked, error) from error
    except errors.HFValidationError as error:
        said = line(str(error))
        raise NotOnHubError(f"{asked.repo} cannot be a repository: {said}") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubUnreachableError(f"{asked.host} is not asked: HF_HUB_OFFLINE is set") from error
    except transport as error:
        raise HubUnreachableError(unreachable(asked, error)) from error
    except OSError as error:
        if isinstance(error, PillionError):
            raise
        raise of_cache(error) from error


@contextmanager
def readable(asked: Asked) -> Iterator[None]:
    """An answer that is no hub's trips `huggingface_hub` or the code that reads it: one
    sentence."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, HFValidationError):
            raise
        raise HubUnreachableError(
            f"{asked.host} answers what no hub answers ({line(repr(error))}): name another in "
            "HF_ENDPOINT"
        ) from error


def line(text: str) -> str:
    """What another machine said, on one short line without control characters."""
    plain = " ".join(text[:_SAID_MAX].split())
    return "".join(one if one.isprintable() else "�" for one in plain)


def of_cache(error: OSError) -> HubError:
    """The cache's disk refused something."""
    said = f"{line(str(error.filename))}: {error.strerror}" if error.filename else line(str(error))
    return HubError(f"the cache of the hub cannot be used: {said}")


def unreachable(asked: Asked, error: BaseException) -> str:
    """No answer came."""
    answer = getattr(
        error, "response", None
    )  # its own sentence has the address, maybe a signed one
    said = f"HTTP status {answer.status_code}" if answer is not None else line(str(error))
    said = said or type(error).__name__
    return (
        f"{asked.host} cannot be reached ({said}): connect this machine, "
        "or name a mirror in HF_ENDPOINT"
    )


def _gated(asked: Asked) -> str:
    page = f"accept its terms at {asked.endpoint}/{asked.repo}"
    if asked.has_token:
        return f"{asked.repo} is gated, and the token in use has no access: {page}"
    return f"{asked.repo} is gated: {page}, then {_TOKEN}"


def _no_repository(asked: Asked) -> str:
    if asked.has_token:
        why = "it does not exist, or the token in use may not see it"
    else:
        why = f"it does not exist, or it is private: {_TOKEN}"
    return f"{asked.host} shows no model repository {asked.repo}: {why}"


def _of_status(asked: Asked, error: Any) -> HubError:
    status = error.response.status_code
    said = line(str(error.response.headers.get("X-Error-Message") or ""))
    said = f": {said}" if said else ""
    if status == 401:
        return HubAccessError(
            f"{asked.host} does not take the token in use{said}; give a valid one in HF_TOKEN "
            "or with `hf auth login`"
        )
    if status == 403:
        return HubAccessError(f"{asked.host} refuses access to {asked.repo}{said}")
    if status == 404:
        return NotOnHubError(f"{asked.repo} has no file {asked.file}")
    if status == 429:
        return HubUnreachableError(
            f"{asked.host} answers no more requests for now (429); try again later, or {_TOKEN}"
        )
    return HubUnreachableError(f"{asked.host} answers with HTTP status {status}{said}")
