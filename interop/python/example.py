#!/usr/bin/env python3
"""Two minutes with fc from Python: an account, a room, a message that comes back, a file there and back.

    FC_PASSWORD='a long password' example.py http://127.0.0.1:7421 alice kitchen plan.pdf
"""
import argparse
import filecmp
import getpass
import os
import sys
import tempfile

from fc.chat.v1 import chat_pb2
from fc.rpc.v1 import rpc_pb2
from fc_client import Channel, RpcError, Stub, download, log_in, room_events, sign_up, upload


def enter(channel, user, password):
    """Logs in; makes the account when there is none."""
    try:
        log_in(channel, user, password)
    except RpcError as error:
        if error.code != rpc_pb2.UNAUTHENTICATED:
            raise
        sign_up(channel, user, password)
        log_in(channel, user, password)


def join(chat, room):
    """Joins the room; makes it when there is none."""
    try:
        return chat.Join(room=room).room
    except RpcError as error:
        if error.code != rpc_pb2.NOT_FOUND:
            raise
        return chat.CreateRoom(name=room, is_plain=True).room


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="what fcd prints behind http=")
    parser.add_argument("user")
    parser.add_argument("room")
    parser.add_argument("file")
    arguments = parser.parse_args()
    password = os.environ.get("FC_PASSWORD") or getpass.getpass()

    with Channel(arguments.url) as channel:
        enter(channel, arguments.user, password)
        chat = Stub(channel, chat_pb2.DESCRIPTOR.services_by_name["Chat"])
        room = join(chat, arguments.room)
        print(f"in room {room.name}, which has {room.head_seq} messages")

        events = room_events(channel, [room.name], timeout=20)
        sent = chat.Send(room=room.name, text="hello from Python")
        for _, event in events:
            if event.message.seq == sent.seq:
                print(f"received {event.message.seq}: {event.message.sender}: {event.message.text}")
                break

        stored = upload(channel, arguments.file, room=room.name)
        print(f"uploaded {stored.md5.hex()}  {stored.name}")
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "copy")
            download(channel, stored.id.hex(), copy)
            if not filecmp.cmp(arguments.file, copy, shallow=False):
                sys.exit("the copy differs")
        print("downloaded it again: the same bytes")


if __name__ == "__main__":
    try:
        main()
    except RpcError as problem:
        sys.exit(f"example.py: {problem}")
