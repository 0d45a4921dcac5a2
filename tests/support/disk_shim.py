"""Programs on a disk that misbehaves (disk_shim.c), and what such a disk may hold after a loss of power.

The environment variable FC_DISK_SHIM says where the library is; ctest sets it.
"""
import os
import struct
import subprocess
import unittest

PAGE_BYTES = 4096


def disk_environment(program, root, **settings):
    """The environment in which the disk below `root` misbehaves for a program, for example fail="sync:.part:5:0:1"."""
    shim = os.environ.get("FC_DISK_SHIM")
    if not shim:
        raise unittest.SkipTest("FC_DISK_SHIM does not say where the library is")
    preload = [shim]
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for name in ("libasan.so", "libtsan.so"):
        # A sanitizer has to come first.
        preload = [line.split()[2] for line in linked.splitlines() if name in line] + preload
    env = {"LD_PRELOAD": " ".join(preload), "FC_DISK_ROOT": root}
    env.update((f"FC_DISK_{name.upper()}", value) for name, value in settings.items())
    return env


class _File:
    """A file by itself: names come and go."""

    def __init__(self):
        self.changes = []  # (position in the log, kind, number, data)
        self.synced = -1  # changes before this position are on the disk


class _Name:
    """A change of names. It is on the disk when one of the folders has been synced since."""

    def __init__(self, position, kind, path, second, file):
        self.position, self.kind, self.path, self.second, self.file = position, kind, path, second, file
        self.is_synced = False

    def folders(self):
        return {os.path.dirname(path) for path in (self.path, self.second) if path}


class DiskLog:
    """What a program did to the files below a folder that was empty, and what a disk may hold at any moment of it."""

    HEADER = struct.Struct("=c4Q")

    def __init__(self, path, root):
        self._root = os.path.realpath(root)
        self.records = []
        with open(path, "rb") as log:
            data = log.read()
        at = 0
        while at + self.HEADER.size <= len(data):
            kind, path_size, second_size, size, number = self.HEADER.unpack_from(data, at)
            at += self.HEADER.size
            first = data[at:at + path_size].decode()
            second = data[at + path_size:at + path_size + second_size].decode()
            at += path_size + second_size
            self.records.append((kind.decode(), first, second, data[at:at + size], number, at + size))
            at += size

    def count_before(self, byte):
        """How many records end at or before this byte of the log."""
        return sum(end <= byte for *_, end in self.records)

    def _replay(self, count):
        """The changes of names in so many records, with what the disk is bound to have of them and of their files."""
        files, names, begun = {}, [], {}
        for position, (kind, path, second, data, number, _) in enumerate(self.records[:count]):
            if kind in "CMRLU":
                file = files.get(path)
                if kind == "C":
                    file = files[path] = _File()
                elif kind in "RL" and file:
                    files[second] = file
                names.append(_Name(position, kind, path, second, file))
                if kind in "RU":
                    files.pop(path, None)
            elif kind in "WT" and path in files:
                files[path].changes.append((position, kind, number, data))
            elif kind == "s":
                begun[number] = (position, files.get(path), path)
            elif kind == "S":
                since, file, folder = begun.pop(number)
                if file:
                    file.synced = max(file.synced, since)
                for name in names:
                    if name.position < since and folder in name.folders():
                        name.is_synced = True
        return names

    @staticmethod
    def _content(file, random):
        """All that was synced; of what came later the size at some moment, and any pages that lie within it."""
        bound = sum(position < file.synced for position, *_ in file.changes)
        kept = random.randint(bound, len(file.changes))
        content, size = bytearray(), 0
        for index, (_, kind, number, data) in enumerate(file.changes):
            if kind == "T":
                if index < kept:
                    del content[number:]
                    size = number
                continue
            if index < kept:
                size = max(size, number + len(data))
            for at in range(0, len(data), PAGE_BYTES):
                if index < bound or random.random() < 0.5:
                    page, offset = data[at:at + PAGE_BYTES], number + at
                    content.extend(bytes(max(0, offset - len(content))))
                    content[offset:offset + len(page)] = page
        content.extend(bytes(max(0, size - len(content))))
        return content[:size]

    def write(self, count, target, random):
        """Makes in the folder `target`, which is not there yet, what the disk may hold when the power fails after so many
        records: all that was synced, of names what came until some moment after, in order, as file systems with a
        journal have it, and of data that was not synced any pages."""
        names = self._replay(count)
        moment = random.randint(0, len(names))
        there = {}
        for index, name in enumerate(names):
            if not name.is_synced and index >= moment:
                continue
            if name.kind == "M":
                there[name.path] = None
            elif name.kind == "C":
                there[name.path] = name.file
            elif name.kind == "L" and name.path in there:
                there[name.second] = there[name.path]
            elif name.kind == "R" and name.path in there:
                there[name.second] = there.pop(name.path)
            elif name.kind == "U":
                there.pop(name.path, None)
        os.makedirs(target)
        contents = {}
        for path, file in sorted(there.items()):
            place = os.path.join(target, os.path.relpath(path, self._root))
            if file is None:
                os.makedirs(place, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if id(file) not in contents:
                contents[id(file)] = self._content(file, random)
            with open(place, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
                out.write(contents[id(file)])
