"""Builds every container image: `python -m components.build`, or `make images`.

BASE_IMAGE and TORCH_INDEX, where set, are the Dockerfiles' arguments; DOCKER_BUILD_FLAGS goes to
`docker build` as it is, `--network host` say. TRAIN_EXTRAS="mlflow,tensorboard" lets train's image log to them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from miniml import __version__
from miniml.images import FOUNDATIONS, SERVING, image

ROOT = Path(__file__).parents[1]


def main(wanted: list[str]) -> int:
    """Builds the images of `wanted`, or all of them; the exit status is docker's."""
    unknown = set(wanted) - set(FOUNDATIONS)
    if unknown:
        print(f"error: no image {', '.join(sorted(unknown))}; there are: {', '.join(FOUNDATIONS)}")
        return 2
    names = wanted or [*FOUNDATIONS]
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {image(name)}", flush=True)
        for words in builds(name):
            try:
                built = subprocess.run([*words, "."], cwd=ROOT)
            except FileNotFoundError:
                print(
                    "error: there is no docker here. Install Docker, and start its engine.", file=sys.stderr
                )
                return 1
            if built.returncode:
                print(f"error: {image(name)} was not built; what docker said is above.", file=sys.stderr)
                return built.returncode
    _tell_sizes(names)
    return 0


def builds(name: str) -> list[list[str]]:
    """The `docker build` commands that make one image: of what it stands on, and then of itself."""
    target = FOUNDATIONS[name]
    foundation = image(target)
    given = {name: os.environ[name] for name in ("BASE_IMAGE", "TORCH_INDEX") if name in os.environ}
    own = {"FOUNDATION": foundation, "VERSION": __version__, "REVISION": _revision()}
    if name != SERVING:
        own |= {"STAGE": name, "EXTRAS": os.environ.get("TRAIN_EXTRAS", "") if name == "train" else ""}
    return [
        [*_build(foundation, "components/foundation.Dockerfile", given), f"--target={target}"],
        _build(image(name), "serving/Dockerfile" if name == SERVING else "components/Dockerfile", own),
    ]


def _build(tag: str, dockerfile: str, arguments: dict[str, str]) -> list[str]:
    flags = shlex.split(os.environ.get("DOCKER_BUILD_FLAGS", ""))
    words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    return ["docker", "build", *flags, f"--tag={tag}", f"--file={dockerfile}", *words]


def _revision() -> str:
    """The commit that the code is of, with a plus where it has been changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty=+"], cwd=ROOT, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def _tell_sizes(names: list[str]) -> None:
    print("\nimage and size; layers that images share are counted in each")
    for name in names:
        size = subprocess.run(
            ["docker", "image", "inspect", "--format={{.Size}}", image(name)],
            capture_output=True,
            text=True,
            check=True,
        )
        print(f"  {image(name):40} {int(size.stdout) / 1e6:8,.0f} MB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
