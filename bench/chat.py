"""Chat: messages of 200 bytes from one publisher to many subscribers, beside mosquitto, nats-server and ngircd; memory of idle
subscribers; sends that are acknowledged as durable, beside SQLite alone; and what clients that talk cost fcd.

One program, bench/chat_load.c, is the client of all servers. A message is in flight until every subscriber has read it; the publisher
keeps 1, 8 or 64 in flight. fc stores each message and syncs it before anybody gets it, the others store nothing.
"""
import json
import subprocess
import tempfile
import time

import chat_servers
from chat_servers import Fc, FcInMemory, Load
from figures import BUILD, median, ratios, spread, table

SECONDS = 1
SUBSCRIBERS = (1, 100, 1000)
IN_FLIGHT = (1, 8, 64)
IDLE_SUBSCRIBERS = 1000
SETTLE_S = 5  # fcd gives buffers of idle connections back after 2 to 4 s
SENDERS = (1, 64)
TALKERS = range(1, 11)
TALK_S = 2
TALK_INTERVAL_MS = 200  # between two messages of one client


def pss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


def fan_out(kinds, rounds):
    results = {(subscribers, in_flight): {kind.name: [] for kind in kinds} for subscribers in SUBSCRIBERS for in_flight in IN_FLIGHT}
    for _ in range(rounds):
        for subscribers in SUBSCRIBERS:
            for kind in kinds:
                with chat_servers.server(kind) as server, Load(server, subscribers, seconds=SECONDS) as load:
                    for in_flight in IN_FLIGHT:
                        results[subscribers, in_flight][kind.name].append(load.run(in_flight))
    print(f"## One publisher, many subscribers: messages of 200 bytes ({rounds} rounds)\n")
    print("CPU is for one delivery; \"share\" is how many sends shared one transaction. The last column is fc's divided by that of the row.\n")
    rows = []
    for (subscribers, in_flight), of_kinds in results.items():
        for name, list_of in of_kinds.items():
            each = lambda key: [result[key] for result in list_of]
            is_fc = name.startswith(Fc.name)
            relative = ["", ""] if is_fc else [spread(ratios(of_kinds, key, Fc.name, name), 2) for key in ("per_s", "p50_us")]
            rows.append([f"{subscribers:,}", in_flight, name, spread(each("per_s")), spread(each("p50_us")), median(each("p99_us")),
                         median(each("server_cpu_us"), 2), median(each("client_cpu_us"), 2),
                         median(each("share"), 1) if is_fc else "", *relative])
    table(["subscribers", "in flight", "server", "deliveries/s", "p50 us", "p99 us", "server CPU us", "client CPU us", "share",
           "fc / it, deliveries/s", "fc / it, p50"], rows)


def idle(kinds, rounds):
    results = {kind.name: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            with chat_servers.server(kind) as server:
                # What it needs once, whoever comes, is there after the first.
                with Load(server, 1, seconds=0.2) as load:
                    load.run()
                time.sleep(SETTLE_S)
                before = pss_kb(server.process.pid)
                with Load(server, IDLE_SUBSCRIBERS, senders=0):
                    joined = pss_kb(server.process.pid)
                    time.sleep(SETTLE_S)
                    after = pss_kb(server.process.pid)
            results[kind.name].append({"joined": (joined - before) / IDLE_SUBSCRIBERS, "idle": (after - before) / IDLE_SUBSCRIBERS,
                                       "all": after / 1024})
    print(f"## Memory of {IDLE_SUBSCRIBERS:,} idle subscribers, without TLS ({rounds} rounds)\n")
    rows = [[name, spread([result["joined"] for result in list_of], 1), spread([result["idle"] for result in list_of], 1),
             median([result["all"] for result in list_of], 1)] for name, list_of in results.items()]
    table(["server", "kB for each when they have joined", f"kB for each {SETTLE_S} s later", "PSS in all, MB"], rows)


def insert_alone():
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([BUILD / "bench/bench_sqlite_insert", folder, str(SECONDS)], check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout), "share": 1}


def sends(rounds):
    sqlite = "SQLite, one insert in each transaction"
    results = {sqlite: [], **{senders: [] for senders in SENDERS}}
    for _ in range(rounds):
        results[sqlite].append(insert_alone())
        for senders in SENDERS:
            with chat_servers.server(Fc) as server, Load(server, 0, senders=senders, seconds=SECONDS) as load:
                results[senders].append(load.run())
    print(f"## Sends that are acknowledged as durable ({rounds} rounds)\n")
    rows = []
    for name, list_of in results.items():
        each = lambda key: [result[key] for result in list_of]
        rows.append([name if name == sqlite else f"fc, one call in flight on each of {name} connections", spread(each("per_s")), spread(each("p50_us")),
                     median(each("p99_us")), spread(each("share"), 1), "" if name == sqlite else spread(ratios(results, "per_s", name, sqlite), 2)])
    table(["what", "per second", "p50 us", "p99 us", "sends in one transaction", "times SQLite"], rows)


def talk(rounds):
    """Clients join one after the other, and each that is there sends a message every TALK_INTERVAL_MS to all."""
    results = {count: [] for count in TALKERS}
    for _ in range(rounds):
        with chat_servers.server(Fc) as server:
            for count in TALKERS:
                with Load(server, count, senders=count, interval_ms=TALK_INTERVAL_MS, seconds=TALK_S) as load:
                    result = load.run()
                # From its first to its last message, which are half a second more.
                result["cpu"] = 100 * result["server_cpu_s"] / (TALK_S + 0.5)
                result["kb"] = pss_kb(server.process.pid)
                results[count].append(result)
    print(f"## Clients that talk: each sends {1000 // TALK_INTERVAL_MS} messages a second to all, itself too ({rounds} rounds)\n")
    rows = []
    for count, list_of in results.items():
        each = lambda key: [result[key] for result in list_of]
        rows.append([count, median(each("per_s")), spread(each("cpu"), 1), spread([kb / 1024 for kb in each("kb")], 1),
                     median(each("p50_us")), median(each("p99_us"))])
    table(["clients", "deliveries/s", "CPU of fcd, % of one core", "PSS of fcd, MB", "p50 us", "p99 us"], rows)


def run(rounds):
    peers = chat_servers.installed()
    fan_out([*peers, FcInMemory, Fc], rounds)
    idle([*(kind for kind in peers if kind is not chat_servers.Mosquitto0), Fc], rounds)
    sends(rounds)
    talk(rounds)
