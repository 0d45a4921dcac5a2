"""One file from four servers: fc with every segment's SHA-256 verified, against aria2 with and without an MD5 of the
whole, axel, and four curls side by side, which verify nothing. All over loopback, from the page cache, to the disk of
$TMPDIR; fc syncs what it has written before it gives the file its name, and the others do not.

Three cases: as it is; each server behind a relay that delays everything by 20 ms (10 each way); and one of the four
limited to a tenth of what the others are limited to, so that there is an ideal.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from files import free_port, is_same, make_source, wait_for_port
from figures import BUILD, cpu_us, spread, table

FILE_MIB = 1024
SERVERS = 4
DELAY_MS = 10
LIMIT_MIB = 100  # of each server in the last case, but of the slow one a tenth


def md5_of(path):
    return subprocess.run(["md5sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


class Relays:
    """A relay in front of each server, when there is a delay."""

    def __init__(self, addresses, delay_ms):
        self.processes = []
        self.addresses = list(addresses)
        for number, address in enumerate(addresses if delay_ms else ()):
            process = subprocess.Popen([BUILD / "bench/bench_delay_relay", "127.0.0.1:0", address, str(delay_ms)],
                                       stdout=subprocess.PIPE, text=True)
            self.processes.append(process)
            self.addresses[number] = f"127.0.0.1:{process.stdout.readline().split()[-1]}"

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait()


class FcServers:
    """An origin and three mirrors that have all of the file."""

    def __init__(self, folder, source, delay_ms, limits):
        self.folder = folder
        self.processes = []
        rate = ["--segment-rate", str(limits[0])] if limits else []
        url, http = self._start("origin", *rate)
        self.fc = BUILD / "cli/fc"
        self.env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": str(folder / "config"), "FC_DATA_DIR": str(folder / "state")}
        subprocess.run([self.fc, "signup", "bench", "--password-stdin"], env=self.env, input=b"bench password", check=True,
                       stdout=subprocess.DEVNULL)
        self._run("upload", source)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text((folder / "config/credentials").read_text().split()[2] + "\n")
        urls = [url]
        for number in range(1, SERVERS):
            limit = ["--limit-rate", str(limits[number])] if limits else []
            urls.append(self._start(f"mirror-{number}", "--role", "segment", "--origin", url, "--token-file", token,
                                    "--name", f"mirror-{number}", "--prefetch", "all", *limit)[0])
        for mirror in urls[1:]:
            self._wait_until_full(folder / f"mirror-{urls.index(mirror)}", source)
        self.relays = Relays([one.removeprefix("tcp://") for one in urls], delay_ms)
        self.urls = [f"tcp://{address}" for address in self.relays.addresses]

    def _start(self, name, *options):
        process = subprocess.Popen([BUILD / "services/daemon/fcd", "--data", self.folder / name, "--listen", "tcp://127.0.0.1:0",
                                    "--http", "http://127.0.0.1:0", *options],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        words = process.stdout.readline()
        return words.split("rpc=")[1].split()[0].split(",")[0], words

    def _run(self, *words):
        subprocess.run([self.fc, *words], env=self.env, check=True, stdout=subprocess.DEVNULL)

    @staticmethod
    def _wait_until_full(data, source):
        size = os.path.getsize(source)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            stored = sum(path.stat().st_blocks * 512 for path in data.rglob("*.data"))
            if stored >= size:
                time.sleep(0.5)
                return
            time.sleep(0.1)
        raise RuntimeError("a mirror has not fetched the file")

    def close(self):
        self.relays.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


class NginxServers:
    def __init__(self, folder, source, delay_ms, limits):
        self.processes = []
        user = "user root;\n" if os.getuid() == 0 else ""
        ports = []
        for number in range(SERVERS):
            port = free_port()
            own = folder / f"nginx-{number}"
            own.mkdir()
            limit = f"limit_rate {limits[number]};\n" if limits else ""
            temporary = "".join(f"{kind}_temp_path {own}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            (own / "conf").write_text(f"{user}daemon off;\nmaster_process off;\npid {own}/pid;\nerror_log /dev/null;\nevents {{}}\n"
                                      f"http {{\naccess_log off;\nsendfile on;\n{limit}{temporary}"
                                      f"server {{ listen 127.0.0.1:{port}; root {source.parent}; }}\n}}\n")
            process = subprocess.Popen(["nginx", "-c", own / "conf", "-p", own, "-e", "/dev/null"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for_port(port, process)
            self.processes.append(process)
            ports.append(port)
        self.relays = Relays([f"127.0.0.1:{port}" for port in ports], delay_ms)
        self.urls = [f"http://{address}/{source.name}" for address in self.relays.addresses]

    def close(self):
        self.relays.close()
        for process in self.processes:
            process.terminate()
            process.wait()


def fc_command(servers, nginx, source, target, md5):
    named = [word for url in servers.urls for word in ("--from", url)]
    return [[servers.fc, "download", source.name, "-o", target, *named]]


def aria2(nginx, target, *options):
    return [["aria2c", "-q", "--no-conf", "-x4", f"-s{SERVERS}", "--min-split-size=1M", "--file-allocation=none", *options,
             "-d", target.parent, "-o", target.name, *nginx.urls]]


def aria2_command(servers, nginx, source, target, md5):
    return aria2(nginx, target)


def aria2_md5_command(servers, nginx, source, target, md5):
    return aria2(nginx, target, f"--checksum=md5={md5}")


def axel_command(servers, nginx, source, target, md5):
    return [["axel", "-q", f"-n{SERVERS}", "-o", target, *nginx.urls]]


def curl_command(servers, nginx, source, target, md5):
    size = os.path.getsize(source)
    step = -(-size // SERVERS)
    return [["curl", "--fail", "--silent", "-r", f"{at}-{min(at + step, size) - 1}", "-o", f"{target}.{number}", nginx.urls[number]]
            for number, at in enumerate(range(0, size, step))]


TOOLS = {"fc": fc_command, "aria2c": aria2_command, "aria2c, md5": aria2_md5_command, "axel": axel_command, "4 curl -r": curl_command}
NEEDS = {"aria2c": "aria2c", "aria2c, md5": "aria2c", "axel": "axel", "4 curl -r": "curl"}


def measure(commands, env, processes):
    """Runs the commands side by side."""
    before = sum(cpu_us(process.pid) for process in processes)
    start = time.perf_counter()
    running = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) for command in commands]
    cpu = 0
    for process in running:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")
        cpu += usage.ru_utime + usage.ru_stime
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "client_cpu": cpu, "server_cpu": (sum(cpu_us(process.pid) for process in processes) - before) / 1e6}


def check(source, target):
    if target.exists():
        if not is_same(source, target):
            raise RuntimeError("something else was brought")
        return
    pieces = sorted(target.parent.glob(f"{target.name}.*"))
    with open(target, "wb") as whole:
        for piece in pieces:
            whole.write(piece.read_bytes())
    check(source, target)


def run_case(title, work, source, rounds, delay_ms=0, limits=None):
    folder = work / title.split()[0]
    folder.mkdir()
    servers = FcServers(folder, source, delay_ms, limits)
    nginx = NginxServers(folder, source, delay_ms, limits)
    md5 = md5_of(source)
    tools = [name for name in TOOLS if name not in NEEDS or shutil.which(NEEDS[name])]
    results = {name: [] for name in tools}
    try:
        for _ in range(rounds):
            for name in tools:
                into = folder / "into"
                into.mkdir()
                target = into / "fetched"
                commands = TOOLS[name](servers, nginx, source, target, md5)
                results[name].append(measure(commands, servers.env, servers.processes if name == "fc" else nginx.processes))
                check(source, target)
                shutil.rmtree(into)
    finally:
        servers.close()
        nginx.close()
    print(f"### {title}\n")
    ours = results["fc"]
    table(["with", "seconds", "client CPU s", "server CPU s", "fc / it, time"],
          [[name, spread([run["seconds"] for run in runs], 2), spread([run["client_cpu"] for run in runs], 2),
            spread([run["server_cpu"] for run in runs], 2),
            "" if name == "fc" else spread([our["seconds"] / theirs["seconds"] for our, theirs in zip(ours, runs)], 2)]
           for name, runs in results.items()])


def run(rounds, size_mib=FILE_MIB):
    missing = sorted({program for program in (*NEEDS.values(), "nginx") if not shutil.which(program)})
    print(f"## {size_mib} MiB from {SERVERS} servers, {rounds} rounds\n")
    if missing:
        print(f"Not installed, so left out: {', '.join(missing)}.\n")
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        (work / "files").mkdir()
        source = work / "files/file"
        make_source(source, size_mib)
        run_case("plain", work, source, rounds)
        run_case(f"delayed by {DELAY_MS} ms each way", work, source, rounds, delay_ms=DELAY_MS)
        fast, slow = LIMIT_MIB << 20, (LIMIT_MIB << 20) // 10
        run_case(f"limited to {LIMIT_MIB} MiB/s, and one to a tenth", work, source, rounds, limits=[fast, fast, fast, slow])
        ideal = size_mib / (LIMIT_MIB * (SERVERS - 0.9))
        print(f"Ideal in the last case: {ideal:.2f} s.\n")
