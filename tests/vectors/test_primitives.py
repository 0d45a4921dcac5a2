"""base/crypto.c and HKDF against the vectors of others: those of NIST, of Ed25519's authors and of RFC 5869 from Debian's
python3-cryptography-vectors, and Wycheproof's where FC_WYCHEPROOF names a folder with its testvectors_v1.
"""
import json
import os
import pathlib
import re
import subprocess
import unittest

DEBIAN = pathlib.Path("/usr/lib/python3/dist-packages/cryptography_vectors")
WYCHEPROOF = pathlib.Path(os.environ.get("FC_WYCHEPROOF", "/nowhere"))


def answers(requests):
    """What the C code says to lines of words; an empty word stands for no bytes."""
    lines = "".join(" ".join(word or "-" for word in request) + "\n" for request in requests)
    run = subprocess.run([os.environ["CRYPTO_LINES"]], input=lines, capture_output=True, text=True, check=True)
    out = run.stdout.split("\n")[:-1]
    assert len(out) == len(requests), (len(out), len(requests))
    return out


def nist(path):
    """The cases of a .rsp file: its sections' values and its own."""
    section, case = {}, {}
    for line in path.read_text(encoding="ascii").splitlines():
        in_brackets = re.fullmatch(r"\[(\w+) = (\d+)\]", line)
        name, equals, value = line.partition(" =")
        if in_brackets:
            section[in_brackets[1]] = int(in_brackets[2])
        elif equals and not line.startswith("#"):
            case[name] = value.strip()
        elif line == "FAIL":
            case["FAIL"] = True
        elif not line and case:
            yield {**section, **case}
            case = {}
    if case:
        yield {**section, **case}


class Vectors(unittest.TestCase):
    def check(self, requests, expected):
        """More than none, and each as expected."""
        self.assertTrue(requests)
        for request, actual, wanted in zip(requests, answers(requests), expected):
            self.assertEqual(actual, wanted, " ".join(request))


@unittest.skipUnless(DEBIAN.is_dir(), "python3-cryptography-vectors is not installed")
class Debian(Vectors):
    def test_signatures_of_the_authors_of_ed25519(self):
        signed, checked, expected = [], [], []
        for line in (DEBIAN / "asymmetric/Ed25519/sign.input").read_text(encoding="ascii").splitlines():
            private_and_public, public, message, signature_and_message = line.split(":")[:4]
            signature = signature_and_message[:128]
            signed.append(("sign", private_and_public[:64], message))
            checked.append(("verify", public, message, signature))
            expected.append(f"ok {public}{signature}")
        self.check(signed, expected)
        self.check(checked, ["ok "] * len(checked))

    def test_sealing_of_nist(self):
        requests, expected = [], []
        for case in nist(DEBIAN / "ciphers/AES/GCM/gcmEncryptExtIV256.rsp"):
            if case["IVlen"] == 96 and case["Taglen"] == 128:
                requests.append(("seal", case["Key"], case["IV"], case["AAD"], case["PT"]))
                expected.append("ok " + case["CT"] + case["Tag"])
        self.check(requests, expected)

    def test_opening_of_nist(self):
        requests, expected = [], []
        for case in nist(DEBIAN / "ciphers/AES/GCM/gcmDecrypt256.rsp"):
            if case["IVlen"] == 96 and case["Taglen"] == 128:
                requests.append(("open", case["Key"], case["IV"], case["AAD"], case["CT"] + case["Tag"]))
                expected.append("corrupt" if "FAIL" in case else "ok " + case["PT"])
        self.assertIn("corrupt", expected)
        self.check(requests, expected)


@unittest.skipUnless(WYCHEPROOF.is_dir(), "FC_WYCHEPROOF does not name a folder")
class Wycheproof(Vectors):
    def cases(self, name):
        for group in json.loads((WYCHEPROOF / f"{name}_test.json").read_text(encoding="utf-8"))["testGroups"]:
            for test in group["tests"]:
                yield group, test

    def test_ed25519(self):
        requests, expected = [], []
        for group, test in self.cases("ed25519"):
            requests.append(("verify", group["publicKey"]["pk"], test["msg"], test["sig"]))
            expected.append(test["result"] == "valid")
        self.assertEqual([answer == "ok " for answer in answers(requests)], expected)

    def test_x25519(self):
        requests, expected = [], []
        for _, test in self.cases("x25519"):
            requests.append(("agree", test["private"], test["public"]))
            expected.append("ok " + test["shared"] if test["shared"].strip("0") else "corrupt")
        self.assertIn("corrupt", expected)
        self.check(requests, expected)

    def test_aes_gcm(self):
        requests, expected = [], []
        for group, test in self.cases("aes_gcm"):
            if (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128):
                requests.append(("open", test["key"], test["iv"], test["aad"], test["ct"] + test["tag"]))
                expected.append("ok " + test["msg"] if test["result"] == "valid" else "corrupt")
        self.assertIn("corrupt", expected)
        self.check(requests, expected)

    def test_hkdf(self):
        requests, expected = [], []
        for _, test in self.cases("hkdf_sha256"):
            requests.append(("hkdf", test["ikm"], test["salt"], test["info"], str(test["size"])))
            expected.append("ok " + test["okm"] if test["result"] == "valid" else "invalid")
        self.check(requests, expected)


if __name__ == "__main__":
    unittest.main()
