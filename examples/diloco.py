"""Trains a small language model by DiLoCo: peers train alone, and exchange in 4 bits how far they came every 50 steps.

    python examples/diloco.py
    python examples/diloco.py --quick

In the last run a peer is killed. The other one notices in its next outer step, and waits. The peer is started again,
and both go on from the last outer step, with the same parameters. Needs torch and tqdm.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import signal
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

import torch
import torch.distributed as dist
from characters import batch, new_model, read_text
from tqdm import tqdm

from piquant.distributed import DiLoCo

PEERS = 2
TESTS = 50  # batches that no peer trains on


class Run(NamedTuple):
    name: str
    dtype: str | None
    rounds: int  # outer steps
    every: int
    killed_at: int | None = None  # the inner step, of all, in which the last peer is killed


class Peer(NamedTuple):
    process: multiprocessing.process.BaseProcess
    reports: Connection


def join(store: dist.Store, meeting: int, rank: int) -> None:
    """Begins a group with all peers that come to this meeting."""
    of_meeting = dist.PrefixStore(str(meeting), store)
    dist.init_process_group("gloo", store=of_meeting, rank=rank, world_size=PEERS, timeout=timedelta(seconds=60))


def train(run: Run, rank: int, port: int, meeting: int, reports: Connection) -> None:
    """What a peer does, from its start to its end."""
    torch.set_num_threads(1)  # peers share this machine
    store = dist.TCPStore("127.0.0.1", port)
    join(store, meeting, rank)
    text, model = read_text(), new_model(0)
    inner = torch.optim.AdamW(model.parameters(), lr=2e-3)
    outer_optimizer = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.9, nesterov=True)
    outer = DiLoCo(model.named_parameters(), outer_optimizer, every=run.every, dtype=run.dtype)

    while outer.rounds < run.rounds:
        step = outer.rounds * run.every + outer.inner_steps
        loss = model(batch(text, 0, rank, step))
        inner.zero_grad()
        loss.backward()
        inner.step()
        if step == run.killed_at and rank == PEERS - 1 and meeting == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            outer.step()
        except RuntimeError:  # a peer is gone; when it is there again, all go back to the last outer step
            dist.destroy_process_group()
            meeting += 1
            join(store, meeting, rank)
            outer.reset()
        reports.send(step + 1)

    with torch.no_grad():
        loss = sum(model(batch(text, 0, PEERS, step)).item() for step in range(TESTS)) / TESTS
    same = hashlib.sha256(b"".join(bytes(p.detach().view(-1).view(torch.uint8).numpy()) for p in model.parameters()))
    reports.send((loss, same.hexdigest()))
    dist.destroy_process_group()


def follow(run: Run, context: multiprocessing.context.BaseContext) -> tuple[float, bool, int]:
    """Starts peers, and those that die once more; the loss in the end, whether all agree, and how many were started."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = 0

    def start(rank: int) -> Peer:
        reports, theirs = context.Pipe(duplex=False)
        process = context.Process(target=train, args=(run, rank, store.port, meeting, theirs))
        process.start()
        theirs.close()
        return Peer(process, reports)

    peers = {rank: start(rank) for rank in range(PEERS)}
    ends: dict[int, tuple[float, str]] = {}
    with tqdm(total=run.rounds * run.every, desc=run.name, unit="step") as bar:
        while len(ends) < PEERS:
            ready = wait([peer.reports for peer in peers.values()])
            for rank, peer in [*peers.items()]:
                if peer.reports not in ready:
                    continue
                try:
                    report = peer.reports.recv()
                except EOFError:
                    peer.process.join()
                    if peer.process.exitcode != -signal.SIGKILL:
                        raise SystemExit(f"peer {rank} ended with {peer.process.exitcode}") from None
                    meeting += 1
                    peers[rank] = start(rank)
                    continue
                if isinstance(report, int):
                    if rank == 0:
                        bar.update(report - bar.n)
                else:
                    ends[rank] = report
                    del peers[rank]
    losses, digests = zip(*ends.values(), strict=True)
    return losses[0], len(set(digests)) == 1, PEERS + meeting


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a small language model by DiLoCo.")
    parser.add_argument("--rounds", type=int, default=12, help="outer steps (default: %(default)s)")
    parser.add_argument("--every", type=int, default=50, help="inner steps between them (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="4 rounds of 5 steps, and only the run with a peer killed")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.every = 4, 5
    killed_at = given.rounds * given.every // 2 + 2
    runs = [Run(dtype or "float32", dtype, given.rounds, given.every) for dtype in (None, "int8", "int4", "int2")]
    runs.append(Run("int4, a peer killed", "int4", given.rounds, given.every, killed_at))

    context = multiprocessing.get_context("forkserver")
    # So that peers start soon: torch._dynamo is what the first step of an optimizer imports.
    context.set_forkserver_preload(["torch._dynamo", "piquant.distributed"])
    print(f"{PEERS} peers, {given.rounds} outer steps, one every {given.every} inner steps")
    all_same = True
    lines = ["| sent as | loss | same on all peers | processes started |", "|---|---|---|---|"]
    for run in runs[-1:] if given.quick else runs:
        loss, same, started = follow(run, context)
        all_same &= same
        lines.append(f"| {run.name} | {loss:.3f} | {same} | {started} |")
    print("\n".join(lines))
    return 0 if all_same else 1


if __name__ == "__main__":
    raise SystemExit(main())
