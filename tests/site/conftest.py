"""One build of the site for all of its tests."""

import pytest
from site_pages import build


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site."""
    for needed in ("mkdocs", "mkdocstrings_handlers.python"):
        pytest.importorskip(needed, reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site") / "site"
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
