"""`deployment` and its replica without a cluster: keywords, health, metrics, the end."""

from types import SimpleNamespace

import pytest

pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")
pytest.importorskip("fastapi", reason="the extra `server` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray about itself


def made(**options):
    from pillion.integrations.ray import deployment

    return deployment("m.gguf", **options)._bound_deployment


def test_what_is_not_given(pillion):
    found = made()
    assert (found.name, found.num_replicas) == ("pillion", 1)
    assert found.max_ongoing_requests == 8  # twice the four that are written at a time
    assert found.max_queued_requests == 64
    assert found._deployment_config.graceful_shutdown_timeout_s == 35
    assert found.ray_actor_options == {"num_cpus": 1, "num_gpus": 0}
    model, settings, for_llm = found.init_args
    assert model == "m.gguf" and settings.local and for_llm == {"parallel": 4}


def test_keywords_go_where_they_belong(pillion):
    from pillion.server import ServerSettings

    settings = ServerSettings(host="0.0.0.0", keys=["secret"], queue_limit=5, drain_timeout=7)
    found = made(
        num_cpus=3,
        settings=settings,
        autoscaling_config={"min_replicas": 1, "max_replicas": 6, "target_ongoing_requests": 3},
        health_check_period_s=2.0,
        ray_actor_options={"memory": 1 << 30},
        name="gemma",
        n_ctx=512,
        drafter=None,
        parallel=2,
        sticky=True,
    )
    assert found.name == "gemma"
    assert found.ray_actor_options == {"num_cpus": 3, "num_gpus": 0, "memory": 1 << 30}
    config = found._deployment_config
    assert config.autoscaling_config.max_replicas == 6
    assert config.health_check_period_s == 2.0
    assert config.graceful_shutdown_timeout_s == 12
    assert (config.max_ongoing_requests, config.max_queued_requests) == (4, 5)
    assert "consistent_hash" in str(config.request_router_config.request_router_class)
    assert found.init_args[1:] == (settings, {"n_ctx": 512, "drafter": None, "parallel": 2})


def test_wrong_keywords(pillion):
    for options, said in (
        ({"num_replica": 2}, "did you mean num_replicas?"),
        ({"n_cxt": 2}, "did you mean n_ctx?"),
        ({"settings": {"keys": ["a"]}}, "it must be pillion.server.ServerSettings"),
        ({"sticky": "yes"}, "sticky is 'yes'"),
        ({"sticky": True, "request_router_config": {}}, "leave request_router_config out"),
        ({"parallel": 0}, "parallel is 0"),
    ):
        with pytest.raises(pillion.UsageError) as error:
            made(**options)
        assert said in str(error.value)


def test_an_application_by_name(pillion):
    """As Ray's command line and its files pass arguments."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as built

    from pillion.integrations.ray import app as builder

    texts = {"model": "m.gguf", "num_replicas": "2", "n_ctx": "512", "drafter": "null"}
    found = built(builder, texts)._bound_deployment
    assert found.num_replicas == 2
    assert found.init_args[0] == "m.gguf"
    assert found.init_args[2] == {"n_ctx": 512, "drafter": None, "parallel": 4}
    settings = {"host": "0.0.0.0", "keys": ["secret"]}
    found = built(builder, {"model": "m.gguf", "settings": settings})._bound_deployment
    assert list(found.init_args[1].keys) == ["secret"]
    for args, said in (
        ({"n_ctx": 1}, "args has no model"),
        ({"model": "m.gguf", "settings": {"hots": "a"}}, "did you mean host?"),
        ({"model": "m.gguf", "settings": {"host": "0.0.0.0"}}, "no API key"),
    ):
        with pytest.raises(pillion.UsageError) as error:
            builder(args)
        assert said in str(error.value)


class Metric:
    """Stands in for a metric of Ray."""

    every = {}

    def __init__(self, name, description, tag_keys):
        assert description
        self.values = self.every.setdefault(name, {})
        self.tag_keys = tag_keys

    def set(self, value, tags):
        assert set(tags) == set(self.tag_keys)
        self.values[tuple(tags.values())] = value

    def inc(self, value, tags):
        assert value > 0 and set(tags) == set(self.tag_keys)
        self.values[tuple(tags.values())] = self.values.get(tuple(tags.values()), 0) + value


@pytest.fixture
def replica(pillion, tiny_target, monkeypatch):
    from ray import serve

    from pillion.integrations.ray.replica import Replica
    from pillion.server import ServerSettings

    monkeypatch.setattr(Metric, "every", {})
    monkeypatch.setattr(serve, "metrics", SimpleNamespace(Gauge=Metric, Counter=Metric))
    found = Replica(str(tiny_target), ServerSettings(), {"n_ctx": 256, "n_threads": 1})
    yield found
    found.__del__()


def test_metrics(replica):
    """Ray's counters grow by what the engine's grew; its gauges are the engine's."""
    for n in (1, 2):
        replica._llm.complete("In the", max_tokens=8, temperature=0)
        replica._publisher.publish()
        replica._publisher.publish()
        assert Metric.every["pillion_requests_total"] == {(): n}
        assert Metric.every["pillion_generated_tokens_total"] == {(): 8 * n}
    assert Metric.every["pillion_slots"] == {(): 4}
    assert sum(Metric.every["pillion_drafts_total"].values()) > 0
    assert not [name for name in Metric.every if ":" in name]


def test_health_and_the_end(pillion, replica):
    replica.check_health()
    replica._serving.state = "failed"
    with pytest.raises(pillion.BackendError, match="device was lost"):
        replica.check_health()
    replica._serving.state = "ready"
    replica._llm.complete("In the", max_tokens=4)
    replica.__del__()
    assert Metric.every["pillion_requests_total"] == {(): 1}  # the last counts are told
    assert replica._llm.closed and not replica._publisher._thread.is_alive()
    with pytest.raises(pillion.BackendError):
        replica.check_health()


def test_a_replica_whose_model_is_missing(pillion):
    from pillion.integrations.ray.replica import Replica
    from pillion.server import ServerSettings

    with pytest.raises(pillion.ModelNotFoundError, match=r"no\.gguf"):
        Replica("no.gguf", ServerSettings(), {})
