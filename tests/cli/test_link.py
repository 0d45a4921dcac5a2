"""fc link, and what the web listener serves behind links, for curl, aria2 and Python's own client."""
import base64
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import ssl
import subprocess
import unittest
import urllib.parse

from cryptography.hazmat.primitives.asymmetric import ed25519

from fcd_process import Fc, FcTestCase, Fcd, FAILED, NOT_ALLOWED, NOT_FOUND, USAGE, limit, wait_until

GONE = b"There is nothing behind this link, or not any more.\n"
CHUNK = 256 * 1024
PER_ADDRESS = 32


def some_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


def split(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port, parts.path


def ask(url, method="GET", **headers):
    """One request with Python's own client."""
    host, port, path = split(url)
    if url.startswith("https"):
        connection = http.client.HTTPSConnection(host, port, timeout=limit(30), context=ssl._create_unverified_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=limit(30))
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def leads_nowhere(url):
    """Whether there is nothing at this address; a link that ends while its file is sent ends the connection."""
    try:
        return ask(url)[0].status == 404
    except (http.client.HTTPException, ConnectionError):
        return False


class LinkTestCase(FcTestCase):
    def setUp(self):
        self.alice = Fc(self.fcd.url)
        self.addCleanup(self.alice.close)
        self.name = "user" + self.id().rsplit(".", 1)[1].replace("_", "")[:20]
        self.alice.sign_up(self.name)

    def link_to(self, content, name="report.pdf", *options):
        self.alice.write("source", content)
        self.alice.run("upload", "source", "--name", name)
        return self.alice.run("link", name, *options).text.strip()

    def object(self, content):
        """The file on the server's disk that has this content."""
        for path in pathlib.Path(self.fcd.data, "objects").rglob("*"):
            if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
                return path
        raise AssertionError("no such object")


class Links(LinkTestCase):
    def test_a_file_comes_as_it_is_and_says_what_it_is(self):
        content = some_bytes(3 * CHUNK + 17)
        url = self.link_to(content, "über \"uns\" 100%.pdf")
        self.assertTrue(url.startswith(self.fcd.http_url + "/f/"), url)
        self.assertRegex(url, r"/f/[\w-]{43}/%C3%BCber%20%22uns%22%20100%25\.pdf$")
        answer, body = ask(url)
        self.assertEqual((answer.status, body == content), (200, True))
        digest = hashlib.sha256(content).hexdigest()
        self.assertEqual(answer.headers["ETag"], f'"{digest}"')
        self.assertEqual(answer.headers["Content-Length"], str(len(content)))
        self.assertEqual(answer.headers["Accept-Ranges"], "bytes")
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(answer.headers["Content-Security-Policy"], "sandbox")
        self.assertRegex(answer.headers["Last-Modified"], r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$")
        self.assertEqual(answer.headers["Content-Disposition"],
                         "attachment; filename=\"__ber _uns_ 100_.pdf\"; "
                         "filename*=UTF-8''%C3%BCber%20%22uns%22%20100%25.pdf")

    def test_the_name_in_the_url_is_for_people(self):
        url = self.link_to(b"content")
        self.assertEqual(ask(url.rsplit("/", 1)[0])[1], b"content")
        self.assertEqual(ask(url.rsplit("/", 1)[0] + "/other")[1], b"content")

    def test_an_empty_file(self):
        url = self.link_to(b"")
        answer, body = ask(url)
        self.assertEqual((answer.status, answer.headers["Content-Length"], body), (200, "0", b""))
        self.assertEqual(ask(url, Range="bytes=0-")[0].status, 416)

    def test_head_has_the_header_alone(self):
        content = some_bytes(CHUNK + 1)
        url = self.link_to(content)
        answer, body = ask(url, "HEAD")
        self.assertEqual((answer.status, answer.headers["Content-Length"], body), (200, str(len(content)), b""))
        self.assertEqual(self.alice.run("link", "ls", "--json").object["fetches"], 0)
        self.assertEqual(ask(url + "x" * 3000, "HEAD")[0].status, 200)
        self.assertEqual(ask(self.fcd.http_url + "/f/" + "A" * 43, "HEAD")[0].status, 404)

    def test_ranges(self):
        content = some_bytes(2 * CHUNK + 100)
        url = self.link_to(content)
        size = len(content)
        for asked, first, last in (("0-0", 0, 0), ("5-", 5, size - 1), ("-7", size - 7, size - 1),
                                   (f"{CHUNK - 1}-{CHUNK}", CHUNK - 1, CHUNK), (f"{CHUNK}-{2 * CHUNK}", CHUNK, 2 * CHUNK),
                                   (f"{size - 1}-{size + 10}", size - 1, size - 1), (f"-{size + 5}", 0, size - 1)):
            with self.subTest(range=asked):
                answer, body = ask(url, Range="bytes=" + asked)
                self.assertEqual(answer.status, 206)
                self.assertEqual(answer.headers["Content-Range"], f"bytes {first}-{last}/{size}")
                self.assertEqual(body, content[first:last + 1])
        for asked in (f"{size}-", "-0", f"{size}-{size + 1}"):
            with self.subTest(range=asked):
                answer, _ = ask(url, Range="bytes=" + asked)
                self.assertEqual((answer.status, answer.headers["Content-Range"]), (416, f"bytes */{size}"))
        for asked in ("bytes=5-1", "bytes=0-1,3-4", "lines=0-1", "bytes=", "bytes=a-b", "bytes=1", "bytes=99999999999999999999-"):
            with self.subTest(range=asked):
                answer, body = ask(url, Range=asked)
                self.assertEqual((answer.status, body == content), (200, True))

    def test_conditions(self):
        url = self.link_to(b"0123456789")
        answer, _ = ask(url)
        tag, date = answer.headers["ETag"], answer.headers["Last-Modified"]
        for field in (tag, "*", "W/" + tag, f'"other", {tag}'):
            answer, body = ask(url, If_None_Match=field)
            self.assertEqual((answer.status, body, answer.headers["ETag"]), (304, b"", tag), field)
        self.assertEqual(ask(url, If_None_Match='"other"')[0].status, 200)
        for field, status in ((tag, 206), (date, 206), ('"other"', 200), ("Thu, 01 Jan 1970 00:00:00 GMT", 200), ("W/" + tag, 200)):
            self.assertEqual(ask(url, Range="bytes=2-3", If_Range=field)[0].status, status, field)

    def test_what_leads_nowhere_looks_alike(self):
        url = self.link_to(b"content")
        shown = self.alice.run("link", "ls", "--json").object
        ended = self.link_to(b"other", "other", "--expires", "1s")
        wait_until(lambda: leads_nowhere(ended), "the link to expire")
        self.assertEqual(len(self.alice.run("link", "ls").text.splitlines()), 1)
        self.alice.run("link", "revoke", shown["id"])
        token = split(url)[2].split("/")[2]
        base = self.fcd.http_url + "/f/"
        for gone in (url, ended, base, base + "x", base + token[:-1], base + token + "A", base + "A" * 43,
                     base + "!" * 43, base + token.swapcase()):
            answer, body = ask(gone)
            self.assertEqual((answer.status, body), (404, GONE), gone)
        self.assertEqual(self.alice.run("link", "ls").text, "")
        self.assert_fails(self.alice.try_run("link", "revoke", shown["id"]), NOT_FOUND, "no such link")

    def test_fetches_are_counted_once_each(self):
        url = self.link_to(some_bytes(CHUNK))
        ask(url)
        ask(url, Range="bytes=0-9")
        ask(url, Range="bytes=10-")
        ask(url, "HEAD")
        wait_until(lambda: self.alice.run("link", "ls", "--json").object["fetches"] == 2, "two fetches")
        self.assertRegex(self.alice.run("link", "ls").text, r"^[0-9a-f]{32}  until .*  fetched 2  report\.pdf\n$")

    def test_only_the_owner_makes_and_sees_links(self):
        bob = self.person("bob" + self.name[4:])
        self.alice.run("room", "create", self.name + "room", "--plain")
        bob.run("join", self.name + "room", "--no-follow")
        self.alice.write("shared", b"shared")
        self.alice.run("upload", "shared", "--room", self.name + "room")
        self.link_to(b"content", "own")
        self.assert_fails(bob.try_run("link", self.name + "room/shared"), NOT_ALLOWED, "who alone may change it")
        self.assert_fails(bob.try_run("link", "own"), NOT_FOUND)
        self.assertEqual(bob.run("link", "ls").text, "")
        shown = self.alice.run("link", "ls", "--json").object
        self.assert_fails(bob.try_run("link", "revoke", shown["id"]), NOT_FOUND)
        self.assertEqual(len(self.alice.run("link", "ls").text.splitlines()), 1)

    def test_what_is_refused(self):
        self.link_to(b"content", "own")
        self.assert_fails(self.alice.try_run("link", "own", "--expires", "400d"), USAGE, "in a year at the latest")
        self.assert_fails(self.alice.try_run("link", "nothing"), NOT_FOUND)
        self.assert_fails(self.alice.try_run("link", "revoke", "12"), USAGE, "no id of a link")

    def test_the_database_does_not_have_the_token(self):
        url = self.link_to(b"content")
        token = split(url)[2].split("/")[2].encode()
        stored = b"".join(path.read_bytes() for path in pathlib.Path(self.fcd.data).glob("*") if path.is_file())
        self.assertNotIn(token, stored)

    def test_damage_on_the_disk_breaks_the_connection(self):
        content = some_bytes(4 * CHUNK, seed=9)
        url = self.link_to(content)
        with open(self.object(content), "r+b") as file:
            file.seek(3 * CHUNK + 5)
            file.write(bytes([content[3 * CHUNK + 5] ^ 1]))
        with self.assertRaises(http.client.IncompleteRead) as caught:
            ask(url)
        self.assertEqual(caught.exception.partial, content[:3 * CHUNK])
        self.assertIn("FILE-DAMAGED", self.fcd.stderr())
        self.assertEqual(ask(url, Range=f"bytes=0-{3 * CHUNK - 1}")[1], content[:3 * CHUNK])

    def test_a_second_request_behind_the_first_changes_nothing(self):
        content = some_bytes(8 * CHUNK)
        host, port, path = split(self.link_to(content))
        with socket.create_connection((host, port), limit(10)) as connection:
            connection.settimeout(limit(20))
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            connection.sendall(request)
            first = connection.recv(100)
            connection.sendall(request * 20)
            answer = first
            try:
                while block := connection.recv(1 << 16):
                    answer += block
            except ConnectionResetError:
                pass
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200"))
        self.assertEqual(body, content[:len(body)])

    def test_too_many_readers_that_do_not_read(self):
        content = some_bytes(48 * CHUNK)
        host, port, path = split(self.link_to(content))
        readers = []

        def add(address="127.0.0.1"):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(limit(10))
            reader.bind((address, 0))
            reader.connect((host, port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            readers.append(reader)
            return reader.recv(12)

        try:
            for _ in range(PER_ADDRESS):
                self.assertEqual(add(), b"HTTP/1.1 200")
            self.assertEqual(add(), b"HTTP/1.1 503")
            self.assertEqual(add("127.0.0.2"), b"HTTP/1.1 200")
            self.assertEqual(self.alice.run("link", "ls", "--json").object["file"], "report.pdf")
        finally:
            for reader in readers:
                reader.close()
        wait_until(lambda: ask(f"http://{host}:{port}{path}", Range="bytes=0-0")[0].status == 206, "places to be free")

    def test_revoking_ends_what_is_under_way(self):
        content = some_bytes(64 * CHUNK)
        host, port, path = split(self.link_to(content))
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(limit(20))
            reader.connect((host, port))
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.assertEqual(reader.recv(12), b"HTTP/1.1 200")
            self.alice.run("link", "revoke", self.alice.run("link", "ls", "--json").object["id"])
            received = 0
            try:
                while block := reader.recv(1 << 16):
                    received += len(block)
            except ConnectionResetError:
                pass
        self.assertLess(received, len(content))

    def test_files_of_encrypted_rooms(self):
        room = self.name + "room"
        self.alice.run("room", "create", room)
        self.alice.write("secret", b"secret")
        self.alice.run("upload", "secret", "--room", room)
        listed = self.alice.run("ls", "--json").objects
        self.assert_fails(self.alice.try_run("link", listed[0]["id"]), FAILED, "upload the file again without --room")


class Grants(LinkTestCase):
    """What GetGrant gives, read without the code that made it."""

    def grant(self, fc, file_id):
        return fc.try_run("call", "fc.filestore.v1.FileStore/GetGrant",
                          json.dumps({"fileId": base64.b64encode(bytes.fromhex(file_id)).decode()}))

    def test_a_grant_is_signed_by_a_key_that_stays(self):
        content = some_bytes(2 * CHUNK + 7, seed=3)
        self.alice.write("source", content)
        self.alice.run("upload", "source")
        file_id = self.alice.run("stat", "source", "--json").object["id"]
        result = self.grant(self.alice, file_id)
        self.assertEqual(result.code, 0, result)
        grant, signature, key = (base64.b64decode(result.object[name]) for name in ("grant", "signature", "key"))
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, b"fc/1 sig grant\0" + grant)
        leaves = [hashlib.sha256(b"\0" + hashlib.sha256(content[at:at + CHUNK]).digest()).digest()
                  for at in range(0, len(content), CHUNK)]
        left = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
        self.assertTrue(grant.endswith(b"\x32\x20" + hashlib.sha256(b"\1" + left + leaves[2]).digest()))
        self.assertTrue(grant.startswith(b"\x0a\x10" + bytes.fromhex(file_id)))
        self.assertEqual(os.stat(os.path.join(self.fcd.data, "grant.key")).st_mode & 0o777, 0o600)
        self.fcd.restart()
        self.assertEqual(base64.b64decode(self.grant(self.alice, file_id).object["key"]), key)

    def test_only_who_may_read_gets_one(self):
        self.alice.write("source", b"content")
        self.alice.run("upload", "source")
        file_id = self.alice.run("stat", "source", "--json").object["id"]
        bob = self.person("bob" + self.name[4:])
        self.assert_fails(self.grant(bob, file_id), NOT_FOUND)
        self.assert_fails(self.grant(self.alice, "00" * 16), NOT_FOUND)


class Programs(LinkTestCase):
    def run_in(self, *command, code=0):
        done = subprocess.run(command, cwd=self.alice.cwd, capture_output=True, timeout=limit(60), check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_curl_goes_on_and_takes_the_name(self):
        content = some_bytes(5 * CHUNK + 5)
        url = self.link_to(content, "ein name.bin")
        self.run_in("curl", "-sSf", "-o", "part", "-r", f"0-{2 * CHUNK + 9}", url)
        self.run_in("curl", "-sSf", "-C", "-", "-o", "part", url)
        self.assertEqual(self.alice.read("part"), content)
        self.run_in("curl", "-sSfOJ", url)
        self.assertEqual(self.alice.read("ein name.bin"), content)

    @unittest.skipUnless(shutil.which("aria2c"), "aria2c is not installed")
    def test_aria2_with_eight_connections(self):
        content = some_bytes(40 * CHUNK + 5)
        url = self.link_to(content)
        self.run_in("aria2c", "-q", "--no-conf", "-s8", "-x8", "-k1M", "--file-allocation=none", "-o", "fetched", url)
        self.assertEqual(self.alice.read("fetched"), content)

    @unittest.skipUnless(shutil.which("wget"), "wget is not installed")
    def test_wget_goes_on(self):
        content = some_bytes(3 * CHUNK)
        url = self.link_to(content)
        self.alice.write("report.pdf", content[:100000])
        self.run_in("wget", "-q", "-c", url)
        self.assertEqual(self.alice.read("report.pdf"), content)


class Tls(LinkTestCase):
    @classmethod
    def setUpClass(cls):
        cls.fcd = Fcd("--public-url", "https://files.example/fc/", http_url="https://127.0.0.1:0")
        cls.addClassCleanup(cls.fcd.close)

    def test_https_and_the_public_url(self):
        content = some_bytes(6 * CHUNK + 3)
        url = self.link_to(content)
        self.assertTrue(url.startswith("https://files.example/fc/f/"), url)
        answer, body = ask(self.fcd.http_url + url[len("https://files.example/fc"):], Range="bytes=3-")
        self.assertEqual((answer.status, body == content[3:]), (206, True))


class AnyAddress(LinkTestCase):
    @classmethod
    def setUpClass(cls):
        cls.fcd = Fcd("--allow-plaintext", http_url="http://0.0.0.0:0")
        cls.addClassCleanup(cls.fcd.close)

    def test_the_path_alone_where_the_address_is_not_known(self):
        self.alice.write("file", b"content")
        self.alice.run("upload", "file")
        result = self.alice.try_run("link", "file")
        self.assertEqual(result.code, 0)
        self.assertRegex(result.text, r"^/f/[\w-]{43}/file\n$")
        self.assertIn("--public-url", result.stderr)
        url = self.fcd.http_url.replace("0.0.0.0", "127.0.0.1") + result.text.strip()
        self.assertEqual(ask(url)[1], b"content")


class NoLinks(FcTestCase):
    fcd_options = ("--no-links",)

    def test_nothing_is_offered(self):
        alice = self.person("alice")
        alice.write("file", b"content")
        alice.run("upload", "file")
        self.assert_fails(alice.try_run("link", "file"), FAILED, "allows no links")
        self.assertEqual(ask(self.fcd.http_url + "/f/" + "A" * 43)[0].status, 404)

    def test_public_urls_that_make_no_sense(self):
        for url in ("files.example", "ftp://x", "http://", "https:///x", "https://x y", "https://x?y"):
            done = subprocess.run([os.environ["FCD"], "--public-url", url], capture_output=True, timeout=limit(20), check=False)
            self.assertIn(b"--public-url is", done.stderr, url)
            self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
