"""Echo calls: fc's runtime against gRPC, in C++ and in Python, and against nng's own REQ and REP sockets."""
import collections
import pathlib
import shutil
import statistics
import subprocess

import echo
from figures import RESULTS, median, ratios, spread, table

SECONDS = 2
SMALL, LARGE = 64, 256 * 1024
Case = collections.namedtuple("Case", "payload connections outstanding scheme", defaults=["tcp"])
CASES = [Case(payload, 1, outstanding) for payload in (SMALL, LARGE) for outstanding in (1, 32, 256)]
CASES += [Case(SMALL, 100, 1), Case(SMALL, 100, 32)]
CASES += [Case(payload, 1, outstanding, "tls+tcp") for payload in (SMALL, LARGE) for outstanding in (1, 32, 256)]
CASES += [Case(SMALL, 100, 1, "tls+tcp"), Case(SMALL, 100, 32, "tls+tcp")]
# Clients in Python.
CASES += [Case(payload, 1, outstanding, scheme) for scheme in ("http", "https") for payload, outstanding in ((SMALL, 1), (SMALL, 32), (LARGE, 1))]


def size_of(payload):
    return f"{payload} B" if payload < 1024 else f"{payload // 1024} KiB"


def name_of(case):
    connections = "" if case.connections == 1 else f"{case.connections} connections x "
    tls = "" if case.scheme in ("tcp", "http") else " with TLS"
    return f"{size_of(case.payload)}, {connections}{case.outstanding}{tls}"


def measure(runtime, case):
    with echo.server(runtime, case.scheme) as server:
        return server.load(case.connections, case.outstanding, SECONDS, case.payload)


def faster(runtimes, results):
    return max(runtimes, key=lambda runtime: statistics.median(result["calls_per_s"] for result in results[runtime]))


def figures_row(case, runtime, results):
    each = lambda key: [result[key] for result in results]
    return [name_of(case), runtime, spread(each("calls_per_s")), median(each("p50_us")), median(each("p99_us")),
            median(each("server_cpu_us"), 1), median(each("client_cpu_us"), 1), *(f"{statistics.median(each(key)) / 1024:.1f}" for key in ("server_kb", "server_own_kb"))]


def ratio_row(case, peer, results):
    ours = "fc-python" if "fc-python" in results else "fc"
    cells = [spread(ratios(results, "calls_per_s", ours, peer), 2)]
    cells += [median(ratios(results, key, ours, peer), 2) for key in ("p50_us", "p99_us", "server_cpu_us", "client_cpu_us", "server_kb", "server_own_kb")]
    return [name_of(case), peer, *cells]


def plot(runtimes, by_case):
    """calls/s over outstanding, one picture for each payload."""
    if shutil.which("gnuplot") is None:
        print("No plots: gnuplot is not installed.\n")
        return
    for payload in (SMALL, LARGE):
        points = [case for case in CASES if case.payload == payload and case.connections == 1 and case.scheme == "tcp"]
        lines = []
        for runtime in runtimes:
            rows = [f"{case.outstanding} {statistics.median(r['calls_per_s'] for r in by_case[case][runtime])}" for case in points]
            lines.append(f"${runtime.replace('-', '_')} << EOD\n" + "\n".join(rows) + "\nEOD\n")
        picture = RESULTS / f"rpc-{payload}.png"
        curves = ", ".join(f"${runtime.replace('-', '_')} using 1:2 with linespoints linewidth 2 title '{runtime}'" for runtime in runtimes)
        script = f"""{''.join(lines)}
set terminal pngcairo size 900,600
set output '{picture}'
set title 'Echo of {size_of(payload)}, one connection, loopback'
set xlabel 'calls outstanding'
set ylabel 'calls per second'
set logscale x 2
set logscale y
set key left top
set grid
plot {curves}
"""
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
        print(f"wrote {picture.relative_to(pathlib.Path.cwd()) if picture.is_relative_to(pathlib.Path.cwd()) else picture}")
    print()


def run(rounds):
    print(f"## Echo calls on loopback (medians of {rounds} rounds of {SECONDS} s)\n")
    runtimes = echo.runtimes()
    by_case = {case: {runtime: [] for runtime in echo.runtimes(case.scheme)} for case in CASES}
    for _ in range(rounds):
        for case, results in by_case.items():
            for runtime, list_of in results.items():
                list_of.append(measure(runtime, case))

    table(["payload, outstanding", "runtime", "calls/s", "p50 us", "p99 us", "server CPU us/call", "client CPU us/call", "server RSS MB", "its own MB"],
          [figures_row(case, runtime, results[runtime]) for case, results in by_case.items() for runtime in results])
    grpc = lambda results: [runtime for runtime in results if runtime.startswith("grpc-")]
    peers = lambda results: ([faster(grpc(results), results)] if grpc(results) else []) + [runtime for runtime in results if runtime == "nng"]
    print("fc divided by the peer: more than 1 is better for calls/s, less than 1 for the others.\n")
    table(["payload, outstanding", "peer", "calls/s", "p50", "p99", "server CPU", "client CPU", "server RSS", "its own"],
          [ratio_row(case, peer, results) for case, results in by_case.items() for peer in peers(results)])
    others = [100 * r["others_share"] for results in by_case.values() for of_runtime in results.values() for r in of_runtime]
    print(f"Other programs used {spread(others)} % of the machine while this was measured.\n")
    RESULTS.mkdir(parents=True, exist_ok=True)
    plot(runtimes, by_case)
