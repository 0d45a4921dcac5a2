"""The real fcd and the real fc, for tests that run whole programs.

The environment variables FCD and FC say where they are; ctest sets them. FC_TEST_TIMEOUT_SCALE multiplies every limit.
A test that uses these fails when a process of its own leaves a report of a sanitizer behind.
"""
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

TIMEOUT_SCALE = float(os.environ.get("FC_TEST_TIMEOUT_SCALE", "1"))
SANITIZER_REPORT = re.compile(r"ERROR: (?:Address|Leak|Thread|Memory)Sanitizer|runtime error: |WARNING: ThreadSanitizer")

# Codes of fc's exit, by docs/man/fc.1.
DONE, FAILED, USAGE, UNREACHABLE, NOT_LOGGED_IN, NOT_ALLOWED, INTEGRITY = range(7)
NO_KEY, CONFLICT, LIMITED, QUEUED, NOT_FOUND = range(7, 12)


def limit(seconds):
    """A limit in seconds for something that takes well under `seconds` on an idle machine."""
    return seconds * TIMEOUT_SCALE


def wait_until(condition, what, seconds=10):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + limit(seconds)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


def check_report(program, stderr):
    if SANITIZER_REPORT.search(stderr):
        raise AssertionError(f"{program} left a report of a sanitizer:\n{stderr}")


def clean_environment(**changes):
    """The environment without settings of whoever runs the tests, and with a sanitizer's end that is no code of ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FC_", "XDG_"))}
    env.pop("NO_COLOR", None)
    env["ASAN_OPTIONS"] = ":".join(filter(None, [env.get("ASAN_OPTIONS"), "exitcode=99"]))
    env["UBSAN_OPTIONS"] = ":".join(filter(None, [env.get("UBSAN_OPTIONS"), "print_stacktrace=1"]))
    env.update(changes)
    return env


class Fcd:
    """One fcd with a data folder of its own, on ports that the system chose. A context manager.

    url and http_url hold the addresses. After a restart they are the same, so that clients can find it again.
    """

    def __init__(self, *options, data=None, env=None, http_url="http://127.0.0.1:0"):
        self.options = list(options)
        self.env = clean_environment(**(env or {}))
        self._folder = tempfile.mkdtemp(prefix="fcd-test-")
        self.data = data or os.path.join(self._folder, "data")
        self.url, self.http_url = "tcp://127.0.0.1:0", http_url
        self.ready_line = None
        self.process = None
        self._stderr_path = os.path.join(self._folder, "stderr")
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def start(self):
        """Starts it; again at the addresses that it had. A passing connection of another test may hold one of their ports
        for a moment: then it tries until the port is free."""
        deadline = time.monotonic() + limit(20)
        is_again = self.ready_line is not None
        while True:
            said_before = len(self.stderr()) if is_again else 0
            try:
                self._start_once()
                return
            except AssertionError:
                is_taken = is_again and "is in use by another program" in self.stderr()[said_before:]
                if not is_taken or time.monotonic() > deadline:
                    raise
                self.process.wait(limit(20))
                self.process.stdout.close()
                time.sleep(0.05)

    def _start_once(self):
        command = [os.environ["FCD"], "--data", self.data, "--listen", self.url, "--http", self.http_url, *self.options]
        with open(self._stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                                            env=self.env)
        self.ready_line = self._read_line()
        match = re.fullmatch(r"ready rpc=(\S+) http=(\S+)\n", self.ready_line)
        if not match:
            raise AssertionError(f"fcd is not ready; it said {self.ready_line!r}\n{self.stderr()}")
        self.url = match[1].split(",")[0]
        self.http_url = match[2].split(",")[0]

    def _read_line(self):
        line = b""
        deadline = time.monotonic() + limit(20)
        descriptor = self.process.stdout.fileno()
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(descriptor, 1) if readable else b""
            if not chunk:
                raise AssertionError(f"fcd said {line!r} instead of a ready line\n{self.stderr()}")
            line += chunk
        return line.decode()

    def stderr(self):
        with open(self._stderr_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _end(self, signal_number, seconds):
        self.process.send_signal(signal_number)
        try:
            return self.process.wait(limit(seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"fcd did not end on {signal.Signals(signal_number).name}\n{self.stderr()}") from None
        finally:
            self.process.stdout.close()
            self.process = None

    def stop(self):
        """SIGTERM; it has to end by itself with 0."""
        code = self._end(signal.SIGTERM, 20)
        check_report("fcd", self.stderr())
        if code != 0:
            raise AssertionError(f"fcd ended with {code}\n{self.stderr()}")

    def kill(self):
        """SIGKILL, as a loss of power to the process."""
        self._end(signal.SIGKILL, 20)
        check_report("fcd", self.stderr())

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        """Stops it if it runs, and removes its folder."""
        try:
            if self.process is not None:
                if self.process.poll() is None:
                    self.stop()
                else:
                    self.process.stdout.close()
                    raise AssertionError(f"fcd ended by itself with {self.process.returncode}\n{self.stderr()}")
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None
            shutil.rmtree(self._folder, ignore_errors=True)


class Result:
    """How a run of fc ended."""

    def __init__(self, arguments, code, stdout, stderr):
        self.arguments, self.code, self.stdout, self.stderr = arguments, code, stdout, stderr

    @property
    def text(self):
        return self.stdout.decode()

    @property
    def objects(self):
        """What --json printed."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def object(self):
        (only,) = self.objects
        return only

    def __repr__(self):
        return f"fc {self.arguments} ended with {self.code}\nstdout: {self.stdout!r}\nstderr: {self.stderr}"


class Fc:
    """One person's fc on one machine: its own configuration and data folders, and the folder that it runs in."""

    def __init__(self, server_url=None, **env):
        self.folder = tempfile.mkdtemp(prefix="fc-test-")
        self.config = os.path.join(self.folder, "config")
        self.data = os.path.join(self.folder, "data")
        self.cwd = os.path.join(self.folder, "cwd")
        os.mkdir(self.cwd)
        self.env = clean_environment(FC_CONFIG_DIR=self.config, FC_DATA_DIR=self.data, **env)
        if server_url:
            self.env["FC_SERVER"] = server_url

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.cwd, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def start(self, *arguments, **options):
        """A Popen of fc; the caller sees to its end, best by `with running(...)`."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                   "cwd": self.cwd, "env": {**self.env, **options.pop("env", {})}, **options}
        return subprocess.Popen([os.environ["FC"], *arguments], **options)

    def try_run(self, *arguments, stdin=b"", env=None, seconds=30, **options):
        """Runs fc to its end, whatever that is."""
        process = self.start(*arguments, stdin=subprocess.PIPE, env=env or {}, **options)
        try:
            stdout, stderr = process.communicate(stdin, limit(seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"fc {arguments} did not end\nstdout: {stdout!r}\nstderr: {stderr!r}") from None
        stderr = stderr.decode(errors="replace")
        check_report(f"fc {arguments}", stderr)
        return Result(arguments, process.returncode, stdout, stderr)

    def run(self, *arguments, **options):
        """Runs fc, which has to succeed and to be silent on stderr."""
        result = self.try_run(*arguments, **options)
        if result.code != DONE or result.stderr:
            raise AssertionError(repr(result))
        return result

    def sign_up(self, user, password="a long password"):
        return self.run("signup", user, "--password-stdin", stdin=password.encode())

    def credentials_path(self):
        return os.path.join(self.config, "credentials")


@contextlib.contextmanager
def running(process):
    """Ends a process that the test has not ended itself."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


class FcTestCase(unittest.TestCase):
    """Tests against one fcd per class. fcd_options may be set by a class."""

    fcd_options = ()

    @classmethod
    def setUpClass(cls):
        cls.fcd = Fcd(*cls.fcd_options)
        cls.addClassCleanup(cls.fcd.close)

    def person(self, user=None, **env):
        """An fc of its own, signed up when a name is given."""
        fc = Fc(self.fcd.url, **env)
        self.addCleanup(fc.close)
        if user:
            fc.sign_up(user)
        return fc

    def assert_fails(self, result, code, pattern="."):
        """It ended with this code, said why in one line, and printed nothing else."""
        self.assertEqual(result.code, code, repr(result))
        self.assertRegex(result.stderr, r"\Afc[^\n]*: [^\n]*\n\Z", repr(result))
        self.assertRegex(result.stderr, pattern)
        self.assertEqual(result.stdout, b"")
