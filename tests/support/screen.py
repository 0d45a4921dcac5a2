"""A program on a full screen, what it shows, and somebody who types there."""
import fcntl
import os
import select
import struct
import termios
import time

import pyte

from fcd_process import limit
from terminal import Terminal


class _Screen(pyte.Screen):
    """pyte's, with what it lacks of an xterm that ncurses uses. It remembers what programs did to the window's title."""

    def __init__(self, columns, rows):
        super().__init__(columns, rows)
        self.titles = []
        self._last = " "

    def draw(self, data):
        self._last = data[-1:] or self._last
        super().draw(data)

    def repeat(self, count=1):
        self.draw(self._last * count)

    def back_tab(self, count=1):
        for _ in range(count or 1):
            self.cursor.x = max((stop for stop in self.tabstops if stop < self.cursor.x), default=0)

    def _at_margin(self, is_bottom, count, step):
        row, column = self.cursor.y, self.cursor.x
        margins = self.margins or pyte.screens.Margins(0, self.lines - 1)
        self.cursor.y = margins.bottom if is_bottom else margins.top
        for _ in range(count or 1):
            step()
        self.cursor.y, self.cursor.x = row, column

    def scroll_up(self, count=1):
        self._at_margin(True, count, self.index)

    def scroll_down(self, count=1):
        self._at_margin(False, count, self.reverse_index)

    def set_title(self, param):
        self.titles.append(param)

    set_icon_name = set_title


class _Stream(pyte.ByteStream):
    csi = {**pyte.ByteStream.csi, "b": "repeat", "Z": "back_tab", "S": "scroll_up", "T": "scroll_down"}
    events = pyte.ByteStream.events | {"repeat", "back_tab", "scroll_up", "scroll_down"}


class FullScreen(Terminal):
    """Keeps all bytes in `output`, and what they make visible in `screen`."""

    def __init__(self, command, columns=100, rows=24, **options):
        self.screen = _Screen(columns, rows)
        self.stream = _Stream(self.screen)
        super().__init__(command, columns=columns, rows=rows, **options)

    def resize(self, columns, rows):
        """As when the window changes: the system tells the program."""
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, seconds):
        readable, _, _ = select.select([self.master], [], [], seconds)
        if readable:
            data = os.read(self.master, 65536)
            self.output += data
            self.stream.feed(data)
        return bool(readable)

    @property
    def rows(self):
        return [row.rstrip() for row in self.screen.display]

    @property
    def text(self):
        return "\n".join(self.rows)

    def wait_until(self, condition, what, seconds=20):
        """Reads on until condition(self) is true of what is shown, and returns its value."""
        deadline = time.monotonic() + limit(seconds)
        while True:
            while self._read(0):
                pass
            value = condition(self)
            if value:
                return value
            if self.process.poll() is not None:
                raise AssertionError(f"it has ended ({self.process.returncode}); the screen showed\n{self.text}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}; the screen shows\n{self.text}")
            self._read(0.05)

    def shows(self, text, seconds=20):
        return self.wait_until(lambda screen: text in screen.text, repr(text), seconds)

    def shows_no(self, text, seconds=20):
        return self.wait_until(lambda screen: text not in screen.text, f"{text!r} to go", seconds)

    def find(self, text):
        """Row and column of the first place where this stands, or None."""
        return next(((i, row.index(text)) for i, row in enumerate(self.rows) if text in row), None)

    def look(self, text):
        """The character, with its colours, with which this text begins."""
        row, column = self.find(text)
        return self.screen.buffer[row][column]

    def click(self, row, column, button=0):
        self.type(b"\x1b[<%d;%d;%dM\x1b[<%d;%d;%dm" % ((button, column + 1, row + 1) * 2))

    def enter(self, line):
        self.type(line.encode() + b"\r")

    def modes(self):
        return termios.tcgetattr(self.slave)


def new_terminal_modes():
    """How a terminal is before anybody has changed it."""
    master, slave = os.openpty()
    try:
        return termios.tcgetattr(slave)
    finally:
        os.close(master)
        os.close(slave)
