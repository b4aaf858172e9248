"""A: the process, and its beginning and end."""

import json
import os
import signal
import socket
import time

from bad_server import BlackHole
from bar import scenario
from harness import SLOWNESS, Daemon, Timeout, free_port, run_tallyd, scratch, stopped, wait_for
from lines import cpu, send_all
from rig import Load, Rig
from targets import to

CLEAN, FAILED, USAGE, IN_USE = 0, 1, 2, 3


def ends(run, rig, letter="T", code=CLEAN, seconds=10, sig=signal.SIGTERM):
    begin = time.monotonic()
    try:
        got = rig.daemon.stop(sig, seconds)
    except Timeout:
        got = "still running"
    took = time.monotonic() - begin
    run.check(letter, got == code and took < seconds * SLOWNESS,
              f"ends with {code} within {seconds} s: {got}, {took:.1f} s; {rig.daemon.log()[-300:]}")


def last_account(rig):
    """What the last log line says: "stopped", with received, applied and dropped."""
    line = rig.daemon.log().strip().splitlines()[-1]
    fields = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
    return {name: int(fields.get(f"{name}_samples", -1))
            for name in ("received", "applied", "dropped")}, line


@scenario("A2")
def told_to_stop_under_load(run):
    """What the kernel held when the word came is counted: nothing is sent after it."""
    with Rig(run) as rig:
        load = rig.start_load(2)
        time.sleep(1)
        accounts = rig.finish_load(load)
        ends(run, rig, "A")
        said, line = last_account(rig)
        packets = sum(account["samples"] for account in accounts.values())
        run.check("C", said["received"] == packets == said["applied"] + said["dropped"],
                  f"{packets} samples sent: {line}")
        run.check("T", "stopp" in line, line)
    with Rig(run) as rig:  # and while it goes on
        rig.start_load(3)
        time.sleep(1)
        ends(run, rig, "A")
        said, line = last_account(rig)
        run.check("C", said["received"] == said["applied"] + said["dropped"] > 0, line)


@scenario("A3")
def black_holes_at_the_end(run):
    with scratch() as directory, BlackHole() as hole:
        flag = to(directory, hole=f"http://127.0.0.1:{hole.port}")
        with Rig(run, flag) as rig:
            rig.sent += send_all(rig, [b"last:1|c"])
            rig.counted()
            ends(run, rig, "A")
            log = rig.daemon.log()
            run.check("T", any("hole" in line and "push" in line and "level=warn" in line
                               for line in log.splitlines()), f"the log names the target: {log[-600:]}")


@scenario("A4")
def told_twice(run):
    for sig in (signal.SIGTERM, signal.SIGINT):
        with Rig(run) as rig:
            ends(run, rig, "A", sig=sig)
    with scratch() as directory, BlackHole() as hole:
        with Rig(run, to(directory, hole=f"http://127.0.0.1:{hole.port}")) as rig:
            rig.sent += send_all(rig, [b"a:1|c"])
            rig.counted()
            rig.daemon.process.popen.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            ends(run, rig, "T", FAILED, 2)
    with Rig(run) as rig:
        ends(run, rig, "T", -signal.SIGQUIT, 5, signal.SIGQUIT)


@scenario("A5")
def stopped_for_a_while(run):
    seconds = 30 if run.full else 2
    with Rig(run) as rig:
        load = rig.start_load(None)
        before = rig.samples_per_second(1)
        merges = rig.own("tallyd_merge_duration_seconds_count")
        with stopped(rig.daemon.pid):
            time.sleep(seconds)
        time.sleep(0.2)
        spent = cpu(rig)
        rig.recovered(before)
        accounts = rig.finish_load(load)
        merged = rig.own("tallyd_merge_duration_seconds_count") - merges
        sent = sum(account["packets"] for account in accounts.values())  # a frame is counted as one
        ledger = rig.daemon.settle(datagrams=sent, seconds=30)
        total = ledger.datagrams + ledger.kernel_dropped
        samples = sum(account["samples"] for account in accounts.values())
        run.check("C", ledger.at_rest(), f"{ledger}")
        run.check("C", total == sent, f"{total:.0f} of {sent} packets")
        run.check("C", ledger.received + ledger.kernel_dropped * Load.LINES == samples,
                  f"{ledger.received:.0f} of {samples}, {ledger.kernel_dropped:.0f} datagrams dropped")
        run.check("T", merged < 40 + seconds, f"no storm of merges: {merged:.0f}")
        run.note(f"kernel dropped {ledger.kernel_dropped:.0f}, CPU since {cpu(rig) - spent:.1f} s")
        rig.quiet_log()
        rig.bounded()


@scenario("A11")
def a_thousand_hangups(run):
    with scratch() as directory:
        mapping = directory / "mapping.yml"
        mapping.write_text("mappings: [{match: 'never.*', name: never}]\n")
        with Rig(run, f"--statsd.mapping-config={mapping}") as rig:
            load = rig.start_load(12 if run.full else 4)
            time.sleep(0.5)
            for _ in range(1000):
                os.kill(rig.daemon.pid, signal.SIGHUP)
                time.sleep(0.008 if run.full else 0.001)
            rig.finish_load(load)
            ledger = rig.counted()
            run.check("C", ledger.lost == 0, f"{ledger}")
            rig.alive()
            rig.bounded()


@scenario("A12")
def broken_reloads(run):
    good = "mappings: [{match: 'm.*', name: kept, labels: {id: $1}}]\n"
    with scratch() as directory:
        mapping = directory / "mapping.yml"
        mapping.write_text(good)
        with Rig(run, f"--statsd.mapping-config={mapping}", "--web.enable-lifecycle") as rig:
            def reload(file_and_line):
                answer = rig.daemon.get("/-/reload", method="POST", timeout=30)
                run.check("T", answer.status in (400, 500) and file_and_line.encode() in answer.body,
                          f"{answer.status} {answer.body[:200]}, should name {file_and_line}")
                run.check("T", rig.own("tallyd_config_last_reload_successful") == 0, "the metric")
                rig.sent += send_all(rig, [b"m.1:1|c"])
            broken = {"mappings: [{match: 'a'": None, "mappings:\n- {match: a, name: b, color: red}\n": 2,
                      "mappings:\n- {match: '(', match_type: regex, name: b}\n": 2,
                      "mappings: []\nmappings: []\n": 2}
            for text, line in broken.items():
                mapping.write_text(text)
                reload(f"{mapping}:{line}" if line else f"{mapping}:")
            with mapping.open("w", encoding="ascii") as large:
                large.truncate(100 << 20)
            reload(str(mapping))
            mapping.unlink()
            mapping.mkdir()
            reload(str(mapping))
            mapping.rmdir()
            reload(str(mapping))
            rig.counted()
            shown = rig.daemon.scrape().value("kept", id="1")
            run.check("C", shown == len(broken) + 3, f"the old rules are in force: {shown}")
            mapping.write_text(good)
            answer = rig.daemon.get("/-/reload", method="POST")
            run.check("T", answer.status == 200
                      and rig.own("tallyd_config_last_reload_successful") == 1, "and good again")
            rig.alive()


@scenario("A13")
def a_listener_to_a_port_in_use(run):
    """Addresses are read at the start alone. So a reload, by signal and by HTTP, moves no listener,
    whatever the file says by now; and whoever starts with that file ends, naming the address."""
    with scratch() as directory, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        file = directory / "tallyd.yaml"
        file.write_text("merge: {interval: 50ms}\n")
        with Rig(run, f"--config.file={file}", "--web.enable-lifecycle") as rig:
            load = rig.start_load(3)
            before = rig.daemon.addresses
            file.write_text(json.dumps({"statsd": {"listen-udp": [taken]}}))
            os.kill(rig.daemon.pid, signal.SIGHUP)
            answer = rig.daemon.get("/-/reload", method="POST")
            run.check("T", answer.status == 200 and rig.own("tallyd_config_last_reload_successful") == 1,
                      f"reads the mapping again, if there is one: {answer.status} {answer.body[:200]}")
            code, _, errors = run_tallyd(f"--config.file={file}", "--statsd.listen-tcp=",
                                         "--web.listen-address=127.0.0.1:0")
            run.check("T", code == IN_USE and taken in errors, f"a start with it: {code} {errors}")
            rig.finish_load(load)
            ledger = rig.counted()
            run.check("C", ledger.lost == 0, f"{ledger}")
            run.check("A", before == rig.daemon.addresses and rig.daemon.get("/-/ready").status == 200,
                      "listens as before")
            rig.sent += send_all(rig, [b"a:1|c"])
            rig.counted()
            rig.alive()


@scenario("A14")
def a_second_instance(run):
    with Rig(run) as rig:
        before = (rig.directory / "g").stat().st_ino
        for flags in ([f"--statsd.listen-udp=127.0.0.1:{rig.daemon.port('udp')}"],
                      [f"--statsd.listen-unixgram={rig.directory}/g"],
                      [f"--statsd.listen-unixstream={rig.directory}/s"]):
            kind = flags[0].split("=")[0]
            rest = [f"--statsd.listen-{other}=" for other in ("udp", "tcp")
                    if f"--statsd.listen-{other}" != kind]
            code, _, errors = run_tallyd(*flags, *rest, "--web.listen-address=127.0.0.1:0")
            run.check("T", code == IN_USE and flags[0].split("=")[1] in errors, f"{flags}: {code} {errors}")
        run.check("A", (rig.directory / "g").stat().st_ino == before, "the socket file is the same")
        rig.sent += send_all(rig, [b"a:1|c"])
        rig.counted()
        rig.alive()


@scenario("A15")
def a_dead_ones_socket(run):
    with Rig(run) as rig:
        rig.daemon.process.popen.kill()
        rig.daemon.process.wait()
        with Daemon(*rig.flags, listen=rig.listen) as second:
            run.check("A", second.process.running(), "the next one binds")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(str(rig.directory / "g"))
                sender.send(b"a:1|c")
            run.check("T", second.settle(received=1).applied == 1, "and is sent to")


@scenario("A16")
def something_else_there(run):
    with scratch() as directory:
        (directory / "file").write_text("precious")
        (directory / "folder").mkdir()
        (directory / "precious").write_text("precious")
        (directory / "link").symlink_to(directory / "precious")
        for name in ("file", "folder", "link"):
            code, _, errors = run_tallyd(f"--statsd.listen-unixgram={directory / name}",
                                         "--statsd.listen-udp=", "--statsd.listen-tcp=",
                                         "--web.listen-address=127.0.0.1:0")
            run.check("T", code == IN_USE and str(directory / name) in errors, f"{name}: {code} {errors}")
        left = sorted(path.name for path in directory.iterdir())
        run.check("A", left == ["file", "folder", "link", "precious"]
                  and (directory / "file").read_text() == "precious"
                  and (directory / "link").is_symlink(), f"nothing is deleted: {left}")


@scenario("A19")
def nothing_is_there_yet(run):
    with scratch() as directory:
        flag = to(directory, nobody=f"http://127.0.0.1:{free_port()}",
                  nowhere="http://no-such-host.invalid:9091")
        begin = time.monotonic()
        with Rig(run, flag, "--statsd.relay.address=no-such-host.invalid:9125") as rig:
            took = time.monotonic() - begin
            run.check("R", took < 1.5 * SLOWNESS, f"ready after {took:.2f} s")
            rig.sent += send_all(rig, [b"a:1|c"] * 100)
            rig.counted()
            rig.recovered()
            rig.alive()


@scenario("A20")
def exit_codes(run):
    with Rig(run) as rig:
        ends(run, rig, "T", CLEAN)
    quiet = ["--statsd.listen-tcp=", "--web.listen-address=127.0.0.1:0"]
    for want, flags in ((USAGE, ["--no-such-flag"]), (USAGE, ["--merge.interval=soon"]),
                        (USAGE, ["--statsd.mapping-config=/no/such/file", *quiet]),
                        (IN_USE, ["--statsd.listen-udp=192.0.2.1:8125", *quiet])):
        code, _, errors = run_tallyd(*flags)
        run.check("T", code == want and flags[0].split("=")[-1] in errors, f"{flags}: {code} {errors}")


@scenario("A17")
def socket_file_removed(run):
    def remove_both(times):
        for name in ("g", "s"):
            (rig.directory / name).unlink()
        wait_for("new sockets", lambda: rig.own("tallyd_rebound_sockets_total") == 2 * times, 10)
        run.check("R", (rig.directory / "g").is_socket() and (rig.directory / "s").is_socket(),
                  "both are there again")
        rig.sent += send_all(rig, [b"anew:1|c"] * 10)

    with Rig(run) as rig:
        load = rig.start_load(6)
        before = rig.samples_per_second(1)
        remove_both(1)
        rig.recovered(before)  # who is connected to the former ones goes on
        rig.finish_load(load)
        rig.counted()
        remove_both(2)
        remove_both(3)
        rig.counted()
        for kind in ("unixgram", "unixstream"):
            run.check("T", rig.daemon.logged(f"listener={kind}:"), f"the log names {kind}")
        rig.quiet_log()
        rig.alive()
