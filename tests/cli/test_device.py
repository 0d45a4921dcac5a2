"""Keys, devices and what people do with them: fc device, recover, verify, passwd, session."""
import glob
import json
import os
import re
import signal
import stat
import unittest

from fcd_process import (CONFLICT, DONE, FAILED, INTEGRITY, LIMITED, NOT_FOUND, NOT_LOGGED_IN, USAGE, FcTestCase,
                         limit, running, wait_until)
from terminal import Terminal

PASSWORD = "a long password"


class KeysTestCase(FcTestCase):
    def sign_up(self, user, *options):
        """A machine with a new account, and its recovery key if that is offline."""
        fc = self.person()
        result = fc.run("signup", user, "--password-stdin", "--json", *options, stdin=PASSWORD.encode())
        self.assertEqual(result.object["keys"], "made")
        return fc, result.object.get("recovery_key")

    def log_in(self, user, password=PASSWORD):
        """Another machine of a user's, and what became of its keys."""
        fc = self.person()
        result = fc.run("login", user, "--password-stdin", "--json", stdin=password.encode())
        return fc, result.object["keys"]

    def devices(self, fc):
        return [device for device in fc.run("device", "ls", "--json").objects if not device["is_removed"]]

    def this_device(self, fc):
        (device,) = [device for device in self.devices(fc) if device["is_this"]]
        return device

    def safety_number(self, fc, user):
        return fc.run("verify", user, "--json").object["safety_number"]


class Machines(KeysTestCase):
    def test_sign_up_makes_keys(self):
        fc, recovery_key = self.sign_up("maker")
        self.assertIsNone(recovery_key)
        devices = self.devices(fc)
        self.assertEqual([device["is_recovery"] for device in devices], [False, True])
        self.assertTrue(devices[0]["is_this"])

    def test_the_password_is_enough_on_a_second_machine(self):
        first, _ = self.sign_up("mover")
        second, keys = self.log_in("mover")
        self.assertEqual(keys, "recovered")
        self.assertEqual(len(self.devices(first)), 3)
        self.assertNotEqual(self.this_device(first)["id"], self.this_device(second)["id"])
        # Both may let in others.
        second.run("device", "remove", self.this_device(first)["id"])
        self.assertEqual(len(self.devices(second)), 2)

    def test_a_second_login_on_the_same_machine_changes_nothing(self):
        fc, _ = self.sign_up("again")
        before = self.devices(fc)
        fc.run("logout")
        self.assertEqual(fc.run("login", "again", "--password-stdin", "--json", stdin=PASSWORD.encode()).object["keys"],
                         "ready")
        self.assertEqual(self.devices(fc), before)

    def test_files_are_closed_to_others(self):
        fc, _ = self.sign_up("private")
        self.assertEqual(stat.S_IMODE(os.stat(fc.data).st_mode), 0o700)
        (path,) = glob.glob(os.path.join(fc.data, "*.db"))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        for mode in (0o644, 0o640, 0o604):
            os.chmod(path, mode)
            self.assert_fails(fc.try_run("device", "ls"), FAILED, "chmod")
        os.chmod(path, 0o600)
        fc.run("device", "ls")

    def test_logout_keeps_the_keys_unless_they_are_to_be_forgotten(self):
        fc, _ = self.sign_up("forgetful")
        fc.run("logout")
        self.assertTrue(glob.glob(os.path.join(fc.data, "*.db")))
        fc.run("login", "forgetful", "--password-stdin", stdin=PASSWORD.encode())
        self.assert_fails(fc.try_run("logout", "--forget", preexec_fn=os.setsid), FAILED, "--yes")
        fc.run("whoami")
        fc.run("logout", "--forget", "--yes")
        self.assertEqual(glob.glob(os.path.join(fc.data, "*.db*")), [])
        self.assert_fails(fc.try_run("whoami"), NOT_LOGGED_IN)
        again, keys = self.log_in("forgetful")
        self.assertEqual(keys, "recovered")
        again.run("device", "ls")

    def test_a_removed_device_is_one_no_more(self):
        first, _ = self.sign_up("loser")
        lost, _ = self.log_in("loser")
        lost_id = self.this_device(lost)["id"]
        self.assertEqual(first.run("device", "remove", lost_id[:12], "--json").object["name"], os.uname().nodename)
        self.assertNotIn(lost_id, [device["id"] for device in self.devices(first)])
        # It may not let in others, nor vouch for keys.
        self.person("somebody")
        self.assert_fails(lost.try_run("device", "remove", self.this_device(first)["id"]), FAILED, "not a device")
        self.assert_fails(lost.try_run("verify", "somebody"), FAILED, "not a device")
        self.assert_fails(first.try_run("device", "remove", lost_id), NOT_FOUND)

    def test_which_device_is_meant(self):
        fc, _ = self.sign_up("vague")
        self.log_in("vague")
        self.assert_fails(fc.try_run("device", "remove", os.uname().nodename), USAGE, "several")
        self.assert_fails(fc.try_run("device", "remove", "nothing"), NOT_FOUND)
        self.assert_fails(fc.try_run("device", "remove", "recovery key"), FAILED, "way back")
        self.assertEqual(len(self.devices(fc)), 3)


class OfflineRecovery(KeysTestCase):
    def test_the_recovery_key_is_shown_once_and_works_in_any_form(self):
        fc = self.person()
        text = fc.run("signup", "paper", "--password-stdin", "--recovery", "offline", stdin=PASSWORD.encode()).text
        (key,) = re.findall(r"(?m)^    ((?:[0-9A-Z]{4}-){8}[0-9A-Z]{4})$", text)
        fc.run("recover", "--test", stdin=key.encode())
        fc.run("recover", "--test", stdin=key.lower().replace("-", " ").encode() + b"\n")
        self.assertNotIn(key, fc.run("login", "paper", "--password-stdin", stdin=PASSWORD.encode()).text)

    def test_the_password_alone_is_not_enough(self):
        _, key = self.sign_up("careful", "--recovery", "offline")
        second, keys = self.log_in("careful")
        self.assertEqual(keys, "waiting")
        self.assertEqual([device["is_this"] for device in self.devices(second)], [False, False])
        before = self.devices(second)
        second.run("recover", "--test", stdin=key.encode())
        self.assertEqual(self.devices(second), before, "--test changes nothing")
        second.run("recover", stdin=key.encode())
        self.assertTrue(self.this_device(second))
        second.run("recover", stdin=key.encode())
        self.assertEqual(len(self.devices(second)), 3, "a second time it is the same device")

    def test_wrong_recovery_keys(self):
        fc, key = self.sign_up("typist", "--recovery", "offline")
        _, other_key = self.sign_up("stranger", "--recovery", "offline")
        changed = ("A" if key[0] != "A" else "B") + key[1:]
        for bad in (changed, key[:-1], key + "0", "nonsense", "U" * 36):
            self.assert_fails(fc.try_run("recover", stdin=bad.encode()), USAGE)
        self.assert_fails(fc.try_run("recover", stdin=b""), USAGE)
        for arguments in (("recover",), ("recover", "--test")):
            self.assert_fails(fc.try_run(*arguments, stdin=other_key.encode()), INTEGRITY, "not the one of this account")

    def test_where_the_recovery_key_is_kept(self):
        for where in ("", "here", "OFFLINE"):
            result = self.person().try_run("signup", "whoever", "--password-stdin", "--recovery", where, stdin=b"x")
            self.assert_fails(result, USAGE, "--recovery")


class Pairing(KeysTestCase):
    def offer(self, fc, *options):
        """Starts an offer and reads its code."""
        process = fc.start("device", "offer", "--json", *options)
        line = process.stdout.readline().decode()
        return process, re.search(r'"code":"([0-9A-Z-]+)"', line)[1]

    def finish(self, process):
        stdout, stderr = process.communicate(timeout=limit(30))
        self.assertEqual((process.returncode, stderr), (DONE, b""), stdout)
        return stdout

    def test_a_code_lets_a_machine_in(self):
        old, _ = self.sign_up("pair", "--recovery", "offline")
        new, keys = self.log_in("pair")
        self.assertEqual(keys, "waiting")
        process, code = self.offer(new, "--name", "new one")
        with running(process):
            self.assertEqual(len(code.replace("-", "")), 26)
            spoken = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
            text = old.run("device", "add", spoken).text
            self.assertTrue(text.startswith("let in new one\n"))
            said = json.loads(self.finish(process))
            self.assertTrue(said["can_sign"])
            self.assertRegex(said["number"], r"\A\d{5}(?: \d{5}){5}\Z")
            self.assertIn(said["number"], text, "both show the same")
        self.assertEqual(self.this_device(new)["name"], "new one")
        new.run("device", "remove", self.this_device(old)["id"])

    def test_a_device_that_may_not_sign(self):
        old, key = self.sign_up("strict", "--recovery", "offline")
        new, _ = self.log_in("strict")
        process, code = self.offer(new, "--name", "reader")
        with running(process):
            old.run("device", "add", code, "--no-sign")
            self.assertIn(b'"can_sign":false', self.finish(process))
        self.assert_fails(new.try_run("device", "remove", self.this_device(old)["id"]), FAILED, "may not")
        # The recovery key makes it one that may.
        new.run("recover", stdin=key.encode())
        new.run("device", "remove", self.this_device(old)["id"])

    def test_a_wrong_code_lets_nobody_in(self):
        old, _ = self.sign_up("guard", "--recovery", "offline")
        new, _ = self.log_in("guard")
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        self.assert_fails(old.try_run("device", "add", "0" * 26), NOT_FOUND, "device offer")
        process, code = self.offer(new)
        with running(process):
            for place in (0, 13, len(code) - 1):
                place = place if code[place] != "-" else place + 1
                for bit in (1, 16):
                    other = alphabet[alphabet.index(code[place]) ^ bit]
                    changed = code[:place] + other + code[place + 1:]
                    self.assert_fails(old.try_run("device", "add", changed), INTEGRITY, "none of the devices")
            for bad in ("", code[:-1], code + "0", "U" * 26, code.replace("-", "_")):
                self.assert_fails(old.try_run("device", "add", bad), USAGE, "code")
            self.assertEqual(len(self.devices(old)), 2)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=limit(30))
            self.assertEqual(process.returncode, 128 + signal.SIGINT)
            self.assertRegex(stderr, rb"interrupted")

    def test_only_a_device_lets_in_others(self):
        self.sign_up("closed", "--recovery", "offline")
        one, _ = self.log_in("closed")
        other, _ = self.log_in("closed")
        process, code = self.offer(one)
        with running(process):
            self.assert_fails(other.try_run("device", "add", code), FAILED, "not a device")

    def test_another_account_sees_no_offers(self):
        self.sign_up("mine", "--recovery", "offline")
        stranger, _ = self.sign_up("thief")
        new, _ = self.log_in("mine")
        process, code = self.offer(new)
        with running(process):
            self.assert_fails(stranger.try_run("device", "add", code), NOT_FOUND)

    def test_a_device_offers_nothing(self):
        fc, _ = self.sign_up("member")
        self.assert_fails(fc.try_run("device", "offer"), CONFLICT, "already")


class People(KeysTestCase):
    def test_both_sides_see_the_same_number(self):
        ann, _ = self.sign_up("ann")
        ben, _ = self.sign_up("ben")
        number = self.safety_number(ann, "ben")
        self.assertRegex(number, r"\A\d{5}(?: \d{5}){11}\Z")
        self.assertEqual(self.safety_number(ben, "ann"), number)
        second, _ = self.log_in("ann")
        self.assertEqual(self.safety_number(second, "ben"), number, "it is of people, not of machines")
        text = ann.run("verify", "ben").text
        self.assertEqual(" ".join(text.splitlines()[:2]), number)
        self.assertIn("\u2588", ann.run("verify", "ben", "--qr").text)

    def test_codes_verify(self):
        ann, _ = self.sign_up("vann")
        ben, _ = self.sign_up("vben")
        number = self.safety_number(ben, "vann")
        wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
        self.assert_fails(ann.try_run("verify", "vben", "--code", wrong), INTEGRITY, "differ")
        self.assertEqual(ann.run("verify", "--json").object["state"], "seen")
        self.assertEqual(ann.run("verify", "vben", "--code", number.replace(" ", "")).text, "")
        self.assertEqual(ann.run("verify", "--json").object["state"], "verified")
        for bad in ("", "12345", number + "0", number.replace("0", "o").replace("1", "l") + "x"):
            self.assert_fails(ann.try_run("verify", "vben", "--code", bad), USAGE)
        self.assert_fails(ann.try_run("verify", "nobody-here"), NOT_FOUND)
        self.assert_fails(ann.try_run("verify", "vann"), USAGE, "this is you")
        self.assert_fails(ann.try_run("verify", "--code", number), USAGE)

    def test_new_keys_of_somebody_are_told_once(self):
        ann, _ = self.sign_up("told")
        ben, _ = self.sign_up("renewed")
        before = self.safety_number(ann, "renewed")
        ben.run("recover", "--reset", "--yes", "--password-stdin", stdin=PASSWORD.encode())
        result = ann.try_run("verify", "renewed", "--json")
        self.assertEqual(result.code, DONE)
        self.assertRegex(result.stderr, r"\Afc verify: note: renewed has new keys[^\n]*\n\Z")
        self.assertNotEqual(result.object["safety_number"], before)
        self.assertEqual(self.safety_number(ann, "renewed"), self.safety_number(ben, "told"))

    def test_new_keys_of_somebody_verified_wait_to_be_accepted(self):
        ann, _ = self.sign_up("sure")
        ben, _ = self.sign_up("changed")
        ann.run("verify", "changed", "--code", self.safety_number(ann, "changed"))
        ben.run("recover", "--reset", "--yes", "--password-stdin", stdin=PASSWORD.encode())
        self.assertEqual(ann.run("verify", "changed", "--json").object["state"], "changed")
        self.assertEqual(ann.run("verify", "--json").object["state"], "changed")
        ann.run("verify", "changed", "--accept")
        self.assertEqual(ann.run("verify", "--json").object["state"], "seen")
        ann.run("verify", "changed", "--code", self.safety_number(ben, "sure"))
        self.assertEqual(ann.run("verify", "--json").object["state"], "verified")


class Reset(KeysTestCase):
    def test_a_reset_ends_all_devices(self):
        first, _ = self.sign_up("phoenix")
        second, _ = self.log_in("phoenix")
        second.run("recover", "--reset", "--yes", "--password-stdin", stdin=PASSWORD.encode())
        self.assertEqual(len(self.devices(second)), 2)
        result = first.try_run("device", "ls", "--json")
        self.assertRegex(result.stderr, r"note: your account has new keys")
        self.assertNotIn(True, [device["is_this"] for device in result.objects if not device["is_removed"]])
        # The password is enough again, for the new keys.
        third, keys = self.log_in("phoenix")
        self.assertEqual(keys, "recovered")
        self.assertEqual(len(self.devices(third)), 3)

    def test_a_reset_can_keep_the_recovery_key_offline(self):
        fc, _ = self.sign_up("ash")
        key = fc.run("recover", "--reset", "--recovery", "offline", "--yes", "--json").object["recovery_key"]
        second, keys = self.log_in("ash")
        self.assertEqual(keys, "waiting")
        second.run("recover", stdin=key.encode())

    def test_a_reset_wants_the_right_password_and_a_confirmation(self):
        fc, _ = self.sign_up("firm")
        before = self.devices(fc)
        result = fc.try_run("recover", "--reset", "--yes", "--password-stdin", stdin=b"not it")
        self.assert_fails(result, NOT_LOGGED_IN, "wrong")
        result = fc.try_run("recover", "--reset", "--password-stdin", stdin=PASSWORD.encode(), preexec_fn=os.setsid)
        self.assert_fails(result, FAILED, "--yes")
        self.assert_fails(fc.try_run("recover", "--reset", "--test"), USAGE)
        self.assertEqual(self.devices(fc), before)


class Passwords(KeysTestCase):
    def test_a_changed_password(self):
        fc, _ = self.sign_up("changer")
        fc.run("passwd", "--password-stdin", stdin=PASSWORD.encode() + b"\nanother one\n")
        fc.run("whoami")
        self.assert_fails(self.person().try_run("login", "changer", "--password-stdin", stdin=PASSWORD.encode()),
                          NOT_LOGGED_IN)
        second, keys = self.log_in("changer", "another one")
        self.assertEqual(keys, "recovered", "the recovery key is sealed under the new password")
        second.run("device", "ls")

    def test_a_password_that_is_not_changed(self):
        fc, _ = self.sign_up("keeper")
        self.assert_fails(fc.try_run("passwd", "--password-stdin", stdin=b"not it\nanother one"), NOT_LOGGED_IN, "wrong")
        for bad in (b"", b"only one line", b"\nempty old", PASSWORD.encode() + b"\n", b"x" * 1025 + b"\nnew",
                    PASSWORD.encode() + b"\n" + b"x" * 1025):
            self.assert_fails(fc.try_run("passwd", "--password-stdin", stdin=bad), USAGE)
        self.log_in("keeper")


class Logins(KeysTestCase):
    def test_logins_are_listed_and_ended(self):
        here, _ = self.sign_up("logins")
        there, _ = self.log_in("logins")
        logins = here.run("session", "ls", "--json").objects
        self.assertEqual(sorted(login["is_this"] for login in logins), [False, True])
        self.assertTrue(all(login["device"].startswith("fc on ") for login in logins))
        (other,) = [login["id"] for login in logins if not login["is_this"]]
        self.assertIn(other, here.run("session", "ls").text)
        stranger, _ = self.sign_up("no-logins")
        self.assert_fails(stranger.try_run("session", "revoke", other), NOT_FOUND)
        here.run("session", "revoke", other[:8])
        self.assert_fails(there.try_run("whoami"), NOT_LOGGED_IN)
        here.run("whoami")
        self.assert_fails(here.try_run("session", "revoke", other), NOT_FOUND)
        for bad in ("", "abc", "xyzw", "../x"):
            self.assert_fails(here.try_run("session", "revoke", bad), USAGE)


class OnTerminal(KeysTestCase):
    def terminal(self, fc, *arguments):
        return Terminal([os.environ["FC"], *arguments], env=fc.env, cwd=fc.cwd)

    def answer(self, terminal, prompt, text):
        terminal.wait_for(prompt)
        wait_until(lambda: not terminal.echoes(), "echo to be off")
        terminal.type(text)

    def test_the_recovery_key_is_typed_unseen(self):
        _, key = self.sign_up("writer", "--recovery", "offline")
        fc, _ = self.log_in("writer")
        with self.terminal(fc, "recover") as terminal:
            self.answer(terminal, b"Recovery key: ", key.encode() + b"\n")
            shown = terminal.wait_for(b"has your keys now")
            self.assertNotIn(key.encode(), shown)
            self.assertEqual(terminal.wait(), DONE)
        self.assertTrue(self.this_device(fc))

    def test_passwd_asks_for_the_old_one_and_twice_for_the_new_one(self):
        fc, _ = self.sign_up("asked")
        with self.terminal(fc, "passwd") as terminal:
            self.answer(terminal, b"Old password: ", PASSWORD.encode() + b"\n")
            self.answer(terminal, b"New password: ", b"another\n")
            self.answer(terminal, b"again: ", b"another one\n")
            terminal.wait_for(b"differ")
            self.assertEqual(terminal.wait(), USAGE)
        with self.terminal(fc, "passwd") as terminal:
            self.answer(terminal, b"Old password: ", PASSWORD.encode() + b"\n")
            self.answer(terminal, b"New password: ", b"another\n")
            self.answer(terminal, b"again: ", b"another\n")
            self.assertEqual(terminal.wait(), DONE)
        self.log_in("asked", "another")

    def test_what_cannot_be_undone_wants_the_user_name(self):
        fc, _ = self.sign_up("hasty")
        for arguments in (("logout", "--forget"), ("recover", "--reset", "--recovery", "offline")):
            for answer in (b"yes\n", b"\n", b"\x04"):
                with self.terminal(fc, *arguments) as terminal:
                    terminal.wait_for(b"To go on type hasty: ")
                    terminal.type(answer)
                    terminal.wait_for(b"nothing was done")
                    self.assertEqual(terminal.wait(), FAILED)
        self.assertEqual(len(self.devices(fc)), 2)
        with self.terminal(fc, "recover", "--reset", "--recovery", "offline") as terminal:
            terminal.wait_for(b"To go on type hasty: ")
            terminal.type(b"hasty\n")
            terminal.wait_for(b"Your recovery key:")
            self.assertEqual(terminal.wait(), DONE)


class FullServer(KeysTestCase):
    fcd_options = ("--max-users", "1")

    def test_a_full_server(self):
        self.sign_up("only")
        self.assert_fails(self.person().try_run("signup", "late", "--password-stdin", stdin=b"x"), LIMITED, "operator")
        self.log_in("only")


if __name__ == "__main__":
    unittest.main()
