"""Nothing of a storage in the configuration but its URI: everything else comes from the environment, for table and pictures."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.emulators import ACCOUNT, ACCOUNT_KEY, Bucket

PROGRAM = """
import asyncio, sys
from serve_app.adapters.lance_table import LanceTable
from serve_app.adapters.object_store import ObstoreObjectStore
from tests.contract.rows import ENCODER, MONDAY, record

async def use(uri):
    store = ObstoreObjectStore(f"{uri}/pictures")
    kept = await store.put("ab" * 32, "image/png", b"a picture")
    assert await store.read(kept, 100) == b"a picture"
    assert (await store.signed_url(kept)).startswith("http")
    table = LanceTable(f"{uri}/table")
    await table.create(ENCODER)
    await table.upsert([record("a")], {}, MONDAY)
    assert (await table.get(["a"]))[0].document.id == "a"

asyncio.run(use(sys.argv[1]))
"""


@pytest.mark.parametrize("storage", ["s3", "azure"])
def test_credentials_and_endpoint_come_from_the_environment(request: pytest.FixtureRequest, storage: str) -> None:
    bucket: Bucket = request.getfixturevalue(storage)
    variables = {
        "s3": {
            "AWS_ENDPOINT": bucket.options["endpoint"],
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        },
        "azure": {
            "AZURE_STORAGE_ENDPOINT": bucket.options["endpoint"],
            "AZURE_ALLOW_HTTP": "true",
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
        },
    }[storage]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AZURE_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{bucket.uri}/{uuid4()}"],
        env={**plain, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
