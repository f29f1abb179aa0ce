"""Finds the credentials of the store where they are kept, and says where that was, never what they are."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import EnvAWSProvider, IamAwsProvider, Provider

from miniml.errors import StoreError

SECRET_FOLDER = "MINIML_S3_SECRET"  # noqa: S105  # a variable's name
"""Names a folder in which Kubernetes has mounted a secret."""

# The names of a secret's keys: KServe's (and AWS's), and those of KFP's own secret.
SECRET_KEYS = (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("accesskey", "secretkey"))

# One of these says that the machine is given its credentials by whoever runs it (EKS, ECS).
_GIVEN_BY_THE_PLATFORM = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws/credentials in AWS_PROFILE, or a "
    f"mounted secret's folder in {SECRET_FOLDER}"
)


def find(on_aws: bool) -> tuple[Provider | None, str]:
    """Who gives the credentials, and that in words; nobody where there are none, as public buckets need none.

    The first of: the folder of a mounted secret, the environment, the credentials file, the platform.
    `on_aws` says that the store is Amazon's own: then a virtual machine's role is asked for as well.

    Raises:
        StoreError: what was pointed to (a folder, a profile) does not hold them.
    """
    if folder := os.environ.get(SECRET_FOLDER):
        return _SecretFolder(Path(folder)), f"the secret in {folder}"
    if _gives(EnvAWSProvider()):
        return EnvAWSProvider(), "the environment"
    file = _CredentialsFile()
    if file.exists():
        return file, f"profile {file.profile!r} of {file.path}"
    if on_aws or any(name in os.environ for name in _GIVEN_BY_THE_PLATFORM):
        # Outside of a cloud nobody answers at these addresses: three seconds have to do.
        platform = IamAwsProvider(http_client=urllib3.PoolManager(timeout=3.0, retries=False))
        if _gives(platform):
            return platform, "the platform (an IAM role)"
    return None, "nowhere"


def _gives(provider: Provider) -> bool:
    try:
        provider.retrieve()
    except (ValueError, KeyError, OSError, urllib3.exceptions.HTTPError):
        return False
    return True


class _SecretFolder(Provider):
    """A secret as Kubernetes mounts it: a file for each key. Read at every request, so a renewed one counts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.retrieve()

    def retrieve(self) -> Credentials:
        for access_name, secret_name in SECRET_KEYS:
            access, secret = self._read(access_name), self._read(secret_name)
            if access and secret:
                return Credentials(access, secret, self._read("AWS_SESSION_TOKEN") or None)
        names = " or ".join(" and ".join(pair) for pair in SECRET_KEYS)
        raise StoreError(
            f"{SECRET_FOLDER} names {self._folder}, but that folder has no readable files {names}. "
            f"Mount the secret there, or unset {SECRET_FOLDER}."
        )

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8").strip()
        except OSError:
            return ""


class _CredentialsFile(Provider):
    """AWS's credentials file. minio's own provider takes a % in a secret for a placeholder, and fails by quoting it."""

    def __init__(self) -> None:
        self.path = Path(
            os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
            or Path(os.environ.get("HOME", "/")) / ".aws" / "credentials"
        )
        self.profile = os.environ.get("AWS_PROFILE") or "default"

    def exists(self) -> bool:
        """Whether there is such a profile. One that was named and is not there is an error, not a "no"."""
        asked_for = {"AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"} & os.environ.keys()
        if not self.path.is_file() and not asked_for:
            return False
        if self.profile == "default" and not self._parsed().has_section("default"):
            return False
        self.retrieve()
        return True

    def retrieve(self) -> Credentials:
        values = dict(self._parsed()[self.profile]) if self._parsed().has_section(self.profile) else {}
        access, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
        if not access or not secret:
            raise StoreError(
                f"{self.path} has no profile {self.profile!r} with aws_access_key_id and aws_secret_access_key; "
                f"it has: {', '.join(self._parsed().sections()) or 'none'}. "
                f"Add it, or set AWS_PROFILE to one that there is."
            )
        return Credentials(access, secret, values.get("aws_session_token"))

    def _parsed(self) -> configparser.RawConfigParser:
        parser = configparser.RawConfigParser()
        try:
            parser.read(self.path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # Either quotes the line that it stumbled over.
            raise StoreError(
                f"{self.path} cannot be read as a credentials file. Write it as [default], aws_access_key_id = ..., "
                f"aws_secret_access_key = ..., a line each."
            ) from None
        return parser
