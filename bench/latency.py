"""How long small calls take while files move over the same server: a health check, and a chat message acknowledged as durable."""
import os
import pathlib
import shutil
import socket
import statistics
import struct
import subprocess
import tempfile
import time

from figures import BUILD, spread, table
from files import STEP, Fc

CALLS = 300
PAUSE_S = 0.01  # between two, as people and pages have it
FILE_MIB = 128
LOADS = {"3 uploads": (3, 0), "2 uploads and 2 downloads": (2, 2)}


def field(number, data):
    """A protobuf field of text or bytes below 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


class Caller:
    """One connection that makes one call at a time."""

    def __init__(self, url, token):
        host, port = url.removeprefix("tcp://").split(":")
        self.token = token.encode()
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

    def ask(self, method, request):
        """The response, as protobuf, and how long the call took, in ms."""
        header = field(1, method.encode()) + field(3, self.token) + field(4, os.urandom(16))
        message = struct.pack(">IBBH", 0x80000001, 1, 0, len(header)) + header + request
        start = time.perf_counter()
        self.socket.sendall(struct.pack(">Q", len(message)) + message)
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

    def __init__(self, fc, folder, uploads, downloads):
        self.fc = fc
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


def run(rounds):
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        fc = Fc(folder)
        try:
            subprocess.run([fc.fc, "room", "create", "bench", "--plain"], env=fc.env, check=True, stdout=subprocess.DEVNULL)
            credentials = (folder / "fc" / "config" / "credentials").read_text()
            token = next(word.strip('",;') for word in credentials.replace("=", " ").split() if word.strip('"').startswith("fct_"))
            stand_for_another_machine()
            caller = Caller(fc.env["FC_SERVER"], token)
            results = {(load, case): [] for load in LOADS for case in CASES}
            for _ in range(rounds):
                alone = {case: measure(caller, case) for case in CASES}
                for load, counts in LOADS.items():
                    transfers = Transfers(fc, pathlib.Path(tempfile.mkdtemp(dir=folder)), *counts)
                    time.sleep(1)
                    try:
                        for case in CASES:
                            results[load, case].append((alone[case], measure(caller, case)))
                    finally:
                        transfers.stop()
        finally:
            fc.server.terminate()
            fc.server.wait(timeout=60)
    for (load, case), pairs in results.items():
        for key in ("p50", "p99"):
            rows.append([case, load, key, spread([alone[key] for alone, _ in pairs], 2), spread([beside[key] for _, beside in pairs], 2),
                         spread([beside[key] / alone[key] for alone, beside in pairs], 1)])
    print(f"## Small calls while files move ({CALLS} calls each, {rounds} rounds)\n")
    table(["what", "beside", "", "alone, ms", "beside it, ms", "times"], rows)
