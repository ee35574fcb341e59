"""Buckets of the tests' own, at the endpoint that the fixture ``s3_endpoint`` starts and the environment names."""

from __future__ import annotations

import uuid


def new_bucket() -> str:
    """The URI of a prefix in a new, empty bucket."""
    from s3fs import S3FileSystem

    name = f"bucket-{uuid.uuid4().hex[:12]}"
    S3FileSystem().mkdir(name)
    return f"s3://{name}/koala"
