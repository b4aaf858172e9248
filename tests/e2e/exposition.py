"""Reads what a scrape answers: Prometheus text 0.0.4 and OpenMetrics 1.0, strictly.

Whatever a strict scraper may refuse is an error here: a family that appears twice, a sample that
stands outside its family, a label or a value that is not well-formed, a histogram that does not
add up, a series that appears twice, a missing end.
"""

import math
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|Inf)|NaN")
TYPES_TEXT = {"counter", "gauge", "histogram", "summary", "untyped"}
TYPES_OPENMETRICS = {
    "counter", "gauge", "histogram", "summary", "unknown", "info", "stateset", "gaugehistogram",
}
UNESCAPE = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class ParseError(Exception):
    """What a strict scraper would refuse."""


class Family:
    def __init__(self, name):
        self.name = name
        self.type = None
        self.help = None


class Exposition:
    """The samples of a scrape: {(name, ((label, value), ...)): float}, and its families."""

    def __init__(self):
        self.samples = {}
        self.families = {}

    def value(self, name, default=None, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))), default)

    def series(self, name):
        """{labels: value} of all samples of that name, labels as a sorted tuple of pairs."""
        return {labels: value for (other, labels), value in self.samples.items() if other == name}

    def by_label(self, name, label):
        """{value of the label: value of the sample}, summed over all other labels."""
        sums = {}
        for labels, value in self.series(name).items():
            key = dict(labels).get(label)
            sums[key] = sums.get(key, 0) + value
        return sums

    def total(self, name):
        return sum(self.series(name).values())

    def user_samples(self):
        """The samples of the senders: without the daemon's own."""
        return {
            key: value
            for key, value in self.samples.items()
            if not key[0].startswith(("tallyd_", "process_"))
        }


def parse_labels(text, line):
    labels = {}
    at = 0
    while at < len(text):
        found = LABEL.match(text, at)
        if not found:
            raise ParseError(f"labels: {line!r}")
        name, escaped = found.groups()
        if name in labels:
            raise ParseError(f"label {name} twice: {line!r}")
        labels[name] = re.sub(r"\\.", lambda m: UNESCAPE[m.group()], escaped)
        at = found.end()
        if at < len(text):
            if text[at] != ",":
                raise ParseError(f"labels: {line!r}")
            at += 1
    return tuple(sorted(labels.items()))


def split_sample(line):
    """(name, label text, rest) of a sample line."""
    found = NAME.match(line)
    if not found:
        raise ParseError(f"no metric name: {line!r}")
    at = found.end()
    if line[at : at + 1] != "{":
        return found.group(), "", line[at:]
    end = at + 1
    quoted = False
    while end < len(line) and (quoted or line[end] != "}"):
        if quoted and line[end] == "\\":
            end += 1
        elif line[end] == '"':
            quoted = not quoted
        end += 1
    if end >= len(line):
        raise ParseError(f"labels without end: {line!r}")
    return found.group(), line[at + 1 : end], line[end + 1 :]


def parse_value(text, line):
    if not NUMBER.fullmatch(text):
        raise ParseError(f"value: {line!r}")
    return float(text.replace("Inf", "inf"))


def sample_suffixes(kind, openmetrics):
    if kind == "histogram":
        return ("_bucket", "_sum", "_count") + (("_created",) if openmetrics else ())
    if kind == "summary":
        return ("", "_sum", "_count") + (("_created",) if openmetrics else ())
    if kind == "counter" and openmetrics:
        return ("_total", "_created")
    if kind == "info":
        return ("_info",)
    return ("",)


class Parser:
    def __init__(self, openmetrics):
        self.openmetrics = openmetrics
        self.out = Exposition()
        self.family = None
        self.has_samples = set()

    def enter(self, name, line):
        if self.family and self.family.name == name:
            return self.family
        if name in self.out.families:
            raise ParseError(f"family in two places: {line!r}")
        if not NAME.fullmatch(name):
            raise ParseError(f"family name: {line!r}")
        self.family = self.out.families[name] = Family(name)
        return self.family

    def comment(self, line):
        words = line.split(" ", 3)
        if len(words) < 3 or words[1] not in ("HELP", "TYPE", "UNIT"):
            if self.openmetrics:
                raise ParseError(f"comment: {line!r}")
            return
        family = self.enter(words[2], line)
        if family.name in self.has_samples:
            raise ParseError(f"after samples: {line!r}")
        text = words[3] if len(words) > 3 else ""
        if words[1] == "TYPE":
            known = TYPES_OPENMETRICS if self.openmetrics else TYPES_TEXT
            if family.type or text not in known:
                raise ParseError(f"type: {line!r}")
            family.type = text
        elif words[1] == "HELP":
            if family.help is not None:
                raise ParseError(f"second help: {line!r}")
            family.help = text

    def sample(self, line):
        name, label_text, rest = split_sample(line)
        fields = rest.split(" ")
        if fields[0] != "" or len(fields) not in (2, 3):
            raise ParseError(f"sample: {line!r}")
        labels = parse_labels(label_text, line)
        value = parse_value(fields[1], line)
        if not self.belongs(name):
            self.enter(name, line)
        self.has_samples.add(self.family.name)
        if (name, labels) in self.out.samples:
            raise ParseError(f"series twice: {line!r}")
        self.out.samples[(name, labels)] = value

    def belongs(self, name):
        if not self.family:
            return False
        suffixes = sample_suffixes(self.family.type, self.openmetrics)
        return any(name == self.family.name + suffix for suffix in suffixes)

    def parse(self, text):
        if not text.endswith("\n"):
            raise ParseError("the last line has no line feed")
        lines = text.split("\n")[:-1]
        if self.openmetrics:
            if not lines or lines.pop() != "# EOF":
                raise ParseError("no # EOF at the end")
        for line in lines:
            if line == "# EOF":
                raise ParseError("# EOF in the middle" if self.openmetrics else "# EOF in 0.0.4")
            if line.startswith("#"):
                self.comment(line)
            elif line or self.openmetrics:
                self.sample(line)
        check_histograms(self.out)
        return self.out


def parse(body, openmetrics):
    return Parser(openmetrics).parse(body.decode("utf-8", "strict"))


def check_histograms(exposition):
    """Buckets rise, end in +Inf, and +Inf is the count."""
    buckets = {}
    for (name, labels), value in exposition.samples.items():
        if not name.endswith("_bucket"):
            continue
        family = exposition.families.get(name[: -len("_bucket")])
        if not family or family.type != "histogram":
            continue
        rest = tuple(pair for pair in labels if pair[0] != "le")
        bound = dict(labels).get("le")
        if bound is None:
            raise ParseError(f"bucket without le: {name}{labels}")
        buckets.setdefault((family.name, rest), []).append((float(bound), value))
    for (name, labels), bounds in buckets.items():
        check_histogram(exposition, name, labels, sorted(bounds))


def check_histogram(exposition, name, labels, bounds):
    counts = [count for _, count in bounds]
    if bounds[-1][0] != math.inf:
        raise ParseError(f"no +Inf bucket: {name}{labels}")
    if counts != sorted(counts):
        raise ParseError(f"buckets fall: {name}{labels}")
    if exposition.samples.get((name + "_count", labels)) != counts[-1]:
        raise ParseError(f"count is not the +Inf bucket: {name}{labels}")
    if (name + "_sum", labels) not in exposition.samples:
        raise ParseError(f"no sum: {name}{labels}")
