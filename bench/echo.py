"""The echo servers and clients of each runtime, which the benchmarks of calls start and measure."""
import contextlib
import functools
import json
import os
import subprocess
import sys

from figures import BUILD, RESULTS, ROOT, cpu_us, machine_us, own_kb, resident_kb

GRPC = ("grpc-callback", "grpc-cq")
GRPC_PYTHON = "grpcio==1.85.1"  # of PyPI
WARM_UP_S = 0.5  # of the clients, before they measure


def program(runtime, role):
    if runtime in GRPC:
        return BUILD / f"bench/grpc/bench_grpc_{role}"
    return BUILD / f"bench/bench_rpc_{role}"


@functools.cache
def has_grpc():
    is_built = program(GRPC[0], "server").exists()
    if not is_built:
        print("gRPC is not measured: run scripts/install-deps --bench to install it.\n")
    return is_built


PYTHON = RESULTS / "python"  # an environment with gRPC
MESSAGES = RESULTS / "messages"


@functools.cache
def has_python():
    """Whether clients in Python can be measured: their messages are generated now."""
    protos = [*(ROOT / "proto").rglob("*.proto"), ROOT / "tests/proto/fc/test/v1/echo.proto"]
    MESSAGES.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["protoc", f"-I{ROOT}/proto", f"-I{ROOT}/tests/proto", f"--python_out={MESSAGES}", *protos],
                          capture_output=True, text=True) if not missing_modules() else None
    if done is None or done.returncode != 0:
        print("Clients in Python are not measured: run scripts/install-deps --bench to install what they need.\n")
    return done is not None and done.returncode == 0


def missing_modules():
    return subprocess.run([sys.executable, "-c", "import google.protobuf, websocket"], capture_output=True).returncode != 0


@functools.cache
def has_grpc_python():
    """Installs gRPC for Python into an environment of the benchmark's own, once."""
    if not has_grpc():
        return False
    done = subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", PYTHON], capture_output=True, text=True)
    if done.returncode == 0:
        done = subprocess.run([PYTHON / "bin/pip", "install", "--quiet", GRPC_PYTHON], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"gRPC in Python is not measured: pip could not install {GRPC_PYTHON}.\n")
    return done.returncode == 0


def runtimes(scheme="tcp"):
    """Those that are there and speak it. fc last: every round ends with it.

    http:// and https:// are for clients in Python: fc's over WebSocket, and gRPC's over its own connections.
    nng is left out with TLS: its package has an older TLS library of its own, not OpenSSL.
    """
    if scheme.startswith("http"):
        return [*(["grpc-python"] if has_python() and has_grpc_python() else []), *(["fc-python"] if has_python() else [])]
    return [*(["nng"] if scheme == "tcp" else []), *(GRPC if has_grpc() else []), "fc"]


def server_of(runtime, scheme):
    """The runtime of the server, and the scheme of its URL. For gRPC's client in Python it is the faster one in C++."""
    if runtime == "grpc-python":
        return "grpc-cq", {"http": "tcp", "https": "tls+tcp"}[scheme]
    return runtime.removesuffix("-python"), scheme


def certificate():
    """A certificate for this machine and its key, made once."""
    paths = RESULTS / "certificate.pem", RESULTS / "key.pem"
    if not paths[1].exists():
        RESULTS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-out", paths[0], "-keyout", paths[1], "-days", "3650", "-subj", "/CN=127.0.0.1",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return paths


class Server:
    def __init__(self, runtime, scheme):
        self.runtime = runtime
        self.tls = [] if scheme in ("tcp", "http") else [*certificate()]
        served_by, served_scheme = server_of(runtime, scheme)
        self.process = subprocess.Popen([program(served_by, "server"), served_by, f"{served_scheme}://127.0.0.1:0", *self.tls],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[1]

    def resident_kb(self):
        return resident_kb(self.process.pid)

    def cpu_us(self):
        return cpu_us(self.process.pid)

    def start_client(self, connections, outstanding, seconds, payload):
        arguments = [self.runtime, self.url, connections, outstanding, seconds, payload, *self.tls[:1]]
        command, environment = [program(self.runtime, "client")], dict(os.environ)
        if self.runtime.endswith("-python"):
            command = [PYTHON / "bin/python" if self.runtime == "grpc-python" else sys.executable, ROOT / "bench/python_client.py"]
            environment["PYTHONPATH"] = f"{ROOT}/interop/python:{MESSAGES}"
        return subprocess.Popen([*command, *map(str, arguments)], env=environment,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def load(self, connections, outstanding, seconds, payload):
        """Runs a client to its end. Its figures, and the server's for the same time."""
        server_before, busy_before, time_before = self.cpu_us(), *machine_us()
        result = client_result(self.start_client(connections, outstanding, seconds, payload))
        server_us, busy, time = self.cpu_us() - server_before, *machine_us()
        # What was spent includes the warm-up, at about the same rate.
        calls = result["calls"] * (seconds + WARM_UP_S) / seconds
        ours_us = server_us + result["client_cpu_us"] * calls
        result["server_cpu_us"] = server_us / calls
        result["server_kb"] = self.resident_kb()
        result["server_own_kb"] = own_kb(self.process.pid)
        result["others_share"] = max(0, busy - busy_before - ours_us) / (time - time_before)
        return result

    @contextlib.contextmanager
    def holding(self, connections, payload):
        """Meanwhile so many connections are open, each of which has made one call."""
        holder = self.start_client(connections, 1, 0, payload)
        try:
            if holder.stdout.readline() != "holding\n":
                raise RuntimeError(f"{self.runtime} did not open {connections} connections")
            yield
        finally:
            holder.stdin.close()
            holder.wait(timeout=60)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


@contextlib.contextmanager
def server(runtime, scheme="tcp"):
    started = Server(runtime, scheme)
    try:
        yield started
    finally:
        started.stop()


def client_result(client):
    output, _ = client.communicate(timeout=120)
    if client.returncode != 0:
        raise RuntimeError("the client failed")
    return json.loads(output)
