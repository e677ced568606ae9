"""The examples of docs/clients.md, as they stand there, against a server over the embedded pair."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("openai", "anthropic", "langchain_openai"):
    pytest.importorskip(package)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8080"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)


def test_which_there_are():
    counts = {kind: len(blocks(kind)) for kind in ("python", "bash", "toml", "yaml")}
    assert counts == {"python": 4, "bash": 1, "toml": 1, "yaml": 1}


@pytest.mark.parametrize("number", range(4))
def test_python(embedded_server, number):
    code = blocks("python")[number].replace(ADDRESS, embedded_server)
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.strip()


def test_curl(embedded_server):
    script = blocks("bash")[0].replace(ADDRESS, embedded_server)
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    message, response, embeddings = json.loads("[" + done.stdout.replace("}{", "},{") + "]")
    assert message["content"][0]["text"] and response["output"][0]["content"][0]["text"]
    assert len(embeddings["data"][0]["embedding"]) == 192


def test_the_settings_can_be_read():
    tomllib = pytest.importorskip("tomllib")
    provider = tomllib.loads(blocks("toml")[0])["model_providers"]["pillion"]
    assert provider["base_url"] == f"{ADDRESS}/v1" and provider["wire_api"] == "responses"
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(blocks("yaml")[0])["models"][0]["apiBase"] == f"{ADDRESS}/v1"
