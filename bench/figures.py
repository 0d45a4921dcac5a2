"""What the benchmarks share: the build, figures of processes, tables."""
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
RESULTS = ROOT / "build" / "bench"
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


def build():
    for command in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release", "--target", "all", "bench"]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout[-3000:] + done.stderr[-3000:])


def median(values, digits=0):
    return f"{statistics.median(values):,.{digits}f}"


def spread(values, digits=0):
    return f"{median(values, digits)} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def ratios(results, key, ours, theirs):
    """Round by round, since a machine drifts from one to the next."""
    return [mine[key] / other[key] for mine, other in zip(results[ours], results[theirs])]


def table(headings, rows):
    widths = [max(len(str(row[i])) for row in [headings, *rows]) for i in range(len(headings))]
    for row in [headings, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |")
    print(flush=True)


def cpu_us(pid):
    """User and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def machine_us():
    """Time that all processors were busy, and time that there was, so far."""
    ticks = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) * TICK_US, sum(ticks) * TICK_US


def status_kb(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"no {name}")


def resident_kb(pid):
    return status_kb(pid, "VmRSS")


def own_kb(pid):
    """Resident memory that is of no file: without the pages of programs and shared libraries."""
    return status_kb(pid, "RssAnon")


def peak_kb(pid):
    return status_kb(pid, "VmHWM")
