"""A switch with slow ports and long cables: a process that carries packets between TUN devices, and holds them back.

    python -m piquant_bench.switch PORTS MILLISECONDS

The devices are ``tun0``, ``tun1``, ...; the host behind number i has the address 10.0.0.(i + 1). A line on the standard
input gives the bits per second of what a port hands to its host, 0 for no limit. The end of the input ends the switch.

Segments of TCP stay together, up to 64 KiB, as between a kernel and its network card: a header in front of each packet
says into how many packets it would be cut. That is what lets Python keep up with 1 Gbit/s.
"""

from __future__ import annotations

import fcntl
import math
import os
import select
import struct
import sys
import time
from collections import deque
from typing import Final

_FRAME: Final = 66 << 10
_AT_ONCE: Final = 16  # packets of a port, before the next one's turn
# From Linux' if_tun.h.
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02

# Of the header in front: flags, kind, length of headers, bytes of a segment, and two numbers about the checksum.
_PREFIX: Final = struct.calcsize("=BBHHHH")
_ETHERNET: Final = 14


def open_port(number: int) -> int:
    """A TUN device of this network namespace; it goes with its file descriptor."""
    port = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = f"tun{number}".encode()
    fcntl.ioctl(port, _TUNSETIFF, struct.pack("16sH22x", name, _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    fcntl.ioctl(port, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return port


def destination(frame: bytes) -> int | None:
    """The port that a packet is for; None if it is none of IPv4."""
    return frame[_PREFIX + 19] - 1 if frame[_PREFIX] >> 4 == 4 else None


def wire_bytes(frame: bytes) -> int:
    """What a frame would take on Ethernet, its headers once for each segment."""
    kind: int
    headers: int
    segment: int
    kind, headers, segment = struct.unpack_from("=xBHH", frame)
    length = len(frame) - _PREFIX
    if kind == 0:
        return length + _ETHERNET
    segments = -(-(length - headers) // segment)
    return length + _ETHERNET + (segments - 1) * (headers + _ETHERNET)


class Port:
    """What is on its way to a host. A cable that is free takes a frame at once; one that is not makes it wait."""

    def __init__(self) -> None:
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._free = 0.0

    def send(self, frame: bytes, now: float, one_way: float, rate: float) -> None:
        """Takes a frame that left its host now."""
        takes = wire_bytes(frame) * 8 / rate if rate else 0.0
        self._free = max(now + one_way, self._free + takes)
        self._on_the_way.append((self._free, frame))

    @property
    def due(self) -> float:
        """When the next frame arrives."""
        return self._on_the_way[0][0] if self._on_the_way else math.inf

    def arrive(self) -> bytes:
        """The next frame."""
        return self._on_the_way.popleft()[1]


def run(files: list[int], orders: int, one_way: float) -> None:
    """Carries packets until the orders end."""
    ports = [Port() for _ in files]
    rate = 0.0
    while True:
        now = time.monotonic()
        for file, port in zip(files, ports, strict=True):
            while port.due <= now:
                os.write(file, port.arrive())
        wait = min(port.due for port in ports) - time.monotonic()
        readable, _, _ = select.select([*files, orders], [], [], None if wait == math.inf else max(0.0, wait))
        for file in readable:
            if file == orders:
                line = os.read(orders, 64)
                if not line:
                    return
                rate = float(line)
            else:
                _accept(file, ports, one_way, rate)


def _accept(file: int, ports: list[Port], one_way: float, rate: float) -> None:
    for _ in range(_AT_ONCE):
        try:
            frame = os.read(file, _FRAME)
        except BlockingIOError:
            return
        to = destination(frame)
        if to is not None and to < len(ports):
            ports[to].send(frame, time.monotonic(), one_way, rate)


def main() -> None:
    """Opens the devices, says so, and carries packets."""
    count, milliseconds = sys.argv[1:]
    try:
        files = [open_port(number) for number in range(int(count))]
    except OSError as error:
        sys.exit(f"no TUN devices: {error}")
    print("open", flush=True)
    try:
        run(files, sys.stdin.fileno(), float(milliseconds) / 1000)
    except OSError as error:
        sys.exit(f"a host has gone, and its device with it: {error}")


if __name__ == "__main__":
    main()
