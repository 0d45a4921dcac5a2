"""A strict reader of the Prometheus text format 0.0.4: what a real one would forgive is an error here."""
import re

NAME = r"[a-z][a-z0-9_]*"
LABEL = rf'({NAME})="((?:[^"\\\n]|\\[\\n"])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? ([0-9]+(?:\.[0-9]+)?)")
TYPES = ("counter", "gauge", "histogram")


class FormatError(Exception):
    """What is wrong, with the line."""


def unescape(value):
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], value)


class Family:
    """One metric: samples maps (name, labels) to a value, labels being a sorted tuple of pairs."""

    def __init__(self, name, kind):
        self.name, self.kind, self.samples = name, kind, {}

    def names(self):
        if self.kind == "histogram":
            return {self.name + suffix for suffix in ("_bucket", "_sum", "_count")}
        return {self.name}

    def add(self, line):
        match = SAMPLE.fullmatch(line)
        if not match or match[1] not in self.names():
            raise FormatError(f"no sample of {self.name}: {line!r}")
        pairs = [(pair[0], unescape(pair[1])) for pair in re.findall(LABEL, match[2] or "")]
        if len({name for name, _ in pairs}) != len(pairs):
            raise FormatError(f"a label twice: {line!r}")
        key = (match[1], tuple(sorted(pairs)))
        if key in self.samples:
            raise FormatError(f"a sample twice: {line!r}")
        self.samples[key] = float(match[match.lastindex])

    def check(self):
        if self.kind == "counter" and not self.name.endswith("_total"):
            raise FormatError(f"the counter {self.name} does not end in _total")
        if self.kind == "histogram":
            self.check_histogram()

    def check_histogram(self):
        series = {}
        for (name, labels), value in self.samples.items():
            rest = tuple(pair for pair in labels if pair[0] != "le")
            row = series.setdefault(rest, {"buckets": []})
            if name.endswith("_bucket"):
                row["buckets"].append((dict(labels)["le"], value))
            else:
                row[name.rsplit("_", 1)[1]] = value
        for labels, row in series.items():
            bounds = [float(bound) for bound, _ in row["buckets"]]
            counts = [count for _, count in row["buckets"]]
            if not bounds or bounds[-1] != float("inf") or bounds != sorted(set(bounds)):
                raise FormatError(f"bounds of {self.name}{labels}: {bounds}")
            if counts != sorted(counts) or counts[-1] != row["count"] or "sum" not in row:
                raise FormatError(f"counts of {self.name}{labels}: {counts}, {row}")


def parse(text):
    """The families by name."""
    if not text.endswith("\n"):
        raise FormatError("the last line does not end")
    families, family, helped = {}, None, None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            match = re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line)
            if not match or match[1] in families or helped:
                raise FormatError(f"a HELP out of place: {line!r}")
            helped = match[1]
        elif line.startswith("# TYPE "):
            match = re.fullmatch(rf"# TYPE ({NAME}) ({'|'.join(TYPES)})", line)
            if not match or match[1] != helped:
                raise FormatError(f"a TYPE out of place: {line!r}")
            family = families[helped] = Family(helped, match[2])
            helped = None
        elif family is None or helped:
            raise FormatError(f"a sample out of place: {line!r}")
        else:
            family.add(line)
    for each in families.values():
        each.check()
    return families
