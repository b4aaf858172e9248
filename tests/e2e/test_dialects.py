"""Every dialect of the wire through the daemon: lines as the clients of each write them, and as
nobody should, against the exact series and the exact account.

The rules are those of docs/protocol.md. Every name is used by one line only, so that a table has no
order but for the lines of one datagram.
"""

import pathlib
import socket
import unittest

from harness import OPENMETRICS, Daemon, scratch
from line_tables import INF, Line, LineTableTest, add_table, bad, event, good, same

MAX_DOUBLE = 1.7976931348623157e308


def texts_as(prefix, type_, texts):
    """One line a text, as the value of a series of its own."""
    for number, (text, value) in enumerate(texts):
        name = f"{prefix}{number}"
        yield good(f"{name}:{text}|{type_}", {name: value})


def bad_texts_as(prefix, type_, texts, reason="bad_value"):
    for number, text in enumerate(texts):
        yield bad(f"{prefix}{number}:{text}|{type_}", reason)


# What Go's ParseFloat takes, and as what.
NUMBERS = [
    ("5", 5), ("+5", 5), (".5", .5), ("5.", 5), ("0012", 12), ("1e3", 1000), ("1E3", 1000),
    ("1e+3", 1000), ("2.5E-1", .25), ("0x1p4", 16), ("0X1P4", 16), ("0x1.8p1", 3), ("0x.8p1", 1),
    ("0x8.p-3", 1), ("0x1p-1075", 0), ("0xAp0", 10), ("Inf", INF), ("+Infinity", INF),
    ("iNf", INF), ("INFINITY", INF), ("1_000", 1000), ("1_0.0_1", 10.01), ("1e1_0", 1e10),
    ("0x_1p4", 16), ("0x1_0p1", 32), ("1e-400", 0), ("1e-99999999", 0), ("0e99999999", 0),
    ("1.7976931348623157e308", MAX_DOUBLE), ("1.7976931348623158e308", MAX_DOUBLE),
    ("5e-324", 5e-324), ("2e-324", 0), ("9007199254740993", 9007199254740993),
    ("0.1000000000000000055511151231257827021181583404541015625", .1),
    ("1" + "0" * 300, 1e300), ("0." + "0" * 300 + "1", 1e-301), ("1" * 40, float("1" * 40)),
]
REFUSED_NUMBERS = [
    "", " 5", "5 ", "\t5", "5abc", "5,3", "1e", "1e+", ".", "+.", "e5", "1.2.3", "0x10", "0x",
    "0xp1",
    "0x1p", "--5", "+-5", "+", "-", "+nan", "-nan", "nan(1)", "infin", "infinit", "1.5f", "1e309",
    "-1e309", "0x1p1024", "1__0", "_1", "1_", "1_.5", "1._5", "1e_5", "1_e5", "0_x1p4", "0x1_p4",
    "0b1", "0o7", "1'000", "1 000", "\u0665", "\u00bd", "\uff15", "$5", "5%", "true", "null", "-0x",
    "1e5.5", "0x1.8", "\x005", "5\x00", "\u00a05",
]

COUNTERS = [
    *texts_as("number_c", "c", NUMBERS),
    *bad_texts_as("refused_c", "c", REFUSED_NUMBERS),
    bad("nan_c:nan|c", "bad_value"),
    bad("nan_c:NaN|c|@0.5", "bad_value"),
    bad("minus_c:-Inf|c", "negative_counter"),
    bad("minus_c:-1e-300|c", "negative_counter"),
    good("zero_c:-0|c", {"zero_c": 0}),
    good("zero2_c:-1e-400|c", {"zero2_c": 0}),
]

GAUGES = [
    *texts_as("number_g", "g", NUMBERS),
    *bad_texts_as("refused_g", "g", REFUSED_NUMBERS),
    good("nan_g:1|g\nnan_g:nan|g\nnan_g:7|g", {"nan_g": 7}, 3),
    good("walk:10|g\nwalk:-4|g\nwalk:+1|g\nwalk:-10|g", {"walk": -3}, 4),
    good("to_minus:3|g\nto_minus:0|g\nto_minus:-8|g", {"to_minus": -8}, 3),
    good("changes:+1:+2:-4|g", {"changes": -1}, 3),
    good("packed_set:+1:5:+2|g", {"packed_set": 7}, 3),
    good("rate_g:4|g|@0.25", {"rate_g": 4}),
    good("rate2_g:4|g|@x", {"rate2_g": 4}, bad_sample_rate=1),
]

OBSERVERS = [
    *bad_texts_as("refused_ms", "ms", ["", "x", "nan", "1e309", "0x10"]),
    *bad_texts_as("refused_h", "h", ["", "x", "nan", "1e309", "0x10"]),
    *bad_texts_as("refused_d", "d", ["", "x", "nan", "1e309", "0x10"]),
    good("unit:1500|ms", {"unit_sum": 1.5, "unit_count": 1, "unit_bucket{le=2.5}": 1,
                          "unit_bucket{le=1}": 0}),
    good("bound:250|ms\nbound:500|ms", {"bound_bucket{le=0.25}": 1, "bound_bucket{le=0.5}": 2}, 2),
    good("minus:-3|h", {"minus_sum": -3, "minus_bucket{le=0.005}": 1}),
    good("infinite:-Inf|h", {"infinite_sum": -INF, "infinite_bucket{le=0.005}": 1}),
    good("shared:1000|ms\nshared:2|h\nshared:3|d", {"shared_sum": 6, "shared_count": 3}, 3),
]

RATES = [
    good("r1:1|c|@0.5", {"r1": 2}), good("r2:1|c|@0.3", {"r2": 1 / .3}),
    good("r3:3|c|@1.5", {"r3": 2}), good("r4:1|c|@1e-3", {"r4": 1000}),
    good("r5:1|c|@+0.5", {"r5": 2}), good("r6:1|c|@0x1p-1", {"r6": 2}),
    good("r7:1|c|@0", {"r7": 1}), good("r8:1|c|@-0", {"r8": 1}), good("r9:1|c|@0.0", {"r9": 1}),
    good("r10:1|c|@1e-400", {"r10": 1}), good("r11:5|c|@inf", {"r11": 0}),
    good("r12:8|c|@0.5|@0.25", {"r12": 64}), good("r13:8|c|@0.5|@0", {"r13": 16}),
    *(good(f"bad_rate{i}:2|c|@{text}", {f"bad_rate{i}": 2}, bad_sample_rate=1)
      for i, text in enumerate(["", "x", "0,5", " 0.5", "0.5 ", "nan", "1e309", "@0.5", "--1",
      "1e"])),
    good("bad_twice:2|c|@x|@y", {"bad_twice": 2}, bad_sample_rate=2),
    good("bad_packed:1:2|c|@x", {"bad_packed": 3}, 2, bad_sample_rate=2),
    bad("rn1:1|c|@-1", "negative_counter"), bad("rn2:1|c|@-0.5", "negative_counter"),
    good("o1:1|ms|@0.5", {"o1_count": 2, "o1_sum": .002}), good("o2:1|ms|@0.3", {"o2_count": 3}),
    good("o3:1|ms|@0.15", {"o3_count": 6}), good("o4:1|ms|@2", {}),
    good("o5:1|ms|@0", {"o5_count": 1}), good("o6:1|h|@1e-9", {"o6_count": 999_999_999}),
    good("o7:1|h|@-1", {}), good("o8:1|h|@inf", {}),
    good("o9:1|h|@0.5|@0.25", {"o9_count": 4}),
    good("o10:1|d|@x", {"o10_count": 1}, bad_sample_rate=1),
    good("o11:1:2|h|@0.5", {"o11_count": 4, "o11_sum": 6}, 2),
    good("\n".join(["weight:1|ms|@0.6"] * 3), {"weight_count": 5}, 3),
    good("set_rate:a|s|@0.1\nset_rate:b|s|@x", {"set_rate": 2}, 2, bad_sample_rate=1),
]

PACKING = [
    good("p1:1:2:3|c", {"p1": 6}, 3), good("p2:1:2:3|g", {"p2": 3}, 3),
    good("p3:1:2:3|ms", {"p3_count": 3, "p3_sum": .006}, 3),
    good("p4:1:2:3|h|#a:b", {"p4_count{a=b}": 3}, 3),
    good("p5:1:2:3|d|@0.5|#a:b|c:id|T1",
         {"p5_count{a=b,container_id=id}": 6}, 3, unknown_section=3),
    good("p6:1:2|c|#a:x:y", {"p6{a=x:y}": 3}, 2),
    good("p7:1:2|c|#a,b:c", {"p7{b=c}": 3}, 2, bad_tag=2),
    good("p8:1:2|c|c:id", {"p8{container_id=id}": 3}, 2),
    Line("p9:1::x:4|c", {"p9": 5}, 4, {"bad_value": 2}),
    Line("p10::1|c", {"p10": 1}, 2, {"bad_value": 1}),
    Line("p11:1:|c", {"p11": 1}, 2, {"bad_value": 1}),
    Line("p12::|c", {}, 2, {"bad_value": 2}),
    Line("p13:1:-2:3|c", {"p13": 4}, 3, {"negative_counter": 1}),
    Line("p14:1:nan:3|h", {"p14_count": 2}, 3, {"bad_value": 1}),
    bad("p15:1:2|q", "bad_packing"), bad("p16:1:2|", "bad_packing"),
    bad("p17:1:2|C", "bad_packing"),
    bad("p18:1:2|kv|#a:b", "bad_packing"), bad("p19:x:y|ms ", "bad_packing"),
    bad("p20:1:2|c|", "malformed_sample", 2), bad("p21:1:2|c|c:", "bad_container_id", 2),
    good("p22:a:b|s\np22:a:b|s\np22:a|s", {"p22": 2}, 3),
    good("p23::|s", {"p23": 1}),
]

SEVERAL = [
    good("m1:1|c:2|c", {"m1": 3}, 2), good("m2:1|c|@0.5:3|c", {"m2": 5}, 2),
    good("m3:1|c:2|c|@0.5:4|c|@0.25", {"m3": 21}, 3),
    good("m4:1|g:+2|g:-5|g", {"m4": -2}, 3), good("m5:1|ms:2|h:3|d", {"m5_count": 3}, 3),
    good("m6:a|s:b|s:a|s", {"m6": 2}, 3),
    Line("m7:1|c:x|c:2|zz:4|c", {"m7": 5}, 4, {"bad_value": 1, "bad_type": 1}),
    Line("m8:1|c:2", {"m8": 1}, 2, {"malformed_sample": 1}),
    Line("m9:1|c:", {"m9": 1}, 2, {"malformed_sample": 1}),
    Line("m10:1|c::2|c", {"m10": 3}, 3, {"malformed_sample": 1}),
    Line("m11:1|c|:2|c", {"m11": 2}, 2, {"malformed_sample": 1}),
    Line("m12:1|c:2|c|", {"m12": 1}, 2, {"malformed_sample": 1}),
    Line("m13:1|c:-2|c:4|c", {"m13": 5}, 3, {"negative_counter": 1}),
    Line("m14:1|c:2|g", {"m14": 1}, 2, {"type_conflict": 1}),
    # A tag section anywhere keeps the line one sample.
    good("m15:1|c|#a:b:2|c", {"m15{a=b:2}": 1}, unknown_section=1),
    bad("m16:1|c:2|c|#a:b", "bad_type"),
    good("m17:1|c|T12:2|c", {"m17": 3}, 2, unknown_section=1),
    # Labels stay for the samples that follow, unless theirs was lost before they were read.
    good("m18:1|c|c:id:2|c", {"m18{container_id=id}": 3}, 2),
    Line("m19:1|q|c:id:2|c", {"m19{container_id=id}": 2}, 2, {"bad_type": 1}),
    Line("m20:x|c|c:id:2|c", {"m20": 2}, 2, {"bad_value": 1}),
    good("m21:1|c|c:a:2|c|c:b:4|c", {"m21{container_id=a}": 1, "m21{container_id=b}": 6}, 3),
]

SECTIONS = [
    good("d1:1|c|#a:b|@0.5", {"d1{a=b}": 2}), good("d2:1|c|@0.5|#a:b", {"d2{a=b}": 2}),
    good("d3:1|c|c:id", {"d3{container_id=id}": 1}),
    good("d4:1|c|c:in-123456", {"d4{container_id=in-123456}": 1}),
    good("d5:1|c|c:ci-abc", {"d5{container_id=ci-abc}": 1}),
    good("d6:1|c|#a:b|c:x:y", {"d6{a=b,container_id=x:y}": 1}),
    good("d7:1|c|c:one|c:two", {"d7{container_id=two}": 1}, overridden_label=1),
    good("d8:1|c|#container_id:tag|c:id", {"d8{container_id=id}": 1}, overridden_label=1),
    good("d9:1|c|c:id|#container_id:tag", {"d9{container_id=tag}": 1}, overridden_label=1),
    good("d10:1|c|c:id|@0.5", {"d10{container_id=id}": 2}),
    good("d11:1|c|T1656581400", {"d11": 1}, unknown_section=1),
    good("d12:1|c|Tomorrow", {"d12": 1}, unknown_section=1),
    good("d13:1|g|T", {"d13": 1}, unknown_section=1),
    good("d14:1|c|@0.5|T1656581400", {"d14": 2}, unknown_section=1),
    good("d15:1|c|e:it-false,cn-web,pu-1", {"d15": 1}, unknown_section=1),
    good("d16:1|c|e:", {"d16": 1}, unknown_section=1),
    good("d17:1|c|card:low", {"d17": 1}, unknown_section=1),
    good("d18:1|c|card:", {"d18": 1}, unknown_section=1),
    good("d19:1|c|card:nonsense", {"d19": 1}, unknown_section=1),
    good("d20:1|c|z:later", {"d20": 1}, unknown_section=1),
    good("d21:1|c|z:a:b:c", {"d21": 1}, unknown_section=1),
    good("d22:1|c|later", {"d22": 1}, unknown_section=1),
    good("d23:1|c| ", {"d23": 1}, unknown_section=1),
    good("d24:1|c|c", {"d24": 1}, unknown_section=1),
    good("d25:1|c|cat:x", {"d25": 1}, unknown_section=1),
    good("d26:1|c|c:2|c", {"d26{container_id=2}": 1}, unknown_section=1),
    good("d27:1|ms|@0.5|#a:b|c:id|e:x|card:low|T1", {"d27_count{a=b,container_id=id}": 2},
         unknown_section=3),
    good("d28:1|c|T1|card:low|e:x|c:id|#a:b|@0.5", {"d28{a=b,container_id=id}": 2},
         unknown_section=3),
    good("d29:1|c|" + "|".join(["x"] * 100), {"d29": 1}, unknown_section=100),
    good("d30:ann|s|#a:b|c:id", {"d30{a=b,container_id=id}": 1}),
    bad("d40:1|c|c:", "bad_container_id"), bad("d41:1|c|c:|c:id", "bad_container_id"),
    bad("d42:1|c||", "malformed_sample"), bad("d43:1|c||@0.5", "malformed_sample"),
    bad("d44:1|c|c:||", "malformed_sample"), bad("d45:1|zz|c:", "bad_container_id"),
    bad("d46:x|zz||", "bad_value"), bad("d47:1|zz||", "malformed_sample"),
    bad("d48:1|zz|later", "bad_type"), bad("d49:nan|zz", "bad_type"),
    bad("d50:1||#a:b", "bad_type"),
]

TAGS = [
    good("t1:1|c|#a:b,c:d", {"t1{a=b,c=d}": 1}), good("t2:1|c|#a:b:c", {"t2{a=b:c}": 1}),
    good("t3:1|c|#a:x=y", {"t3{a=x=y}": 1}), good("t4:1|c|##a:b,#c:d", {"t4{a=b,c=d}": 1}),
    good("t5:1|c|###a:b", {"t5{_a=b}": 1}),
    good("t6:1|c|#a:b|#c:d", {"t6{a=b,c=d}": 1}),
    good("t7:1|c|#a:b|#a:c", {"t7{a=c}": 1}, overridden_label=1),
    good("t8:1|c|#a:b,a:c,a:d", {"t8{a=d}": 1}, overridden_label=2),
    good("t9:1|c|#a b:c,a.b:d", {"t9{a_b=d}": 1}, overridden_label=1),
    good("t10:1|c|#", {"t10": 1}), good("t11:1|c|#|@0.5", {"t11": 2}),
    good("t12:1|c|#,", {"t12": 1}, bad_tag=1), good("t13:1|c|#,,", {"t13": 1}, bad_tag=2),
    good("t14:1|c|#a:b,", {"t14{a=b}": 1}), good("t15:1|c|#a:b,,", {"t15{a=b}": 1}, bad_tag=1),
    good("t16:1|c|#a,b:,:c,:,d:e", {"t16{d=e}": 1}, bad_tag=4),
    good("t17:1|c|#9a:b", {"t17{_9a=b}": 1}), good("t18:1|c|#a--b:c", {"t18{a_b=c}": 1}),
    good("t19:1|c|#\u00e9:x", {"t19{_=x}": 1}), good("t20:1|c|#a: x ", {"t20{a= x }": 1}),
    good("t21:1|c|#a:\u540d\u524d", {"t21{a=\u540d\u524d}": 1}),
    good("t22:1|c|#a:\t\x01", {"t22{a=\t\x01}": 1}), good("t23:1|c|#A:b,a:B", {"t23{A=b,a=B}": 1}),
    good("t24:1|c|#b:1,a:2\nt24:1|c|#a:2,b:1\nt24:1|c|#a:2|#b:1", {"t24{a=2,b=1}": 3}, 3),
    bad("t30:1|c|#__name__:x", "bad_label"), bad("t31:1|c|#__x:y", "bad_label"),
    bad("t32:1|c|#..x:y", "bad_label"), bad("t33:1|ms|#le:0.5", "bad_label"),
    good("t34:1|g|#le:0.5", {"t34{le=0.5}": 1}),
    good("t35:1|c|#quantile:0.5", {"t35{quantile=0.5}": 1}),
]

NAME_TAGS = [
    # InfluxDB
    good("i1,a=b:1|c", {"i1{a=b}": 1}), good("i2,a=b,c=d:1|c", {"i2{a=b,c=d}": 1}),
    good("i3,c=d,a=b:1|c\ni3,a=b,c=d:2|c", {"i3{a=b,c=d}": 3}, 2),
    good("i4,a=b=c:1|c", {"i4{a=b=c}": 1}), good("i5,a=b:1|ms|@0.5", {"i5_count{a=b}": 2}),
    good("i6,a=b:1:2|h", {"i6_count{a=b}": 2}, 2), good("i7,a=b:1|c:2|c", {"i7{a=b}": 3}, 2),
    good("i8,a=b:1|c|c:id", {"i8{a=b,container_id=id}": 1}), good("i9,a=b:ann|s", {"i9{a=b}": 1}),
    good("i10,:1|c", {"i10": 1}), good("i11,a=b,:1|c", {"i11{a=b}": 1}),
    good("i12,,a=b:1|c", {"i12{a=b}": 1}, bad_tag=1),
    good("i13,a=b,,c=d:1|c", {"i13{a=b,c=d}": 1}, bad_tag=1),
    good("i14,a:1|c", {"i14": 1}, bad_tag=1), good("i15,a=:1|c", {"i15": 1}, bad_tag=1),
    good("i16,=b:1|c", {"i16": 1}, bad_tag=1), good("i17,a,b=,=c,,:1|c", {"i17": 1}, bad_tag=4),
    good("i18,a=b#c=d:1|c", {"i18{a=b#c=d}": 1}),
    good("i19,a.b=x,a-b=y:1|c", {"i19{a_b=y}": 1}, overridden_label=1),
    good("i20,9=x:1|c", {"i20{_9=x}": 1}), good("i21.x-y,a=b:1|c", {"i21_x_y{a=b}": 1}),
    good("i22,a= b :1|c", {"i22{a= b }": 1}), good("i23,a=\u540d:1|g", {"i23{a=\u540d}": 1}),
    good("i24,container_id=x:1|c|c:id", {"i24{container_id=id}": 1}, overridden_label=1),
    good("i25,a|b=c|d:1|c", {"i25{a_b=c|d}": 1}),
    # Librato
    good("l1#a=b:1|c", {"l1{a=b}": 1}), good("l2#a=b,c=d:1|g", {"l2{a=b,c=d}": 1}),
    good("l3#a=b#c=d:1|c", {"l3{a=b#c=d}": 1}), good("l4#:1|c", {"l4": 1}),
    good("l5##a=b:1|c", {"l5{_a=b}": 1}), good("l6#a:1|c", {"l6": 1}, bad_tag=1),
    good("l7#,a=b:1|c", {"l7{a=b}": 1}, bad_tag=1),
    # SignalFx
    good("f1[a=b]:1|c", {"f1{a=b}": 1}), good("f2[a=b,c=d]x:1|ms", {"f2x_count{a=b,c=d}": 1}),
    good("[a=b]f3:1|c", {"f3{a=b}": 1}), good("f4[]x:1|c", {"f4x": 1}),
    good("f5[a=b].x:1|c", {"f5_x{a=b}": 1}), good("f6[,a=b,,c]:1|c", {"f6{a=b}": 1}, bad_tag=3),
    good("f7[a=b][c=d]:1|c", {"f7_c_d_{a=b}": 1}),
    good("f8,x=y[a=b]#z=1:1|c", {"f8_x_y_z_1{a=b}": 1}),
    good("f9[a=b:1|c", {"f9_a_b": 1}, bad_tag=1), good("f10a=b]:1|c", {"f10a_b_": 1}, bad_tag=1),
    good("f11]a=b[:1|c", {"f11_a_b_": 1}, bad_tag=1), good("f12][:1|c", {"f12__": 1}, bad_tag=1),
    good("f13[a,b=c:1|c", {"f13_a_b_c": 1}, bad_tag=1), good("f14[a#b=c:1|c", {"f14_a_b_c": 1},
                                                             bad_tag=1),
    good("f15[a=[b]]:1|c", {"f15_{a=[b}": 1}),
    # Bad tags of a name count once a line, those of a section once a sample.
    good("n1,x:1:2:3|c", {"n1": 6}, 3, bad_tag=1), good("n2,x:1|c:2|c", {"n2": 3}, 2, bad_tag=1),
    good("n3,x,a=b:1|c\nn3,x,a=b:1|c", {"n3{a=b}": 2}, 2, bad_tag=2),
    good("n4,x:1:2|c|#y,a:b", {"n4{a=b}": 3}, 2, bad_tag=3),
    Line("n5,x:z|c:2|c", {"n5": 2}, 2, {"bad_value": 1}, {"bad_tag": 1}),
    # Nothing left of the name.
    bad("#a=b:1|c", "empty_name"), bad(",a=b:1|c", "empty_name"), bad("[a=b]:1|c", "empty_name"),
    bad("[]:1|g", "empty_name"), bad("#:1|c", "empty_name"), bad(",:1:2|c", "empty_name", 2),
    bad("#a=b:-1|c", "empty_name"),
    # Both at once.
    bad("x1,a=b:1|c|#c:d", "mixed_tag_dialects"), bad("x2#a=b:1|c|#c:d", "mixed_tag_dialects"),
    bad("x3[a=b]:1|c|#c:d", "mixed_tag_dialects"), bad("x4,a=b:1|c|#", "mixed_tag_dialects"),
    bad("x5,a=b:1|c|#\r", "mixed_tag_dialects"), bad("x6,a=b:-1|c|#c:d", "mixed_tag_dialects"),
    bad("x7,a=b:1:2:3|c|#c:d", "mixed_tag_dialects"), bad("x8,a=b:x|q|#", "mixed_tag_dialects"),
    bad("x9,a=b:1|c|@0.5|c:id|#c:d", "mixed_tag_dialects"),
    bad("x10,a=b:1:2|q|#c:d", "mixed_tag_dialects"), bad(",a=b:1|c|#c:d", "mixed_tag_dialects"),
    bad("x11,a=b:ann|s|#c:d", "mixed_tag_dialects"), bad("x12,a=b:1|g|#,", "mixed_tag_dialects"),
    bad("tallyd_x,a=b:1|c|#c:d", "mixed_tag_dialects"),
    good("y1,a:1|c|#c:d", {"y1{c=d}": 1}, bad_tag=1), good("y2,:1|c|#c:d", {"y2{c=d}": 1}),
    good("y3[:1|c|#c:d", {"y3_{c=d}": 1}, bad_tag=1), good("y4[]:1|c|#", {"y4": 1}),
    good("y5]a=b[:1|c|#c:d", {"y5_a_b_{c=d}": 1}, bad_tag=1),
    # Poison in the name.
    bad("z1,__name__=x:1|c", "bad_label"), bad("z2[\u00e4\u00f6=x]:1|c", "bad_label"),
    bad("z3#le=1:1|h", "bad_label"), bad("tallyd_series,a=b:1|g", "type_conflict"),
    bad("process[a=b]_open_fds:1|g", "type_conflict"),
]

LIMITS = [
    good("n" * 8_192 + ",a=b:1|c", {"n" * 8_192 + "{a=b}": 1}),
    bad("n" * 8_193 + ":1|c", "name_too_long"), bad("n" * 8_193 + ",a=b:1|c", "name_too_long"),
    bad("n" * 4_097 + "[a=b]" + "n" * 4_096 + ":1|c", "name_too_long"),
    good("tags1:1|c|#" + ",".join(["a:b"] * 1_024), {"tags1{a=b}": 1}, overridden_label=1_023),
    bad("tags2:1|c|#" + ",".join(["a:b"] * 1_025), "too_many_tags"),
    bad("tags3:1|c|#" + ",".join(["bad"] * 1_025), "too_many_tags"),
    bad("tags4," + ",".join(["a=b"] * 1_025) + ":1|c", "too_many_tags"),
    good("labels1:1|c|#a:" + "x" * 32_767, {"labels1{a=" + "x" * 32_767 + "}": 1}),
    bad("labels2:1|c|#a:" + "x" * 32_768, "labels_too_long"),
    bad("labels3:1:2|c|#a:" + "x" * 20_000 + ",b:" + "x" * 20_000, "labels_too_long", 2),
    bad("tags5:1|c|#" + ",".join(f"k{i}:1" for i in range(8_000)), "too_many_tags"),
]

LINES = [
    Line("", received=0), Line("\n", received=0), Line("\r\n", received=0),
    Line("\n\r\n\n", received=0),
    bad("nothing", "malformed_line"), bad("|", "malformed_line"), bad(":", "malformed_line"),
    bad("a:", "malformed_line"), bad(":1|c", "malformed_line"), bad("a|1:c", "malformed_line"),
    bad("a:1c", "malformed_line"), bad(":|", "malformed_line"), bad("::|", "malformed_line"),
    bad("a:|", "bad_value"), bad("a:|c", "bad_value"), bad("a::|c", "bad_value", 2),
    bad("a:1|", "bad_type"), bad("a:1||", "malformed_sample"), bad("a:1|c|", "malformed_sample"),
    *(bad(f"a:1|{type_}", "bad_type")
      for type_ in ("C", "G", "MS", "Ms", "mS", "H", "D", "S", "m", "cc", "cs", "gg", "kv", "x",
      " c",
                    "c ", "c\t", "s\x00", "\u00e7", "ms ", "count")),
    *(bad(b"a" + text + b":1|c", "malformed_line")
      for text in (b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xe0\x80\x80",
      b"\xe0\x9f\xbf",
                   b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
                   b"\xf5\x80\x80\x80", b"\xfe", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98")),
    bad(b"a:1|c|#k:\xff", "malformed_line"), bad(b"a:\xff|s", "malformed_line"),
    bad(b"a:1|c:2|c|\xc3", "malformed_line"),
    good("utf\u00e8:1|c", {"utf_": 1}), good("\U0001f600x:1|g", {"_x": 1}),
    good("nul\x00name:1|c", {"nul_name": 1}),
    good("crlf1:1|c\r\ncrlf1:2|c\r", {"crlf1": 3}, 2),
    good("crlf2:1|c|#a:b\r\n", {"crlf2{a=b}": 1}), good("crlf3:1|c|@0.5\r\n", {"crlf3": 2}),
    good("crlf4:ann|s\r\ncrlf4:ann|s\n", {"crlf4": 1}, 2),
    bad("crlf5:1|c\r\r\n", "bad_type"), good("cr\rin:1|c", {"cr_in": 1}),
    good("u85\u0085x:1|c\nu2028\u2028x:1|c\nvt\x0b\x0cx:1|c",
         {"u85_x": 1, "u2028_x": 1, "vt__x": 1}, 3),
    good("a|b:1|c", {"a_b": 1}), good(" lead:1|c", {"_lead": 1}), good("trail :1|c", {"trail_": 1}),
    good("@y:1|c", {"_y": 1}), good('q"\\:1|c', {"q__": 1}), good("3d:1|c", {"_3d": 1}),
    good("p..q:1|c\np.-q:2|c\np__q:4|c", {"p__q": 7}, 3), good("p---r:1|c", {"p_r": 1}),
    good("p-.-s:1|c", {"p___s": 1}), good("\u540d\u524d:1|c", {"__": 1}),
    Line("mix1:1|c\nrubbish\nmix1:x|c\n_e{1,1}:a|b\nmix1:2|c\n_e{:1|c", {"mix1": 3}, 5,
         {"malformed_line": 1, "bad_value": 1, "bad_event": 1}, events={"event": 1}),
    bad("x" * 65_000, "malformed_line"), good("n" * 8_000 + ":1|c", {"n" * 8_000: 1}),
    good("long_value:1|c|#a:" + "v" * 30_000, {"long_value{a=" + "v" * 30_000 + "}": 1}),
    bad("long_number:" + "9" * 60_000 + "|c", "bad_value"),
    good("long_set:" + "m" * 60_000 + "|s", {"long_set": 1}),
    good("long_zero:" + "0" * 60_000 + "7|c", {"long_zero": 7}),
]

EVENTS = [
    event("_e{5,4}:title|text"), event("_e{1,1}:5|c"), event("_e{1,0}:a|"),
    event("_e{3,5}:a|b|c:d|e"),
    event("_e{2,1}:\u00e9|x"), event("_e{1,1}:a|b|d:1600|h:web|k:x|p:low|s:y|t:info|#a:b|c:id|e:z"),
    event("_e{1,1}:a|b|d:never|p:odd||t:|"), event("_e{1,1}:a|b\r\n"), event("_e{1,3}:a|b\\n"),
    event("_sc|db|0", "service_check"), event("_sc|db.main:1|3|m:a|b|c", "service_check"),
    event("_sc|db|1|d:1600|h:web|#a:b,c:d|c:id|m:down", "service_check"),
    event("_sc|db|2|d:x||zz", "service_check"),
    Line("_e{1,1}:a|b\n_sc|x|0\n_e{1,1}:c|d", received=0, events={"event": 2, "service_check": 1}),
    *(bad(text, "bad_event") for text in (
        "_e{0,1}:|b", "_e{1,2}:a|b", "_e{2,1}:a|b", "_e{1,1}:ab|c", "_e{1,1}:a|bc", "_e{1,1}a|b",
        "_e{a,1}:a|b", "_e{1}:a|b", "_e{,}:a|b", "_e{-1,1}:a|b", "_e{", "_e{}:1|c", "_e{1,1}",
        "_e{18446744073709551615,2}:ab|cd", "_e{18446744073709551617,1}:a|b", "_e{x:1|c",
        "_sc|", "_sc|db", "_sc|db|4", "_sc|db|", "_sc|db|00", "_sc||0", "_sc|db:1|c")),
    good("_event.x:1|c", {"_event_x": 1}), good("_scan.x:1|c", {"_scan_x": 1}),
    good("_e:1|c", {"_e": 1}), good("_sc:1|c", {"_sc": 1}), good("_:1|c", {"_": 1}),
]

CONFLICTS = [
    Line("k1:1|c\nk1:1|g\nk1:1|ms\nk1:1|s\nk1:2|c", {"k1": 3}, 5, {"type_conflict": 3}),
    Line("k2:1|h\nk2_sum:1|c\nk2_count:1|g\nk2_bucket:1|c", {"k2_count": 1}, 4,
         {"type_conflict": 3}),
    Line("k3_count:1|c\nk3:1|h", {"k3_count": 1}, 2, {"type_conflict": 1}),
    Line("k4.x:1|c\nk4-x:1|g\nk4_x:1|c", {"k4_x": 2}, 3, {"type_conflict": 1}),
    good("k5:1|g\nk5_count:2|c\nk5_sum:3|c\nk5_bucket:4|c",
         {"k5": 1, "k5_count": 2, "k5_sum": 3, "k5_bucket": 4}, 4),
    bad("process_open_fds:1|g", "type_conflict"), bad("process.x:1|g", "type_conflict"),
    bad("tallyd_x:1|c", "type_conflict"), bad("tallyd.x:1|c", "type_conflict"),
    good("processes:1|g", {"processes": 1}), good("tally:1|g", {"tally": 1}),
    good("go_goroutines:1|g", {"go_goroutines": 1}),
]


TABLES = {
    "counters": COUNTERS, "gauges": GAUGES, "observers": OBSERVERS, "rates": RATES,
    "packing": PACKING, "several_samples": SEVERAL, "sections": SECTIONS, "tags": TAGS,
    "name_tags": NAME_TAGS, "limits": LIMITS, "lines": LINES, "events": EVENTS,
    "conflicts": CONFLICTS,
}


class DialectTest(LineTableTest):
    flags = ("--statsd.read-buffer=4194304",)


for _name, _table in TABLES.items():
    add_table(DialectTest, _name, _table)


# Each dialect off by itself: what it would have read is part of the name, or says nothing.
OFF = {
    "dogstatsd": [
        good("d1:1|c|#a:b", {"d1": 1}), good("d2:1|c|#a,,b:", {"d2": 1}),
        good("d3:1|c|@0.5|#a:b", {"d3": 2}), good("d4:1|c|c:id|#a:b", {"d4{container_id=id}": 1}),
        good("d5:1|c|#a:b:2|c", {"d5": 1}, unknown_section=1), good("d6:1|c:2|c", {"d6": 3}, 2),
        good("d7,a=b:1|c", {"d7{a=b}": 1}), bad("d8,a=b:1|c|#c:d", "mixed_tag_dialects"),
        bad("d9:1|c|#a:b|", "malformed_sample"), good("d10:1|h|#le:1", {"d10_count": 1}),
    ],
    "influxdb": [
        good("i1,a=b:1|c", {"i1_a_b": 1}), good("i2,a=b:1|c|#c:d", {"i2_a_b{c=d}": 1}),
        good("i3,x#a=b,c=d:1|c", {"i3_x{a=b,c=d}": 1}), good("i4[a=b]:1|c", {"i4{a=b}": 1}),
        good(",a=b:1|c", {"_a_b": 1}),
    ],
    "librato": [
        good("l1#a=b:1|c", {"l1_a_b": 1}), good("l2#a=b:1|c|#c:d", {"l2_a_b{c=d}": 1}),
        good("l3#x,a=b:1|c", {"l3_x{a=b}": 1}), good("l4[a=b]:1|c", {"l4{a=b}": 1}),
    ],
    "signalfx": [
        good("f1[a=b]:1|c", {"f1_a_b_": 1}), good("f2[a=b]:1|c|#c:d", {"f2_a_b_{c=d}": 1}),
        good("f3[x,a=b]:1|c", {"f3_x{a=b]}": 1}), good("f4[x:1|c", {"f4_x": 1}),
        good("f5]x[#a=b:1|c", {"f5_x_{a=b}": 1}),
    ],
}


def add_off(dialect, table):
    case = type(f"No{dialect.capitalize()}Test", (LineTableTest,),
                {"flags": (f"--no-statsd.parse-{dialect}-tags",)})
    add_table(case, "lines", table)
    globals()[case.__name__] = case


for _name, _table in OFF.items():
    add_off(_name, _table)


class LowLimitsTest(LineTableTest):
    flags = ("--limit.line-bytes=60", "--limit.name-bytes=10", "--limit.tags=3",
             "--limit.label-bytes=20")


add_table(LowLimitsTest, "limits", [
    good("tencharnam:1|c", {"tencharnam": 1}), bad("elevencharn:1|c", "name_too_long"),
    good("tencharna2,a=b:1|c", {"tencharna2{a=b}": 1}),
    good("t:1|c|#a:b,c:d,e:f", {"t{a=b,c=d,e=f}": 1}), bad("u:1|c|#a:b,c:d,e:f,g", "too_many_tags"),
    bad("v,a=b,c=d,e=f,g=h:1|c", "too_many_tags"),
    good("w:1|c|#a:" + "x" * 19, {"w{a=" + "x" * 19 + "}": 1}),
    bad("x:1|c|#a:" + "x" * 20, "labels_too_long"),
    good("y:1|c|" + "T" * 54, {"y": 1}, unknown_section=1), bad("y:1|c|" + "T" * 55, "too_long"),
    good("y:1|c|" + "T" * 54 + "\r", {"y": 2}, unknown_section=1),
    bad("_e{1,60}:a|" + "x" * 60, "too_long"),
])


class ContainerIdTest(LineTableTest):
    flags = ("--statsd.container-id=ignore",)


add_table(ContainerIdTest, "ignored", [
    good("a:1|c|c:id", {"a": 1}), good("a:1|c|#k:v|c:id", {"a{k=v}": 1}),
    good("b:1|c|c:x:2|c", {"b": 3}, 2), bad("c:1|c|c:", "bad_container_id"),
    good("d:1|c|#container_id:tag|c:id", {"d{container_id=tag}": 1}),
])


class WholeDaemonTest(unittest.TestCase):
    def test_a_thousand_sampled_timers_weigh_what_they_stand_for(self):
        with Daemon() as daemon:
            daemon.send_udp(*["\n".join(["t:1|ms|@0.6"] * 50)] * 20)
            daemon.settle(received=1000)
            scrape = daemon.scrape()
            self.assertAlmostEqual(scrape.value("t_count"), 1000 / 0.6, delta=1)
            self.assertTrue(same(scrape.value("t_sum"), scrape.value("t_count") / 1000))

    def test_gauges_of_dogstatsd_are_what_they_say(self):
        listen = (("udp", "127.0.0.1:0"), ("udp", "127.0.0.1:0?dialect=dogstatsd"))
        with Daemon(listen=listen) as daemon:
            for index, sums in ((0, -2), (1, -7)):
                daemon.send_udp(f"g{index}:5|g\ng{index}:-7|g", index=index)
                daemon.settle(received=2 * (index + 1))
                self.assertEqual(daemon.scrape().value(f"g{index}"), sums)

    def test_every_byte_at_every_place(self):
        template = b"good:1|c|@0.5|#a:b"
        with Daemon("--statsd.read-buffer=4194304") as daemon:
            sent = 0
            for at in range(len(template)):
                lines = [template[:at] + bytes([byte]) + template[at + 1:] for byte in range(256)]
                daemon.send_udp(*lines, "alive:1|c")
                sent += len(lines) + 1
                daemon.settle(datagrams=sent)
            scrape = daemon.scrape()
            self.assertEqual(scrape.value("alive"), len(template))
            # Each byte of it was once replaced by itself.
            self.assertGreaterEqual(scrape.value("good", a="b"), 2 * len(template))
            daemon.scrape(OPENMETRICS)
            self.assertEqual(daemon.stop(), 0)

    def test_ten_thousand_tags(self):
        # Few enough bytes for one datagram, more tags than any limit.
        with Daemon("--statsd.read-buffer=4194304") as daemon:
            daemon.send_udp("many:1|c|#" + ",".join(f"{i:x}:1" for i in range(9_000)), "alive:1|c")
            ledger = daemon.settle(received=2)
            self.assertEqual(ledger.received, ledger.applied + ledger.lost)
            self.assertEqual(daemon.scrape().value("alive"), 1)

    def test_the_longest_unix_datagram(self):
        with scratch() as directory:
            path = pathlib.Path(directory) / "socket"
            with Daemon("--statsd.read-buffer=1048576", listen=(("unixgram", path),)) as daemon:
                lines = b"\n".join([b"long:1|c"] * 22_000)
                filler = b"\nlast:1|c|#a:"
                datagram = lines + filler + b"x" * (212_000 - len(lines) - len(filler))
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                    sender.connect(str(path))
                    sender.send(datagram)
                ledger = daemon.settle(received=22_001)
                self.assertEqual((ledger.reasons, ledger.truncated), ({}, 0))
                self.assertEqual(daemon.scrape().value("long"), 22_000)


if __name__ == "__main__":
    unittest.main()
