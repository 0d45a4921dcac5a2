"""Whether a connection with a thousand calls outstanding holds up nine that make one at a time."""
import time

import echo
from figures import median, spread, table

PAYLOAD = 64
SECONDS = 2
BUSY_OUTSTANDING = 1000


def measure(runtime):
    with echo.server(runtime) as server:
        alone = server.load(9, 1, SECONDS, PAYLOAD)
        busy = server.start_client(1, BUSY_OUTSTANDING, SECONDS + 3, PAYLOAD)
        time.sleep(2 * echo.WARM_UP_S)
        beside = server.load(9, 1, SECONDS, PAYLOAD)
        if busy.poll() is not None:
            raise RuntimeError("the busy connection ended before the nine did")
        return {"alone_p99": alone["p99_us"], "beside_p99": beside["p99_us"], "beside_p50": beside["p50_us"],
                "busy_calls_per_s": echo.client_result(busy)["calls_per_s"]}


def run(rounds):
    print(f"## One connection with {BUSY_OUTSTANDING} calls outstanding beside nine with one each ({PAYLOAD} B, medians of {rounds} rounds)\n")
    results = {runtime: [] for runtime in echo.runtimes()}
    for _ in range(rounds):
        for runtime, list_of in results.items():
            list_of.append(measure(runtime))
    rows = []
    for runtime, list_of in results.items():
        each = lambda key: [result[key] for result in list_of]
        growth = [result["beside_p99"] / result["alone_p99"] for result in list_of]
        rows.append([runtime, spread(each("alone_p99")), spread(each("beside_p99")), spread(growth, 1), median(each("beside_p50")),
                     median(each("busy_calls_per_s"))])
    table(["runtime", "the nine's p99 alone, us", "beside the busy one, us", "times", "p50 beside it, us", "the busy one's calls/s"], rows)
