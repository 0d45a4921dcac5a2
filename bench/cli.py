"""How long fc takes: to start, to send, to show what is here, to catch up; and what an idle fcd keeps in memory."""
import os
import resource
import shutil
import subprocess
import tempfile
import time

from figures import BUILD, resident_kb, spread, table

FC, FCD = BUILD / "cli/fc", BUILD / "services/daemon/fcd"
# Encrypted messages: what is in the local store before, and what is caught up with.
OLD, ONE_ROOM, ROOMS, IN_EACH = 30_000, 20_000, 200, 250


class Person:
    """fc of one user on one machine."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder
        self.env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": f"{folder}/config", "FC_DATA_DIR": f"{folder}/data"}

    def run(self, *arguments, stdin=b""):
        subprocess.run([FC, *arguments], env=self.env, input=stdin, check=True, stdout=subprocess.DEVNULL)

    def timed_ms(self, command):
        start = time.perf_counter()
        subprocess.run(command, env=self.env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1000


def fill(person, room, count):
    lines = (f"message {number} of {room}, about the weather of day {number % 365} and tea" for number in
             range(count))
    person.run("send", room, "-", stdin="\n".join(lines).encode())


class Server:
    """fcd with its data in a folder. A context manager."""

    def __init__(self, folder, url="tcp://127.0.0.1:0"):
        command = [FCD, "--data", f"{folder}/server", "--listen", url, "--http", "off"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().split("rpc=")[1].split()[0]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(timeout=20)


def make_messages(folder):
    """People, rooms and messages in a folder. Returns the server's URL, which the people's stores are named after."""
    with Server(folder) as server:
        alice, bob = (Person(server.url, f"{folder}/{name}") for name in ("alice", "bob"))
        for name, person in (("alice", alice), ("bob", bob)):
            person.run("signup", name, "--password-stdin", stdin=b"bench password")
        alice.run("room", "create", "plain", "--plain")
        alice.run("room", "create", "old", "--member", "bob")
        fill(alice, "old", OLD)
        bob.run("history", "old")
        for number in range(ROOMS):
            alice.run("room", "create", f"room{number}", "--member", "bob")
            fill(alice, f"room{number}", IN_EACH)
        alice.run("room", "create", "big", "--member", "bob")
        fill(alice, "big", ONE_ROOM)
        return server.url


def catch_up(before, command, runs):
    """Seconds that a copy of a machine takes, and seconds of its processors, each run anew."""
    taken, busy = [], []
    for _ in range(runs):
        copy = Person(before.url, before.folder + "-copy")
        shutil.copytree(before.folder, copy.folder)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(copy.timed_ms([FC, *command]) / 1000)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
        shutil.rmtree(copy.folder)
    return [spread(taken, 2) + " s", spread(busy, 2) + " s"]


def measure_catching_up(bob, rounds):
    rows = [[f"{ONE_ROOM:,} encrypted messages in one room", *catch_up(bob, ("history", "big"), rounds), "4 s"]]
    bob.run("history", "big")
    rows.append([f"{ROOMS * IN_EACH:,} in {ROOMS} rooms", *catch_up(bob, ("unread",), rounds), "5 s"])
    bob.run("unread")
    print(f"## Catching up ({rounds} runs of `fc` by a member who was away)\n")
    table(["what", "median (min to max)", "processor time", "to stay under"], rows)


def measure_commands(person, runs, *cases):
    rows = []
    for name, command, goal in cases:
        person.timed_ms(command)
        rows.append([name, spread([person.timed_ms(command) for _ in range(runs)], 1) + " ms", goal])
    return rows


def run(rounds):
    runs = rounds * 10
    with tempfile.TemporaryDirectory() as folder:
        with Server(f"{folder}/idle") as server:
            time.sleep(1)
            rows = [["resident memory of an idle fcd", f"{resident_kb(server.process.pid) / 1024:.1f} MB", "12 MB"]]
        # Where nothing has to reach a disk it is faster made.
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as made:
            url = make_messages(made)
            shutil.copytree(made, f"{folder}/made")
        folder = f"{folder}/made"
        with Server(folder, url):
            alice, bob = (Person(url, f"{folder}/{name}") for name in ("alice", "bob"))
            measure_catching_up(bob, rounds)
            here = f"{OLD + ONE_ROOM + ROOMS * IN_EACH:,} messages in the local store"
            rows += measure_commands(
                alice, runs,
                ("fc --version", [FC, "--version"], "20 ms"),
                ("fc send, acknowledged as durable", [FC, "send", "plain", "hello"], "50 ms"),
                ("fc send to an encrypted room", [FC, "send", "big", "hello"], "50 ms"),
                ("true, for comparison", ["/bin/true"], ""))
            rows += measure_commands(
                bob, runs,
                (f"fc history, the newest 50, with {here}", [FC, "history", "big"], "20 ms"),
                ("the same with --offline", [FC, "history", "big", "--offline"], "20 ms"),
                (f"fc search for three words, with {here}", [FC, "search", "weather", "day", "tea"], "50 ms"),
                ("the same with --offline", [FC, "search", "weather", "day", "tea", "--offline"], "50 ms"))
    print(f"## Command line ({runs} runs)\n")
    table(["what", "median (min to max)", "to stay under"], rows)
