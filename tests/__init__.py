"""The tests. They begin here, before any library reads its environment, by making that the same for everybody."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

# A person's own store, hub, cluster and tracker, what they set of ours, and proxies, which no local server is behind.
_THEIRS = (
    "AWS_ S3_ MINIO_ HF_ HUGGING TRANSFORMERS_ KFP_ KUBE MLFLOW_ MINIML_ XDG_ HTTP_PROXY HTTPS_PROXY ALL_PROXY "
    "NO_PROXY MASTER_ LOCAL_ WORLD_SIZE RANK TORCHELASTIC_ COLUMNS FORCE_COLOR NO_COLOR"
)
# What these tests themselves are told, and which images are meant.
_OURS = "MINIML_EXPECT_ MINIML_HOSTILE_ MINIML_SOAK_ MINIML_MLFLOW MINIML_REGISTRY MINIML_IMAGE_TAG"


def _make_alike() -> None:
    theirs, ours = tuple(_THEIRS.split()), tuple(_OURS.split())
    for name in os.environ:
        if name.upper().startswith(theirs) and not name.startswith(ours):
            del os.environ[name]
    # A list of the machine's fonts and no setting; it takes seconds to make.
    os.environ["MPLCONFIGDIR"] = str(Path.home() / ".cache" / "matplotlib")
    # Caches, credentials and a kube configuration are looked for here.
    home = tempfile.mkdtemp(prefix="home-of-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["HOME"] = home
    # A script that starts the tests in the background has them, and all that they start, ignore Ctrl-C, and nohup has
    # them ignore that their terminal is closed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A tiny model's steps are too short to share: on two threads that wait for each other they take five times as long.
    os.environ["OMP_NUM_THREADS"] = "1"


if os.environ.get("MINIML_E2E") != "1":  # `make e2e` is about a person's own cluster
    _make_alike()
