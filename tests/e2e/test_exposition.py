"""The parsers that judge every scrape refuse what they must."""

import unittest

import exposition

GOOD = b"""# HELP a Said \\\\ of a.
# TYPE a counter
a{x="1",y="q\\"\\\\\\n"} 3
a 4
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 5.5
h_count 2
"""

GOOD_OPENMETRICS = b"""# TYPE a counter
a_total{x="1"} 3
# TYPE b unknown
b 1e-07
# EOF
"""


class ExpositionTest(unittest.TestCase):
    def test_good_text(self):
        parsed = exposition.parse(GOOD, openmetrics=False)
        self.assertEqual(parsed.value("a", x="1", y='q"\\\n'), 3)
        self.assertEqual(parsed.value("h_bucket", le="+Inf"), 2)
        self.assertEqual(parsed.families["h"].type, "histogram")

    def test_good_openmetrics(self):
        parsed = exposition.parse(GOOD_OPENMETRICS, openmetrics=True)
        self.assertEqual(parsed.value("a_total", x="1"), 3)
        self.assertEqual(parsed.value("b"), 1e-7)

    def test_bad_text(self):
        for body in (b"a 1", b"a 1\na 2\n", b"a{x=1} 1\n", b'a{x="1" 1\n', b"a x\n", b"a  1\n",
                     b"1a 1\n", b'a{x="1",x="2"} 1\n', b"a 0x10\n", b"a inf\n", b"a\xff 1\n",
                     b"# TYPE a counter\na 1\n# TYPE b gauge\nb 1\na{x=\"1\"} 1\n",
                     b"# TYPE a nonsense\na 1\n", b"a 1\n# TYPE a counter\n", b"a 1\n# EOF\n"):
            with self.subTest(body), self.assertRaises((exposition.ParseError, UnicodeError)):
                exposition.parse(body, openmetrics=False)

    def test_bad_openmetrics(self):
        for body in (b"a 1\n", b"# EOF\na 1\n# EOF\n", b"# TYPE a counter\na 1\n# TYPE a counter\n# EOF\n",
                     b"a 1\n\n# EOF\n", b"# hello\n# EOF\n", b"# TYPE a untyped\na 1\n# EOF\n"):
            with self.subTest(body), self.assertRaises(exposition.ParseError):
                exposition.parse(body, openmetrics=True)

    def test_bad_histograms(self):
        head = b"# TYPE h histogram\n"
        for body in (b'h_bucket{le="1"} 3\nh_bucket{le="+Inf"} 2\nh_sum 1\nh_count 2\n',
                     b'h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
                     b'h_bucket{le="+Inf"} 2\nh_sum 1\nh_count 3\n',
                     b'h_bucket{le="+Inf"} 2\nh_count 2\n'):
            with self.subTest(body), self.assertRaises(exposition.ParseError):
                exposition.parse(head + body, openmetrics=False)


if __name__ == "__main__":
    unittest.main()
