"""Shared by the subcommands: errors as one sentence, exit codes, progress bars, opening models."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .. import LLM, Model, PillionError
from ..sizes import size_of
from .words import OptionWords, in_options, options_of

F = TypeVar("F", bound=Callable[..., Any])

ERROR, INTERRUPTED, READER_GONE = 1, 130, 141


def command(body: F) -> F:
    """Makes a function a subcommand: its errors become one sentence on stderr and an exit code."""

    known = options_of(body)
    log = logging.getLogger("pillion")

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        words = OptionWords(known)
        log.addFilter(words)
        try:
            return body(*args, **kwargs)
        except KeyboardInterrupt:
            typer.echo("", err=True)  # the next prompt begins on its own line
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader went away: `pillion … | head`
            # Without it Python complains when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(READER_GONE) from None
        except PillionError as error:
            raise fail(in_options(error.sentence, known)) from None
        except OSError as error:
            raise fail(
                f"{error.filename}: {error.strerror}" if error.filename else str(error)
            ) from None
        finally:
            log.removeFilter(words)

    wrapper.__doc__ = _unfolded(inspect.cleandoc(body.__doc__ or ""))
    return wrapper  # type: ignore[return-value]


def _unfolded(text: str) -> str:
    """Each paragraph as one line: the help is folded to the width of the terminal."""
    return "\n\n".join(" ".join(part.split("\n")) for part in text.split("\n\n"))


def fail(sentence: str) -> typer.Exit:
    """Prints what is wrong. Returns the exception for the caller to raise."""
    typer.echo(f"error: {sentence}", err=True)
    return typer.Exit(ERROR)


def read_text(path: Path) -> str:
    """Reads a text file. Bytes that are not UTF-8 become U+FFFD."""
    return path.read_bytes().decode("utf-8", "replace")


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar on stderr, gone when the work is done; nothing if stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int], None]]:
    """Shows a bar for each file that comes, on stderr, gone when the work is done; nothing if
    stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda file, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as bar:

        def report(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total or None)
            bar.update(tasks[file], completed=done)

        yield report


def open_model(path: Path, **options: Any) -> Model:
    """Opens a model behind a progress bar."""
    with progress(f"Loading {path.name}") as report:
        return Model.open(path, progress=report, **options)


def open_llm(path: Path, check: Callable[[], None] | None = None, **options: Any) -> LLM:
    """Opens an LLM behind a progress bar. check: called during the load; what it raises ends the
    load."""
    with progress(f"Loading {path.name}") as report:

        def step(done: int, total: int) -> None:
            if check is not None:
                check()
            report(done, total)

        return LLM(path, progress=step, **options)


def write(text: str) -> None:
    """Writes text to stdout at once, without a line feed. Characters that stdout's encoding lacks
    become '?'."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def size(n_bytes: float | None) -> str:
    """Bytes in a readable unit."""
    if n_bytes is None:
        return "unknown"
    return size_of(n_bytes)
