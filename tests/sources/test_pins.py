"""A run reads what its sources are when it begins, and no cache answers for what they were in an earlier one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from miniml import environment
from miniml.model.manifest import read
from miniml.preflight.pinning import look_up
from miniml.search import plan
from miniml.settings.space import models_of
from miniml.sources.address import locate
from miniml.sources.pins import Pins
from miniml.store import repository
from miniml.store.address import s3_address
from tests.command import ROOT, pipeline
from tests.hub_server import COMMIT, HubServer, write_bert, write_yelp
from tests.s3_server import WRITER, S3Server

NEXT = COMMIT[::-1]
"""The commit that comes after."""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The hub as it is, and as it is after somebody has given the dataset more rows."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after")
    for root, rows in ((before, 60), (after, 80)):
        write_yelp(root, train_rows=rows, test_rows=rows)
        write_bert(root)
    return before, after


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of its own, which this process and those that it starts have the keys to."""
    name = f"pins-{tmp_path.name.replace('_', '-')}"[:60].rstrip("-")
    s3_server.client().make_bucket(name)
    access, secret = WRITER
    for variable, value in {
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
    }.items():
        monkeypatch.setenv(variable, value)
    return name


def state_of(source: Path) -> str:
    return look_up([("dataset_id", str(source))]).states[str(source)]


def small_run(outputs: Path, **arguments: object) -> list[str]:
    """The words of a run that trains one step, and deploys nothing."""
    settings = {"outputs": outputs, "iterations": 1, "min_accuracy": 1, "max_length": 16, **arguments}
    return ["run", *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items())]


def test_pins_come_out_of_an_argument_as_they_went_into_it() -> None:
    written = Pins({"a/b": "a/b?revision=c"}, {"/tmp/it's.csv": "d"}, "e").written()
    assert Pins.read(written) == Pins({"a/b": "a/b?revision=c"}, {"/tmp/it's.csv": "d"}, "e")
    assert "{{" not in written  # KFP would replace it
    assert Pins.read("").of("anything") == "anything"


def test_other_bytes_of_the_same_size_and_time_are_another_state(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\ngood,1\n")
    times, before = file.stat(), state_of(file)
    file.write_text("text,label\ngood,0\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert state_of(file) != before
    assert state_of(tmp_path) != before
    file.write_text("text,label\ngood,1\n")
    assert state_of(file) == before


def test_a_file_that_is_renamed_or_added_is_another_state_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n")
    before = state_of(tmp_path)
    (tmp_path / "train.csv").rename(tmp_path / "test.csv")
    renamed = state_of(tmp_path)
    (tmp_path / "train.csv").write_text("")
    assert len({before, renamed, state_of(tmp_path)}) == 3


def test_what_another_image_holds_is_never_the_same() -> None:
    there = [look_up([("dataset_id", "/only/in/another/image.csv")]) for _ in range(2)]
    assert there[0] != there[1]


def test_latest_is_pinned_to_what_it_names_now_and_read_so_later(bucket: str, tmp_path: Path) -> None:
    address, file = f"s3://{bucket}/reviews@latest", tmp_path / "reviews.csv"
    for version, text in (("v1", "old"), ("v2", "new")):
        file.write_text(text)
        repository.publish(file, s3_address("to", f"s3://{bucket}/reviews@{version}"))
        if version == "v1":
            first = look_up([("dataset_id", address)])
    assert look_up([("dataset_id", address)]).of(address) != first.of(address)
    pinned = s3_address("dataset_id", first.of(address))
    assert (repository.cached("dataset_id", pinned).path / "reviews.csv").read_text() == "old"


def test_an_object_that_was_overwritten_is_another_state(
    bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    address, file = f"s3://{bucket}/raw/reviews.csv", tmp_path / "reviews.csv"
    states = []
    for text in ("old", "new", "old"):
        file.write_text(text)
        s3_server.client().fput_object(bucket, "raw/reviews.csv", str(file))
        states.append(look_up([("dataset_id", address)]).states[address])
    assert states[0] == states[2] != states[1]


def test_a_hub_id_keeps_configuration_and_split_when_it_is_pinned() -> None:
    for source in ("a/b", "a/b?config=x+y&split=train%5B%3A10%25%5D&revision=v1"):
        where = locate("dataset_id", source)
        assert locate("dataset_id", str(where)) == where


def test_only_the_models_that_a_search_names_are_looked_up() -> None:
    assert models_of("") == models_of('{"dropout": [0, 0.1]}') == []
    assert models_of('{"model_id": ["a/b", "c/d"]}') == ["a/b", "c/d"]


def fingerprint(**variables: str) -> str:
    words = [sys.executable, "-c", "from miniml import environment; print(environment.fingerprint())"]
    return subprocess.run(
        words, cwd="/", env={**os.environ, **variables}, capture_output=True, text=True, check=True
    ).stdout


def test_other_code_of_ours_is_another_environment(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "miniml", tmp_path / "miniml", ignore=shutil.ignore_patterns("__pycache__"))
    before = fingerprint(PYTHONPATH=str(tmp_path))
    assert fingerprint(PYTHONPATH=str(tmp_path)) == before
    code = tmp_path / "miniml" / "errors.py"
    code.write_text(code.read_text() + "# one line more\n")
    assert fingerprint(PYTHONPATH=str(tmp_path)) != before


@pytest.mark.parametrize("name", ["scikit_learn", "tokenizers", "accelerate", "any_other"])
def test_another_version_of_any_library_is_another_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {environment.fingerprint()}
    for version, digest in (("98", "a"), ("99", "a"), ("99", "b")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (folder / "RECORD").write_text(f"{name}/__init__.py,sha256={digest},1\n{folder.name}/METADATA,,\n")
        found.add(environment.fingerprint())
        if digest == "a":
            shutil.rmtree(folder)
    assert len(found) == 4


@pytest.mark.parametrize("module", ["text_classification", "hyperparameter_search"])
def test_kfps_cache_goes_by_what_an_uncached_preflight_has_found(module: str) -> None:
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()))
    root = spec["root"]["dag"]["tasks"]
    assert root["preflight"]["cachingOptions"] == {}
    found = {"outputParameterKey": "pins", "producerTask": "preflight"}
    assert root["transform"]["inputs"]["parameters"]["pins"] == {"taskOutputParameter": found}
    if module == "text_classification":
        assert root["train"]["inputs"]["parameters"]["pins"] == {"taskOutputParameter": found}
        return
    # A trial has them in its own argument: in a loop kfp.local gives the loop's item for every other task's output.
    [loop] = [task for task in root.values() if "parameterIterator" in task]
    outputs = [value["taskOutputParameter"] for value in loop["inputs"]["parameters"].values()
               if "taskOutputParameter" in value]  # fmt: skip
    # Its pod's nodes are chosen by two more, of which kfp.local knows nothing.
    read = [each for each in outputs if each["outputParameterKey"] not in ("node_selector", "toleration")]
    assert read == [{"outputParameterKey": "Output", "producerTask": "preflight"}]


def cached_stages(cache: dict[str, str], pins: str) -> list[str]:
    """The stages that a run of the pipeline takes from KFP's cache, which it fills with those that it does not.

    A key is made of a task's parameters, its image and command, and the ids of the artifacts that it reads, which a
    cache hit hands on as they are (kubeflow/pipelines 2.17.0: GenerateCacheKey in backend/src/v2/cacheutils/cache.go,
    reuseCachedOutputs in backend/src/v2/driver/cache.go, toRuntimeArtifact in backend/src/v2/metadata/converter.go).
    """
    spec = next(
        yaml.safe_load_all((ROOT / "pipelines" / "compiled" / "text_classification.yaml").read_text())
    )
    hits: list[str] = []
    ids: dict[str, str] = {}
    for stage in ("transform", "train", "compress", "evaluate"):
        task = spec["root"]["dag"]["tasks"][stage]
        assert task["cachingOptions"] == {"enableCache": True}
        read = [
            each["taskOutputArtifact"]["producerTask"]
            for each in task["inputs"].get("artifacts", {}).values()
        ]
        outputs = [each.get("taskOutputParameter", {}) for each in task["inputs"]["parameters"].values()]
        values = [pins if each.get("outputParameterKey") == "pins" else "" for each in outputs]
        key = json.dumps([stage, values, [ids[producer] for producer in read]])
        hits += [stage] if key in cache else []
        ids[stage] = cache.setdefault(key, f"artifact {len(cache)}")
    return hits


@pytest.mark.parametrize("argument", ["dataset_id", "model_id"])
@pytest.mark.parametrize("path", ["reviews@latest", "raw/reviews.csv"])
def test_a_schedule_takes_nothing_from_the_cache_once_a_source_has_changed(
    bucket: str, s3_server: S3Server, tmp_path: Path, path: str, argument: str
) -> None:
    address, file = f"s3://{bucket}/{path}", tmp_path / "reviews.csv"
    cache: dict[str, str] = {}

    def published_and_run(version: str) -> list[str]:
        file.write_text(version)
        s3_server.client().fput_object(bucket, "raw/reviews.csv", str(file))
        repository.publish(file, s3_address("to", f"s3://{bucket}/reviews@{version}"))
        return cached_stages(cache, look_up([(argument, address)]).written())

    assert published_and_run("v1") == []
    assert cached_stages(cache, look_up([(argument, address)]).written()) == [
        "transform",
        "train",
        "compress",
        "evaluate",
    ]
    assert published_and_run("v2") == []


def test_a_trial_reads_what_its_plan_says_that_the_sources_are() -> None:
    pins = Pins({"owner/name": "owner/name?revision=abc"}).written()
    trial = plan.encode_trial({"seed": 1}, None, pins)
    assert Pins.read(plan.pins_of(trial)).of("owner/name") == "owner/name?revision=abc"
    assert plan.decode_trial(trial) == ({"seed": 1}, None)
    assert plan.pins_of("") == ""


@pytest.fixture
def hub(
    repositories: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """The hub as it is, for the processes that a test starts."""
    with HubServer(repositories[0]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield server


def test_a_run_sees_the_dataset_that_the_hub_has_now_and_records_which(
    hub: HubServer, repositories: tuple[Path, Path], tmp_path: Path
) -> None:
    words = small_run(tmp_path / "out")
    first = pipeline(*words)
    assert "60 test rows" in first.out, first.err
    hub.root, hub.commit = repositories[1], NEXT
    changed = pipeline(*words)
    assert "80 test rows" in changed.out, changed.err
    assert "unchanged" not in changed.out
    model = read((tmp_path / "out" / "latest" / "model").resolve())
    assert model.data["source"] == f"Yelp/yelp_review_full?revision={NEXT}"
    assert model.arguments["pretrained"] == f"google-bert/bert-base-cased?revision={NEXT}"


def test_what_was_fetched_by_its_commit_is_found_by_its_name_offline(hub: HubServer) -> None:
    name = "google-bert/bert-base-cased"
    script = f"""
from miniml.preflight import pinning
from miniml.sources import hub_access
from miniml.sources.address import locate
found = pinning.look_up([("model_id", "{name}")])
print(hub_access.offline(), found.states["{name}"].split()[-1])
print(locate("model_id", found.of("{name}")).fetch_model().path)
"""
    words = [sys.executable, "-c", script]
    online, offline = (
        subprocess.run(
            words, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": value}, capture_output=True, text=True
        )
        for value in ("0", "1")
    )
    assert online.returncode == offline.returncode == 0, online.stderr + offline.stderr
    assert online.stdout.splitlines()[-1] == offline.stdout.splitlines()[-1]
    assert f"True {COMMIT}" in offline.stdout
