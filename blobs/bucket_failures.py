"""What a bucket says when it refuses, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError

from .errors import BucketFailed

#: A connection that could not be made, or broke. Of what the HTTP library raises boto3 does not translate all.
BROKEN = (BotoCoreError, HTTPError, EOFError, ConnectionError, TimeoutError)

_KEYS = "Check COMFYUME_BUCKET_KEY and COMFYUME_BUCKET_SECRET, or the credentials that boto3 finds on this machine."
_LATER = "It may pass: what is across is kept, so try again."
_SEE_THERE = "See the bucket's page at its provider."
_WHY = {
    "ExpiredToken": ("the credentials have expired", "Get new ones, then try again; what is across is kept."),
    "TokenRefreshRequired": ("the credentials have expired", "Get new ones, then try again; what is across is kept."),
    "InvalidAccessKeyId": ("the bucket does not know this key", _KEYS),
    "InvalidToken": ("the bucket does not know this session token", _KEYS),
    "SignatureDoesNotMatch": ("the secret does not belong to the key", _KEYS),
    "AccessDenied": ("the key may not do that", f"{_KEYS} It needs to read, write, list and delete in this bucket."),
    "AllAccessDisabled": ("the bucket is closed", _SEE_THERE),
    "RequestTimeTooSkewed": (
        "the clock of this machine is off",
        "Set it, as with `timedatectl set-ntp true`, then try again; what is across is kept.",
    ),
    "NoSuchBucket": ("there is no such bucket", "Make it, or check COMFYUME_BUCKET and COMFYUME_BUCKET_ENDPOINT."),
    "PermanentRedirect": ("the bucket is in another region", "Set COMFYUME_BUCKET_REGION."),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "Set COMFYUME_BUCKET_REGION."),
    "QuotaExceeded": ("the bucket is full", "Free some space there, then try again."),
    "XMinioStorageFull": ("the bucket is full", "Free some space there, then try again."),
    "EntityTooLarge": ("the file is larger than the bucket takes", _SEE_THERE),
    "BadDigest": ("what arrived there was not what was sent", _LATER),
    "SlowDown": ("the bucket asks to be asked more slowly", _LATER),
    "403": ("the key may not do that, or the clock of this machine is off", _KEYS),
}


@contextmanager
def explained(action: str, where: str) -> Iterator[None]:
    """Turn what boto3 raises, and connections that break, into `BucketFailed`. `action` reads as in "Reading from"."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        reason, advice = _WHY.get(code, (f"it answered {code or 'nothing'} (HTTP {status})", _LATER))
        raise BucketFailed(action, where, reason, advice, code) from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise BucketFailed(action, where, "there are no credentials for it", _KEYS, "NoCredentials") from error
    except BROKEN as error:
        # The message of a client error never holds a credential; those of connections may hold an address, no more.
        raise BucketFailed(action, where, str(error) or type(error).__name__, _LATER) from error
