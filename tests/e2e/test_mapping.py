"""Mapping files through the daemon: what each name of a client becomes at the scrape, exactly.

The rules are those of docs/mapping.md. The daemon reads one file after the other; names are used by
one file only, because series of earlier ones stay.
"""

import pathlib
import textwrap
import unittest

from harness import OPENMETRICS, TEXT, scratch
from line_tables import LineTableTest, bad, good

DROP = "mapping_drop"

# name: (the file, lines)
FILES = {
    "labels_and_captures": ("""
        mappings:
        - match: "lc.*.dispatcher.*"
          name: lc_dispatched
          labels: {processor: "$1", action: "${2}", job: "dispatcher"}
        - match: "lc.signup.*.*"
          name: "lc_signup_${2}"
          labels: {provider: "$1", outcome: "$2", both: "${1}/${2}"}
        """, [
        good("lc.mail.dispatcher.send:1|c",
             {"lc_dispatched{processor=mail,action=send,job=dispatcher}": 1}),
        good("lc.signup.face.failure:2|c",
             {"lc_signup_failure{provider=face,outcome=failure,both=face/failure}": 2}),
        good("lc.signup..x:1|c", {"lc_signup_x{outcome=x,both=/x}": 1}),
        good("lc.signup.a-b.c d:1|c", {"lc_signup_c_d{provider=a-b,outcome=c d,both=a-b/c d}": 1}),
        good("lc.signup.face:1|c", {"lc_signup_face": 1}),
        good("lc.signup.a.b.c:1|c", {"lc_signup_a_b_c": 1}),
        good("lc.mail.dispatcher.send:1|c|#x:y,job:mine",
             {"lc_dispatched{processor=mail,action=send,job=dispatcher,x=y}": 1}),
        good("lc.mail.dispatcher.send,x=z:1|c",
             {"lc_dispatched{processor=mail,action=send,job=dispatcher,x=z}": 1}),
    ]),
    "the_first_rule_that_fits": ("""
        mappings:
        - {match: "fr.*.b.*", name: fr_first}
        - {match: "fr.a.*.*", name: fr_second}
        - {match: "fr.a.b.c", name: fr_third}
        - {match: "fr.x.y.z", name: fr_long}
        - {match: "fr.x.y", name: fr_short}
        - {match: "fr.d.*", name: fr_doubled}
        - {match: "fr.d.*", name: fr_never}
        """, [
        good("fr.a.b.c:1|c", {"fr_first": 1}), good("fr.a.c.c:1|c", {"fr_second": 1}),
        good("fr.q.c.c:1|c", {"fr_q_c_c": 1}), good("fr.x.y:1|c", {"fr_short": 1}),
        good("fr.x.y.z:1|c", {"fr_long": 1}), good("fr.d.e:1|c", {"fr_doubled": 1}),
        good("fr.b.b.b:1|c", {"fr_first": 2}),
    ]),
    "without_ordering": ("""
        defaults: {glob_disable_ordering: true}
        mappings:
        - {match: "wo.*.b", name: wo_star}
        - {match: "wo.a.*", name: wo_literal}
        - {match: "wn.aa.*.cc", name: wn_one}
        - {match: "wn.aa.bb.dd", name: wn_two}
        """, [
        good("wo.a.b:1|c", {"wo_literal": 1}), good("wo.c.b:1|c", {"wo_star": 1}),
        good("wn.aa.bb.dd:1|c", {"wn_two": 1}), good("wn.aa.xx.cc:1|c", {"wn_one": 1}),
        good("wn.aa.bb.cc:1|c", {"wn_one": 2}),
    ]),
    "types": ("""
        mappings:
        - {match: "ty.*", match_metric_type: counter, name: "ty_${1}_total"}
        - {match: "ty.*", match_metric_type: gauge, name: "ty_${1}_now"}
        - {match: "ty.*", match_metric_type: observer, name: "ty_${1}_seconds"}
        - {match: "old.*", match_metric_type: timer, name: "old_${1}_seconds"}
        """, [
        good("ty.a:1|c", {"ty_a_total": 1}), good("ty.a:2|g", {"ty_a_now": 2}),
        good("ty.a:3000|ms", {"ty_a_seconds_sum": 3, "ty_a_seconds_count": 1}),
        good("ty.a:3|h", {"ty_a_seconds_sum": 6, "ty_a_seconds_count": 2}),
        good("ty.a:3|d", {"ty_a_seconds_sum": 9, "ty_a_seconds_count": 3}),
        good("ty.b:x|s", {"ty_b_now": 1}), good("old.a:1|h", {"old_a_seconds_count": 1}),
        good("old.a:1|c", {"old_a": 1}),
    ]),
    "templates": ("""
        mappings:
        - {match: "te.one.*.*", name: "te_one_$1_b", labels: {l_a: "$1_x", l_b: "${1}_x"}}
        - {match: "te.two.*.*", name: "te_two_$1$2", labels: {l_a: "$1$2", l_b: "${1}${2}"}}
        - match: "te.three.*.*"
          name: "te_three"
          labels: {l_a: "$1-$2", l_b: "$1.$2", l_c: "$0", l_d: "$3", l_e: "50% of ${1}", l_f: "US$",
                   l_g: "$ 5", l_h: "${1", l_i: "$name"}
        """, [
        good("te.one.x.y:1|c", {"te_one_{l_b=x_x}": 1}),
        good("te.two.x.y:1|c", {"te_two_{l_b=xy}": 1}),
        good("te.three.x.y:1|c",
             {"te_three{l_a=x-y,l_b=x.y,l_e=50% of x,l_f=US$,l_g=$ 5,l_h=x}": 1}),
        good("te.three.$2.y:1|c",
             {"te_three{l_a=$2-y,l_b=$2.y,l_e=50% of $2,l_f=US$,l_g=$ 5,l_h=$2}": 1}),
    ]),
    "regular_expressions": (r"""
        defaults: {match_type: regex}
        mappings:
        - {match: '^re\.(\w+)\.(?P<verb>get|put)$', name: "re_${2}", labels: {who: "$1", verb: "$verb", all: "$0"}}
        - {match: 're\.drop', name: unused, action: drop}
        - {match: '(?i)^RE\.(a|ab)(c|bcd)(d*)$', name: re_alternatives, labels: {l_a: "$1", l_b: "$2", l_c: "$3"}}
        - {match: "re.glob.*", match_type: glob, name: "re_glob_${1}"}
        - {match: '^re\.glob\.(.*)$', name: re_not_reached}
        - {match: '^re\.dollar\.(.*)$', name: re_dollar, labels: {l_a: "$$1", l_b: "$1x", l_c: "${1}x"}}
        """, [
        good("re.ann.get:1|c", {"re_get{who=ann,verb=get,all=re.ann.get}": 1}),
        good("re.ann.post:1|c", {"re_ann_post": 1}),
        bad("some.re.drop.it:1|c", DROP), bad("re.drop:-1|c", DROP), bad("re.drop:1:2|c", DROP, 2),
        good("re.abcd:1|c", {"re_alternatives{l_a=a,l_b=bcd}": 1}),
        good("re.glob.x:1|c", {"re_glob_x": 1}),
        good("re.dollar.v:1|c", {"re_dollar{l_a=$1,l_c=vx}": 1}),
        bad("re.drop:x|c", "bad_value"),
    ]),
    "dropping": ("""
        mappings:
        - {match: "dr.keep.*", name: "dr_kept_${1}"}
        - {match: "dr.*.*", action: drop, name: dr_none}
        - {match: "dr.gauges", action: drop, match_metric_type: gauge, name: dr_x}
        """, [
        good("dr.keep.a:1|c", {"dr_kept_a": 1}), bad("dr.debug.a:1|c", DROP),
        bad("dr.debug.a:1|c|#__bad:x", DROP), bad("dr.gauges:1|g", DROP),
        good("dr.gauges:1|c", {"dr_gauges": 1}), bad("dr.debug.a:x|c", "bad_value"),
    ]),
    "honoured_labels": ("""
        mappings:
        - {match: "ho.a", name: ho_a, honor_labels: true, labels: {region: "rule", zone: "rule"}}
        - {match: "ho.b", name: ho_b, labels: {region: "rule", zone: "rule"}}
        - {match: "ho.c.*", name: ho_c, labels: {region: "$1"}}
        """, [
        good("ho.a:1|c|#region:tag", {"ho_a{region=tag,zone=rule}": 1}),
        good("ho.b:1|c|#region:tag", {"ho_b{region=rule,zone=rule}": 1}),
        good("ho.c.:1|c|#region:tag", {"ho_c": 1}),
    ]),
    "scales": ("""
        mappings:
        - {match: "sc.kb.*", name: "sc_bytes_${1}", scale: 1024}
        - {match: "sc.us.*", name: "sc_seconds_${1}", scale: 1e-3}
        - {match: "sc.zero", name: sc_zero, scale: 0}
        - {match: "sc.minus", name: sc_minus, scale: -1}
        """, [
        good("sc.kb.a:2|c", {"sc_bytes_a": 2048}), good("sc.kb.a:1|c|@0.5", {"sc_bytes_a": 4096}),
        good("sc.kb.g:3|g", {"sc_bytes_g": 3072}), good("sc.kb.g:+1|g", {"sc_bytes_g": 4096}),
        good("sc.us.t:5000|ms", {"sc_seconds_t_sum": 0.005, "sc_seconds_t_count": 1}),
        good("sc.us.h:5|h", {"sc_seconds_h_sum": 0.005}),
        good("sc.zero:5|c", {"sc_zero": 0}), bad("sc.minus:5|c", "negative_counter"),
        good("sc.minus:-5|c", {"sc_minus": 5}),
    ]),
    "buckets": ("""
        defaults:
          observer_type: histogram
          histogram_options: {buckets: [0.5, 1, 2.5, .inf]}
        mappings:
        - {match: "bu.own.*", name: "bu_own_${1}", histogram_options: {buckets: [1, 10, 1_00, 0x3e8]}}
        - {match: "bu.old.*", name: "bu_old_${1}", buckets: [7]}
        """, [
        good("bu.own.a:10|h", {"bu_own_a_bucket{le=1}": 0, "bu_own_a_bucket{le=10}": 1,
                               "bu_own_a_bucket{le=100}": 1, "bu_own_a_bucket{le=1000}": 1,
                               "bu_own_a_bucket{le=+Inf}": 1}),
        good("bu.old.a:7:8|h", {"bu_old_a_bucket{le=7}": 1, "bu_old_a_bucket{le=+Inf}": 2}, 2),
        good("bu.none:600|ms", {"bu_none_bucket{le=0.5}": 0, "bu_none_bucket{le=1}": 1,
                                "bu_none_bucket{le=2.5}": 1, "bu_none_bucket{le=+Inf}": 1}),
        bad("bu.own.a:1|h|#le:1", "bad_label"),
    ]),
    "summaries": ("""
        defaults: {observer_type: summary}
        mappings:
        - match: "su.own.*"
          name: "su_own_${1}"
          summary_options: {quantiles: [{quantile: 0.25, error: 0.1}], max_age: 30s, age_buckets: 3}
        - {match: "su.his.*", name: "su_his_${1}", observer_type: histogram}
        """, [
        good("su.own.a:4|h", {"su_own_a_sum": 4, "su_own_a_count": 1}),
        good("su.none:4000|ms|@0.5", {"su_none_sum": 8, "su_none_count": 2}),
        good("su.his.a:4|h", {"su_his_a_bucket{le=5}": 1, "su_his_a_bucket{le=2.5}": 0}),
        bad("su.none:1|ms|#quantile:x", "bad_label"), bad("su_none_count:1|c", "type_conflict"),
        good("su.own.b:1|h|#le:x", {"su_own_b_count{le=x}": 1}),
    ]),
    "names_that_come_out_empty_or_odd": (r"""
        mappings:
        - {match: "em.*", name: "${1}"}
        - {match: '^od\.(.*)$', match_type: regex, name: "${1}"}
        """, [
        bad("em.:1|c", "empty_name"), good("em.fine:1|c", {"fine": 1}),
        good("em.9lives:1|c", {"_9lives": 1}), good("od.a.b-c--d e:1|c", {"a_b_c_d_e": 1}),
        bad("od.tallyd_x:1|c", "type_conflict"), bad("em.process_x:1|c", "type_conflict"),
    ]),
    "several_names_one_series": ("""
        mappings:
        - {match: "se.old", name: se_new}
        - {match: "se.a.*", name: se_all, labels: {part: "$1"}}
        - {match: "se.b.*", name: se_all, labels: {part: "$1"}}
        """, [
        good("se.old:1|c", {"se_new": 1}), good("se_new:2|c", {"se_new": 3}),
        good("se.a.x:1|c", {"se_all{part=x}": 1}), good("se.b.x:2|c", {"se_all{part=x}": 3}),
        bad("se.b.x:2|g", "type_conflict"), bad("se_new:2|ms", "type_conflict"),
    ]),
    "yaml_as_it_is_found": ("""
        defaults: {ttl: 0s, match_type: glob}
        mappings:
        - &base
          match: ya.a
          name: ya_a
          labels: &labels
            version: 1.50
            yes_no: yes
            octal: 010
            day: 2024-01-05
        - <<: *base
          match: ya.b
          name: ya_b
        - match: ya.c
          name: ya_c
          labels:
            <<: *labels
            version: 'two'
          ttl: 1h30m
          honor_labels: on
          help: ~
        ...
        ---
        second: document
        """, [
        good("ya.a:1|c", {"ya_a{version=1.50,yes_no=yes,octal=010,day=2024-01-05}": 1}),
        good("ya.b:1|c", {"ya_b{version=1.50,yes_no=yes,octal=010,day=2024-01-05}": 1}),
        good("ya.c:1|c|#octal:8", {"ya_c{version=two,yes_no=yes,octal=8,day=2024-01-05}": 1}),
    ]),
}


class MappingTest(LineTableTest):
    """One test a file."""

    @classmethod
    def setUpClass(cls):
        cls.scratch = scratch()
        cls.path = pathlib.Path(cls.scratch.__enter__()) / "mapping.yaml"
        cls.path.write_text("")
        cls.flags = (f"--statsd.mapping-config={cls.path}", "--web.enable-lifecycle")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.scratch.__exit__(None, None, None)

    def read(self, text):
        self.path.write_text(textwrap.dedent(text))
        answer = self.daemon.get("/-/reload", method="POST")
        self.assertEqual(answer.status, 200, answer.body)

    def test_help(self):
        self.read("""
            mappings:
            - {match: "he.*", name: he_all, help: 'All "of" them\\nand more', labels: {which: "$1"}}
            """)
        self.daemon.send_udp("he.a:1|c", "he.b:1|c")
        self.daemon.settle()
        text = self.daemon.get("/metrics", accept=TEXT).body.decode()
        self.assertIn('# HELP he_all All "of" them\\\\nand more\n# TYPE he_all counter\n', text)
        self.daemon.scrape(OPENMETRICS)


def add_file(name, text, lines):
    def test(self):
        self.read(text)
        self.run_table(lines)

    setattr(MappingTest, f"test_{name}", test)


for _name, (_text, _lines) in FILES.items():
    add_file(_name, _text, _lines)


if __name__ == "__main__":
    unittest.main()
