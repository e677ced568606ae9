"""Requests made from the OpenAPI page, right ones and wrong ones, to every endpoint, with all
checks of schemathesis."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from toy_model import toy_model

pytest.importorskip("schemathesis")
pytest.importorskip("fastapi", reason="the extra `server` is not installed")

from served import served  # noqa: E402

TEMPLATE = "{% for m in messages %}<turn>{{ m.role }}: {{ m.content }}</turn>{% endfor %}"
# What a value may be is more than a schema says; then the answer is 400, which documents itself.
CONFIG = '[checks]\npositive_data_acceptance.expected-statuses = ["2xx", "400", "404"]\n'


@pytest.fixture(scope="module")
def url(fake, tmp_path_factory):
    file = tmp_path_factory.mktemp("schemathesis") / "toy.gguf"
    file.write_bytes(toy_model({}))
    with fake.LLM(file, chat_template=TEMPLATE, n_ctx=256) as llm:
        with served(fake, llm) as (url, _):
            yield url


def run(url, folder, phases, examples, seed):
    """All operations; returns what schemathesis says, which found nothing."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG, encoding="utf-8")
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "--config-file", config, "run", f"{url}/openapi.json", "--checks", "all"]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", str(seed)]
    command += ["--request-timeout", "60", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr
    assert "passed" in done.stdout
    return done.stdout


def test_a_few_requests(url, tmp_path):
    said = run(url, tmp_path, "fuzzing", 2, 1)
    selected, tested = re.search(r"Selected: (\d+)/\d+\s+Tested: (\d+)", said).groups()
    assert selected == tested and int(tested) >= 18


@pytest.mark.slow
def test_the_edges_of_every_field(url, tmp_path):
    run(url, tmp_path, "coverage,fuzzing", 10, 1)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [2, 3])
def test_many_requests(url, tmp_path, seed):
    run(url, tmp_path, "coverage,fuzzing", 200, seed)
