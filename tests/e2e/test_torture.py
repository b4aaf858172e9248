"""Lines as clients and vandals write them, one by one, against what a scrape and the ledger show.

The rules are those of docs/protocol.md. Afterwards the daemon lives, and every scrape of the whole
torture was valid.
"""

import math
import socket
import unittest

from harness import OPENMETRICS, Daemon
from line_tables import INF, Line, LineTableTest, add_table, bad, good

# Every name is used by one line only, so that the table has no order but for the lines of one group.
COUNTERS = [
    good("c1:1|c", {"c1": 1}),
    good("c2:2.5|c", {"c2": 2.5}),
    good("c3:+5|c", {"c3": 5}),
    good("c4:0|c", {"c4": 0}),
    good("c5:-0|c", {"c5": 0}),
    good("c6:1e3|c", {"c6": 1000}),
    good("c7:.5|c", {"c7": 0.5}),
    good("c8:5.|c", {"c8": 5}),
    good("c9:0012|c", {"c9": 12}),
    good("c10:0x1p4|c", {"c10": 16}),
    good("c11:1_000|c", {"c11": 1000}),
    good("c12:1e-400|c", {"c12": 0}),
    good("c13:Inf|c", {"c13": INF}),
    good("c14:2|c|@0.5", {"c14": 4}),
    good("c15:1|c|@0.1", {"c15": 10}),
    good("c16:1|c|@2", {"c16": 0.5}),
    good("c17:1|c|@0", {"c17": 1}),
    good("c18:1|c|@x", {"c18": 1}, bad_sample_rate=1),
    good("c19:1|c|@", {"c19": 1}, bad_sample_rate=1),
    good("c20:9007199254740992|c\nc20:1|c\nc20:1|c", {"c20": 9007199254740994}, 3),
    good("c22:1|c\nc22:2|c\n", {"c22": 3}, 2),
    good("\n\nc23:1|c\n\n\n", {"c23": 1}),
    good("c24:1|c\r\nc24:1|c\r", {"c24": 2}, 2),
    good("c25:1:2:3|c", {"c25": 6}, 3),
    good("c26:1|c:2|c", {"c26": 3}, 2),
    good("c27:1|c:2|c|@0.5", {"c27": 5}, 2),
    good("c28:1:2|c|@0.5|#a:b", {"c28{a=b}": 6}, 2),
    bad("c30:-1|c", "negative_counter"),
    bad("c31:1|c|@-0.5", "negative_counter"),
    bad("c32:nan|c", "bad_value"),
    bad("c33:1e309|c", "bad_value"),
    bad("c34:0x10|c", "bad_value"),
    bad("c35: 5|c", "bad_value"),
    bad("c36:5abc|c", "bad_value"),
    bad("c37:|c", "bad_value"),
    bad("c38:+|c", "bad_value"),
    bad("c39:1.2.3|c", "bad_value"),
    bad("c40:--5|c", "bad_value"),
    bad("c41:\u0665|c", "bad_value"),
    bad("c42:1:x:2|c", "bad_value", 3, want={"c42": 3}),
]

GAUGES = [
    good("g1:5|g", {"g1": 5}),
    good("g2:5|g\ng2:+3|g\ng2:-10|g", {"g2": -2}, 3),
    good("g3:+4|g", {"g3": 4}),
    good("g4:-4|g", {"g4": -4}),
    good("g5:1:2:3|g", {"g5": 3}, 3),
    good("g6:10|g\ng6:+1:+1|g", {"g6": 12}, 3),
    good("g7:inf|g", {"g7": INF}),
    good("g8:-Inf|g", {"g8": -INF}),
    good("g9:nan|g", {"g9": math.nan}),
    good("g10:nan|g\ng10:3|g", {"g10": 3}, 2),
    good("g11:5|g|@0.1", {"g11": 5}),
    good("g12:0|g\ng12:-7|g", {"g12": -7}, 2),
    good("g13:1e-7|g", {"g13": 1e-7}),
    good("g14:123456789012345680|g", {"g14": 123456789012345680.0}),
    bad("g20:+nan|g", "bad_value"),
    bad("g21:|g", "bad_value"),
]

OBSERVERS = [
    good("t1:250|ms", {"t1_sum": 0.25, "t1_count": 1, "t1_bucket{le=0.25}": 1,
                       "t1_bucket{le=0.1}": 0, "t1_bucket{le=+Inf}": 1}),
    good("t2:250|h", {"t2_sum": 250, "t2_bucket{le=10}": 0, "t2_count": 1}),
    good("t3:2|d", {"t3_sum": 2, "t3_count": 1}),
    good("t4:1|ms\nt4:2|h\nt4:3|d", {"t4_sum": 5.001, "t4_count": 3}, 3),
    good("t5:1:2:3|ms|#a:b", {"t5_count{a=b}": 3, "t5_sum{a=b}": 0.006}, 3),
    good("t6:-5|ms", {"t6_sum": -0.005, "t6_count": 1, "t6_bucket{le=0.005}": 1}),
    good("t7:100|ms|@0.1", {"t7_count": 10, "t7_sum": 1}),
    good("t8:100|ms|@0.3", {"t8_count": 3}),
    good("t9:1|ms|@2", {}),
    good("t10:1|ms|@0.000000001", {"t10_count": 999_999_999}),
    good("t11:1|ms|@0", {"t11_count": 1}),
    good("t12:1|ms|@abc", {"t12_count": 1}, bad_sample_rate=1),
    good("t13:inf|h", {"t13_count": 1, "t13_sum": INF, "t13_bucket{le=10}": 0}),
    bad("t20:nan|ms", "bad_value"),
    bad("t21:x|h", "bad_value"),
]

SETS = [
    good("s1:ann|s\ns1:bob|s\ns1:ann|s", {"s1": 2}, 3),
    good("s2:1|s\ns2:1.0|s\ns2:+1|s", {"s2": 3}, 3),
    good("s3:ann|s|@0.1", {"s3": 1}),
    good("s4:ann|s|#a:b", {"s4{a=b}": 1}),
]

TAGS = [
    good("l1:1|c|#a:b", {"l1{a=b}": 1}),
    good("l2:1|c|#a:b,c:d", {"l2{a=b,c=d}": 1}),
    good("l3:1|c|#c:d,a:b\nl3:1|c|#a:b,c:d", {"l3{a=b,c=d}": 2}, 2),
    good("l4:1|c|#url:http://x/?q=1", {"l4{url=http://x/?q=1}": 1}),
    good("l5:1|c|#a:b|@0.5", {"l5{a=b}": 2}),
    good("l6:1|c|@0.5|#a:b", {"l6{a=b}": 2}),
    good("l7:1|c|#", {"l7": 1}),
    good("l8:1|c|#a:b,", {"l8{a=b}": 1}),
    good("l9:1|c|#,a:b", {"l9{a=b}": 1}, bad_tag=1),
    good("l10:1|c|#a:b,,c:d", {"l10{a=b,c=d}": 1}, bad_tag=1),
    good("l11:1|c|#urgent,a:b", {"l11{a=b}": 1}, bad_tag=1),
    good("l12:1|c|#a:,:b,c:d", {"l12{c=d}": 1}, bad_tag=2),
    good("l13:1|c|##a:b", {"l13{a=b}": 1}),
    good("l14:1|c|#a:b,a:c", {"l14{a=c}": 1}, overridden_label=1),
    good("l15:1|c|#a.b:1,a-b:2", {"l15{a_b=2}": 1}, overridden_label=1),
    good("l16:1|c|#1st:x", {"l16{_1st=x}": 1}),
    good("l17:1|c|#a:b c ", {"l17{a=b c }": 1}),
    good('l18:1|c|#a:say "hi"', {'l18{a=say "hi"}': 1}),
    good("l19:1|c|#a:back\\slash", {"l19{a=back\\slash}": 1}),
    good("l20:1|c|#a:größe", {"l20{a=größe}": 1}),
    good("l21:1|c|#a:b|#c:d", {"l21{a=b,c=d}": 1}),
    good("l22:1|g|#a:b\nl22:2|g|#a:c", {"l22{a=b}": 1, "l22{a=c}": 2}, 2),
    good("l23:1|c|#host:web,dd.internal.card:none",
         {"l23{host=web,dd_internal_card=none}": 1}),
    bad("l30:1|c|#__name__:x", "bad_label"),
    bad("l31:1|c|#\u00e4\u00f6:x", "bad_label"),
    bad("l32:1|h|#le:1", "bad_label"),
    good("l33:1|c|#le:1", {"l33{le=1}": 1}),
    good("l34:1|c|#quantile:1", {"l34{quantile=1}": 1}),
]

SECTIONS = [
    good("d1:1|c|c:abc", {"d1{container_id=abc}": 1}),
    good("d2:1|c|#a:b|c:in-123", {"d2{a=b,container_id=in-123}": 1}),
    good("d3:1|c|@0.5|c:abc", {"d3{container_id=abc}": 2}),
    good("d4:1|c|T1656581400", {"d4": 1}, unknown_section=1),
    good("d5:1|c|e:it-false,cn-x", {"d5": 1}, unknown_section=1),
    good("d6:1|c|card:low", {"d6": 1}, unknown_section=1),
    good("d7:1|c|future", {"d7": 1}, unknown_section=1),
    good("d8:1|c|@0.5|#a:b|c:id|e:x|card:none|T1", {"d8{a=b,container_id=id}": 2},
         unknown_section=3),
    good("d9:1|g|#a:b|x|y|z|u|v|w", {"d9{a=b}": 1}, unknown_section=6),
    bad("d20:1|c|c:", "bad_container_id"),
    bad("d21:1|c||@0.5", "malformed_sample"),
    bad("d22:1|c|", "malformed_sample"),
    bad("d23:1|c|#a:b|", "malformed_sample"),
]

LINES = [
    bad("nothing", "malformed_line"),
    bad(":1|c", "malformed_line"),
    bad("m1:1", "malformed_line"),
    bad("m2:", "malformed_line"),
    bad(b"m3\xff:1|c", "malformed_line"),
    bad(b"m4:1|c|#a:\xc3\x28", "malformed_line"),
    bad(b"m5\xc0\xaf:1|c", "malformed_line"),
    bad(b"m6\xed\xa0\x80:1|c", "malformed_line"),
    bad(b"\x00\x01\x02\x03", "malformed_line"),
    bad("m7:1|", "bad_type"),
    bad("m8:1|C", "bad_type"),
    bad("m9:1|kv", "bad_type"),
    bad("m10:1|m", "bad_type"),
    bad("m11:1|cc", "bad_type"),
    bad("m12:x|zz", "bad_value"),
    bad("m13:1|c \n", "bad_type"),
    Line("m14:1|c\nrubbish\nm14:x|c\nm14:2|c", {"m14": 3}, 4, {"malformed_line": 1, "bad_value": 1}),
    Line("m15:1|c:x|c:3|zz:4|c", {"m15": 5}, 4, {"bad_value": 1, "bad_type": 1}),
]

NAMES = [
    good("n.a.b:1|c", {"n_a_b": 1}),
    good("n-1:1|c", {"n_1": 1}),
    good("n2--x:1|c", {"n2_x": 1}),
    good("n3.-x:1|c", {"n3__x": 1}),
    good("3n:1|c", {"_3n": 1}),
    good("n 4:1|c", {"n_4": 1}),
    good("n5ä:1|c", {"n5_": 1}),
    good("n6.x:1|c\nn6_x:2|c\nn6-x:4|c", {"n6_x": 7}, 3),
    good("_event.x:1|c", {"_event_x": 1}),
    good("日本:1|g", {"__": 1}),
    bad("tallyd_series:5|g", "type_conflict"),
    bad("tallyd.series:5|g", "type_conflict"),
    bad("process_cpu_seconds_total:5|g", "type_conflict"),
]

CONFLICTS = [
    Line("x1:1|c\nx1:1|g", {"x1": 1}, 2, {"type_conflict": 1}),
    Line("x2:1|g\nx2:1|c\nx2:1|ms", {"x2": 1}, 3, {"type_conflict": 2}),
    Line("x3:1|ms\nx3:1|c", {"x3_count": 1}, 2, {"type_conflict": 1}),
    Line("x4:1|ms\nx4_sum:1|c\nx4_count:1|g\nx4_bucket:1|g", {"x4_count": 1}, 4,
         {"type_conflict": 3}),
    Line("x5_count:1|c\nx5:1|ms", {"x5_count": 1}, 2, {"type_conflict": 1}),
    Line("x6_bucket:1|g\nx6:1|h", {"x6_bucket": 1}, 2, {"type_conflict": 1}),
    good("x7:1|g\nx7_count:2|g\nx7_sum:3|g", {"x7": 1, "x7_count": 2, "x7_sum": 3}, 3),
    good("x8:1|c\nx8:1|c|#a:b", {"x8": 1, "x8{a=b}": 1}, 2),
    good("x9:1|c\nx9_total:2|c", {"x9": 1, "x9_total": 2}, 2),
    Line("x10:1|g\nx10:a|s", {"x10": 1}, 2, {"type_conflict": 1}),
]

TABLES = {
    "counters": COUNTERS, "gauges": GAUGES, "observers": OBSERVERS, "sets": SETS, "tags": TAGS,
    "sections": SECTIONS, "lines": LINES, "names": NAMES, "conflicts": CONFLICTS,
}


class TortureTest(LineTableTest):
    pass


for _name, _table in TABLES.items():
    add_table(TortureTest, _name, _table)


class SpecialTest(unittest.TestCase):
    def test_a_counter_above_two_to_the_53_stays_exact(self):
        with Daemon() as daemon:
            daemon.send_udp("big:9007199254740993|c", "big:2|c")
            daemon.settle(received=2)
            body = daemon.get("/metrics").body.decode()
            self.assertIn("\nbig 9007199254740995\n", "\n" + body)

    def test_a_counter_does_not_wrap(self):
        with Daemon() as daemon:
            daemon.send_udp(*["big:9223372036854775807|c"] * 4)
            daemon.settle(received=4)
            self.assertGreaterEqual(daemon.scrape().value("big"), 3.6e19)

    def test_the_longest_datagram(self):
        with Daemon("--statsd.read-buffer=1048576") as daemon:
            lines = b"\n".join(b"long:1|c" for _ in range(7000))
            self.assertLessEqual(len(lines), 65507)
            filler = b"x" * (65507 - len(lines) - len(b"\nz:1|c|#a:"))
            datagram = lines + b"\nz:1|c|#a:" + filler
            self.assertEqual(len(datagram), 65507)
            daemon.send_udp(datagram)
            ledger = daemon.settle(received=7001)
            self.assertEqual((ledger.reasons, ledger.truncated), ({}, 0))
            self.assertEqual(daemon.scrape().value("long"), 7000)
            self.assertEqual(daemon.scrape().value("z", a=filler.decode()), 1)

    def test_signed_gauges_keep_the_order_of_one_socket(self):
        with Daemon("--shards=4") as daemon:
            daemon.send_udp(*(f"order:{i}|g" for i in range(1000)))
            daemon.settle(received=1000)
            self.assertEqual(daemon.scrape().value("order"), 999)

    def test_the_last_gauge_of_two_sockets_holds(self):
        # Two senders may land in two shards; what was set later, by the clock, is what shows.
        with Daemon("--shards=4") as daemon:
            received = 0
            for turn in range(30):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.connect(("127.0.0.1", daemon.port("udp")))
                    sender.send(f"turns:{turn}|g".encode())
                received += 1
                daemon.settle(received=received)
                self.assertEqual(daemon.scrape().value("turns"), turn)

    def test_gauge_changes_of_two_sockets_add_up(self):
        with Daemon("--shards=4") as daemon:
            daemon.send_udp("level:100|g")
            daemon.settle(received=1)
            for _ in range(20):
                daemon.send_udp("level:+2|g")
                daemon.send_udp("level:-1|g")
            daemon.settle(received=41)
            self.assertEqual(daemon.scrape().value("level"), 120)

    def test_random_bytes_disturb_nothing(self):
        import random

        seeded = random.Random(7)
        alphabet = [bytes([i]) for i in range(256)] + [b":", b"|", b"|c", b"|#", b"@", b"\n", b","] * 20
        with Daemon() as daemon:
            for _ in range(3000):
                daemon.send_udp(b"".join(seeded.choices(alphabet, k=seeded.randrange(200))))
            daemon.send_udp("alive:1|c")
            daemon.settle(datagrams=3001)
            self.assertEqual(daemon.scrape().value("alive"), 1)
            daemon.scrape(OPENMETRICS)
            self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
