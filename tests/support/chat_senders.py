"""People who send without a pause, and what has to be true of a room afterwards."""
import re
import threading

from fcd_process import DONE, QUEUED, UNREACHABLE, limit


class Sender(threading.Thread):
    """One loop of fc send. Every attempt has a text of its own, which ends with its number."""

    def __init__(self, fc, name, stopping, room="team"):
        super().__init__(name=name)
        self.fc, self.stopping, self.room = fc, stopping, room
        self.acknowledged = {}  # text -> what fc printed
        self.queued = set()
        self.failed = set()  # a key was needed and could not be had: nothing is kept to be sent
        self.failure = None
        self.start()

    def run(self):
        number = 0
        try:
            while not self.stopping.is_set():
                number += 1
                text = f"{self.name}-{number}"
                result = self.fc.try_run("send", self.room, text, "--json", seconds=60)
                if result.code == DONE:
                    self.acknowledged[text] = result.object
                elif result.code == QUEUED:
                    self.queued.add(text)
                elif result.code == UNREACHABLE:
                    self.failed.add(text)
                else:
                    raise AssertionError(repr(result))
        except BaseException as error:  # told to the test's own thread
            self.failure = error


class Senders:
    """Several, each (fc, name) of them. A context manager, at whose end they have stopped."""

    def __init__(self, *people, room="team"):
        self.stopping = threading.Event()
        self.all = [Sender(fc, name, self.stopping, room) for fc, name in people]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stopping.set()
        for sender in self.all:
            sender.join(limit(120))

    def acknowledged(self):
        """How many messages the server has acknowledged; raises what went wrong for a sender."""
        for sender in self.all:
            if sender.failure:
                raise sender.failure
        return sum(len(sender.acknowledged) for sender in self.all)

    def flush(self):
        """Sends what still waits, of everybody."""
        for fc in {id(sender.fc): sender.fc for sender in self.all}.values():
            fc.run("outbox", "flush")

    def check(self, test, history):
        """What was sent is in the history once, each sender's in the order of sending, under the numbers that were told."""
        seqs = [message["seq"] for message in history]
        test.assertEqual(seqs, list(range(1, len(history) + 1)))
        texts = [message["text"] for message in history]
        test.assertEqual(len(set(texts)), len(texts), "a message appears twice")
        by_text = {message["text"]: message for message in history}
        for sender in self.all:
            for text, sent in sender.acknowledged.items():
                test.assertIn(text, by_text, "an acknowledged message is missing")
                test.assertEqual(by_text[text]["seq"], sent["seq"])
            own = [text for text in texts if text.startswith(f"{sender.name}-")]
            test.assertEqual(set(own), sender.acknowledged.keys() | sender.queued)
            numbers = [int(re.search(r"\d+$", text)[0]) for text in own]
            test.assertEqual(numbers, sorted(numbers))
