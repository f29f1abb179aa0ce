"""Finds the credentials of the store. Messages name the place where they were found, never the credentials."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import EnvAWSProvider, IamAwsProvider, Provider

from miniml.errors import StoreError

SECRET_FOLDER = "MINIML_S3_SECRET"  # noqa: S105  # a variable's name
"""The environment variable that names the folder in which Kubernetes has mounted a secret."""

# The keys of a secret, as KServe (and AWS) and as KFP's own secret name them.
SECRET_KEYS = (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("accesskey", "secretkey"))

# The platform (EKS, ECS) sets one of these where it provides credentials.
_PLATFORM_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)

REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws/credentials in AWS_PROFILE, or a "
    f"mounted secret's folder in {SECRET_FOLDER}"
)


def find(on_aws: bool) -> tuple[Provider | None, str]:
    """Finds the first of: a mounted secret, the environment, the credentials file, the platform.

    Args:
        on_aws: Whether the store is Amazon's. Then the role of a virtual machine counts as well.

    Returns:
        The provider of the credentials and its description for messages. The provider is None where there are no
        credentials; public buckets need none.

    Raises:
        StoreError: the folder or the profile that the environment names holds no credentials.
    """
    if folder := os.environ.get(SECRET_FOLDER):
        return _SecretFolder(Path(folder)), f"the secret in {folder}"
    if _has_credentials(EnvAWSProvider()):
        return EnvAWSProvider(), "the environment"
    file = _CredentialsFile()
    if file.exists():
        return file, f"profile {file.profile!r} of {file.path}"
    if on_aws or any(name in os.environ for name in _PLATFORM_VARIABLES):
        # Outside a cloud nothing answers at these addresses, so the timeout is short.
        platform = IamAwsProvider(http_client=urllib3.PoolManager(timeout=3.0, retries=False))
        if _has_credentials(platform):
            return platform, "the platform (an IAM role)"
    return None, "nowhere"


def _has_credentials(provider: Provider) -> bool:
    try:
        provider.retrieve()
    except (ValueError, KeyError, OSError, urllib3.exceptions.HTTPError):
        return False
    return True


class _SecretFolder(Provider):
    """Reads a secret that Kubernetes has mounted as a file for each key, at every request, in case it was renewed."""

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
    """Reads AWS's credentials file.

    minio's own provider takes a % in a secret for a placeholder, and its error quotes the secret.
    """

    def __init__(self) -> None:
        self.path = Path(
            os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
            or Path(os.environ.get("HOME", "/")) / ".aws" / "credentials"
        )
        self.profile = os.environ.get("AWS_PROFILE") or "default"

    def exists(self) -> bool:
        """Tells whether the file has the profile.

        Raises:
            StoreError: the environment names a file or a profile that does not exist.
        """
        named = {"AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"} & os.environ.keys()
        if not self.path.is_file() and not named:
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
                f"Add it, or set AWS_PROFILE to one of them."
            )
        return Credentials(access, secret, values.get("aws_session_token"))

    def _parsed(self) -> configparser.RawConfigParser:
        parser = configparser.RawConfigParser()
        try:
            parser.read(self.path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # Both quote the line, which may hold the secret.
            raise StoreError(
                f"{self.path} cannot be read as a credentials file. Write it as [default], aws_access_key_id = ..., "
                f"aws_secret_access_key = ..., each on its own line."
            ) from None
        return parser
