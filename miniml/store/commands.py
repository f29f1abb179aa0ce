"""Defines the commands of the store: publish, fetch, list.

miniml store publish local_outputs/latest/model s3://models/movie-reviews@v1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from miniml.command_line import CommandParser
from miniml.errors import MinimlError
from miniml.escaping import plain
from miniml.store.address import s3_address

_ENVIRONMENT = """\
Where the store is: AWS_ENDPOINT_URL (or S3_ENDPOINT), and otherwise Amazon S3; AWS_REGION.
Credentials: a mounted secret's folder in MINIML_S3_SECRET, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or
~/.aws/credentials with AWS_PROFILE; never an argument.
"""
_DESCRIPTION = "Datasets and models in any S3 store, by name and version."


def main(words: list[str] | None = None) -> None:
    """Runs `python -m miniml.store`, which needs only the extra of the store."""
    parser = CommandParser(
        prog="python -m miniml.store",
        description=_DESCRIPTION,
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_commands(parser)
    options = parser.parse_args(words)
    options.command(options)


def add_group(commands: Any) -> None:
    """Adds `store`, with its own commands below it, to a parser's commands."""
    grouped = commands.add_parser(
        "store",
        help="publish, fetch and list datasets and models in an S3 store",
        description=_DESCRIPTION,
        epilog=_ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_commands(grouped)


def _explained(command: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Runs a command; a known error ends it with a message and exit status 1."""
    try:
        command(options)
    except MinimlError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:  # For example, the folder is not writable.
        print(f"error: {error}. Check the path, and that this user may use it.", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(1) from None


def _add_commands(parser: CommandParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    publishing = commands.add_parser("publish", help="put a file or folder into the store")
    publishing.add_argument("source", type=Path, metavar="FOLDER", help="or a file")
    publishing.add_argument("address", help="s3://bucket/name@version")
    publishing.set_defaults(command=partial(_explained, _publish))

    fetching = commands.add_parser("fetch", help="bring an entry, or plain objects, to a new folder")
    fetching.add_argument("address", help="s3://bucket/name@version, or s3://bucket/path")
    fetching.add_argument("folder", type=Path, help="a new one, to bring it to")
    fetching.set_defaults(command=partial(_explained, _fetch))

    listing = commands.add_parser("list", help="list what was published")
    listing.add_argument("address", help="s3://bucket, or s3://bucket/name")
    listing.set_defaults(command=partial(_explained, _list))


def _publish(options: argparse.Namespace) -> None:
    from miniml.store import repository  # Only here: --help needs no S3 client.

    address = s3_address("address", options.address)
    digest = repository.publish(options.source, address)
    print(f"s3://{address.bucket}/{address.path}@sha256:{digest}")


def _fetch(options: argparse.Namespace) -> None:
    from miniml.store import repository  # Only here: --help needs no S3 client.

    print(repository.fetch(s3_address("address", options.address), options.folder).path)


def _list(options: argparse.Namespace) -> None:
    from miniml.store import repository  # Only here: --help needs no S3 client.

    address = s3_address("address", options.address)
    versions = repository.versions(address.bucket, address.path)
    if not versions:
        print(f"nothing has been published at {address}", file=sys.stderr)
    for found in versions:
        when = f"{found.published:%Y-%m-%d %H:%M}" if found.published else ""
        # Anybody who may write to the bucket can choose the names.
        print(plain(f"{found.name}@{found.version}\tsha256:{found.digest[:12]}\t{when}".rstrip()))
