"""What `pillion doctor` tells about extras, and that it knows those of pyproject.toml."""

import re
import sys
from pathlib import Path

import pytest

PYPROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
FOR_WORK_ON_IT = {"test", "docs", "cross", "reference"}


@pytest.fixture
def extras(pillion):
    from pillion.cli import extras

    return extras


def test_the_table_is_that_of_pyproject(extras):
    section = PYPROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    declared = {}
    for name, listed in re.findall(r"^(\w+) = \[(.*?)\](?=\n)", section, re.M | re.S):
        declared[name] = tuple(re.findall(r'"([A-Za-z][\w-]*)', listed))
    assert {name: declared[name] for name in set(declared) - FOR_WORK_ON_IT} == extras.EXTRAS


def test_what_is_there_and_what_is_not(extras, monkeypatch):
    versions = {"huggingface_hub": "2.0", "fastapi": "1.0"}
    monkeypatch.setattr(extras, "_version", versions.get)
    found = extras.installed()
    say = {name: extras.in_words(name, packages) for name, packages in found.items()}
    assert say["hub"] == "huggingface_hub 2.0"
    assert say["ray"] == "absent: pip install 'pillion[ray]'"
    if sys.version_info >= (3, 11):
        missing = "uvicorn, prometheus-client, llguidance"
        assert say["server"] == f"incomplete, without {missing}: pip install 'pillion[server]'"
    monkeypatch.setattr(extras, "_SINCE", {"server": (9, 9)})
    assert extras.in_words("server", found["server"]) == "absent: it needs Python 9.9 or later"


def test_doctor_lists_them(pillion):
    from pillion.cli.main import app
    from typer.testing import CliRunner

    shown = CliRunner().invoke(app, ["doctor"]).stdout
    assert "\nextra hub " in shown and "\nextra langchain  " in shown


def test_help_folds_to_the_terminal(pillion):
    """A line of the list of commands ends where the next word has no room, and nowhere else."""
    import typer
    from pillion.cli.main import app

    commands = typer.main.get_command(app).commands
    assert len(commands) > 15
    for command in commands.values():
        assert "\n" not in command.help.split("\n\n")[0]
    names = list(commands)
    assert names[:5] == ["run", "serve", "pull", "list", "rm"]
