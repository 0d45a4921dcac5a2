"""Many members download one file at the same time, each of whom sends on what has arrived: how long the last one takes, and
how often the server has to send the file.

Everybody may send RATE bytes a second, the server as well; receiving is not limited. No way of sharing can be faster than
the bound: the server has to send everything once, and all together have to send as many copies as there are members.
All run on this machine, without a distance between them.
"""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from figures import BUILD, spread, table
from files import is_same, make_source

PEERS = 20
FILE_MIB = 32
RATE = 4 * 1000 * 1000


class Member:
    def __init__(self, folder, url, name):
        self.folder = folder
        folder.mkdir()
        self.env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": str(folder / "config"), "FC_DATA_DIR": str(folder / "data")}
        self.run("signup", name, "--password-stdin", input=b"bench password")

    def run(self, *arguments, **options):
        return subprocess.run([BUILD / "cli/fc", *arguments], env=self.env, check=True, stdout=subprocess.PIPE, **options)


def measure(work, peers):
    """Seconds until each has the file, and how many copies the server has sent."""
    server = subprocess.Popen([BUILD / "services/daemon/fcd", "--data", work / "fcd", "--listen", "tcp://127.0.0.1:0",
                               "--http", "off", "--limit-rate", str(RATE)],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    members = []
    try:
        url = server.stdout.readline().split("rpc=")[1].split()[0].split(",")[0]
        admin = Member(work / "admin", url, "admin")
        source = work / "source.bin"
        make_source(source, FILE_MIB)
        admin.run("room", "create", "team", "--plain")
        admin.run("upload", source, "--name", "film", "--room", "team")
        for number in range(peers):
            member = Member(work / f"member-{number}", url, f"member{number}")
            members.append(member)
            member.run("join", "team", "--no-follow")
            member.run("peer", "start", "--limit-rate", str(RATE))
        start = time.perf_counter()
        downloads = {}
        for member in members:
            process = subprocess.Popen([BUILD / "cli/fc", "download", "team/film", "-o", member.folder / "film"], env=member.env,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            downloads[process.pid] = process
        seconds = []
        while downloads:
            pid, status = os.wait()
            process = downloads.pop(pid, None)
            if process is None:
                continue
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != 0:
                raise RuntimeError(f"a download ended with {process.returncode}")
            seconds.append(time.perf_counter() - start)
        for member in members:
            if not is_same(source, member.folder / "film"):
                raise RuntimeError("a member has something else")
        sources = [json.loads(line) for line in admin.run("segment", "ls", "--json").stdout.splitlines()]
        sent = next(source["sent_bytes"] for source in sources if source["kind"] == "origin")
        return seconds, sent / source.stat().st_size
    finally:
        for member in members:
            subprocess.run([BUILD / "cli/fc", "peer", "stop"], env=member.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server.terminate()
        server.wait(timeout=30)


def run(rounds, peers=PEERS):
    print(f"## {peers} members and a file of {FILE_MIB} MiB, each sends {RATE / 1e6:g} MB/s, {rounds} rounds\n")
    size = FILE_MIB << 20
    bound = max(size / RATE, peers * size / (RATE * (peers + 1)))
    last, first, copies = [], [], []
    for _ in range(rounds):
        work = pathlib.Path(tempfile.mkdtemp())
        try:
            seconds, sent = measure(work, peers)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        first.append(min(seconds))
        last.append(max(seconds))
        copies.append(sent)
    table(["bound, s", "first, s", "last, s", "last / bound", "copies that the server sent"],
          [[f"{bound:.2f}", spread(first, 2), spread(last, 2), spread([value / bound for value in last], 2), spread(copies, 2)]])
