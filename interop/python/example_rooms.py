#!/usr/bin/env python3
"""A member of an encrypted room in seven steps: it joins by an invite link, reads everything, and answers.

    FC_PASSWORD='a long password' example_rooms.py http://127.0.0.1:7421 robot 'fc://j/ID#SECRET'

Its keys live as long as it does. A program that comes back keeps account.device and account.identity_private, readable
for nobody else, and makes its Account of them.
"""
import argparse
import getpass
import os
import sys

from fc_client import Channel, RpcError, log_in, sign_up
from fc_client.e2e import Refused
from fc_client.rooms import Account


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="what fcd prints behind http=")
    parser.add_argument("user", help="a name that is not taken yet")
    parser.add_argument("link", help="what fc invite ROOM --link prints")
    arguments = parser.parse_args()
    password = os.environ.get("FC_PASSWORD") or getpass.getpass()

    with Channel(arguments.url) as channel:
        # 1. An account and a login, as for plain rooms.
        sign_up(channel, arguments.user, password)
        log_in(channel, arguments.user, password)
        # 2. Keys: an identity, and a device that it signs. The server sees their public halves.
        account = Account.create(channel, arguments.user)
        # 3. The room: the link's secret says which one it is and who made the link, and the log is checked entry by entry.
        room = account.join_by_link(arguments.link)
        print(f"in {room.log.name}: {', '.join(sorted(member.user_name for member in room.log.members.values()))}")
        # 4. What was said before, each message checked: its chain, its signature, what its sender had seen.
        for message in room.messages():
            print(f"{message.seq}: {message.sender}: {message.content.text if message.content else '(deleted)'}")
        # 5. An answer, sealed here and signed by this device.
        print(f"sent {room.send('hello from Python')}")
        # 6. It comes back through the same checks.
        for message in room.messages():
            print(f"{message.seq}: {message.sender}: {message.content.text if message.content else '(deleted)'}")
        # 7. One number for the room, to compare with what others see in fc room fingerprint.
        print(room.fingerprint())


if __name__ == "__main__":
    try:
        main()
    except (RpcError, Refused) as problem:
        sys.exit(f"example_rooms.py: {problem}")
