"""Running commands and servers, and what each of them cost."""

from __future__ import annotations

import http.client
import json
import os
import pty
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PYTHON = sys.executable
UFILE = str(Path(PYTHON).parent / "ufile")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One process from its start to its end.

    Attributes:
        wall, cpu: seconds; CPU of the process and its children, user and system.
        rss: peak, MiB.
        counts: what the sink saw of it.
    """

    wall: float
    cpu: float
    rss: float
    code: int
    said: str
    counts: Mapping[str, Any] = field(default_factory=dict)


def environment(state: Path, **more: str) -> dict[str, str]:
    """The whole environment of a measured process."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(state),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "UFILE_STATE_DIR": str(state / "state"),
        "UFILE_CONFIG": str(state / "config.toml"),
        "UFILE_PUBLIC_KEY": "public",
        "UFILE_PRIVATE_KEY": "private",
        "no_proxy": "*",
        **more,
    }


def run(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    terminal: bool = False,
    stdin: Path | None = None,
) -> Run:
    """Run a command to its end; on a terminal of its own where it is to draw bars."""
    source = stdin.open("rb") if stdin is not None else subprocess.DEVNULL
    cost, told = os.pipe()
    started = [PYTHON, "-I", "-S", str(HERE / "start.py"), str(told), *command]
    if terminal:
        master, slave = pty.openpty()
        inlet = slave if stdin is None else source
        process = subprocess.Popen(
            started, env=env, stdin=inlet, stdout=slave, stderr=slave, pass_fds=(told,)
        )
        os.close(slave)
        out = master
    else:
        process = subprocess.Popen(
            started,
            env=env,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(told,),
        )
        assert process.stdout is not None
        out = os.dup(process.stdout.fileno())
        process.stdout.close()
    os.close(told)
    said = bytearray()
    reader = threading.Thread(target=_drain, args=(out, said), daemon=True)
    reader.start()
    process.wait()
    reader.join(5)
    if stdin is not None and not isinstance(source, int):
        source.close()
    with os.fdopen(cost) as words:
        wall, cpu, rss, code = words.read().split()
    unit = MIB if sys.platform == "darwin" else 1024
    text = said.decode("utf-8", "replace")
    return Run(float(wall), float(cpu), int(rss) / unit, int(code), text)


def _drain(fd: int, said: bytearray) -> None:
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # a terminal whose other side is gone
            piece = b""
        if not piece:
            os.close(fd)
            return
        if len(said) < MIB:
            said += piece


class SinkProcess:
    """A sink in a process of its own. A context manager."""

    def __init__(self, *, prefix: Sequence[str] = (), **ways: Any) -> None:
        self._process = subprocess.Popen(
            [*prefix, PYTHON, str(HERE / "sink.py"), json.dumps(ways)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if len(words) != 2:
            raise RuntimeError("the sink did not start")
        self.port = int(words[1])
        self._tls = ways.get("certificate") is not None

    def __enter__(self) -> SinkProcess:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def counts(self) -> dict[str, Any]:
        """What it saw since the last look."""
        connection: http.client.HTTPConnection
        if self._tls:
            import ssl

            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request("GET", "/-/counts")
            taken: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return taken


class ServeProcess:
    """`ufile serve` with a log of its requests. A context manager.

    Attributes:
        url: its endpoint.
    """

    def __init__(self, directory: Path, state: Path) -> None:
        self._log = directory / "requests.jsonl"
        self._process = subprocess.Popen(
            [UFILE, "serve", "--port", "0", "--dir", str(directory), "--request-log", self._log],
            env={**environment(state), "UFILE_PUBLIC_KEY": "", "UFILE_PRIVATE_KEY": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split()[-1]

    def __enter__(self) -> ServeProcess:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def requests(self) -> list[dict[str, Any]]:
        """What was asked so far, a record of the log each."""
        if not self._log.exists():
            return []
        text = self._log.read_text("utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def peak(self) -> float:
        """Its peak RSS so far, MiB; nan where the system does not tell."""
        status = Path(f"/proc/{self._process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
        return found[0] if found else float("nan")


@dataclass(slots=True)
class Series:
    """The runs of one client in one scenario."""

    scenario: str
    client: str
    runs: list[Run] = field(default_factory=list)

    def median(self, of: Callable[[Run], float]) -> float:
        return statistics.median(map(of, self.runs)) if self.runs else float("nan")

    @property
    def wall(self) -> float:
        return self.median(lambda one: one.wall)

    @property
    def cpu(self) -> float:
        return self.median(lambda one: one.cpu)

    @property
    def rss(self) -> float:
        return max((one.rss for one in self.runs), default=float("nan"))

    def ratio(self, other: Series, of: Callable[[Run], float]) -> float:
        """The median of the rounds' ratios: what disturbs a round disturbs both."""
        pairs = zip(self.runs, other.runs, strict=False)
        return statistics.median(of(mine) / of(theirs) for mine, theirs in pairs)

    def count(self, name: str) -> int:
        """The largest count of any run."""
        return max((int(one.counts.get(name, 0)) for one in self.runs), default=0)

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "client": self.client,
            "rounds": len(self.runs),
            "wall_s": round(self.wall, 4),
            "cpu_s": round(self.cpu, 4),
            "rss_mib": round(self.rss, 1),
            "connections": self.count("connections"),
            "in_flight": self.count("in_flight"),
            "walls": [round(one.wall, 4) for one in self.runs],
            "cpus": [round(one.cpu, 4) for one in self.runs],
        }


Client = Callable[[], Run]
"""Runs one client once."""


def interleave(
    scenario: str, clients: Mapping[str, Client], rounds: int, sink: SinkProcess | None = None
) -> dict[str, Series]:
    """Every client once a round, so that a slow minute of the machine is slow for all."""
    table = {name: Series(scenario, name) for name in clients}
    for number in range(rounds + 1):
        for name, client in clients.items():
            one = client()
            if one.code != 0:
                raise RuntimeError(f"{scenario}: {name} ended with {one.code}:\n{one.said[-2000:]}")
            counts = sink.counts() if sink is not None else {}
            if number or not rounds:  # the first round warms caches and byte code
                kept = Run(one.wall, one.cpu, one.rss, one.code, one.said, counts)
                table[name].runs.append(kept)
    return table


def compiled_floor(directory: Path) -> str | None:
    """The client in C, compiled; None where there is no compiler or no OpenSSL."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    target = directory / "floor"
    made = subprocess.run(
        [compiler, "-O2", "-w", "-o", str(target), str(HERE / "floor.c"), "-lcrypto", "-lpthread"],
        capture_output=True,
        check=False,
    )
    return str(target) if made.returncode == 0 else None
