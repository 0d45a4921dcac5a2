"""Pictures in rooms: their size and a small preview come with the announcement, sealed where the room is; what they say
of place, camera and people does not leave the sender's machine."""
import base64
import os
import struct
import unittest
import zlib

from fcd_process import USAGE, FcTestCase
from recording_proxy import RecordingProxy

SECRETS = (b"GPS-52.5163N", b"XMP-Berlin", b"IPTC-Alice", b"COMMENT-home", b"MOTION-video")
PREVIEW_MAX = 8 * 1024


def png(width, height):
    """An opaque RGB picture, red at the left and blue at the right."""
    row = b"\0" + b"".join(bytes((255 - 255 * x // width, 0, 255 * x // width)) for x in range(width))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b""))


def segments(jpeg):
    """(marker, body) up to the coded data, and what follows from there on."""
    at, found = 2, []
    while True:
        marker, size = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)[0]
        found.append((marker, jpeg[at + 4:at + 2 + size]))
        at += 2 + size
        if marker == 0xda:
            return found, jpeg[at:]


def jpeg_size(jpeg):
    for marker, body in segments(jpeg)[0]:
        if marker in (0xc0, 0xc2):
            height, width = struct.unpack_from(">HH", body, 1)
            return width, height
    raise AssertionError("no frame")


def exif(orientation, more):
    """EXIF data, little-endian, with something behind the directory."""
    return (b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0) + more)


def with_secrets(jpeg, orientation=6):
    def segment(marker, body):
        return bytes((0xff, marker)) + struct.pack(">H", len(body) + 2) + body

    return (jpeg[:2] + segment(0xe1, exif(orientation, SECRETS[0])) +
            segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0" + SECRETS[1]) + segment(0xed, b"Photoshop 3.0\0" + SECRETS[2]) +
            segment(0xfe, SECRETS[3]) + jpeg[2:] + SECRETS[4])


class Pictures(FcTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = iter(range(1000))

    def setUp(self):
        self.number = next(self.numbers)
        self.proxy = RecordingProxy(self.fcd.url)
        self.addCleanup(self.proxy.close)
        self.alice = self.person()
        self.alice.env["FC_SERVER"] = self.proxy.url
        self.alice.sign_up(f"alice{self.number}")
        self.bob = self.person(f"bob{self.number}")
        self.rooms = (f"sealed{self.number}", f"plain{self.number}")
        for room in self.rooms:
            self.alice.run("room", "create", room, *(("--plain",) if room.startswith("plain") else ()))
            self.alice.run("room", "amend", room, "--add", f"bob{self.number}")

    def announced(self, room):
        return self.bob.run("history", room, "--since", "0", "--json").objects[-1]["file"]

    def jpeg(self):
        """One of 160x100, made by fc."""
        self.alice.write("source.png", png(640, 400))
        self.alice.run("upload", "source.png", "--room", self.rooms[1])
        return base64.b64decode(self.announced(self.rooms[1])["preview"])

    def stored_bytes(self):
        content = b""
        for folder, _, names in os.walk(self.fcd.data):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    content += file.read()
        return content

    def test_previews_come_with_the_announcement(self):
        self.alice.write("a.png", png(640, 400))
        previews = {}
        for room in self.rooms:
            self.alice.run("upload", "a.png", "--room", room)
            file = self.announced(room)
            self.assertEqual((file["mime_type"], file["width"], file["height"]), ("image/png", 640, 400))
            previews[room] = base64.b64decode(file["preview"])
            self.assertEqual(jpeg_size(previews[room]), (160, 100))
            self.assertLessEqual(len(previews[room]), PREVIEW_MAX)
        # The one that went to the plain room is what the server would have of the other.
        self.assertEqual(previews[self.rooms[0]], previews[self.rooms[1]])

    def test_the_server_does_not_see_previews_of_encrypted_rooms(self):
        self.alice.write("a.png", png(300, 300))  # which no other test sends
        self.alice.run("upload", "a.png", "--room", self.rooms[0])
        preview = base64.b64decode(self.announced(self.rooms[0])["preview"])
        self.assertFalse(preview in self.proxy.recorded(), "the preview was sent in the clear")
        self.assertFalse(preview in self.stored_bytes(), "the server has the preview")
        self.alice.run("upload", "a.png", "--room", self.rooms[1])
        self.assertTrue(preview in self.proxy.recorded(), "this test sees nothing")

    def test_pictures_without_a_preview(self):
        broken = png(640, 400)
        for name, content in (("cut.png", broken[:len(broken) // 2]), ("a.gif", b"GIF89a" + struct.pack("<HH", 7, 9)),
                              ("text", b"no picture"), ("empty", b"")):
            for room in self.rooms:
                self.alice.write(name, content)
                self.alice.run("upload", name, "--room", room)
                self.assertNotIn("preview", self.announced(room))
                self.assertEqual(self.bob.run("cat", f"{room}/{name}").stdout, content)

    def test_where_a_picture_was_taken_stays_here(self):
        plain_jpeg = self.jpeg()
        picture = with_secrets(plain_jpeg)
        os.mkdir(self.alice.path("tree"))
        for name in ("photo.jpg", "tree/photo.jpg"):
            self.alice.write(name, picture)
        os.utime(self.alice.path("photo.jpg"), (1_500_000_000, 1_500_000_000))
        for room in self.rooms:
            self.alice.run("upload", "photo.jpg", "--room", room)
            preview = base64.b64decode(self.announced(room)["preview"])
            self.assertEqual(jpeg_size(preview), (100, 160))  # turned, as it says
            self.alice.run("upload", "-r", "tree", "--room", room)
            for name in ("photo.jpg", "tree/photo.jpg"):
                got = self.bob.run("cat", f"{room}/{name}").stdout
                for secret in SECRETS:
                    self.assertNotIn(secret, got)
                head, coded = segments(got)
                self.assertEqual(coded, segments(plain_jpeg)[1])
                # All else of it is there, and how it is to be turned.
                self.assertEqual([one for one in head if one[0] != 0xe1], segments(plain_jpeg)[0])
                (kept,) = [body for marker, body in head if marker == 0xe1]
                self.assertEqual(kept, b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0))
        for secret in SECRETS:
            self.assertFalse(secret in self.proxy.recorded(), secret)
        self.assertEqual(self.alice.run("stat", "photo.jpg", "--json").object["modified_at"], "2017-07-14T02:40:00.000Z")

    def test_it_goes_where_it_is_asked_for(self):
        picture = with_secrets(self.jpeg(), orientation=1)
        self.alice.write("photo.jpg", picture)
        for room in self.rooms:
            self.alice.run("upload", "photo.jpg", "--room", room, "--keep-metadata")
            self.assertEqual(self.bob.run("cat", f"{room}/photo.jpg").stdout, picture)
            self.alice.run("upload", "photo.jpg", "--room", room)
            self.assertNotIn(SECRETS[0], self.bob.run("cat", f"{room}/photo.jpg").stdout)
        self.alice.run("upload", "photo.jpg")
        self.assertEqual(self.alice.run("cat", "photo.jpg").stdout, picture)
        self.assert_fails(self.alice.try_run("upload", "photo.jpg", "--keep-metadata"), USAGE, "--room")

    def test_what_cannot_be_taken_apart_is_not_sent(self):
        picture = with_secrets(self.jpeg())
        for cut in (3, 10, 60, len(picture) - len(SECRETS[4]) - 2):
            self.alice.write("cut.jpg", picture[:cut])
            for room in self.rooms:
                self.assert_fails(self.alice.try_run("upload", "cut.jpg", "--room", room), USAGE, "--keep-metadata")
                self.alice.run("upload", "cut.jpg", "--room", room, "--keep-metadata")
                self.assertEqual(self.bob.run("cat", f"{room}/cut.jpg").stdout, picture[:cut])


if __name__ == "__main__":
    unittest.main()
