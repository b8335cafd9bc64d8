"""Starts the graph on this machine as a child (`serve run`), waits until it is ready, and ends it with all it started.

Knows the command line of Ray Serve, not Ray itself: nothing of Ray is imported here.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from serve_app.client import Client
from serve_app.errors import FingerprintMismatch, InvalidConfig, ModelUnavailable, NotReady
from serve_app.turns import children_take_turns

# Linux gives the ports from 32768 on to whoever connects, and Ray connects much while it starts. Ray's workers listen from
# 10002 to 19999, replicas behind HAProxy from 30000 on.
FREE_PORTS = range(20_000, 30_000)
POLL_S = 0.5
# What Serve's proxy answers when it has given up on the application: waiting longer is no use.
GIVEN_UP = "failed to deploy"
LASTING = frozenset({FingerprintMismatch.code, ModelUnavailable.code, InvalidConfig.code})
STOP_S = 60.0  # for `serve run` to end by itself
GRACE_S = 10.0  # then for what it started, before it is told more plainly


@dataclass(frozen=True, slots=True)
class ServeFile:
    """A configuration file of Ray Serve, as it stands (`content`) and where its proxy will listen."""

    content: Mapping[str, Any]
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{'127.0.0.1' if self.host in ('0.0.0.0', '::', '') else self.host}:{self.port}"  # noqa: S104


def read_serve_file(path: Path, profile: str | None = None, port: int | None = None) -> ServeFile:
    """The file with another profile or port where given. Raises InvalidConfig when it is not such a file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for application in content["applications"] if profile else ():
            application["args"] = {**application.get("args", {}), "profile": profile}
        options = content["http_options"] = dict(content.get("http_options") or {})
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise InvalidConfig(f"{path} is not a configuration file of Ray Serve: {error}") from error
    options["port"] = port or options.get("port", 8000)
    return ServeFile(content, str(options.get("host", "0.0.0.0")), int(options["port"]))  # noqa: S104 - Serve's default


def default_serve_file() -> Path:
    """serve_config.yaml of the working folder, else that of the checkout that this package lies in."""
    here = Path("serve_config.yaml")
    return here if here.is_file() else Path(__file__).parents[1] / here.name


def serve_command(own_ray: bool) -> list[str]:
    """`serve run`, which takes the file as its last argument. `own_ray`: never join a Ray that runs already."""
    return [sys.executable, "-m", "ray.serve.scripts", "run", *(["--address", "local"] if own_ray else [])]


class LocalGraph:
    """A running `serve run`. Use it in a `with`: leaving ends Serve, and Ray where the child started it.

    `folder` takes the configuration file as run, and the log. `settings` are added to the child's environment. `command`
    is that of `serve_command`.
    """

    def __init__(
        self,
        file: ServeFile,
        folder: Path,
        settings: Mapping[str, str],
        command: Sequence[str],
        grace_s: float = GRACE_S,
    ) -> None:
        self.url = file.url
        self._grace_s = grace_s
        self.log_path = folder / "serve.log"
        folder.mkdir(parents=True, exist_ok=True)
        if port_is_taken(file.host, file.port):
            raise NotReady(f"port {file.port} is taken: end what listens there, or name another one with --port")
        written = folder / "serve_config.yaml"
        written.write_text(yaml.safe_dump(dict(file.content), sort_keys=False), encoding="utf-8")
        # A shell starts background jobs with SIGINT ignored and a child inherits that; `serve run` ends by SIGINT.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        given = [f"{name}={value}" for name, value in settings.items()]
        # All of Ray shares this machine's cores: its many small messages must not interrupt the encoders.
        with self.log_path.open("wb") as log, children_take_turns():
            # A session of its own: Ctrl-C in the terminal reaches only us, and every process of Ray stays findable by it.
            self._child = subprocess.Popen(  # noqa: S603 - the caller's own command
                ["/usr/bin/env", *given, *command, str(written)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        # A closed terminal and a plain `kill` end the graph too, which a session of its own would otherwise survive.
        for sign in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, _leave)
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()

    def wait_until_ready(self, timeout_s: float, tell: Callable[[str], None]) -> None:
        """Return when /readyz is 200; `tell` hears why it is not. Raises NotReady when it died, gave up or took too long."""
        deadline = time.monotonic() + timeout_s
        with Client(self.url, retries=0) as client:
            while not (state := client.ready()).ready:
                reason = state.reason or "not ready"
                tell(reason)
                if not self.alive():
                    raise NotReady(f"`serve run` ended with status {self._child.returncode} before it was ready")
                hopeless = GIVEN_UP in reason or state.code in LASTING
                if hopeless or time.monotonic() >= deadline:
                    raise NotReady(f"the graph did not become ready: {reason}")
                time.sleep(POLL_S)

    def alive(self) -> bool:
        return self._child.poll() is None

    def wait(self) -> int:
        """Return the exit status of `serve run` when it has ended."""
        return self._child.wait()

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def processes(self) -> list["Process"]:
        """Every process of the child's session: Ray's own and those of the deployments."""
        return [process for process in processes() if process.session == self._child.pid]

    def stop(self) -> None:
        """End the child as Ctrl-C does, and what is left of its session by force. Returns when nothing is left."""
        # A second Ctrl-C must not leave Ray behind half stopped.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            _signal(self._child.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_S)
            for sign in (signal.SIGTERM, signal.SIGKILL):
                if self._gone_within(self._grace_s):
                    return
                for process in self.processes():
                    _signal(process.pid, sign)
            if self._gone_within(self._grace_s):
                return
        finally:
            signal.signal(signal.SIGINT, before)
        raise NotReady(f"processes of the graph would not end: {[process.pid for process in self.processes()]}")

    def _gone_within(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while self.alive() or self.processes():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine. `resident_bytes`: what it holds in memory, shared pages included. `cpu_s`: since its start."""

    pid: int
    session: int
    name: str
    resident_bytes: int
    cpu_s: float


def processes() -> list[Process]:
    """Every live process that /proc shows; none where there is no /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name in brackets may hold spaces and brackets: the fields are counted from its end.
            state, _, _, session, *rest = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended while we looked.
        if state != "Z":
            resident_bytes = int(rest[17]) * os.sysconf("SC_PAGE_SIZE")
            cpu_s = (int(rest[7]) + int(rest[8])) / os.sysconf("SC_CLK_TCK")
            found.append(Process(int(folder.name), int(session), command, resident_bytes, cpu_s))
    return found


def port_is_taken(host: str, port: int) -> bool:
    """Whether something listens there already; Serve itself would only retry for ever."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def free_port() -> int:
    """A port of the loopback interface where nothing listens, and which nobody is given who did not ask for it by number."""
    while port_is_taken("127.0.0.1", port := secrets.choice(FREE_PORTS)):
        pass
    return port


def _leave(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _signal(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return  # It ended by itself, which is what was wanted.
