"""The emulators of object storage, started once for all contract tests that ask for them."""

from collections.abc import Iterator

import pytest

from tests.emulators import Bucket, azure_bucket, s3_bucket


@pytest.fixture(scope="session")
def s3() -> Iterator[Bucket]:
    with s3_bucket("contract") as bucket:
        yield bucket


@pytest.fixture(scope="session")
def azure() -> Iterator[Bucket]:
    with azure_bucket("contract") as bucket:
        yield bucket
