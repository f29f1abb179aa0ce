"""The address of Kubeflow Pipelines may be written as people write it, and a link that is told leads somewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from miniml.errors import InputError
from miniml.kubeflow.server_address import AddressError, ServerAddress, find, url_of
from tests.kfp_server import KfpServer


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer() as running:
        yield running


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://localhost:8880", "http://localhost:8880"),
        ("http://localhost:8880/", "http://localhost:8880"),
        (" localhost:8880 ", "http://localhost:8880"),
        ("127.0.0.1:8880/", "http://127.0.0.1:8880"),
        ("[::1]:8880", "http://[::1]:8880"),
        ("kubeflow.example.com", "https://kubeflow.example.com"),
        ("kubeflow.example.com/pipeline/", "https://kubeflow.example.com/pipeline"),
        ("https://kubeflow.example.com/pipeline", "https://kubeflow.example.com/pipeline"),
        ("https://kubeflow.example.com/pipeline/#/runs?x=1", "https://kubeflow.example.com/pipeline"),
        ("HTTP://localhost:8880/apis/v2beta1/healthz", "http://localhost:8880"),
        ("http://localhost:8880/apis", "http://localhost:8880"),
        ("http://localhost:8880/index.html", "http://localhost:8880"),
    ],
)
def test_an_address_means_what_people_mean_by_it(written: str, meant: str) -> None:
    assert url_of(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        *("http:/localhost:8880", "ftp://localhost", "http://", "localhost:port", "localhost:88800"),
        *("https://one two", "a host", "//localhost", "http://[::1", "", "kubeflow/pipelines pods"),
    ],
)
def test_what_cannot_be_an_address_is_refused_with_one_that_could(written: str) -> None:
    with pytest.raises(InputError, match=r"--host .*Give one like http://localhost:8880") as refused:
        url_of(written)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "written",
    [
        "https://me:s3cret@kubeflow.example.com",
        "me:s3cret@kubeflow.example.com:80",
        "https://me:/s3cret@localhost",
        "http://me:s3cret@[::1",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(written: str) -> None:
    with pytest.raises(InputError, match="KFP_TOKEN") as refused:
        url_of(written)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("host", ["http://localhost..x", "http://" + "a" * 300, "localhost:0"])
def test_a_host_that_cannot_be_asked_is_told(host: str) -> None:
    with pytest.raises(AddressError, match="no Kubeflow Pipelines answers at"):
        find(host)


def test_the_uis_address_links_to_its_own_pages(server: KfpServer) -> None:
    address = find(f"{server.url}/")
    assert address.run("4f1c") == f"{server.url}/#/runs/details/4f1c"
    assert address.schedule("4f1c") == f"{server.url}/#/recurringrun/details/4f1c"


def test_the_apis_address_shows_no_run_so_the_link_is_to_the_ui(
    server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.is_ui = False
    address = find(server.url).run("4f1c")
    assert address.startswith(
        "http://localhost:8080/#/runs/details/4f1c (while this runs: kubectl port-forward"
    )
    assert server.url not in address
    monkeypatch.setenv("KFP_UI", "localhost:8880/")
    assert find(server.url) == ServerAddress(server.url, "http://localhost:8880")
    monkeypatch.setenv("KFP_UI", "ftp://ui")
    with pytest.raises(InputError, match="KFP_UI"):
        find(server.url)


def test_a_ui_whose_api_server_is_away_is_told_apart(server: KfpServer) -> None:
    server.api_is_ready = False
    with pytest.raises(AddressError, match=r"its API server does not.*kubectl get pods"):
        find(server.url)


def test_another_server_is_not_taken_for_kubeflow_pipelines() -> None:
    class Other(KfpServer):
        def health(self) -> dict[str, object]:
            return {"status": "ok"}

    with (
        Other() as other,
        pytest.raises(AddressError, match=r"answers what Kubeflow Pipelines would not.*status"),
    ):
        find(other.url)


def test_where_a_scheme_was_guessed_and_nobody_answers_the_guess_is_told() -> None:
    with pytest.raises(AddressError, match=r"taken for https://kubeflow\.invalid:1: write the http://"):
        find("kubeflow.invalid:1")
