"""Opens what a setting or an option names: a bucket, or a folder. Loads boto3 only for a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .blobs.object_folder import FolderObjects
from .blobs.object_store import ObjectStore
from .blobs.shared_bucket import SharedBucket
from .settings import Settings

if TYPE_CHECKING:
    from .blobs.bucket import Bucket

SCHEME = "s3://"


def open_bucket(where: str, settings: Settings) -> Bucket:
    """The bucket ``s3://NAME/PREFIX``, reached as the settings say. Asks it nothing yet."""
    from .blobs.bucket import Bucket, BucketAddress  # noqa: PLC0415 - boto3 takes 25 MB

    name, _, prefix = where.removeprefix(SCHEME).partition("/")
    address = BucketAddress(
        name,
        prefix.strip("/"),
        endpoint=settings.bucket_endpoint,
        region=settings.bucket_region,
        path_style=settings.bucket_path_style,
        key=settings.bucket_key or None,
        secret=settings.bucket_secret or None,
    )
    return Bucket(address)


def shared_bucket(settings: Settings) -> SharedBucket | None:
    """The bucket through which jobs' files travel, if the settings name one."""
    where = settings.bucket
    return None if where is None else SharedBucket(lambda: open_bucket(where, settings))


def open_object_store(where: str, settings: Settings) -> ObjectStore:
    """``s3://NAME/PREFIX``, or the path of a folder."""
    return open_bucket(where, settings) if where.startswith(SCHEME) else FolderObjects(Path(where).expanduser())
