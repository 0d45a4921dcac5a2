"""One file from four servers at once over loopback: fc against aria2, axel, and four curls side by side from nginx.

fc checks every segment by its SHA-256 and syncs the file before it gives it its name; its servers are one fcd and three
mirrors. aria2 checks the whole with --checksum, axel and curl check nothing, and none of them syncs. A distance is a
relay that delays each way (bench/delay_relay.c) before every server, and a slow server one that sends SLOW_BYTES a second.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from figures import BUILD, spread, table
from files import CurlNginx, Fc, free_port, is_same, make_source, wait_for_port

FILE_MIB = 1024
SERVERS = 4
DELAY_MS = 10  # each way
SLOW_BYTES = 20 * 1000 * 1000
NGINX = ("aria2c", "axel", "curl", "nginx")


class Relays:
    """A distance before servers on this machine."""

    def __init__(self):
        self.processes = []

    def before(self, port):
        process = subprocess.Popen([BUILD / "bench/bench_delay_relay", "127.0.0.1:0", f"127.0.0.1:{port}", str(DELAY_MS)],
                                   stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        return int(process.stdout.readline())

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait()


class Mirrors(Fc):
    """An fcd with mirrors that have all of its files. rates: what it and they send a second; None: as much as they can."""

    def __init__(self, folder, rates):
        super().__init__(folder, *(("--limit-rate", str(rates[0])) if rates[0] else ()))
        self.folder = folder / "mirrors"
        self.folder.mkdir()
        self.token_file = self.folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token(folder))
        self.ports = [int(self.env["FC_SERVER"].rsplit(":", 1)[1])]
        self.mirrors = []
        for number, rate in enumerate(rates[1:], 1):
            self.ports.append(self.add_mirror(f"mirror-{number}", *(("--limit-rate", str(rate)) if rate else ())))

    def token(self, folder):
        for line in (folder / "fc" / "config" / "credentials").read_text().splitlines():
            for word in line.replace('"', " ").split():
                if word.startswith("fct_"):
                    return word
        raise RuntimeError("no token in the credentials")

    def add_mirror(self, name, *options):
        process = subprocess.Popen([BUILD / "services/daemon/fcd", "--role", "segment", "--origin", self.env["FC_SERVER"],
                                    "--token-file", self.token_file, "--data", self.folder / name, "--name", name,
                                    "--listen", "tcp://127.0.0.1:0", "--http", "off", "--prefetch", "all", *options],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.mirrors.append(process)
        return int(process.stdout.readline().split("rpc=")[1].split()[0].split(",")[0].rsplit(":", 1)[1])

    def wait_until_mirrored(self):
        """Until every mirror has as many segments as there are of the files."""
        while True:
            listed = subprocess.run([self.fc, "segment", "ls", "--json"], env=self.env, capture_output=True, text=True, check=True)
            sources = [json.loads(line) for line in listed.stdout.splitlines()]
            wanted = self.size
            if sum(source["kind"] == "mirror" and source["stored_bytes"] >= wanted for source in sources) == len(self.mirrors):
                return
            time.sleep(0.2)

    def fill(self, source):
        subprocess.run([self.fc, "upload", source], env=self.env, check=True, stdout=subprocess.DEVNULL)
        self.size = source.stat().st_size
        self.source = source
        self.wait_until_mirrored()

    def command(self, target, ports, balance="adaptive"):
        named = [word for port in ports for word in ("--from", f"tcp://127.0.0.1:{port}")]
        return [self.fc, "download", self.source.name, "-o", target, "--balance", balance, *named]

    def close(self):
        for process in [*self.mirrors, self.server]:
            process.terminate()
            process.wait(timeout=30)


class Nginx(CurlNginx):
    """One nginx for each server, since each is one process of its own."""

    def __init__(self, folder, rate=None):
        folder.mkdir()
        super().__init__(folder)
        self.port = int(self.url.rsplit(":", 1)[1].strip("/"))
        if rate:
            self.server.terminate()
            self.server.wait()
            configuration = folder / "nginx.conf"
            configuration.write_text(configuration.read_text().replace("access_log off;", f"access_log off;\nlimit_rate {rate};"))
            self.server = subprocess.Popen(["nginx", "-c", configuration, "-p", folder, "-e", "/dev/null"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for_port(self.port, self.server)


def measure(commands, env=None):
    """Runs commands side by side. Seconds until the last has ended, and processor time of all."""
    start = time.perf_counter()
    processes = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  shell=isinstance(command, str)) for command in commands]
    cpu = 0
    for process in processes:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        cpu += usage.ru_utime + usage.ru_stime
    return {"seconds": time.perf_counter() - start, "cpu": cpu}


def curls(ports, name, size, target):
    """A quarter of the file by each, put in its place."""
    share = -(-size // len(ports) // 4096) * 4096
    for number, port in enumerate(ports):
        first = number * share
        last = min(size, first + share) - 1
        yield (f"curl --fail --silent -r {first}-{last} http://127.0.0.1:{port}/{name} | "
               f"dd of={target} bs=1M seek={first}B conv=notrunc iflag=fullblock status=none oflag=seek_bytes")


def tools(source, md5, target):
    """Name and commands of each, for ports."""
    urls = lambda ports: [f"http://127.0.0.1:{port}/{source.name}" for port in ports]
    aria = ["aria2c", "-q", "--no-conf", "--allow-overwrite=true", "-s4", "-x4", "-d", str(target.parent), "-o", target.name]
    return {
        "aria2c --checksum": lambda ports: [[*aria, f"--checksum=md5={md5}", *urls(ports)]],
        "aria2c": lambda ports: [[*aria, *urls(ports)]],
        "axel -n4": lambda ports: [["axel", "-q", "-n", "4", "-o", str(target), *urls(ports)]],
        "4 curls": lambda ports: list(curls(ports, source.name, source.stat().st_size, target)),
    }


def run_case(title, rounds, fc, fc_ports, others, ports, source, target):
    results = {}
    for _ in range(rounds):
        for name, commands in {"fc": None, **others}.items():
            target.unlink(missing_ok=True)
            run = measure([fc.command(target, fc_ports)], fc.env) if name == "fc" else measure(commands(ports))
            if not is_same(source, target):
                raise RuntimeError(f"{name} brought something else")
            results.setdefault(name, []).append(run)
    print(f"### {title}\n")
    table(["with", "seconds", "client CPU s", "fc / it, time", "fc / it, client CPU"],
          [[name, spread([run["seconds"] for run in runs], 2), spread([run["cpu"] for run in runs], 2),
            "" if name == "fc" else spread([our["seconds"] / their["seconds"] for our, their in zip(results["fc"], runs)], 2),
            "" if name == "fc" else spread([our["cpu"] / their["cpu"] for our, their in zip(results["fc"], runs)], 2)]
           for name, runs in results.items()])


def run(rounds, size_mib=FILE_MIB):
    print(f"## {size_mib} MiB from {SERVERS} servers, {rounds} rounds\n")
    missing = [program for program in NGINX if not shutil.which(program)]
    if missing:
        print(f"Not installed, so only fc is measured: {', '.join(missing)}.\n")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        work = pathlib.Path(name)
        source = work / "source.bin"
        make_source(source, size_mib)
        md5 = hashlib.md5(source.read_bytes()).hexdigest()
        target = work / "fetched"
        fc = Mirrors(work, [None] * SERVERS + [SLOW_BYTES])
        stack.callback(fc.close)
        fc.fill(source)
        fc_ports, fc_slow_port = fc.ports[:-1], fc.ports[-1]
        relays = Relays()
        stack.callback(relays.close)
        ports = []
        slow_port = 0
        others = {}
        if not missing:
            others = tools(source, md5, target)
            for number in range(SERVERS + 1):
                nginx = Nginx(work / f"nginx-{number}", SLOW_BYTES if number == SERVERS else None)
                stack.callback(nginx.server.terminate)
                os.link(source, nginx.stored / source.name)
                ports.append(nginx.port)
            slow_port = ports.pop()
        run_case("On this machine", rounds, fc, fc_ports, others, ports, source, target)
        run_case(f"{2 * DELAY_MS} ms away", rounds, fc, [relays.before(port) for port in fc_ports], others,
                 [relays.before(port) for port in ports], source, target)
        run_case(f"One of them slow, {SLOW_BYTES // 1000000} MB/s", rounds, fc, [*fc_ports[:-1], fc_slow_port], others,
                 [*ports[:-1], slow_port], source, target)
