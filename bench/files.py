"""Files up and down over loopback: fc against rsync's daemon, scp, and curl with nginx and md5sum; then many small files.

What each of them promises when it ends differs, and the tables say what. fc: chunks are synced before they are
acknowledged, and the server computes the MD5 from what it stored. rsync: nothing is synced unless --fsync is given, and
what arrived is checked with a checksum of its own; --checksum --checksum-choice=md5 reads both files for an MD5 first. scp
encrypts, syncs nothing. curl and nginx: sync and md5sum of the file follow. `openssl dgst -md5` is the floor of all that
compute an MD5. fc gets content that the server has not, since it would not send it again. The disk is that of $TMPDIR.
"""
import getpass
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time

from figures import BUILD, cpu_us, peak_kb, spread, table

FILE_MIB = 1024
STEP = 1 << 20
SMALL_FILES = 10000
SMALL_BYTES = 10 * 1000


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

    def __init__(self, folder, *options):
        folder = folder / self.name.replace(" ", "-")
        folder.mkdir()
        self.server = subprocess.Popen([BUILD / "services/daemon/fcd", "--data", folder / "fcd", "--listen", "tcp://127.0.0.1:0",
                                        "--http", "http://127.0.0.1:0", *options],
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = self.server.stdout.readline().split("rpc=")[1].split()[0].split(",")[0]
        self.fc = BUILD / "cli/fc"
        self.env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": str(folder / "config"), "FC_DATA_DIR": str(folder / "data")}
        subprocess.run([self.fc, "signup", "bench", "--password-stdin"], env=self.env, input=b"bench password", check=True,
                       stdout=subprocess.DEVNULL)

    def upload(self, source):
        return [[self.fc, "upload", source]]

    def download(self, source, target):
        return [[self.fc, "download", source.name, "-o", target]]

    def upload_folder(self, folder):
        shown = subprocess.run([self.fc, "help", "upload"], capture_output=True, text=True, check=True).stdout
        return [[self.fc, "upload", "-r", folder]] if "--recursive" in shown else None


class FcOneChunk(Fc):
    """With one chunk in flight each waits for the sync of the one before."""
    name = "fc, 1 chunk in flight"
    is_for_upload = True

    def upload(self, source):
        return [[BUILD / "bench/bench_file_upload", "1", source]]


class Rsync:
    name = "rsync"
    options = []
    needs = ("rsync",)
    is_one_process = False  # it forks for each connection, so its own figures say nothing

    def __init__(self, folder):
        port = free_port()
        module = folder / self.name.replace(" ", "-")
        module.mkdir()
        configuration = folder / f"{module.name}.conf"
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
        return [["rsync", *self.options, "--whole-file", source, self.url]]

    def download(self, source, target):
        return [["rsync", *self.options, "--whole-file", self.url + source.name, target]]

    def upload_folder(self, folder):
        shutil.rmtree(self.stored / folder.name, ignore_errors=True)
        return [["rsync", "-r", *self.options, "--whole-file", folder, self.url]]


class RsyncFsync(Rsync):
    name = "rsync --fsync"
    options = ["--fsync"]


class RsyncMd5(Rsync):
    name = "rsync --checksum md5"
    options = ["--checksum", "--checksum-choice=md5"]


class Scp:
    name = "scp"
    needs = ("scp", "sshd", "ssh-keygen")
    is_one_process = False

    def __init__(self, folder):
        work = folder / "ssh"
        work.mkdir(mode=0o700)
        self.stored = work / "stored"
        self.stored.mkdir()
        self.env = None
        port = free_port()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / name], check=True)
        shutil.copy(work / "user.pub", work / "authorized")
        configuration = work / "sshd_config"
        configuration.write_text(f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {work}/host\nAuthorizedKeysFile {work}/authorized\n"
                                 "PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nPidFile none\n"
                                 "Subsystem sftp internal-sftp\n")
        options = {"Port": port, "IdentityFile": work / "user", "IdentitiesOnly": "yes", "StrictHostKeyChecking": "no",
                   "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR", "BatchMode": "yes"}
        self.scp = ["scp", "-q", "-F", "/dev/null", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        if os.getuid() == 0:
            try:
                pwd.getpwnam("sshd")
            except KeyError:
                raise RuntimeError("sshd gives up its rights to a user called sshd, which this system lacks") from None
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start without it
        self.remote = f"{getpass.getuser()}@127.0.0.1:"
        self.server = subprocess.Popen([shutil.which("sshd"), "-D", "-f", configuration], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self.server)

    def upload(self, source):
        (self.stored / source.name).unlink(missing_ok=True)
        return [[*self.scp, source, f"{self.remote}{self.stored}/"]]

    def download(self, source, target):
        return [[*self.scp, f"{self.remote}{self.stored}/{source.name}", target]]

    def upload_folder(self, folder):
        shutil.rmtree(self.stored / folder.name, ignore_errors=True)
        return [[*self.scp, "-r", folder, f"{self.remote}{self.stored}/"]]


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


def make_new(path, size_mib):
    """Makes content that no server has, of the same size, by a change in each MiB."""
    with open(path, "r+b") as file:
        for i in range(size_mib):
            file.seek(i * STEP)
            file.write(os.urandom(16))
        os.fsync(file.fileno())


def is_same(one, other):
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            block = first.read(STEP)
            if block != second.read(STEP):
                return False
            if not block:
                return True


def does(tool, what):
    return what == "upload" or not getattr(tool, "is_for_upload", False)


def run_round(tools, source, results):
    for what in ("upload", "download"):
        for tool in tools:
            target = source.parent / "fetched"
            if not does(tool, what):
                continue
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


def run_small(tools, work, rounds):
    """Many small files, made anew for each round."""
    results = {}
    folders = []
    for number in range(rounds):
        folder = work / f"small-{number}"
        folder.mkdir()
        for i in range(SMALL_FILES):
            (folder / f"{i:05}.bin").write_bytes(os.urandom(SMALL_BYTES))
        folders.append(folder)
    print(f"## {SMALL_FILES:,} files of {SMALL_BYTES // 1000} KB, {rounds} rounds\n")
    left_out = []
    for folder in folders:
        for tool in tools:
            commands = tool.upload_folder(folder) if hasattr(tool, "upload_folder") and not getattr(tool, "is_for_upload", False) else None
            if commands:
                results.setdefault(tool.name, []).append(measure(tool, commands)["seconds"])
            elif tool.name == Fc.name and tool.name not in left_out:
                left_out.append(tool.name)
        shutil.rmtree(folder)
    if left_out:
        print("Left out: fc, whose `upload` has no -r here.\n")
    ours = results.get(Fc.name)
    table(["with", "seconds", "files/s", "fc / it, speed"],
          [[name, spread(seconds, 2), spread([SMALL_FILES / value for value in seconds]),
            spread([theirs / our for our, theirs in zip(ours, seconds)], 2) if ours and name != Fc.name else ""]
           for name, seconds in results.items()])


KINDS = (Fc, FcOneChunk, Rsync, RsyncFsync, RsyncMd5, Scp, CurlNginx, Openssl)


def run(rounds, size_mib=FILE_MIB):
    kinds = [kind for kind in KINDS if all(shutil.which(program) for program in kind.needs)]
    missing = [kind.name for kind in KINDS if kind not in kinds]
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
                try:
                    tools.append(kind(work))
                except RuntimeError as reason:
                    print(f"{kind.name} is left out: {reason}.\n")
            results = {what: {tool.name: [] for tool in tools if does(tool, what)} for what in ("upload", "download")}
            for _ in range(rounds):
                make_new(source, size_mib)
                run_round(tools, source, results)
                tools.append(tools.pop(0))  # nobody is always first, when the system has yet to find memory
            peaks = {tool.name: f"{peak_kb(tool.server.pid) / 1024:.0f}" for tool in tools if tool.is_one_process}
            print_results(results, size_mib, peaks)
            source.unlink()
            run_small(tools, work, rounds)
        finally:
            for tool in tools:
                if tool.server:
                    tool.server.terminate()
                    tool.server.wait(timeout=20)
