"""Which server is asked next: the strategies of `fc download --balance`, over servers of different speed.

The bound is the file's size over the sum of what the servers send at most, which no strategy can be faster than.
"""
import contextlib
import pathlib
import tempfile

from download import Mirrors, measure
from figures import spread, table
from files import is_same, make_source

FILE_MIB = 128
MB = 1000 * 1000
STRATEGIES = ("adaptive", "round-robin", "random", "least-cpu", "two-choices", "mediator")
# What the origin and its three mirrors send a second.
CASES = {
    "alike": (25 * MB, 25 * MB, 25 * MB, 25 * MB),
    "unequal": (60 * MB, 25 * MB, 10 * MB, 5 * MB),
    "one slow": (32 * MB, 32 * MB, 32 * MB, 4 * MB),
}


def run_case(title, rates, rounds):
    size = FILE_MIB << 20
    bound = size / sum(rates)
    results = {strategy: [] for strategy in STRATEGIES}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        work = pathlib.Path(name)
        source = work / "source.bin"
        make_source(source, FILE_MIB)
        target = work / "fetched"
        fc = Mirrors(work, rates)
        stack.callback(fc.close)
        fc.fill(source)
        for _ in range(rounds):
            for strategy in STRATEGIES:
                target.unlink(missing_ok=True)
                results[strategy].append(measure([fc.command(target, [], strategy)], fc.env)["seconds"])
                if not is_same(source, target):
                    raise RuntimeError(f"{strategy} brought something else")
    print(f"### {title}: {', '.join(f'{rate / MB:g}' for rate in rates)} MB/s, bound {bound:.2f} s\n")
    table(["strategy", "seconds", "of the bound"],
          [[strategy, spread(seconds, 2), spread([value / bound for value in seconds], 2)] for strategy, seconds in results.items()])


def run(rounds):
    print(f"## {FILE_MIB} MiB from four servers by different strategies, {rounds} rounds\n")
    for title, rates in CASES.items():
        run_case(title, rates, rounds)
