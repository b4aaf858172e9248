"""tally-load, and what a server costs while it runs."""

import dataclasses
import json
import pathlib
import subprocess
import time

from harness import machine

# After the last packet a server may still work on what its socket holds.
SETTLE_SECONDS = 0.3


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the results: a workload at a rate (lines a second; 0: flat out)."""

    name: str
    workload: str
    rate: float
    transport: str = "udp"
    wait: bool = False
    series: int = 10_000
    lines_per_packet: float = 34.2

    def with_rate(self, rate):
        return dataclasses.replace(self, rate=rate)


ROWS = {
    row.name: row
    for row in (
        Row("W1", "W1", 3.5e6),
        Row("W1-low", "W1", 50e3),
        Row("W2", "W2", 3e6, lines_per_packet=15.8),
        Row("W3", "W3", 226e3, lines_per_packet=1),
        Row("W4", "W4", 5e6, transport="unixgram", wait=True, lines_per_packet=91.7),
        Row("W5", "W5", 1.2e6, series=1_000_000, lines_per_packet=15.8),
    )
}


class Load:
    """A tally-load that is prepared and begins when it is told."""

    def __init__(self, options, url, *arguments):
        self.process = subprocess.Popen(
            [
                str(pathlib.Path(options.bin) / "tally-load"),
                f"--to={url}",
                f"--cpu={options.load_cpu}",
                "--hold",
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self.process.stderr.readline() != "ready\n":
            raise RuntimeError(f"tally-load: {self.process.communicate()[1]}")

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def account(self):
        output, errors = self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError(f"tally-load: {errors}")
        return json.loads(output)

    def run(self):
        self.begin()
        return self.account()


def row_arguments(options, row):
    arguments = [f"--workload={row.workload}", f"--rate={row.rate}"]
    arguments.append(f"--senders={options.senders}")
    return arguments + (["--wait"] if row.wait else [])


def warm_up(options, server, row):
    """Makes every series known, slowly enough that nothing is lost."""
    rate = 100e3 if row.lines_per_packet == 1 else 500e3
    arguments = row_arguments(options, row.with_rate(rate)) + ["--once-each=1"]
    Load(options, server.url, *arguments).run()
    time.sleep(SETTLE_SECONDS)


@dataclasses.dataclass
class Measured:
    """What one server did with one load."""

    ns_per_line: float
    by_thread: dict
    user_share: float
    lines: int
    lost: float  # fraction of the lines offered
    rate: float  # offered, as it came out
    load_ns_per_line: float
    others: float  # share of the two CPUs' time that went to other programs


def busy_ns(options):
    return machine.busy_ns(options.server_cpu) + machine.busy_ns(options.load_cpu)


def measure(options, server, row, seconds):
    """The server's CPU for each line that it took in, over `seconds` of load."""
    load = Load(options, server.url, *row_arguments(options, row), f"--seconds={seconds}")
    drops = server.kernel_drops()
    received = server.received_lines()
    cpu, modes = machine.cpu_ns(server.pid), machine.user_sys_ns(server.pid)
    busy, start = busy_ns(options), time.monotonic_ns()
    account = load.run()
    time.sleep(SETTLE_SECONDS)
    busy, elapsed = busy_ns(options) - busy, time.monotonic_ns() - start
    cpu_after, modes_after = machine.cpu_ns(server.pid), machine.user_sys_ns(server.pid)
    drops = server.kernel_drops() - drops
    refused = account["refused_total"]["lines"]
    dropped_lines = round(drops * account["lines"] / max(1, account["packets"]))
    lines = account["lines"] - dropped_lines
    if received is not None:
        lines = server.received_lines() - received
    by_thread = {name: cpu_after[name] - cpu.get(name, 0) for name in cpu_after}
    user, system = (after - before for after, before in zip(modes_after, modes))
    offered = max(1, account["lines"] + refused)
    ours = sum(by_thread.values()) + account["cpu_ns_per_line"] * offered
    return Measured(
        ns_per_line=sum(by_thread.values()) / max(1, lines),
        by_thread={name: spent / max(1, lines) for name, spent in by_thread.items()},
        user_share=user / max(1, user + system),
        lines=lines,
        lost=1 - lines / offered,
        rate=account["lines_per_s"],
        load_ns_per_line=account["cpu_ns_per_line"],
        others=max(0, busy - ours) / (2 * elapsed),
    )
