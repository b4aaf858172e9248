"""Reads what the kernel knows of a process and of its sockets."""

import os
import pathlib
import subprocess

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def cpu_ns(pid):
    """CPU of all threads so far, by thread name.

    The scheduler's own sums: exact to the nanosecond for a thread at rest, where utime and stime
    count in clock ticks of 10 ms.
    """
    sums = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            spent = int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # The thread ended meanwhile.
        sums[name] = sums.get(name, 0) + spent
    return sums


def user_sys_ns(pid):
    """CPU of the process in user and in kernel mode, ended threads included, in whole ticks."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) * TICK_NS, int(fields[12]) * TICK_NS


def busy_ns(cpu):
    """What a CPU has worked so far, for whomever, in whole ticks."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _wait, interrupt, soft = (int(t) for t in ticks[:7])
            return (user + nice + system + interrupt + soft) * TICK_NS
    raise RuntimeError(f"there is no CPU {cpu}")


def rss_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def udp_drops(port):
    """Datagrams that sockets bound to this port had no room for."""
    drops = 0
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                drops += int(fields[-1])
    return drops


def describe(repository):
    """Machine and commit, for the head of a results file."""
    model = next(
        line.partition(":")[2].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    commit = subprocess.run(
        ["git", "-C", repository, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "cpus": os.cpu_count(),
        "cpu_model": model,
        "kernel": os.uname().release,
        "load_average": os.getloadavg()[0],
        "commit": commit,
    }
