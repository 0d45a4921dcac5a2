"""Servers of segments that are not the origin, and readers who talk to them without fc download."""
import base64
import os
import re
import urllib.request

from fcd_process import Fcd, wait_until


def token_of(fc):
    """The token of a person's login."""
    with open(fc.credentials_path(), encoding="ascii") as file:
        return file.read().split()[2]


def write_token(fc, mode=0o600):
    """A file with the token of a person, as fcd --token-file wants it. Returns its path."""
    path = fc.write("token", token_of(fc).encode() + b"\n")
    os.chmod(path, mode)
    return path


class Mirror(Fcd):
    """fcd --role segment. admin is the Fc of an administrator of the origin."""

    def __init__(self, origin, admin, name, *options, **settings):
        self.name = name
        super().__init__("--role", "segment", "--origin", origin.url, "--token-file", write_token(admin), "--name", name,
                         *options, **settings)


def figure(http_url, name, **labels):
    """One figure of /metrics; 0 when it is not there."""
    with urllib.request.urlopen(http_url + "/metrics", timeout=20) as reply:
        text = reply.read().decode()
    wanted = "".join(f'(?=[^}}]*{key}="{re.escape(value)}")' for key, value in labels.items())
    found = re.findall(rf"^{name}(?:\{{{wanted}[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def segments_sent(server):
    return int(figure(server.http_url, "fc_segments_sent_total"))


class Reader:
    """Somebody who may read a file, and asks servers of segments for it."""

    def __init__(self, fc, file):
        """file is what fc stat --json says."""
        self.fc = fc
        self.id = base64.b64encode(bytes.fromhex(file["id"])).decode()
        known = fc.run("call", "fc.filestore.v1.FileStore/Stat", f'{{"file":"{file["id"]}"}}').object["file"]
        self.chunk = int(known["chunkSizeBytes"])
        self.count = -(-int(known["sizeBytes"]) // self.chunk)
        answer = fc.run("call", "fc.filestore.v1.FileStore/GetGrant", f'{{"fileId":"{self.id}"}}').object
        self.grant = f'{{"grant":"{answer["grant"]}","signature":"{answer["signature"]}"}}'

    def _arguments(self, url, method, fields=""):
        return ("call", "--server", url, f"fc.segment.v1.SegmentServer/{method}",
                f'{{"fileId":"{self.id}","grant":{self.grant}{fields}}}')

    def ask(self, url, index):
        """The result of fc call, whatever it is."""
        return self.fc.try_run(*self._arguments(url, "GetSegment", f',"index":"{index}"'))

    def start(self, url, index):
        """A Popen of the same."""
        return self.fc.start(*self._arguments(url, "GetSegment", f',"index":"{index}"'))

    def segment(self, url, index):
        result = self.ask(url, index)
        if result.code != 0:
            raise AssertionError(repr(result)[:2000])
        return base64.b64decode(result.object["data"])

    def holding(self, url):
        """Which segments are there."""
        result = self.fc.try_run(*self._arguments(url, "GetHoldings"))
        if result.code != 0:
            return set()
        holding = result.object["holding"]
        if holding.get("isComplete"):
            return set(range(self.count))
        bits = base64.b64decode(holding.get("segments", ""))
        return {8 * at + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1}

    def expected(self, content, index):
        return content[index * self.chunk:(index + 1) * self.chunk]


def sources(admin):
    """What the tracker knows, by name."""
    return {source["name"]: source for source in admin.run("segment", "ls", "--json").objects}


def wait_for_state(admin, name, state, seconds=10):
    return wait_until(lambda: (found := sources(admin).get(name)) and found["state"] == state and found,
                      f"{name} to be {state}", seconds)
