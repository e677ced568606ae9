"""`pillion doctor`: what this machine offers, and what is missing and why."""

from __future__ import annotations

import json
import platform

import typer

from .. import backends, system, version
from .console import command, size


@command
def doctor(as_json: bool = typer.Option(False, "--json", help="Print everything as one JSON object.")) -> None:
    """Show the processor, the kernel table in use, memory, and the back ends."""
    found = system()
    if as_json:
        typer.echo(json.dumps({"version": version(), **found}, indent=2))
        return
    cpu = found["cpu"]
    typer.echo(f"pillion {version()}, Python {platform.python_version()}, {platform.machine()}")
    typer.echo(f"memory         {size(found.get('memory_bytes'))}")
    typer.echo(f"threads        {cpu['threads']}")
    typer.echo(f"CPU features   {' '.join(cpu['features']) or 'none beyond the baseline'}")
    typer.echo(f"kernel table   {cpu['table']} (this machine can run: {', '.join(cpu['tables'])})")
    for backend in backends():
        state = "available" if backend.available else f"absent: {backend.reason or 'no reason was given'}"
        typer.echo(f"{backend.name:<14} {state}")
