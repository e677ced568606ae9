"""Settings of a server: addresses, keys, limits. Plain data that needs none of the extra's
packages."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import UsageError

MIB = 1 << 20
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """True if only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _fits_header(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and key == key.strip()


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server, checked when made. Raises UsageError."""

    host: str = "127.0.0.1"
    keys: Collection[str] = ()
    """API keys; any of them opens everything. None: no key is needed."""
    no_key: bool = False
    """True: a server that other machines can reach may be without keys."""
    cors_origins: Collection[str] = ()
    """Origins of other web pages that may read the answers; "*": all."""
    allowed_hosts: Collection[str] = ()
    """More host names of a server on loopback (a proxy's)."""
    alias: str | None = None
    """The model's name in answers; None: its file's."""
    default_variables: dict[str, object] | None = None
    """Variables of the chat template for requests that name none."""

    max_body: int = 8 * MIB
    max_media_body: int = 80 * MIB
    """In place of `max_body` if the model sees or hears: a file of 50 MB as base64 in JSON."""
    max_messages: int = 4096
    max_tools: int = 128
    max_stops: int = 64
    max_choices: int = 32
    """The most answers to one request: prompts times `n`."""
    queue_limit: int = 64
    """The most requests that wait."""
    queue_timeout: float = 60.0
    total_timeout: float = 600.0
    body_timeout: float = 60.0
    writer_timeout: float = 60.0
    """Seconds for which a client may read nothing."""
    drain_timeout: float = 30.0
    """Seconds that answers have to end when the server is told to."""
    ping: float = 15.0
    """Seconds of silence after which a stream sends a comment."""
    retry_after: int = 5
    """Seconds after which a refused client should try again."""

    def __post_init__(self) -> None:
        if any(not _fits_header(key) for key in self.keys):
            raise UsageError("an API key is empty or has characters that no header can hold")
        if not self.local and not self.keys and not self.no_key:
            raise UsageError(
                f"host is {self.host}, which other machines can reach, and there is no API key: "
                "give one with --api-key, or say --no-key"
            )

    @property
    def checks_host(self) -> bool:
        """True if a foreign page's name could lead a browser here."""
        return self.local and "/" not in self.host

    @property
    def local(self) -> bool:
        """True if only this machine can reach the server. A path is a Unix socket."""
        return "/" in self.host or is_loopback(self.host)
