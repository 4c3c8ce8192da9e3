"""Wires between TAP devices that are slow, and that double and garble what they carry: what the kernel's netem does, which not every kernel has.

    python3 wires.py SEED END END [END END ...]

Each pair of ENDs is made, and is a wire. A line on stdin sets one, both ways, and is answered by a line when it holds:
`WIRE DELAY_MS JITTER_MS DOUBLED_PERCENT GARBLED_PERCENT`. A packet is late by DELAY_MS and up to JITTER_MS more or less, each by itself, so
that packets overtake each other. The devices are gone when stdin ends.
"""

import errno
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x2, 0x1000
FRAME_BYTES_MAX = 65_536
# Addresses and type of a frame: garbled, it would not get lost but go astray.
HEADER_BYTES = 14
# More on their way at once are lost, as in a full queue.
ON_THE_WAY_MAX = 100_000


def make_end(name):
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def garbled(frame, chance):
    """The frame with one bit of its contents flipped."""
    at = chance.randrange(8 * HEADER_BYTES, 8 * len(frame))
    changed = bytearray(frame)
    changed[at // 8] ^= 1 << (at % 8)
    return bytes(changed)


def write(end, frame):
    try:
        os.write(end, frame)
    except OSError:
        pass  # The device is down, or its queue is full: lost, as on a wire.


def carry(chance, ends):
    """Carries frames until stdin ends."""
    manners = [(0.0, 0.0, 0.0, 0.0)] * (len(ends) // 2)
    wires = {end: number // 2 for number, end in enumerate(ends)}
    others = {end: ends[number ^ 1] for number, end in enumerate(ends)}
    late, carried = [], 0  # What is on its way, ordered by arrival, then by order sent.
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        ready, _, _ = select.select([sys.stdin, *ends], [], [], wait)
        now = time.monotonic()
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            wire, *manner = line.split()
            manners[int(wire)] = tuple(map(float, manner))
            print("set", flush=True)
            ready.remove(sys.stdin)
        for end in ready:
            try:
                frame = os.read(end, FRAME_BYTES_MAX)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EIO):  # Nothing there after all, or not up yet.
                    raise
                continue
            delay, jitter, doubled, garbling = manners[wires[end]]
            for _ in range(2 if 100 * chance.random() < doubled else 1):
                sent = garbled(frame, chance) if 100 * chance.random() < garbling and len(frame) > HEADER_BYTES else frame
                due = now + max(0.0, delay + chance.uniform(-jitter, jitter)) / 1000
                carried += 1
                if len(late) < ON_THE_WAY_MAX:
                    heapq.heappush(late, (due, carried, others[end], sent))
        while late and late[0][0] <= now:
            _, _, end, frame = heapq.heappop(late)
            write(end, frame)


def main():
    seed, *names = sys.argv[1:]
    ends = [make_end(name) for name in names]
    print("ready", flush=True)
    carry(random.Random(int(seed)), ends)


if __name__ == "__main__":
    main()
