"""How long fc takes to start and to send, and what an idle fcd keeps in memory."""
import os
import subprocess
import tempfile
import time

from figures import BUILD, resident_kb, spread, table


def timed_ms(command, env, **options):
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, **options)
    return (time.perf_counter() - start) * 1000


def run(rounds):
    runs = rounds * 10
    fc, fcd = BUILD / "cli/fc", BUILD / "services/daemon/fcd"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([fcd, "--data", f"{folder}/data", "--listen", "tcp://127.0.0.1:0", "--http", "http://127.0.0.1:0"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = server.stdout.readline().split("rpc=")[1].split()[0].split(",")[0]
            time.sleep(1)
            rows.append(["resident memory of an idle fcd", f"{resident_kb(server.pid) / 1024:.1f} MB", "12 MB"])
            env = {**os.environ, "FC_SERVER": url, "FC_CONFIG_DIR": f"{folder}/fc"}
            subprocess.run([fc, "signup", "bench", "--password-stdin"], env=env, input=b"bench password", check=True,
                           stdout=subprocess.DEVNULL)
            subprocess.run([fc, "room", "create", "bench", "--plain"], env=env, check=True, stdout=subprocess.DEVNULL)
            for name, command, goal in (("fc --version", [fc, "--version"], "20 ms"),
                                        ("fc send, acknowledged as durable", [fc, "send", "bench", "hello"], "50 ms"),
                                        ("true, for comparison", ["/bin/true"], "")):
                timed_ms(command, env)
                rows.append([name, spread([timed_ms(command, env) for _ in range(runs)], 1) + " ms", goal])
        finally:
            server.terminate()
            server.wait(timeout=20)
    print(f"## Command line ({runs} runs)\n")
    table(["what", "median (min to max)", "to stay under"], rows)
