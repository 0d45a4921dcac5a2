"""Files up and down over loopback: fc against rsync's daemon, and curl with nginx and md5sum.

What each of them promises when it ends differs, so each is given what brings it nearest to fc: durable at the end, and
an MD5 of what was stored or fetched. fc: chunks are synced before they are acknowledged, and the server computes the
MD5 from what it stored. rsync --fsync: synced, checked with a checksum of its own. curl and nginx: sync and md5sum of
the file, one after the other. `openssl dgst -md5` is the floor of all that compute an MD5. The disk is that of $TMPDIR.
"""
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from figures import BUILD, cpu_us, peak_kb, spread, table

FILE_MIB = 1024
STEP = 1 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process):
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended: {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args[0]} does not listen")


class Fc:
    name = "fc"
    needs = ()
    is_one_process = True

    def __init__(self, folder):
        self.server = subprocess.Popen([BUILD / "services/daemon/fcd", "--data", folder / "fcd", "--listen", "tcp://127.0.0.1:0",
                                        "--http", "http://127.0.0.1:0"],
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = self.server.stdout.readline().split("rpc=")[1].split()[0].split(",")[0]
        self.fc = BUILD / "cli/fc"
        self.env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": str(folder / "fc")}
        subprocess.run([self.fc, "signup", "bench", "--password-stdin"], env=self.env, input=b"bench password", check=True,
                       stdout=subprocess.DEVNULL)

    def upload(self, source):
        return [[self.fc, "upload", source]]

    def download(self, source, target):
        return [[self.fc, "download", source.name, "-o", target]]


class Rsync:
    name = "rsync --fsync"
    needs = ("rsync",)
    is_one_process = False  # it forks for each connection, so its own figures say nothing

    def __init__(self, folder):
        port = free_port()
        module = folder / "rsync"
        module.mkdir()
        configuration = folder / "rsyncd.conf"
        configuration.write_text(f"use chroot = no\naddress = 127.0.0.1\nport = {port}\n"
                                 f"[files]\npath = {module}\nread only = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n")
        self.env = None
        self.url = f"rsync://127.0.0.1:{port}/files/"
        self.stored = module
        self.server = subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--config={configuration}"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self.server)

    def upload(self, source):
        (self.stored / source.name).unlink(missing_ok=True)
        return [["rsync", "--fsync", "--whole-file", source, self.url]]

    def download(self, source, target):
        return [["rsync", "--fsync", "--whole-file", self.url + source.name, target]]


class CurlNginx:
    name = "curl, nginx, md5sum"
    needs = ("curl", "nginx", "md5sum")
    is_one_process = True

    def __init__(self, folder):
        port = free_port()
        self.stored = folder / "nginx"
        self.stored.mkdir(mode=0o777)
        user = "user root;\n" if os.getuid() == 0 else ""
        configuration = folder / "nginx.conf"
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n"
                            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        configuration.write_text(f"{user}daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log /dev/null;\n"
                                 f"events {{}}\nhttp {{\naccess_log off;\nsendfile on;\nclient_max_body_size 0;\n{temporary}"
                                 f"server {{ listen 127.0.0.1:{port}; root {self.stored}; dav_methods PUT; }}\n}}\n")
        self.env = None
        self.url = f"http://127.0.0.1:{port}/"
        self.server = subprocess.Popen(["nginx", "-c", configuration, "-p", folder, "-e", "/dev/null"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self.server)

    def upload(self, source):
        stored = self.stored / source.name
        stored.unlink(missing_ok=True)
        return [["curl", "--fail", "--silent", "-T", source, self.url], ["sync", stored], ["md5sum", stored]]

    def download(self, source, target):
        return [["curl", "--fail", "--silent", "-o", target, self.url + source.name], ["sync", target], ["md5sum", target]]


class Openssl:
    """Moves nothing."""
    name = "openssl dgst -md5"
    needs = ("openssl",)
    is_one_process = False
    env = None
    server = None

    def __init__(self, folder):
        pass

    def upload(self, source):
        return [["openssl", "dgst", "-md5", source]]

    def download(self, source, target):
        shutil.copyfile(source, target)
        return [["openssl", "dgst", "-md5", target]]


def measure(tool, commands):
    """Runs the commands one after the other. Returns seconds, seconds of processor time of both sides, and the largest
    client, which cannot be smaller than this script, since it starts as its copy."""
    server_before = cpu_us(tool.server.pid) if tool.server else 0
    client_cpu = 0
    client_kb = 0
    start = time.perf_counter()
    for command in commands:
        process = subprocess.Popen(command, env=tool.env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        client_cpu += usage.ru_utime + usage.ru_stime
        client_kb = max(client_kb, usage.ru_maxrss)
    seconds = time.perf_counter() - start
    server_cpu = (cpu_us(tool.server.pid) - server_before) / 1e6 if tool.server else 0
    return {"seconds": seconds, "client_cpu": client_cpu, "server_cpu": server_cpu, "client_mb": client_kb / 1024}


def make_source(path, size_mib):
    with open(path, "wb") as out:
        for _ in range(size_mib):
            out.write(os.urandom(STEP))
        os.fsync(out.fileno())


def is_same(one, other):
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            block = first.read(STEP)
            if block != second.read(STEP):
                return False
            if not block:
                return True


def run_round(tools, source, results):
    for what in ("upload", "download"):
        for tool in tools:
            target = source.parent / "fetched"
            commands = tool.upload(source) if what == "upload" else tool.download(source, target)
            results[what][tool.name].append(measure(tool, commands))
            if what == "download":
                if not is_same(source, target):
                    raise RuntimeError(f"{tool.name} brought something else")
                target.unlink()


def print_results(results, size_mib, server_mb):
    rows = []
    for what, of_tools in results.items():
        ours = of_tools[Fc.name]
        for name, runs in of_tools.items():
            figure = lambda key, digits=2: spread([run[key] for run in runs], digits)
            ratios = [theirs["seconds"] / our["seconds"] for our, theirs in zip(ours, runs)]
            rows.append([what, name, figure("seconds"), spread([size_mib / run["seconds"] for run in runs]), figure("client_cpu"),
                         figure("server_cpu") if name in server_mb else "", figure("client_mb", 0), server_mb.get(name, ""),
                         "" if name == Fc.name else spread(ratios, 2)])
    table(["what", "with", "seconds", "MiB/s", "client CPU s", "server CPU s", "client peak MB", "server peak MB",
           "fc / it, speed"], rows)


def run(rounds, size_mib=FILE_MIB):
    kinds = [kind for kind in (Fc, Rsync, CurlNginx, Openssl) if all(shutil.which(program) for program in kind.needs)]
    missing = [kind.name for kind in (Rsync, CurlNginx, Openssl) if kind not in kinds]
    print(f"## One file of {size_mib} MiB in the page cache, over loopback, {rounds} rounds\n")
    if missing:
        print(f"Not installed, so left out: {'; '.join(missing)}.\n")
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        source = work / "source.bin"
        make_source(source, size_mib)
        tools = []
        try:
            for kind in kinds:
                tools.append(kind(work))
            results = {what: {tool.name: [] for tool in tools} for what in ("upload", "download")}
            for _ in range(rounds):
                run_round(tools, source, results)
                tools.append(tools.pop(0))  # nobody is always first, when the system has yet to find memory
            peaks = {tool.name: f"{peak_kb(tool.server.pid) / 1024:.0f}" for tool in tools if tool.is_one_process}
            print_results(results, size_mib, peaks)
        finally:
            for tool in tools:
                if tool.server:
                    tool.server.terminate()
                    tool.server.wait(timeout=20)
