"""How long small calls take while files move over the same server, and while others flood it: a health check, and a chat message
acknowledged as durable."""
import functools
import itertools
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

from figures import BUILD, spread, table
from files import STEP, Fc

CALLS = 300
PAUSE_S = 0.01  # between two, as people and pages have it
FILE_MIB = 128
SEND_RATE = 200  # what the server allows a user: more than the caller sends, and less than the flood


def field(number, data):
    """A protobuf field of text or bytes below 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


class Caller:
    """One connection that makes one call at a time."""

    def __init__(self, url, token):
        host, port = url.removeprefix("tcp://").split(":")
        self.token = field(3, token.encode()) if token is not None else b""
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"\0SP\0\0\x30\0\0")
        self.receive(8)

    def receive(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise RuntimeError("the server has closed the connection")
            data += piece
        return data

    def send(self, method, request):
        header = field(1, method.encode()) + self.token + field(4, os.urandom(16))
        message = struct.pack(">IBBH", 0x80000001, 1, 0, len(header)) + header + request
        self.socket.sendall(struct.pack(">Q", len(message)) + message)

    def drain(self):
        while self.socket.recv(65536):
            pass

    def ask(self, method, request):
        """The response, as protobuf, and how long the call took, in ms."""
        start = time.perf_counter()
        self.send(method, request)
        answer = self.receive(struct.unpack(">Q", self.receive(8))[0])
        took_ms = (time.perf_counter() - start) * 1000
        header_size = struct.unpack(">H", answer[6:8])[0]
        if answer[8:8 + header_size].startswith(b"\x08"):  # a code that is not OK
            raise RuntimeError(f"{method} failed: {answer[8:]!r}")
        return answer[8 + header_size:], took_ms

    def call(self, method, request):
        """How long the call took, in ms."""
        return self.ask(method, request)[1]


CASES = {
    "a health check": ("fc.rpc.v1.Health/Check", b""),
    "a chat message": ("fc.chat.v1.Chat/Send", field(1, b"bench") + field(2, b"hello")),
}


def stand_for_another_machine():
    """Who calls has a processor at once, as on a machine of its own; only root may have that."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        print("(without the right to a real-time priority the caller waits for the processors as well)\n")


def measure(caller, name):
    took = []
    for _ in range(CALLS):
        time.sleep(PAUSE_S)
        took.append(caller.call(*CASES[name]))
    took.sort()
    return {"p50": statistics.median(took), "p99": took[len(took) * 99 // 100]}


class Transfers:
    """Files that go up and come down without end."""

    def __init__(self, fc, folder, uploads=0, downloads=0):
        self.fc = fc
        folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        # Each time with another content, or the server would drop what it has just stored.
        up = ('i=0; while printf %s-%08d "$2" $i | dd of="$1" conv=notrunc status=none; "$0" upload "$1" --name "$2-$i" >/dev/null 2>&1; '
              'do i=$((i + 1)); done')
        down = 'while "$0" download "$1" -o "$2" >/dev/null 2>&1; do :; done'
        source = folder / "file"
        with open(source, "wb") as file:
            for _ in range(FILE_MIB):
                file.write(os.urandom(STEP))
        name = folder.name
        subprocess.run([fc.fc, "upload", source, "--name", name], env=fc.env, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        self.processes = []
        for i in range(uploads):
            shutil.copyfile(source, folder / f"up{i}")
            self.start(up, folder / f"up{i}", f"{name}-{i}")
        for i in range(downloads):
            self.start(down, name, folder / f"down{i}")

    def start(self, script, *arguments):
        # They stand for other machines, so they get the processors only while the server does not want them.
        self.processes.append(subprocess.Popen(["chrt", "--idle", "0", "sh", "-c", script, self.fc.fc, *arguments], env=self.fc.env,
                                               process_group=0))

    def stop(self):
        for process in self.processes:
            os.killpg(process.pid, 9)
            process.wait()


class Flood:
    """One user who sends 1,000 messages a second, and 100 sign-ups a second."""

    def __init__(self, fc, folder):
        folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        env = {**fc.env, "FC_CONFIG_DIR": str(folder), "FC_DATA_DIR": str(folder)}
        subprocess.run([fc.fc, "signup", folder.name.lower().replace("_", "-"), "--password-stdin"], env=env, input=b"bench password",
                       check=True, stdout=subprocess.DEVNULL)
        subprocess.run([fc.fc, "call", "fc.chat.v1.Chat/Join", '{"room": "bench"}'], env=env, check=True, stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen(["chrt", "--idle", "0", sys.executable, __file__, fc.env["FC_SERVER"], token_in(folder)])

    def stop(self):
        self.process.kill()
        self.process.wait()


def flood(url, token):
    users, room = Caller(url, None), Caller(url, token)
    threading.Thread(target=users.drain, daemon=True).start()
    threading.Thread(target=room.drain, daemon=True).start()
    start = time.monotonic()
    for step in itertools.count(1):
        name = f"u{os.getpid()}-{step}".encode()
        kdf = field(1, os.urandom(16)) + bytes([2 << 3, 15, 3 << 3, 8, 4 << 3, 1])
        users.send("fc.auth.v1.Auth/SignUp", field(1, name) + field(2, kdf) + field(3, os.urandom(32)))
        for _ in range(10):
            room.send(*CASES["a chat message"])
        time.sleep(max(0, start + step * 0.01 - time.monotonic()))


def token_in(folder):
    credentials = (folder / "credentials").read_text()
    return next(word.strip('",;') for word in credentials.replace("=", " ").split() if word.strip('"').startswith("fct_"))


LOADS = {
    "3 uploads": functools.partial(Transfers, uploads=3),
    "2 uploads and 2 downloads": functools.partial(Transfers, uploads=2, downloads=2),
    "a flood of messages and sign-ups": Flood,
}


def run(rounds):
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        fc = Fc(folder, "--send-rate", str(SEND_RATE))
        try:
            subprocess.run([fc.fc, "room", "create", "bench", "--plain"], env=fc.env, check=True, stdout=subprocess.DEVNULL)
            stand_for_another_machine()
            caller = Caller(fc.env["FC_SERVER"], token_in(folder / "fc" / "config"))
            results = {(load, case): [] for load in LOADS for case in CASES}
            for _ in range(rounds):
                alone = {case: measure(caller, case) for case in CASES}
                for name, begin in LOADS.items():
                    load = begin(fc, folder)
                    time.sleep(1)
                    try:
                        for case in CASES:
                            results[name, case].append((alone[case], measure(caller, case)))
                    finally:
                        load.stop()
        finally:
            fc.server.terminate()
            fc.server.wait(timeout=60)
    for (load, case), pairs in results.items():
        for key in ("p50", "p99"):
            rows.append([case, load, key, spread([alone[key] for alone, _ in pairs], 2), spread([beside[key] for _, beside in pairs], 2),
                         spread([beside[key] / alone[key] for alone, beside in pairs], 1)])
    print(f"## Small calls beside much else ({CALLS} calls each, {rounds} rounds)\n")
    table(["what", "beside", "", "alone, ms", "beside it, ms", "times"], rows)


if __name__ == "__main__":  # the flood, as a process of its own
    flood(*sys.argv[1:])
