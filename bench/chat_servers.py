"""The chat servers that bench/run chat compares, each started empty, with one room, and the client that loads them."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.request

from figures import BUILD, cpu_us
from files import free_port, wait_for_port
from latency import Caller, field

SUBSCRIPTIONS_OF_USER = 60  # fcd gives one user 64


class Peer:
    """A server that needs a configuration file and knows no accounts."""

    def __init__(self, folder):
        self.port = free_port()
        configuration = folder / "configuration"
        configuration.write_text(self.configuration())
        self.process = subprocess.Popen([arg.format(configuration) for arg in self.command], cwd=folder, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def keys(self, subscribers, senders):
        return []

    def transactions(self):
        return 0, 0


class Mosquitto0(Peer):
    name, program, protocol = "mosquitto, QoS 0", "mosquitto", "mqtt0"
    command = ["mosquitto", "-c", "{}"]

    def configuration(self):
        return (f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type none\nset_tcp_nodelay true\n"
                "max_inflight_messages 0\nmax_queued_messages 0\nmax_connections -1\nuser root\n")


class Mosquitto1(Mosquitto0):
    name, protocol = "mosquitto, QoS 1", "mqtt1"


class Nats(Peer):
    name, program, protocol = "nats-server", "nats-server", "nats"
    command = ["nats-server", "-c", "{}"]

    def configuration(self):
        return f'listen: "127.0.0.1:{self.port}"\nping_interval: "10m"\n'


class Ngircd(Peer):
    name, program, protocol = "ngircd", "ngircd", "irc"
    command = ["ngircd", "-n", "-f", "{}"]

    def configuration(self):
        return (f"[Global]\nName = bench.example\nInfo = bench\nAdminInfo1 = bench\nListen = 127.0.0.1\nPorts = {self.port}\n"
                "ServerUID = 0\nServerGID = 0\nMotdPhrase = bench\nHelpFile =\n[Limits]\nMaxConnections = 0\nMaxConnectionsIP = 0\n"
                "MaxJoins = 0\nMaxPenaltyTime = 0\nPingTimeout = 3600\nPongTimeout = 3600\n[Options]\nDNS = no\nIdent = no\nPAM = no\n")


class Fc:
    """fcd with its data where temporary files are."""
    name, program, protocol = "fc", "sh", "fc"

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen([BUILD / "services/daemon/fcd", "--data", self.data_folder(), "--listen", "tcp://127.0.0.1:0",
                                         "--http", "http://127.0.0.1:0", "--log-level", "warn"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ready = self.process.stdout.readline()
        self.url = ready.split("rpc=")[1].split()[0].split(",")[0]
        self.http = ready.split("http=")[1].split()[0]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.caller = Caller(self.url, "")
        self.tokens = []

    def data_folder(self):
        return self.folder / "data"

    def ask(self, method, request, token=""):
        self.caller.token = token.encode()
        return self.caller.ask(method, request)[0]

    def token(self, number):
        """That of a user who is in the room."""
        while len(self.tokens) <= number:
            name = field(1, f"user{len(self.tokens)}".encode())
            key = os.urandom(32)  # stands for one that is derived from a password
            kdf = field(1, bytes(16)) + b"\x10\x0f\x18\x08\x20\x01"
            self.ask("fc.auth.v1.Auth/SignUp", name + field(2, kdf) + field(3, key))
            answer = self.ask("fc.auth.v1.Auth/Login", name + field(2, key) + field(3, b"bench"))
            token = answer[2:2 + answer[1]].decode()
            if self.tokens:
                self.ask("fc.chat.v1.Chat/Join", field(1, b"bench"), token)
            else:
                self.ask("fc.chat.v1.Chat/CreateRoom", field(1, b"bench") + b"\x10\x01", token)
            self.tokens.append(token)
        return self.tokens[number]

    def ticket(self, number):
        answer = self.ask("fc.chat.v1.Chat/Subscribe", field(1, b"bench"), self.token(number // SUBSCRIPTIONS_OF_USER))
        return answer[2:2 + answer[1]].decode()

    def keys(self, subscribers, senders):
        self.token(max(subscribers, 1) // SUBSCRIPTIONS_OF_USER)  # before the first ticket, which does not wait for long
        return [self.ticket(i) for i in range(subscribers)] + [self.token(i % len(self.tokens)) for i in range(senders)]

    def transactions(self):
        """Transactions so far, and writes that shared them."""
        with urllib.request.urlopen(f"{self.http}/metrics") as answer:
            figures = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
        return float(figures["fc_store_transactions_total"]), float(figures["fc_store_jobs_total"])


class FcInMemory(Fc):
    """The same without a disk: what is left is the cost of all the rest."""
    name = "fc, data in memory"

    def data_folder(self):
        self.memory = tempfile.TemporaryDirectory(dir="/dev/shm")
        return pathlib.Path(self.memory.name)


PEERS = (Mosquitto0, Mosquitto1, Nats, Ngircd)


def installed():
    """The peers that are there, and fc, which every round ends with."""
    missing = sorted({kind.program for kind in PEERS if not find(kind.program)})
    if missing:
        print(f"Not measured, since scripts/install-deps --bench has not installed them: {', '.join(missing)}.\n")
    return [kind for kind in PEERS if find(kind.program)]


def find(program):
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextlib.contextmanager
def server(kind):
    with tempfile.TemporaryDirectory() as folder:
        started = kind(pathlib.Path(folder))
        try:
            yield started
        finally:
            started.process.terminate()
            started.process.wait(timeout=60)


class Load:
    """A client whose connections are open, and idle until it runs."""

    def __init__(self, server, subscribers, senders=1, interval_ms=0, seconds=2):
        self.server = server
        keys = server.keys(subscribers, senders)
        self.client = subprocess.Popen([BUILD / "bench/bench_chat_load", server.protocol, *map(str, (
            server.port, subscribers, senders, interval_ms, seconds))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.client.stdin.write("".join(key + "\n" for key in keys))
        self.client.stdin.flush()
        if self.client.stdout.readline() != "ready\n":
            raise RuntimeError(f"{server.name}: the client did not connect")

    def run(self, in_flight=1):
        """The client's figures, and the server's for the same time."""
        before_us, (transactions, jobs) = cpu_us(self.server.process.pid), self.server.transactions()
        self.client.stdin.write(f"{in_flight}\n")
        self.client.stdin.flush()
        output = self.client.stdout.readline()
        if not output:
            raise RuntimeError(f"{self.server.name}: the client failed")
        result = json.loads(output)
        after, after_jobs = self.server.transactions()
        result["server_cpu_s"] = (cpu_us(self.server.process.pid) - before_us) / 1e6
        result["server_cpu_us"] = result["server_cpu_s"] * 1e6 / result["total"]
        result["share"] = (after_jobs - jobs) / max(after - transactions, 1)
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stdin.close()
        self.client.wait(timeout=120)
