"""A stand-in of the hub for each test, over a folder of its own, and a cache of its own."""

import os
import shutil

import pytest

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

import hub_standin
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def filled(pillion, tiny_target, tmp_path_factory):
    """A folder with the repositories of `hub_standin.fill`, for reading."""
    folder = tmp_path_factory.mktemp("filled")
    hub_standin.fill(folder)
    return folder


@pytest.fixture
def standin(filled, tmp_path):
    """A running stand-in whose files a test may change."""
    shutil.copytree(filled, tmp_path / "hub", copy_function=_link)
    with hub_standin.Standin(tmp_path / "hub") as running:
        yield running


def _link(source, target):
    """Large files are shared; a test that wants another one writes a new file."""
    return os.link(source, target)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def pull(pillion, standin, cache, monkeypatch):
    """`pillion.hub.pull` from the stand-in into the test's cache, without waiting between
    attempts."""
    from pillion.hub import downloading

    monkeypatch.setattr(downloading, "WAITS", (0.0, 0.0))

    def call(name, filename=None, **options):
        given = {"endpoint": standin.url, "cache_dir": cache, **options}
        return pillion.hub.pull(name, filename, **given)

    return call


@pytest.fixture
def refused(pillion):
    """Calls it and returns the one sentence it raises."""

    def call(kind, function, *args, **kwargs):
        with pytest.raises(kind) as caught:
            function(*args, **kwargs)
        assert isinstance(caught.value, pillion.PillionError)
        assert type(caught.value) is kind and "\n" not in str(caught.value)
        return str(caught.value)

    return call


@pytest.fixture
def pillion_says(pillion, standin, cache, monkeypatch):
    """Runs a command against the stand-in; returns (exit code, stdout, stderr)."""
    from huggingface_hub import constants
    from pillion.cli.main import app

    address = f"{standin.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", standin.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))

    def call(*words):
        done = CliRunner().invoke(app, list(words))
        return done.exit_code, done.stdout, done.stderr

    return call


@pytest.fixture
def environment(standin, cache):
    """A process that uses the stand-in by environment alone."""
    names = {"HF_ENDPOINT": standin.url, "HF_HOME": str(cache), "NO_PROXY": "*"}
    return {**os.environ, **names}
