"""`make bench`: what uploads cost, beside other clients, in rounds that interleave them.

    python tests/bench/bench.py [--full] [--only NAME,…]     NAMEs: those of `SCENARIOS`

Writes `.bench/results.json` and `.bench/results.md`. How to read them: docs/performance.md.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import netns
from runs import (
    HERE,
    MIB,
    PYTHON,
    UFILE,
    Client,
    Run,
    Series,
    ServeProcess,
    SinkProcess,
    compiled_floor,
    environment,
    interleave,
    run,
)

from ufile_cli.cli.main import COMMANDS

BLOCK = 4 * MIB
WAN: dict[str, Any] = {"latency": 0.05, "connect_latency": 0.05, "rate": 8 * MIB}


class Bench:
    """What the scenarios share: files, clients, results."""

    def __init__(self, directory: Path, *, full: bool) -> None:
        self.directory = directory
        self.full = full
        self.rounds = 9 if full else 3
        self.series: list[Series] = []
        self.goals: list[dict[str, Any]] = []
        self.notes: list[str] = []
        directory.mkdir(exist_ok=True)
        self.state = directory / "home"
        self.floor = compiled_floor(directory)
        if self.floor is None:
            self.notes.append("no C compiler or OpenSSL here: nothing is compared with the floor")
        # In small pieces: what this process holds, its children's peak RSS begins with.
        piece = random.Random(1).randbytes(BLOCK // 64)
        self.digest = _sha1_of(piece)
        self.zeros = _sha1_of(bytes(BLOCK // 64))
        # Named by what is in it: one that another version left is another file.
        self.data = directory / f"data-{self.digest[:8]}"
        if not self.data.exists() or self.data.stat().st_size != 256 * BLOCK:
            with self.data.open("wb") as file:
                for _ in range(256 * 64):
                    file.write(piece)

    def sparse(self, parts: int) -> Path:
        """A file of zeros that takes no room."""
        path = self.directory / f"zeros-{parts}"
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(parts * BLOCK)
        return path

    def warm(self, path: Path) -> Path:
        """The same file, read once: the kernel keeps pages of holes, too, and makes them slowly."""
        piece = bytearray(64 * 1024)
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass
        return path

    def fresh(self) -> None:
        """No journals from before."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir(parents=True)

    def goal(self, what: str, goal: str, measured: str, met: bool | None) -> None:
        """One row of the table of goals; None where it was not measured here."""
        word = {True: "yes", False: "NO", None: "not measured"}[met]
        self.goals.append({"what": what, "goal": goal, "measured": measured, "met": word})
        print(f"  goal: {what}: {goal}; measured {measured}: {word}", flush=True)

    def keep(self, table: dict[str, Series]) -> dict[str, Series]:
        for series in table.values():
            self.series.append(series)
            print("  " + line_of(series, table), flush=True)
        return table

    # -- clients -------------------------------------------------------------------------------

    def env(self, port: int, scheme: str = "http", **more: str) -> dict[str, str]:
        return environment(self.state, UFILE_ENDPOINT=f"{scheme}://127.0.0.1:{port}", **more)

    def ufile(self, port: int, file: Path, threads: int | str, *more: str) -> Client:
        command = [UFILE, "upload", "demo", "big", str(file), "-j", str(threads), *more]
        return lambda: run(command, self.env(port))

    def sdk(self, port: int, file: Path, threads: int) -> Client:
        command = [PYTHON, str(HERE / "sdk_client.py"), str(port), str(file), str(threads)]
        return lambda: run(command, self.env(port))

    def c(self, port: int, file: Path, parts: int, threads: int) -> dict[str, Client]:
        if self.floor is None:
            return {}
        command = [self.floor, *map(str, (port, file, parts, BLOCK, threads, 1))]
        return {"C, hashing": lambda: run(command, self.env(port))}

    def hashing(self) -> Client:
        """Reading the data and its SHA-1, block by block, and nothing else: what checking costs."""
        code = (
            "import hashlib,os,sys; fd=os.open(sys.argv[1],os.O_RDONLY); b=bytearray(1<<20)\n"
            "for _ in range(256):\n"
            "    h=hashlib.sha1(usedforsecurity=False)\n"
            "    for _ in range(4): os.readv(fd,[b]); h.update(b)"
        )
        command = [PYTHON, "-I", "-S", "-c", code, str(self.data)]
        return lambda: run(command, environment(self.state))

    def curl(self, url: str, parts: int, threads: int, *more: str) -> dict[str, Client]:
        if shutil.which("curl") is None:
            return {}
        pieces = self.directory / f"parts-{self.digest[:8]}"
        if not pieces.exists():
            pieces.mkdir()
            with self.data.open("rb") as source:
                for number in range(256):
                    with (pieces / str(number)).open("wb") as piece:
                        for _ in range(64):
                            piece.write(source.read(BLOCK // 64))
        lines = ["silent", "show-error", "parallel", f"parallel-max = {threads}"]
        lines += ["parallel-immediate", 'header = "Expect:"']
        for number in range(parts):
            lines.append(f'url = "{url}/big?uploadId=upload&partNumber={number}"')
            lines += [f'upload-file = "{pieces / str(number)}"', 'output = "/dev/null"']
        config = self.directory / f"curl-{threads}"
        config.write_text("\n".join(lines) + "\n")
        command = ["curl", "--config", str(config), *more]
        return {"curl --parallel": lambda: run(command, environment(self.state))}


def _sha1_of(piece: bytes) -> str:
    """SHA-1 of a block made of one piece, 64 times."""
    whole = hashlib.sha1()
    for _ in range(64):
        whole.update(piece)
    return whole.hexdigest()


def line_of(series: Series, table: dict[str, Series]) -> str:
    """One line for a person who waits."""
    text = (
        f"{series.scenario:<28} {series.client:<18} {series.wall:8.3f} s  cpu {series.cpu:7.3f} s"
        f"  rss {series.rss:6.1f} MiB  conn {series.count('connections'):3d}"
        f"  in flight {series.count('in_flight'):3d}"
    )
    for name in ("UCloud SDK", "C, hashing", "bare python"):
        if name in table and name != series.client:
            wall = series.ratio(table[name], lambda one: one.wall)
            cpu = series.ratio(table[name], lambda one: one.cpu)
            text += f"  {wall:.2f}/{cpu:.2f} x {name}"
    return text


# -- the scenarios ------------------------------------------------------------------------------


def loopback(bench: Bench) -> None:
    """1 GiB at 1, 4 and 16 threads."""
    for threads in (1, 4, 16) if bench.full else (4,):
        with SinkProcess(digest=bench.digest) as sink:
            bench.fresh()
            clients = {
                **bench.c(sink.port, bench.data, 256, threads),
                "UCloud SDK": bench.sdk(sink.port, bench.data, threads),
                "ufile": bench.ufile(sink.port, bench.data, threads),
                **bench.curl(f"http://127.0.0.1:{sink.port}", 256, threads),
            }
            if threads != 1:
                clients["ufile -j auto"] = bench.ufile(sink.port, bench.data, "auto")
            clients["SHA-1 alone"] = bench.hashing()
            table = bench.keep(interleave(f"loopback, -j {threads}", clients, bench.rounds, sink))
        if threads != 4:
            continue
        ours, sdk = table["ufile"], table["UCloud SDK"]
        wall, cpu = ours.ratio(sdk, lambda r: r.wall), ours.ratio(sdk, lambda r: r.cpu)
        bench.goal(
            "loopback, 4 threads, against the SDK (which checks nothing): wall / CPU",
            "at most 0.95 / 1.25",
            f"{wall:.2f} / {cpu:.2f}",
            wall <= 0.95 and cpu <= 1.25,
        )
        checking = table["SHA-1 alone"]
        together = ours.cpu / (sdk.cpu + checking.cpu)
        bench.notes.append(
            f"pread and SHA-1 of the GiB alone take {checking.cpu:.2f} s of CPU, the SDK without "
            f"them {sdk.cpu:.2f} s; ufile {together:.2f} of both together"
        )
        if "C, hashing" in table:
            floor = table["C, hashing"]
            wall, cpu = ours.ratio(floor, lambda r: r.wall), ours.ratio(floor, lambda r: r.cpu)
            bench.goal(
                "the same against the hashing C client: wall / CPU",
                "1.5 / 1.4 as an aim",
                f"{wall:.2f} / {cpu:.2f}",
                wall <= 1.5 and cpu <= 1.4,
            )
        flying, connections = ours.count("in_flight"), ours.count("connections")
        bench.goal(
            "parts in flight / connections at -j 4",
            "4 / at most 6",
            f"{flying} / {connections}",
            flying == 4 and connections <= 6,
        )


def wan(bench: Bench) -> None:
    """50 ms a request and a connection, 8 MiB/s a connection."""
    for threads, most in ((4, 1.03), (16, 1.08), (64, 1.10)):
        if threads == 64 and not bench.full:
            continue
        parts = max(256, threads * 8) if bench.full else threads * 8
        with SinkProcess(digest=bench.zeros, **WAN) as sink:
            bench.fresh()
            file = bench.sparse(parts)
            clients = {
                **bench.c(sink.port, file, parts, threads),
                "UCloud SDK": bench.sdk(sink.port, file, threads),
                "ufile": bench.ufile(sink.port, file, threads),
            }
            rounds = bench.rounds // 3 if bench.full else 0
            table = bench.keep(interleave(f"WAN, -j {threads}", clients, rounds, sink))
        ours = table["ufile"]
        flying, connections = ours.count("in_flight"), ours.count("connections")
        bench.goal(
            f"parts in flight / connections at -j {threads}",
            f"{threads} / at most {threads + 2}",
            f"{flying} / {connections}",
            flying == threads and connections <= threads + 2,
        )
        if "C, hashing" in table:
            wall = ours.ratio(table["C, hashing"], lambda r: r.wall)
            name = f"WAN at {threads} threads: wall against the C client"
            bench.goal(name, f"at most {most:.2f}", f"{wall:.2f}", wall <= most)


def auto(bench: Bench) -> None:
    """-j auto beside fixed numbers."""
    ways: list[tuple[str, dict[str, Any], Sequence[int], int]] = [
        ("loopback", {}, (1, 2, 4, 16), 256),
        ("WAN", WAN, (64,), 4096 if bench.full else 1024),
    ]
    if bench.full:
        ways += [
            ("WAN, a quarter", WAN, (64,), 1024),
            ("line of 100 MiB/s", {**WAN, "line_rate": 100 * MIB}, (4, 16, 64), 768),
            ("busy above 16", {**WAN, "busy_above": 16}, (16,), 768),
        ]
    for name, way, fixed, parts in ways:
        with SinkProcess(digest=bench.zeros, **way) as sink:
            bench.fresh()
            file = bench.warm(bench.sparse(parts))
            quick = ("--json", "-q", "--retry-interval", "0.2")
            said: list[int] = []
            ours = bench.ufile(sink.port, file, "auto", *quick)
            clients: dict[str, Client] = {"ufile -j auto": partial(_found, ours, said)}
            for threads in fixed:
                clients[f"ufile -j {threads}"] = bench.ufile(sink.port, file, threads, *quick)
            rounds = 0 if way else bench.rounds
            table = bench.keep(interleave(f"auto, {name}, {parts} parts", clients, rounds, sink))
        best = min((table[f"ufile -j {threads}"] for threads in fixed), key=lambda one: one.wall)
        ratio = table["ufile -j auto"].ratio(best, lambda one: one.wall)
        came_to = statistics.median_low(said)
        bench.goal(
            f"-j auto, {name}, {parts} parts: wall against the best of {_list(fixed)}",
            "at most 1.10",
            f"{ratio:.2f} of {best.client} (it came to {came_to} threads)",
            ratio <= 1.10,
        )


def _found(client: Client, said: list[int]) -> Run:
    """A run of -j auto, with the number that it came to."""
    one = client()
    if one.code == 0:
        said.append(int(json.loads(one.said)["threads"]))
    return one


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def tls(bench: Bench) -> None:
    """1 GiB over TLS at 4 threads."""
    certificate = bench.directory / "cert.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
            *("-subj", "/CN=sink", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(bench.directory / "key.pem"), "-out", str(certificate)),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        bench.notes.append("no openssl here: TLS was left out")
        return
    both = certificate.read_text() + (bench.directory / "key.pem").read_text()
    certificate.write_text(both)
    with SinkProcess(digest=bench.digest, certificate=str(certificate)) as sink:
        bench.fresh()
        env = bench.env(sink.port, "https", REQUESTS_CA_BUNDLE=str(certificate))
        command = [UFILE, "upload", "demo", "big", str(bench.data), "-j", "4"]
        clients: dict[str, Client] = {"ufile": lambda: run(command, env)}
        url = f"https://127.0.0.1:{sink.port}"
        clients.update(bench.curl(url, 256, 4, "--cacert", str(certificate)))
        bench.keep(interleave("TLS, -j 4", clients, bench.rounds, sink))


def stream(bench: Bench) -> None:
    """1 GiB from standard input."""
    with SinkProcess(digest=bench.digest) as sink:
        bench.fresh()
        command = [UFILE, "upload-stream", "demo", "big", "-j", "4"]
        clients = {
            "ufile upload-stream": lambda: run(command, bench.env(sink.port), stdin=bench.data),
            "ufile": bench.ufile(sink.port, bench.data, 4),
        }
        table = bench.keep(interleave("a stream, -j 4", clients, bench.rounds, sink))
        drawn = run(
            [*command, "--progress", "bars"], bench.env(sink.port), terminal=True, stdin=bench.data
        )
        if drawn.code != 0:
            raise RuntimeError(drawn.said[-2000:])
    most = 45 + 5 * BLOCK / MIB
    rss = max(table["ufile upload-stream"].rss, drawn.rss)
    name = "peak RSS of upload-stream at 4 threads, with bars"
    bench.goal(name, f"45 + 5 x 4 = {most:.0f} MiB", f"{rss:.0f} MiB", rss <= most)


def journal_run(*arguments: object) -> dict[str, Any]:
    """A run of journals.py."""
    command = [PYTHON, str(HERE / "journals.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def resume(bench: Bench) -> None:
    """1 GiB of which half is up."""
    with SinkProcess(digest=bench.zeros, listed=128) as sink:
        file = bench.sparse(256)
        url = f"http://127.0.0.1:{sink.port}"

        def again() -> Run:
            bench.fresh()
            journal_run("write", bench.state / "state", file, 256, 128, url)
            return run([UFILE, "resume", "--last", "-q"], bench.env(sink.port))

        clients = {"ufile resume": again, "ufile": bench.ufile(sink.port, file, 4)}
        table = bench.keep(interleave("resume at 50 %", clients, bench.rounds, sink))
    calls = table["ufile resume"].runs[-1].counts["calls"]
    sent = int(calls["part"])
    bench.goal("parts sent by a resume at 50 %", "128 of 256", str(sent), sent == 128)


def killed(bench: Bench) -> None:
    """kill -9 in the middle, then resume, against `ufile serve`."""
    parts, chance = 64, random.Random(3)
    for threads in (4, 16):
        worst = 0
        for _ in range(5 if bench.full else 2):
            shutil.rmtree(bench.directory / "served", ignore_errors=True)
            (bench.directory / "served").mkdir()
            bench.fresh()
            with ServeProcess(bench.directory / "served", bench.state) as server:
                env = environment(bench.state, UFILE_ENDPOINT=server.url)
                command = [UFILE, "upload", "demo", "big", str(bench.sparse(parts))]
                command += ["-q", "-j", str(threads), "--limit-rate", "100M"]
                upload = subprocess.Popen(command, env=env)
                enough = chance.randint(4, parts // 2)
                while len(part_numbers(server)) < enough and upload.poll() is None:
                    time.sleep(0.01)
                upload.kill()
                if upload.wait() == 0:
                    raise RuntimeError("the upload was over before it could be killed")
                resumed = run([UFILE, "resume", "--last", "-q"], env)
                if resumed.code != 0:
                    raise RuntimeError(resumed.said[-2000:])
                worst = max(worst, len(part_numbers(server)) - parts)
        bench.goal(
            f"parts sent again after kill -9 at -j {threads}",
            f"at most {threads}",
            str(worst),
            worst <= threads,
        )


def part_numbers(server: ServeProcess) -> list[int]:
    """The number of each part that came, also of those that broke off."""
    return [one["part_number"] for one in server.requests() if one["call"] == "part"]


def small(bench: Bench) -> None:
    """Small files, upload -r."""
    count = 5000 if bench.full else 500
    tree = bench.directory / f"tree-{count}"
    if not tree.exists():
        chance = random.Random(2)
        for number in range(count):
            path = tree / f"{number % 50:02d}" / f"{number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(chance.randint(100, 8000)))
    with SinkProcess(digest=bench.digest) as sink:
        bench.fresh()
        clients: dict[str, Client] = {}
        for threads in (4, 16):
            command = [UFILE, "upload", "-r", "demo", "t/", str(tree), "-j", str(threads), "-q"]
            clients[f"ufile -r -j {threads}"] = partial(run, command, bench.env(sink.port))
        bench.keep(interleave(f"{count} small files", clients, 0, sink))


def startup(bench: Bench) -> None:
    """Commands that send nothing."""
    bench.fresh()
    receipts, unfinished = (10_000, 20) if bench.full else (2_000, 20)
    many = bench.directory / f"many-{receipts}"
    if not many.exists():
        journal_run("many", many / "state", receipts, unfinished)
    env, crowded = environment(bench.state), environment(many)
    clients: dict[str, Client] = {
        "bare python": lambda: run([PYTHON, "-c", "pass"], env),
        "--version": lambda: run([UFILE, "--version"], env),
        "--help": lambda: run([UFILE, "--help"], env),
        "status, empty": lambda: run([UFILE, "status"], env),
        "status, crowded": lambda: run([UFILE, "status"], crowded),
        "status --all, crowded": lambda: run([UFILE, "status", "--all"], crowded),
    }
    table = bench.keep(interleave("start-up", clients, 4 * bench.rounds))
    for name, most in (("--version", 1.3), ("--help", 5.0), ("status, empty", 6.0)):
        ratio = table[name].ratio(table["bare python"], lambda r: r.cpu)
        what = f"ufile {name} against bare python (CPU)"
        bench.goal(what, f"at most {most} x", f"{ratio:.1f} x", ratio <= most)
    if bench.full:
        each: dict[str, Client] = {"bare python": clients["bare python"]}
        for name in COMMANDS:
            each[f"{name} --help"] = partial(run, [UFILE, name, "--help"], env)
        bench.keep(interleave("start-up of each", each, bench.rounds))
    ratio = table["status, crowded"].ratio(table["--version"], lambda r: r.cpu)
    what = f"status with {receipts:,} receipts and {unfinished} unfinished, against --version (CPU)"
    bench.goal(what, "at most 8 x", f"{ratio:.1f} x", ratio <= 8)


def memory(bench: Bench) -> None:
    """Peak RSS with bars."""
    for threads, most in ((4, 45), (16, 55), (64, 80)):
        peaks = []
        for parts in (64, 1024) if bench.full else (64, 256):
            with SinkProcess(digest=bench.zeros) as sink:
                bench.fresh()
                command = [UFILE, "upload", "demo", "big", str(bench.sparse(parts))]
                command += ["-j", str(threads), "--progress", "bars"]
                one = run(command, bench.env(sink.port), terminal=True)
                if one.code != 0:
                    raise RuntimeError(one.said[-2000:])
                peaks.append(one.rss)
        sizes = " / ".join(f"{peak:.0f}" for peak in peaks)
        name = f"peak RSS with bars at {threads} threads, a small and a large file"
        bench.goal(name, f"{most} MiB", f"{sizes} MiB", max(peaks) <= most)


def journal(bench: Bench) -> None:
    """The journal at 1 TiB."""
    bench.fresh()
    wrote = journal_run("write", bench.state / "state", bench.sparse(262144), 262144, 4, "local")
    read = journal_run("load", bench.state / "state")
    floor = next(
        (s for s in bench.series if s.client == "ufile" and "loopback" in s.scenario), None
    )
    share = None
    if floor is not None:
        share = wrote["acknowledge_s"] / (floor.wall * 1024)
    bench.goal(
        "journal at 262,144 parts: share of the wall at loopback speed",
        "at most 0.5 %",
        f"{wrote['acknowledge_s']:.1f} s, CPU {wrote['acknowledge_cpu_s']:.1f} s"
        + (f": {100 * share:.2f} %" if share is not None else ""),
        share <= 0.005 if share is not None else None,
    )
    size = wrote["bytes_a_part"]
    bench.goal("bytes written a part", "at most 128", f"{size:.0f}", size <= 128)
    bench.goal("load", "at most 1 s", f"{read['load_s']:.2f} s", read["load_s"] <= 1)
    more = max(read["rss_mib"] - read["rss_before_mib"], wrote["rss_mib"] - read["rss_before_mib"])
    bench.goal("memory for 262,144 parts", "30 MiB", f"{more:.0f} MiB", more <= 30)


def million(bench: Bench) -> None:
    """5 TB: 1.2 million parts."""
    parts, left = 1_190_000, 8  # in parts of 4 MiB, 5 TB are 1,192,093
    with SinkProcess(digest=bench.zeros, listed=parts - left) as sink:
        bench.fresh()
        url = f"http://127.0.0.1:{sink.port}"
        file = bench.sparse(parts)
        wrote = journal_run("write", bench.state / "state", file, parts, left, url)
        read = journal_run("load", bench.state / "state")
        one = run([UFILE, "resume", "--last", "-q", "--json"], bench.env(sink.port))
        counts = sink.counts()
    done = one.code == 0 and counts["calls"].get("part") == left
    bench.goal(
        "1.2 million parts: journal, resume, Finish",
        "works",
        f"journal {wrote['acknowledge_s']:.0f} s (rewrite {wrote['rewrite_s']:.1f} s, "
        f"{wrote['rewrite_bytes'] / MIB:.0f} MiB), load {read['load_s']:.1f} s "
        f"({read['rss_mib']:.0f} MiB); resume with {counts['calls'].get('list')} pages and a "
        f"Finish of {(counts['body_bytes'] - left * BLOCK) / 1e6:.0f} MB: {one.wall:.0f} s, "
        f"CPU {one.cpu:.0f} s, {one.rss:.0f} MiB",
        done,
    )
    if not done:
        bench.notes.append(one.said[-500:])
    served = bench.directory / "served"
    shutil.rmtree(served, ignore_errors=True)
    served.mkdir()
    bench.fresh()
    with ServeProcess(served, bench.state) as server:
        # The server writes the table while parts come; nobody could wait for 5 TB of them here.
        env = environment(bench.state, UFILE_ENDPOINT=server.url)
        upload_id = initiate(server.url, "big")
        (table,) = served.glob("*/uploads/*/parts")
        journal_run("forge", table, parts - left)
        journal_run("write", bench.state / "state", file, parts, left, server.url, upload_id)
        two = run([UFILE, "resume", "--last", "-q", "--json"], env)
        asked = server.requests()
        peak = server.peak()
    file.unlink()
    shutil.rmtree(served)
    finish = max((a["bytes_received"] for a in asked if a["call"] == "finish"), default=0)
    sent = sum(a["call"] == "part" for a in asked)
    bench.goal(
        "the same against `ufile serve`, which reads that Finish",
        "works",
        f"{sent} parts sent, Finish of {finish / 1e6:.0f} MB: {two.wall:.0f} s; "
        f"the server's peak {peak:.0f} MiB",
        two.code == 0 and sent == left and finish > 30e6,
    )
    if two.code != 0:
        bench.notes.append(two.said[-500:])


def initiate(url: str, key: str) -> str:
    """A new upload id."""
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port))
    try:
        headers = {"Host": f"demo.{host}:{port}", "Content-Type": "application/octet-stream"}
        connection.request("POST", f"/{key}?uploads", headers=headers)
        return str(json.loads(connection.getresponse().read())["UploadId"])
    finally:
        connection.close()


def network(bench: Bench) -> None:
    """A real network stack: namespaces with netem."""
    reason = netns.missing()
    if reason is not None:
        bench.notes.append(f"network namespaces were left out: {reason}")
        print(f"  left out: {reason}")
        return
    for name, rules in netns.LINES.items():
        parts = 64 if bench.full else 16
        with netns.Line(rules) as line, line.sink(digest=bench.zeros) as sink:
            bench.fresh()
            file = bench.sparse(parts)
            env = environment(bench.state, UFILE_ENDPOINT=f"http://{line.server}:{sink.port}")
            clients: dict[str, Client] = {}
            if bench.floor is not None:
                words = (sink.port, file, parts, BLOCK, 8, 1, line.server)
                floor = [*line.inside, bench.floor, *map(str, words)]
                clients["C, hashing"] = partial(run, floor, env)
            for threads in ("8", "auto"):
                ours = [*line.inside, UFILE, "upload", "demo", "big", str(file), "-j", threads]
                clients[f"ufile -j {threads}"] = partial(run, ours, env)
            bench.keep(interleave(f"netem, {name}", clients, 0))


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "startup": startup,
    "loopback": loopback,
    "memory": memory,
    "wan": wan,
    "tls": tls,
    "stream": stream,
    "resume": resume,
    "killed": killed,
    "small": small,
    "journal": journal,
    "auto": auto,
    "million": million,
    "network": network,
}
_SLOW = {"million"}


def report(bench: Bench, seconds: float) -> str:
    """The results as Markdown."""
    cpus = os.cpu_count()
    lines = [
        f"{'Full' if bench.full else 'Quick'} run, {seconds:.0f} s, {cpus} cores, "
        f"Python {sys.version.split()[0]}, load at the end {os.getloadavg()[0]:.1f}.",
        "",
        "| what | goal | measured | met |",
        "| --- | --- | --- | --- |",
    ]
    lines += ["| {what} | {goal} | {measured} | {met} |".format(**row) for row in bench.goals]
    lines += [
        "",
        "| scenario | client | wall s | CPU s | peak RSS MiB | connections | in flight |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in bench.series:
        lines.append(
            f"| {one.scenario} | {one.client} | {one.wall:.3f} | {one.cpu:.3f} | {one.rss:.0f} | "
            f"{one.count('connections')} | {one.count('in_flight')} |"
        )
    lines += ["", *(f"- {note}" for note in bench.notes)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="everything, nine rounds")
    parser.add_argument("--only", help="names of scenarios, comma-separated")
    parser.add_argument("--rounds", type=int, help="rounds instead of three or nine")
    parser.add_argument("--dir", default=".bench", type=Path)
    chosen = parser.parse_args()
    bench = Bench(chosen.dir.resolve(), full=chosen.full)
    bench.rounds = chosen.rounds or bench.rounds
    only = chosen.only.split(",") if chosen.only else None
    begun = time.monotonic()
    for name, scenario in SCENARIOS.items():
        if name in only if only is not None else bench.full or name not in _SLOW:
            print(f"{name}: {scenario.__doc__}", flush=True)
            scenario(bench)
    text = report(bench, time.monotonic() - begun)
    (bench.directory / "results.md").write_text(text)
    results = {
        "goals": bench.goals,
        "series": [one.as_json() for one in bench.series],
        "notes": bench.notes,
    }
    (bench.directory / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{text}\nwritten to {bench.directory}/results.md and results.json")


if __name__ == "__main__":
    main()
