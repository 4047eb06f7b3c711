"""The resource table: one file, two engines."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ionloop.engines.resources import Resources, ResourceTable, fireworks_config, remote_config

TABLE = ResourceTable.model_validate(
    {
        "default": {"worker": "cpu", "queue": "main", "time": "01:00:00"},
        "train": {"worker": "gpu", "queue": "gpu", "gpus": 1, "threads": 4, "memory": 16},
        "select": {"worker": "front", "time": "1-00:10:30"},
    }
)


def test_a_role_takes_the_rest_from_the_default() -> None:
    train = TABLE.of("train")
    assert (train.worker, train.queue, train.gpus, train.time) == ("gpu", "gpu", 1, "01:00:00")
    assert TABLE.of("label").worker == "cpu"


@pytest.mark.parametrize(("role", "seconds"), [("label", 3600), ("select", 86_400 + 630)])
def test_time_in_seconds(role: str, seconds: int) -> None:
    assert TABLE.of(role).seconds == seconds


def test_what_fireworks_is_told() -> None:
    placement = TABLE.placement("fireworks", {"label": 32})
    assert placement["label"] == {
        "_fworker": "cpu",
        "_queueadapter": {"queue": "main", "ntasks": 32, "walltime": "01:00:00"},
    }
    assert placement["train"]["_queueadapter"] == {
        "queue": "gpu",
        "cpus_per_task": 4,
        "gres": "gpu:1",
        "mem": "16000M",
        "walltime": "01:00:00",
    }


def test_what_jobflow_remote_is_told() -> None:
    placement = TABLE.placement("remote", {"label": 32})
    assert placement["label"] == {
        "worker": "cpu",
        "resources": {"queue_name": "main", "processes": 32, "time_limit": 3600},
    }
    assert placement["train"]["resources"] == {
        "queue_name": "gpu",
        "threads_per_process": 4,
        "gpus_per_job": 1,
        "memory_per_thread": 4000,
        "time_limit": 3600,
    }


def test_further_keys_pass_as_they_are() -> None:
    resources = Resources(extra={"qos": "debug"})
    assert fireworks_config(resources) == {"_queueadapter": {"qos": "debug"}}
    assert remote_config(resources) == {"resources": {"qos": "debug"}}


def test_the_local_runner_is_told_nothing() -> None:
    assert TABLE.placement("local") == {}


def test_a_time_that_is_none() -> None:
    with pytest.raises(ValidationError, match="time"):
        Resources(time="two hours")


def test_a_role_without_jobs_is_refused() -> None:
    with pytest.raises(ValidationError, match="transport"):
        ResourceTable.model_validate({"transport": {"queue": "long"}})
