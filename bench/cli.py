"""How long fc takes: to start, to send, to show what is here, to catch up; and what an idle fcd keeps in memory."""
import os
import resource
import shutil
import subprocess
import tempfile
import time

from figures import BUILD, resident_kb, spread, table

FC, FCD = BUILD / "cli/fc", BUILD / "services/daemon/fcd"
# What is caught up with, and what the local store then holds: encrypted.
ONE_ROOM, ROOMS, IN_EACH, STORE = 20_000, 200, 250, 100_000


class Person:
    """fc of one user on one machine."""

    def __init__(self, url, folder):
        self.folder = folder
        self.env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": f"{folder}/config", "FC_DATA_DIR": f"{folder}/data"}

    def run(self, *arguments, stdin=b""):
        subprocess.run([FC, *arguments], env=self.env, input=stdin, check=True, stdout=subprocess.DEVNULL)

    def timed_ms(self, command):
        start = time.perf_counter()
        subprocess.run(command, env=self.env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1000


def fill(person, room, count, first=0):
    lines = (f"message {number} of {room}, about the weather of day {number % 365} and tea" for number in
             range(first, first + count))
    person.run("send", room, "-", stdin="\n".join(lines).encode())


def catch_up(before, command, runs):
    """Seconds that a copy of a machine takes, and seconds of its processors, each run anew."""
    taken, busy = [], []
    for _ in range(runs):
        copy = Person(before.env["FC_SERVER"], before.folder + "-copy")
        shutil.copytree(before.folder, copy.folder)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(copy.timed_ms([FC, *command]) / 1000)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
        shutil.rmtree(copy.folder)
    return taken, busy


def measure_catching_up(alice, bob, rounds):
    rows = []
    alice.run("room", "create", "big", "--member", "bob")
    bob.run("unread")
    fill(alice, "big", ONE_ROOM)
    cases = [(f"{ONE_ROOM:,} encrypted messages in one room", ("history", "big"), "4 s")]
    taken, busy = catch_up(bob, cases[0][1], rounds)
    rows.append([cases[0][0], spread(taken, 2) + " s", spread(busy, 2) + " s", cases[0][2]])
    bob.run("history", "big")
    for number in range(ROOMS):
        alice.run("room", "create", f"room{number}", "--member", "bob")
        fill(alice, f"room{number}", IN_EACH)
    taken, busy = catch_up(bob, ("unread",), rounds)
    rows.append([f"{ROOMS * IN_EACH:,} in {ROOMS} rooms", spread(taken, 2) + " s", spread(busy, 2) + " s", "5 s"])
    bob.run("unread")
    print(f"## Catching up ({rounds} runs, by `fc` of a member who was away)\n")
    table(["what", "median (min to max)", "processor time", "to stay under"], rows)


def measure_commands(person, runs, cases):
    rows = []
    for name, command, goal in cases:
        person.timed_ms(command)
        rows.append([name, spread([person.timed_ms(command) for _ in range(runs)], 1) + " ms", goal])
    return rows


def run(rounds):
    runs = rounds * 10
    with tempfile.TemporaryDirectory() as folder:
        command = [FCD, "--data", f"{folder}/data", "--listen", "tcp://127.0.0.1:0", "--http", "http://127.0.0.1:0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = server.stdout.readline().split("rpc=")[1].split()[0].split(",")[0]
            time.sleep(1)
            rows = [["resident memory of an idle fcd", f"{resident_kb(server.pid) / 1024:.1f} MB", "12 MB"]]
            alice, bob = Person(url, f"{folder}/alice"), Person(url, f"{folder}/bob")
            for name, person in (("alice", alice), ("bob", bob)):
                person.run("signup", name, "--password-stdin", stdin=b"bench password")
            alice.run("room", "create", "plain", "--plain")
            measure_catching_up(alice, bob, rounds)
            here = ONE_ROOM + ROOMS * IN_EACH
            fill(alice, "big", STORE - here, ONE_ROOM)
            bob.run("history", "big")
            rows += measure_commands(alice, runs, (
                ("fc --version", [FC, "--version"], "20 ms"),
                ("fc send, acknowledged as durable", [FC, "send", "plain", "hello"], "50 ms"),
                ("fc send to an encrypted room", [FC, "send", "big", "hello"], "50 ms"),
                ("true, for comparison", ["/bin/true"], "")))
            of_all = f"of {STORE:,} messages in the local store"
            rows += measure_commands(bob, runs, (
                (f"fc history, the newest 50 {of_all}", [FC, "history", "big"], "20 ms"),
                ("the same with --offline", [FC, "history", "big", "--offline"], "20 ms"),
                (f"fc search for three words {of_all}", [FC, "search", "weather", "day", "tea"], "50 ms"),
                ("the same with --offline", [FC, "search", "weather", "day", "tea", "--offline"], "50 ms")))
        finally:
            server.terminate()
            server.wait(timeout=20)
    print(f"## Command line ({runs} runs)\n")
    table(["what", "median (min to max)", "to stay under"], rows)
