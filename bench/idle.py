"""What thousands of idle connections cost the server, and the calls of others meanwhile."""
import resource

import echo
from figures import median, spread, table

CONNECTIONS = 5000
PAYLOAD = 64
SECONDS = 2
OUTSTANDING = 32


def measure(runtime, scheme):
    with echo.server(runtime, scheme) as server:
        before = server.load(1, OUTSTANDING, SECONDS, PAYLOAD)
        with server.holding(CONNECTIONS, PAYLOAD):
            held_kb = server.resident_kb()
            meanwhile = server.load(1, OUTSTANDING, SECONDS, PAYLOAD)
    return {"kb_each": (held_kb - before["server_kb"]) / CONNECTIONS, "server_kb": held_kb,
            "before_p99": before["p99_us"], "meanwhile_p99": meanwhile["p99_us"]}


def run(rounds):
    print(f"## {CONNECTIONS:,} idle connections (medians of {rounds} rounds)")
    print(f"Each has made one call. p99 is that of a further connection with {OUTSTANDING} calls of {PAYLOAD} B outstanding.\n")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    runtimes = echo.runtimes()
    results = {(runtime, scheme): [] for scheme in ("tcp", "tls+tcp") for runtime in echo.runtimes(scheme)}
    for _ in range(rounds):
        for (runtime, scheme), list_of in results.items():
            list_of.append(measure(runtime, scheme))
    rows = []
    for (runtime, scheme), list_of in results.items():
        each = lambda key: [result[key] for result in list_of]
        rows.append([runtime if scheme == "tcp" else f"{runtime}, TLS", spread(each("kb_each"), 1), median([kb / 1024 for kb in each("server_kb")], 1),
                     spread(each("before_p99")), spread(each("meanwhile_p99"))])
    table(["runtime", "server kB for each", "server RSS MB in all", "p99 before, us", "p99 meanwhile, us"], rows)
