"""The echo servers and clients of each runtime, which the benchmarks of calls start and measure."""
import contextlib
import json
import subprocess

from figures import BUILD, RESULTS, cpu_us, machine_us, resident_kb

GRPC = ("grpc-callback", "grpc-cq")
WARM_UP_S = 0.5  # of the clients, before they measure


def program(runtime, role):
    if runtime in GRPC:
        return BUILD / f"bench/grpc/bench_grpc_{role}"
    return BUILD / f"bench/bench_rpc_{role}"


def runtimes():
    """Those that are built. fc last: every round ends with it."""
    if program(GRPC[0], "server").exists():
        return ["nng", *GRPC, "fc"]
    print("gRPC is not measured: run scripts/install-deps --bench to install it.\n")
    return ["nng", "fc"]


def speaks(runtime, scheme):
    """nng is left out with TLS: its package has an older TLS library of its own, not OpenSSL."""
    return scheme == "tcp" or runtime != "nng"


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
        self.tls = [] if scheme == "tcp" else [*certificate()]
        self.process = subprocess.Popen([program(runtime, "server"), runtime, f"{scheme}://127.0.0.1:0", *self.tls],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[1]

    def resident_kb(self):
        return resident_kb(self.process.pid)

    def cpu_us(self):
        return cpu_us(self.process.pid)

    def start_client(self, connections, outstanding, seconds, payload):
        arguments = [self.runtime, self.url, connections, outstanding, seconds, payload, *self.tls[:1]]
        return subprocess.Popen([program(self.runtime, "client"), *map(str, arguments)],
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
