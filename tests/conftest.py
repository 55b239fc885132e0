"""What all tests share."""

import importlib.util
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests, and the processes that they start, leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def published_curves() -> Path:
    """The folder of published learning curves, named by the environment; tests that need it skip without."""
    folder = Path(os.environ.get("FORETRAIN_DATA", "shared/data"))
    if not (folder / "epoch_chinchilla").is_dir():
        pytest.skip(f"no published curves in {folder}: set FORETRAIN_DATA to the folder that holds them")
    return folder


@pytest.fixture
def s3(monkeypatch):
    """The URL of a folder in a bucket of an S3 server on loopback."""
    if any(importlib.util.find_spec(name) is None for name in ("moto", "s3fs", "flask_cors")):
        pytest.skip('no S3 server to test with: pip install "foretrain[s3-test]"')
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": address})
    name = f"runs-{os.urandom(6).hex()}"  # the servers of one process share what they hold
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    yield f"s3://{name}/logs"
    server.stop()
