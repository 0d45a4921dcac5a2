"""Who may include whom: the arrows between the folders."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
SERVICES = ("auth", "chat", "filestore", "tracker")

# Folders whose headers, and packages of proto/ whose generated code, a folder may use.
ALLOWED = {
    "base": ({"base"}, set()),
    "db": ({"base", "db"}, set()),
    "rpc": ({"base", "rpc"}, {"rpc"}),
    "rpc/stubs": (set(), {"rpc"}),  # runs before rpc/ can be built
    "e2e": ({"base", "e2e"}, {"e2e"}),
    "swarm": ({"base", "rpc", "e2e", "swarm"}, {"rpc", "segment", "tracker"}),
    "client": ({"base", "db", "rpc", "e2e", "swarm", "client"},
               {"rpc", "auth", "chat", "e2e", "filestore", "peer", "segment", "tracker"}),
    "cli": ({"base", "rpc", "client", "cli"}, set()),
    "services/store": ({"base", "db", "services/store"}, set()),
    **{
        f"services/{name}": ({"base", "rpc", "e2e", "services/store", f"services/{name}"}, {"rpc", "e2e", name})
        for name in ("auth", "chat", "filestore")
    },
    "services/tracker": ({"base", "rpc", "e2e", "services/tracker"}, {"rpc", "segment", "tracker"}),
    "services/daemon": ({"base", "rpc", "swarm", "services/store", "services/daemon"}
                        | {f"services/{name}" for name in SERVICES}, {"rpc", *SERVICES}),
}

# Libraries that only one folder knows, and OpenSSL, which base/digest.h wraps.
OWNERS = {"nng/": {"rpc"}, "libwebsockets": {"rpc"}, "sqlite3": {"db"}, "openssl/": {"base", "rpc"},
          "jansson": {"rpc"}, "qrencode": {"cli"}, "curses": {"cli"}, "ncurses": {"cli"}}


def folder_of(header):
    parts = header.split("/")
    return "/".join(parts[:2]) if parts[0] == "services" else parts[0]


def complaint(folder, bracket, header):
    """What is wrong with this #include in a file of this folder, or None."""
    folders, packages = ALLOWED[folder]
    if header.startswith("fc/"):
        package = header.split("/")[1]
        return None if package in packages else f"uses fc.{package}"
    if bracket == '"':
        if "/" not in header:
            return "does not say its folder"
        return None if folder_of(header) in folders else f"includes {folder_of(header)}/"
    for prefix, owners in OWNERS.items():
        if header.startswith(prefix) and folder not in owners:
            return f"uses {prefix.rstrip('/')}"
    return None


def complaints(folder):
    found = []
    for path in sorted((ROOT / folder).glob("*.[ch]")):
        for bracket, header in INCLUDE.findall(path.read_text(encoding="utf-8")):
            what = complaint(folder, bracket, header)
            if what:
                found.append(f"{path.relative_to(ROOT)} {what} ({header})")
    return found


class Layering(unittest.TestCase):
    def test_every_folder_includes_only_what_it_may(self):
        for folder in ALLOWED:
            with self.subTest(folder=folder):
                self.assertEqual(complaints(folder), [])

    def test_every_folder_with_sources_has_a_rule(self):
        folders = {str(path.parent.relative_to(ROOT)) for part in ("base", "db", "rpc", "e2e", "swarm", "client", "cli",
                                                                           "services")
                   for path in (ROOT / part).rglob("*.[ch]")}
        self.assertEqual(folders - set(ALLOWED), set())
        self.assertIn("base", folders)

    def test_the_rules_refuse_what_they_should(self):
        for folder, bracket, header in (
                ("base", '"', "rpc/rpc_status.h"), ("rpc", '"', "client/fc_room.h"), ("rpc", '"', "fc/chat/v1/chat.pb-c.h"),
                ("client", '"', "services/chat/chat_service.h"), ("cli", '"', "services/store/store.h"),
                ("cli", '"', "fc/chat/v1/chat.pb-c.h"), ("swarm", '"', "services/tracker/tracker_core.h"),
                ("services/chat", '"', "services/auth/auth_service.h"),
                ("services/chat", '"', "client/fc_room.h"), ("services/chat", '"', "fc/auth/v1/auth.pb-c.h"),
                ("services/store", '"', "rpc/rpc_server.h"), ("client", "<", "nng/nng.h"),
                ("services/chat", "<", "sqlite3.h"), ("services/store", "<", "sqlite3.h"), ("services/chat", '"', "db/db.h"),
                ("cli", '"', "cli_output.h")):
            self.assertIsNotNone(complaint(folder, bracket, header), (folder, header))
        self.assertIsNone(complaint("services/daemon", '"', "services/auth/auth_service.h"))
        self.assertIsNone(complaint("client", '"', "fc/chat/v1/chat.pb-c.h"))


if __name__ == "__main__":
    unittest.main()
