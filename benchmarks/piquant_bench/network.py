"""Links between processes of one machine that stand for hosts, each with a network of its own.

Without a delay, each host has a pair of virtual interfaces, and a bridge joins their other ends. Queues at both ends
limit the rate: one limits what the host sends, the other what it receives.

    host 9: eth0 <=====> port9 \\
                                bridge
    host 7: eth0 <=====> port7 /

The kernel's own delay, netem, holds back what a host sends. Kernels without it have ``switch``, a process, in place of
bridge and ports. All of it lies in the namespace of the calling process and of the hosts, and goes when they end.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERFACE: Final = "eth0"  # of every host
_UNITS: Final = {"k": 10**3, "m": 10**6, "g": 10**9}
_QUEUE: Final = "50ms"  # what waits longer is dropped, as a router does
# A queue that has rested lets so much pass at once: a segment of 64 KiB, with a header for each packet it stands for,
# and what is to be made up for after a timer that was some tenths of a millisecond late.
_LEAST_BURST: Final = 80 << 10
_BURST_SECONDS: Final = 2e-4


class LinkError(Exception):
    """The machine refuses a part of the network."""


def rate_of(text: str) -> int | None:
    """Bits per second of a rate as tc writes it, ``2.5gbit``; None of ``none``, which is not limited."""
    if text == "none":
        return None
    number = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg])bit", text)
    rate = round(float(number[1]) * _UNITS[number[2]]) if number else 0
    if not 10**6 <= rate <= 10**11:
        raise ValueError(f'a rate must be "none" or from 1mbit to 100gbit, as in 2.5gbit; got "{text}"')
    return rate


def rate_text(rate: int | None) -> str:
    """A rate in words."""
    if rate is None:
        return "not limited"
    return f"{rate / 1e9:g} Gbit/s" if rate >= 10**9 else f"{rate / 1e6:g} Mbit/s"


def limit(rate: int | None) -> list[str]:
    """The words of tc for a queue that limits a rate."""
    if rate is None:
        return ["noqueue"]
    burst = max(_LEAST_BURST, int(rate / 8 * _BURST_SECONDS))
    return ["tbf", "rate", f"{rate}bit", "burst", str(burst), "latency", _QUEUE]


def command(*words: str, host: int | None = None) -> None:
    """Carries out a command, in the network of the host with this process number if there is one."""
    inside = [] if host is None else ["nsenter", "--target", str(host), "--net"]
    done = subprocess.run([*inside, *words], capture_output=True, check=False, text=True, timeout=20)
    if done.returncode:
        raise LinkError(f"`{' '.join(words)}` failed: {done.stderr.strip()}")


def has_netem() -> bool:
    """Whether the kernel can delay packets."""
    try:
        command("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    except LinkError:
        return False
    command("tc", "qdisc", "del", "dev", "lo", "root")
    return True


def port(host: int) -> str:
    """The interface at the bridge that leads to a host. It goes when the host has gone, some time later."""
    return f"port{host}"


class Network:
    """Links of hosts, given by their process numbers, with a round trip of so many milliseconds beside their own."""

    def __init__(self, hosts: Sequence[int], delay: float) -> None:
        self._hosts = hosts
        self._delay = delay
        self._switch: subprocess.Popen[str] | None = None
        self._emulated = bool(delay) and not has_netem()
        if self._emulated:
            self._start_switch()
        else:
            command("ip", "link", "add", "bridge", "type", "bridge")
            command("ip", "link", "set", "bridge", "up")
        for number, host in enumerate(hosts):
            if self._emulated:
                command("ip", "link", "set", f"tun{number}", "netns", str(host), "name", INTERFACE)
            else:
                peer = ("peer", "name", INTERFACE, "netns", str(host))
                command("ip", "link", "add", port(host), "type", "veth", *peer)
                command("ip", "link", "set", port(host), "master", "bridge", "up")
            command("ip", "address", "add", f"10.0.0.{number + 1}/24", "dev", INTERFACE, host=host)
            command("ip", "link", "set", INTERFACE, "up", host=host)

    @property
    def delayed_by(self) -> str:
        """What makes the delay."""
        if not self._delay:
            return "nothing"
        return "a switch in user space" if self._emulated else "netem"

    def limit(self, rate: int | None) -> None:
        """Limits what each host sends and what it receives."""
        queue = limit(rate)
        for host in self._hosts:
            place = ["root"]
            if self._delay and not self._emulated:
                held = ["root", "handle", "1:", "netem", "delay", f"{self._delay / 2}ms", "limit", "100000"]
                command("tc", "qdisc", "replace", "dev", INTERFACE, *held, host=host)
                place = ["parent", "1:1"]
            sends = [*place, *(["pfifo"] if rate is None and place != ["root"] else queue)]
            command("tc", "qdisc", "replace", "dev", INTERFACE, *sends, host=host)
            if not self._emulated:
                command("tc", "qdisc", "replace", "dev", port(host), "root", *queue)
        if self._switch is not None and self._switch.stdin is not None:
            print(rate or 0, file=self._switch.stdin, flush=True)

    def _start_switch(self) -> None:
        self._switch = subprocess.Popen(
            [sys.executable, "-m", "piquant_bench.switch", str(len(self._hosts)), str(self._delay / 2)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._switch.stdout is not None
        if not self._switch.stdout.readline():
            raise LinkError("a delay needs netem of the kernel, or TUN devices")

    def close(self) -> None:
        """Takes away what does not go with its hosts, which must still be there."""
        if self._switch is None:
            command("ip", "link", "del", "bridge")
            return
        self._switch.kill()
        self._switch.wait()
        for pipe in (self._switch.stdin, self._switch.stdout):
            if pipe is not None:
                pipe.close()
