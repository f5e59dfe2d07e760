"""Which location a path or URL names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from platonic_store.errors import InvalidQuery
from platonic_store.storage.location import Disk, Location

# Lance commits by conditional PUT under these alone; under others it overwrites in silence.
OBJECT_STORES: Final = ("s3", "gs", "az", "abfss")


def locate(uri: str | Path, storage_options: Mapping[str, str] | None = None) -> Location:
    """The place that a path or URL names.

    uri: a path, file://, s3://, gs://, az://, abfss://, or http(s):// for reading alone.
    storage_options: as of obstore and Lance, for example `aws_access_key_id`, `aws_endpoint`,
    `allow_http`. What is not given comes from the environment (`AWS_ACCESS_KEY_ID`, …).
    Raises: InvalidQuery.
    """
    if isinstance(uri, Path) or "://" not in uri:
        return Disk(Path(uri))
    url = urlsplit(uri)
    is_user = url.username is not None and url.scheme != "abfss"  # there it is the container
    if is_user or url.password is not None or url.query or url.fragment:
        raise InvalidQuery(
            f"the {url.scheme}:// URL of a store holds a user name, a password or a query",
            "give credentials in the environment",
        )
    if url.scheme == "file":
        return Disk(Path(unquote(url.path)))
    if url.scheme not in (*OBJECT_STORES, "http", "https") or not url.netloc:
        raise InvalidQuery(
            f"{uri} is no URL of a store",
            "give a path, or a URL of s3://, gs://, az://, abfss://, https:// or http://",
        )
    from platonic_store.storage.remote import Remote  # obstore, which a disk does not need

    return Remote(uri.rstrip("/"), dict(storage_options or {}))
