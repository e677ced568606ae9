"""Ray Data and Ray Serve on a cluster of this machine, which all tests of this file share. And the
examples of docs/ray.md, as they stand there, on the same cluster."""

import ast
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from patience import PATIENCE, in_thread, until

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("ray.data")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray about itself
]
psutil = pytest.importorskip("psutil")
httpx = pytest.importorskip("httpx")
pytest.importorskip("pyarrow")
pytest.importorskip("fastapi", reason="the extra `server` is not installed")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ray.md"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_TQDM": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "support"),  # workers find patience.py
}


def examples(model):
    """The page's code, with the path of a model."""
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(found) == 3
    return [one.replace("gemma-4-E2B-it-Q4_0.gguf", str(model)) for one in found]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of eight CPUs, as Ray counts them. None of its processes stays behind."""
    before = dict(os.environ)
    mine = psutil.Process()
    others = set(mine.children(recursive=True))  # of other tests, which may go on
    os.environ.update(QUIET)
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=100 << 20,
        _temp_dir=folder,
        _system_config={
            "metrics_report_interval_ms": 500,
            "prestart_worker_first_driver": False,  # eight processes that nobody needs
        },
    )
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    settings.execution_options.preserve_order = True
    begun = [one for one in mine.children(recursive=True) if one not in others]
    assert begun
    try:
        yield
    finally:
        begun += [one for one in mine.children(recursive=True) if one not in others]
        ray.shutdown()
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        until(lambda: not any(map(is_alive, begun)))
        shutil.rmtree(folder, ignore_errors=True)


def is_alive(process):
    """A container's first process may never ask how its children ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ---- Ray Data ----

VERSES = [
    f"{what} {who}"
    for what in ("In the days of", "And the LORD said unto", "Now these are the sons of")
    for who in ("Moses", "Aaron", "Jacob", "Esau", "Abraham", "Isaac", "Joseph", "Judah")
]
GREEDY = {"temperature": 0, "max_tokens": 8, "n_ctx": 256}


@pytest.fixture(scope="module")
def local(pillion, tiny_target):
    with pillion.LLM(tiny_target, n_ctx=512, n_threads=1) as llm:
        yield llm


def watched(folder):
    """A Predictor that tells who answered, and answers once both actors were asked."""
    from pillion.integrations.ray import Predictor
    from pillion.integrations.ray.actor import actor_threads

    class Watched(Predictor):
        def __call__(self, batch):
            (Path(folder) / str(os.getpid())).touch()
            until(lambda: len(os.listdir(folder)) == 2)
            n = len(batch["q"])
            found = super().__call__(batch)
            return {**found, "pid": [os.getpid()] * n, "threads": [actor_threads()] * n}

    return Watched


def test_two_actors_answer_as_this_process_does(cluster, local, tiny_target, tmp_path):
    """In order. A row that cannot be answered has its reason beside it."""
    options = {"temperature": 0, "max_tokens": 8}
    wanted = [local.complete(one, **options)["choices"][0]["text"] for one in VERSES]
    rows = [{"q": one, "at": at} for at, one in enumerate([*VERSES, "x " * 500])]
    more = {"model": str(tiny_target), "prompt": "q", "on_error": "column"}
    answered = ray.data.from_items(rows, override_num_blocks=12).map_batches(
        watched(tmp_path),
        fn_constructor_kwargs={**more, **GREEDY},
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=2,
        batch_size=2,
        batch_format="numpy",
    )
    *found, failed = answered.take_all()
    assert [row["at"] for row in found] == list(range(len(VERSES)))
    assert [row["text"] for row in found] == wanted
    assert {row["finish_reason"] for row in found} == {"length"}
    assert {row["error"] for row in found} == {None}
    assert "the context holds 256 (n_ctx)" in failed["error"] and failed["text"] is None
    assert len({row["pid"] for row in [*found, failed]}) == 2
    assert {row["threads"] for row in found} == {2}  # the actor's num_cpus


def test_an_error_of_a_row_ends_the_job(cluster, tiny_target):
    from pillion.integrations.ray import Predictor

    given = ray.data.from_items([{"q": [{"role": "user", "content": "x " * 500}]}])
    options = {"model": str(tiny_target), "messages": "q", **GREEDY}
    one = ray.data.ActorPoolStrategy(size=1)
    answered = given.map_batches(Predictor, fn_constructor_kwargs=options, compute=one)
    with pytest.raises(Exception, match="row 0 of the batch: the prompt has .* tokens"):
        answered.take_all()


# ---- Ray Serve ----

STEPS = {"prompt": "In the beginning", "max_tokens": 24, "temperature": 0}


@pytest.fixture(scope="module")
def served(cluster, tiny_target):
    """The address of the page's two replicas."""
    from ray import serve

    port = free_port()  # with 0 nobody would hear which one it became
    serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
    try:
        exec(examples(tiny_target)[2], {})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_serve_answers_as_this_process_does(served, local):
    openai = pytest.importorskip("openai")
    wanted = local.complete(**STEPS)["choices"][0]["text"]
    with openai.OpenAI(base_url=f"{served}/v1", api_key="none", max_retries=0) as client:
        whole = client.completions.create(model="any", **STEPS)
        assert whole.choices[0].text == wanted
        assert whole.usage.completion_tokens == 24
        chunks = list(client.completions.create(model="any", stream=True, **STEPS))
        assert len(chunks) > 3
        assert "".join(one.choices[0].text for one in chunks) == wanted
        messages = [{"role": "user", "content": "Read Genesis 1."}]
        options = {"messages": messages, "max_tokens": 12, "temperature": 0}
        chat = client.chat.completions.create(model="any", **options)
        said = local.chat(**options)["choices"][0]["message"]["content"]
        assert chat.choices[0].message.content == said
    assert httpx.get(f"{served}/health").json() == {"status": "ok"}
    refused = httpx.post(f"{served}/v1/completions", json={"prompt": 1.5})
    assert refused.status_code == 400 and "prompt" in refused.json()["error"]["message"]


def test_a_session_stays_with_its_replica(served):
    """Each conversation finds its cache again, though there are two replicas."""
    for session in range(8):
        headers = {"x-session-id": f"session {session}"}
        body = {"prompt": f"Now these are the {session} sons", "max_tokens": 4}
        answers = [
            httpx.post(f"{served}/v1/completions", json=body, headers=headers).json()
            for _ in range(2)
        ]
        assert answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_client_that_leaves_frees_its_slot(served):
    headers = {"x-session-id": "one that leaves"}

    def metric(name):
        text = httpx.get(f"{served}/metrics", headers=headers).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    left = 'pillion_cancelled_total{cause="disconnect"}'
    before = metric(left)

    def leave():
        body = {"prompt": "In the", "stream": True, "max_tokens": 400, "ignore_eos": True}
        options = {"json": body, "headers": headers, "timeout": PATIENCE}
        with httpx.stream("POST", f"{served}/v1/completions", **options) as answer:
            next(answer.iter_lines())
        return metric(left) > before

    until(leave)  # the tiny pair may be quicker than the news that its client left
    until(lambda: metric("pillion_requests_writing") == 0)


def test_metrics_reach_ray(served):
    """Both replicas had requests, and Ray exports their counts."""
    (node,) = ray.nodes()
    address = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"

    def found():
        text = httpx.get(address, timeout=PATIENCE).text
        counts = re.findall(r"^ray_pillion_requests_total\{(.*)\} [1-9]", text, re.M)
        assert all('deployment="pillion"' in one for one in counts)
        return len({re.search('replica="(.*?)"', one)[1] for one in counts}) == 2

    until(found)


def test_an_answer_under_way_comes_to_its_end(served):
    """The last test of the application: it is deleted beside a stream."""
    from ray import serve

    lines, begun = [], threading.Event()

    def read():
        body = {**STEPS, "max_tokens": 1500, "stream": True}
        with httpx.stream(
            "POST", f"{served}/v1/completions", json=body, timeout=PATIENCE
        ) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                begun.set()

    thread, _ = in_thread(read)
    assert begun.wait(PATIENCE)
    serve.delete("default")
    thread.join(PATIENCE)
    *_, last, done = [line.removeprefix("data: ") for line in lines if line]
    assert done == "[DONE]"
    assert json.loads(last)["timings"]["predicted_n"] == 1500
    assert httpx.get(f"{served}/health").status_code == 404


# ---- the page ----


def test_the_examples_of_the_page(cluster, tiny_target, capsys):
    """The one of Ray Serve is what `served` serves."""
    space = {}
    for example in examples(tiny_target)[:2]:
        exec(example, space)
    answers, verse = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert answers.startswith("Who was Abraham? ") and "Who was Isaac? " in answers
    assert set(ast.literal_eval(verse)) == {"book", "chapter"}
