"""A program on a terminal of its own, and somebody who types there."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from fcd_process import check_report, limit


class Terminal:
    """Runs a command with a pseudo-terminal as its controlling one. `streams` says which of stdin, stdout and stderr are
    that terminal; others are what Popen is given."""

    def __init__(self, command, streams=("stdin", "stdout", "stderr"), columns=100, rows=24, term="xterm",
                 **options):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.output = b""
        options = {**{stream: slave for stream in streams}, **options}
        options["env"] = {**options.get("env", os.environ), "TERM": term}

        def take_terminal():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(command, preexec_fn=take_terminal, **options)
        # Kept open, so that the terminal lives on while nobody else has it open.
        self.slave = slave

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        os.close(self.slave)
        os.close(self.master)

    def _read(self, seconds):
        """Takes what there is, or comes within that time; False when there was nothing."""
        readable, _, _ = select.select([self.master], [], [], seconds)
        if readable:
            self.output += os.read(self.master, 65536)
        return bool(readable)

    def wait_for(self, expected, seconds=20):
        """Reads on until the output holds these bytes, and forgets it up to their end."""
        deadline = time.monotonic() + limit(seconds)
        while expected not in self.output:
            has_ended = self.process.poll() is not None
            if (not self._read(0.05) and has_ended) or time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {expected!r}; the terminal shows {self.output!r}")
        before, _, self.output = self.output.partition(expected)
        return before

    def type(self, keys):
        os.write(self.master, keys)

    def echoes(self):
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def wait(self, seconds=20):
        """Reads to the end and returns the exit code."""
        deadline = time.monotonic() + limit(seconds)
        while self.process.poll() is None:
            self._read(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end; the terminal shows {self.output!r}")
        while self._read(0):
            pass
        check_report(str(self.process.args), self.output.decode(errors="replace"))
        return self.process.returncode
