"""Builds every container image: `python -m components.build`, or `make images`.

The environment variables BASE_IMAGE and TORCH_INDEX are passed to the Dockerfiles as arguments, and DOCKER_BUILD_FLAGS
to `docker build` as options: `--network host`. TRAIN_EXTRAS="mlflow,tensorboard" adds these extras to train's image.
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
    """Builds images.

    Args:
        wanted: The names of the images; all of them where none is named.

    Returns:
        The exit status: docker's own, 2 for an unknown name, or 1 where there is no docker.
    """
    unknown = set(wanted) - set(FOUNDATIONS)
    if unknown:
        print(f"error: no image {', '.join(sorted(unknown))}; there are: {', '.join(FOUNDATIONS)}")
        return 2
    names = wanted or [*FOUNDATIONS]
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {image(name)}", flush=True)
        for command in builds(name):
            try:
                built = subprocess.run([*command, "."], cwd=ROOT)
            except FileNotFoundError:
                print(
                    "error: there is no docker here. Install Docker, and start its engine.", file=sys.stderr
                )
                return 1
            if built.returncode:
                print(f"error: {image(name)} was not built; what docker said is above.", file=sys.stderr)
                return built.returncode
    _print_sizes(names)
    return 0


def builds(name: str) -> list[list[str]]:
    """Returns the `docker build` commands for an image: one for its foundation, and one for the image itself."""
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
    build_arguments = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    return ["docker", "build", *flags, f"--tag={tag}", f"--file={dockerfile}", *build_arguments]


def _revision() -> str:
    """Returns the current commit, with a plus if files have changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty=+"], cwd=ROOT, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def _print_sizes(names: list[str]) -> None:
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
