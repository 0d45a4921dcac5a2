"""fc completion and fc shellenv, in the shells that are here."""
import os
import shutil
import subprocess
import tempfile
import unittest

from fcd_process import Fc

COMMANDS = {"audit", "block", "blocks", "call", "cat", "chat", "completion", "delete", "describe", "device", "dm", "download",
            "du", "edit", "find", "health", "help", "history", "invite", "join", "leave", "link", "login", "logout", "ls", "mv",
            "outbox", "passwd", "peer", "presence", "react", "restore", "rm", "share", "sync",
            "read", "recover", "report", "reports", "room", "search", "segment", "send", "session", "shellenv", "signup", "stat",
            "top", "unblock", "unread", "upload", "verify", "who", "whoami"}
ROOM_COMMANDS = {"create", "list", "show", "amend", "transfer", "fingerprint"}
ALWAYS = {"--server", "--trust", "--tls-ca", "--tls-cert", "--tls-key", "--json", "--help"}
# Presses Tab: $1 is the line, whose words follow.
PRESS = r'''
source <("$FC" completion bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_fc_cli
printf '%s\n' "${COMPREPLY[@]}"
'''


class Bash(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("plan one.txt", "photo.png"):
            with open(os.path.join(self.folder, name), "w", encoding="ascii"):
                pass

    def complete(self, *words):
        result = subprocess.run(["bash", "-c", PRESS, "bash", *words], cwd=self.folder, check=True, capture_output=True,
                                text=True)
        self.assertEqual(result.stderr, "")
        return set(result.stdout.split("\n")) - {""}

    def test_commands(self):
        self.assertEqual(self.complete("fc", ""), COMMANDS)
        self.assertEqual(self.complete("fc", "lo"), {"login", "logout"})
        self.assertEqual(self.complete("fc", "--server", "tcp://h:1", "who"), {"who", "whoami"})
        self.assertEqual(self.complete("fc", "room", ""), ROOM_COMMANDS)
        self.assertEqual(self.complete("fc", "invite", ""), {"ls", "revoke"})
        self.assertEqual(self.complete("fc", "help", "outbox", ""), {"flush"})
        self.assertEqual(self.complete("fc", "--json", "room", "c"), {"create"})
        self.assertEqual(self.complete("fc", "device", ""), {"ls", "offer", "add", "remove"})
        self.assertEqual(self.complete("fc", "help", "session", ""), {"ls", "revoke"})
        self.assertEqual(self.complete("fc", "help", "roo"), {"room"})
        self.assertEqual(self.complete("fc", "completion", ""), {"bash", "zsh", "fish"})
        self.assertEqual(self.complete("fc", "whoami", ""), set())

    def test_options(self):
        self.assertEqual(self.complete("fc", "join", "room", "--"),
                         ALWAYS | {"--since", "--count", "--number", "--no-follow", "--exec", "--own"})
        self.assertEqual(self.complete("fc", "invite", "--"), ALWAYS | {"--link", "--uses", "--expires", "--role"})
        self.assertEqual(self.complete("fc", "invite", "room", "--"), ALWAYS | {"--link", "--uses", "--expires", "--role"})
        self.assertEqual(self.complete("fc", "invite", "ls", "--"), ALWAYS)
        self.assertEqual(self.complete("fc", "outbox", "flush", "--"), ALWAYS)
        self.assertEqual(self.complete("fc", "room", "create", "--pl"), {"--plain"})
        self.assertEqual(self.complete("fc", "--v"), {"--version"})
        self.assertEqual(self.complete("fc", "join", "--since", ""), set())

    def test_paths(self):
        self.assertEqual(self.complete("fc", "upload", "pl"), {"plan one.txt"})
        self.assertEqual(self.complete("fc", "upload", "a", "ph"), {"photo.png"})
        self.assertEqual(self.complete("fc", "download", "x", "-o", "ph"), {"photo.png"})
        self.assertEqual(self.complete("fc", "stat", "ph"), set())


class Shells(unittest.TestCase):
    def setUp(self):
        self.fc = Fc()
        self.addCleanup(self.fc.close)
        # The two names, as they are installed.
        self.bin = os.path.join(self.fc.folder, "bin")
        os.mkdir(self.bin)
        for name in ("fc", "fc-cli"):
            os.symlink(os.environ["FC"], os.path.join(self.bin, name))
        self.env = {**self.fc.env, "PATH": self.bin + ":" + os.environ["PATH"]}

    def shell(self, name, script, *options):
        if not shutil.which(name):
            self.skipTest(f"{name} is not here")
        return subprocess.run([name, *options, "-c", script], env=self.env, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)

    def check_shellenv(self, shell, *options):
        for program in ("fc-cli", "env fc"):
            result = self.shell(shell, f'set -eu\neval "$({program} shellenv)"\nfc --version\nfc whoami extra', *options)
            self.assertRegex(result.stdout, r"\Afc \d+\.\d+\.\d+\n\Z", result.stderr)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertRegex(result.stderr, r"\Afc whoami: ")

    def test_shellenv_in_bash(self):
        self.assertNotEqual(self.shell("bash", "fc --version").returncode, 0, "the builtin, without it")
        self.check_shellenv("bash", "--norc", "--noprofile")

    def test_shellenv_in_zsh(self):
        self.check_shellenv("zsh", "-f")

    def test_shellenv_in_ksh(self):
        self.check_shellenv("ksh")

    def test_shellenv_in_mksh(self):
        self.check_shellenv("mksh")

    def test_shellenv_in_sh(self):
        self.check_shellenv("sh")

    def test_completion_in_zsh(self):
        script = 'autoload -Uz compinit && compinit -u -D && source <(fc-cli completion zsh) && print ${_comps[fc]}'
        result = self.shell("zsh", script, "-f")
        self.assertEqual((result.stdout, result.stderr), ("_fc-cli\n", ""))

    def test_completion_in_fish(self):
        result = self.shell("fish", "fc-cli completion fish | source; complete -C 'fc-cli lo'", "--no-config")
        self.assertEqual({line.split("\t")[0] for line in result.stdout.splitlines()}, {"login", "logout"}, result.stderr)
        result = self.shell("fish", "fc-cli completion fish | source; complete -C 'fc room '", "--no-config")
        self.assertEqual({line.split("\t")[0] for line in result.stdout.splitlines()}, ROOM_COMMANDS, result.stderr)


if __name__ == "__main__":
    unittest.main()
