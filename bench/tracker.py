"""What the tracker costs and how fast it is, with more and more sources of the same files."""
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time

from cli import Person, Server
from figures import BUILD, median, resident_kb, spread, table

SOURCES = (100, 1000, 10000)
FILES, SEGMENTS, SEGMENT_BYTES = 100, 32, 256 * 1024
SECONDS = 3


def store_files(person, folder):
    """Files of the same size, sparse here, and other content each. Returns their ids."""
    path = f"{folder}/files"
    os.mkdir(path)
    for number in range(FILES):
        with open(f"{path}/{number}", "wb") as file:
            file.write(str(number).encode())
            file.truncate(SEGMENTS * SEGMENT_BYTES)
    person.run("upload", *(f"{path}/{number}" for number in range(FILES)))
    shutil.rmtree(path)
    listed = subprocess.run([BUILD / "cli/fc", "ls", "--json"], env=person.env, check=True, capture_output=True, text=True)
    return [json.loads(line)["id"] for line in listed.stdout.splitlines()]


def measure(folder, sources, ids):
    with Server(folder) as server:
        person = Person(server.url, f"{folder}/alice")
        subprocess.run([BUILD / "cli/fc", "login", "alice", "--password-stdin"], env=person.env, input=b"bench password",
                       check=True, stdout=subprocess.DEVNULL)
        time.sleep(1)
        before_kb = resident_kb(server.process.pid)
        begin = time.monotonic()
        command = [BUILD / "bench/bench_tracker_load", server.url, str(sources), str(SECONDS), str(SEGMENTS), *ids]
        with subprocess.Popen(command, env=person.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout.readline() == "announced\n"
            announced_s = time.monotonic() - begin
            held_kb = resident_kb(server.process.pid)
            load.stdin.write("go\n")
            load.stdin.flush()
            result = json.loads(load.stdout.readline())
        return {**result, "bytes_each": (held_kb - before_kb) * 1024 / sources,
                "held_mb": held_kb / 1024, "announced_per_s": sources * (FILES + 1) / announced_s}


def run(rounds):
    print(f"## The tracker: each source announces {FILES} files of {SEGMENTS} segments (medians of {rounds} rounds)")
    print("Half of the files it has whole. Lookups are for 32 sources, one after the other on one connection: with heartbeats alone, "
          "four a second from each source, and beside as many changes as the tracker takes. Each source is a stream; 120 of them share "
          "a connection.\n")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results = {sources: [] for sources in SOURCES}
    with tempfile.TemporaryDirectory(prefix="fc-bench-") as folder:
        with Server(folder) as server:
            person = Person(server.url, f"{folder}/alice")
            person.run("signup", "alice", "--password-stdin", stdin=b"bench password")
            ids = store_files(person, folder)
        for _ in range(rounds):
            for sources, list_of in results.items():
                list_of.append(measure(folder, sources, ids))
    rows = []
    for sources, list_of in results.items():
        each = lambda key: [result[key] for result in list_of]
        rows.append([f"{sources:,}", spread(each("bytes_each")), median(each("held_mb"), 1), median(each("announced_per_s")),
                     spread(each("changes_per_s")), median(each("lookup_p50_us")), median(each("lookup_p99_us")),
                     median(each("busy_p50_us")), median(each("busy_p99_us"))])
    table(["sources", "bytes of fcd for each", "fcd RSS MB", "files announced/s", "changes/s", "lookup p50 us", "p99 us",
           "beside changes p50 us", "p99 us"], rows)
