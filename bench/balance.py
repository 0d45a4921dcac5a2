"""The ways to choose among servers (fc download --balance), over four servers that are equal, of different speeds, or
with one slow: how long a file takes, next to the ideal, its size over the sum of the speeds, and which part of it each
server gave. Speeds are limits that the servers keep."""
import json
import pathlib
import subprocess
import tempfile
import time

from download import FcServers
from files import is_same, make_source
from figures import spread, table

FILE_MIB = 256
STRATEGIES = ("adaptive", "round-robin", "random", "least-cpu", "two-choices", "mediator")
CASES = {"equal": (40, 40, 40, 40), "unequal": (100, 40, 15, 5), "one slow": (50, 50, 50, 5)}  # MiB/s


def fetch(servers, source, target, strategy):
    start = time.perf_counter()
    done = subprocess.run([servers.fc, "download", source.name, "-o", target, "--json", "-v", "--balance", strategy],
                          env=servers.env, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if not is_same(source, target):
        raise RuntimeError(f"{strategy} brought something else")
    summary = json.loads(done.stdout.splitlines()[-2])
    # The origin's name is its address, and comes first; then the mirrors by theirs.
    given = sorted((one["kind"] != "origin", one["name"], one["bytes"]) for one in summary["sources"])
    return {"seconds": seconds, "shares": [size / source.stat().st_size for _, _, size in given]}


def run(rounds, size_mib=FILE_MIB):
    print(f"## Balancing: {size_mib} MiB from four servers, {rounds} rounds\n")
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        source = work / "file"
        make_source(source, size_mib)
        rows = []
        for case, speeds in CASES.items():
            folder = work / case.replace(" ", "-")
            folder.mkdir()
            servers = FcServers(folder, source, 0, [speed << 20 for speed in speeds])
            results = {strategy: [] for strategy in STRATEGIES}
            try:
                for _ in range(rounds):
                    for strategy in STRATEGIES:
                        target = folder / "fetched"
                        results[strategy].append(fetch(servers, source, target, strategy))
                        target.unlink()
            finally:
                servers.close()
            ideal = size_mib / sum(speeds)
            for strategy, runs in results.items():
                shares = [sum(run["shares"][i] for run in runs) / rounds for i in range(len(speeds))]
                rows.append([f"{case}: {', '.join(map(str, speeds))} MiB/s", strategy, spread([run["seconds"] for run in runs], 2),
                             spread([run["seconds"] / ideal for run in runs], 2), " ".join(f"{100 * share:.0f} %" for share in shares)])
        table(["servers", "balance", "seconds", "times the ideal", "given by each"], rows)
