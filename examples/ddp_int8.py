"""Trains a small language model under DistributedDataParallel, with gradients of 32, 8, 4 and 2 bits.

    torchrun --standalone --nproc-per-node 2 examples/ddp_int8.py --quick
    torchrun --standalone --nproc-per-node 2 examples/ddp_int8.py --seeds 3 --results runs.jsonl --plot losses.svg

It takes two lines: make a ``QuantizeState``, and register ``quantize_hook``. All else here is there to compare losses:
each setting trains the same model on the same batches, with AdamW and with SGD. Needs torch, tqdm, and matplotlib for
--plot.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from characters import batch, new_model, read_text
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from piquant.distributed import QuantizeState, quantize_hook

LAST = 50  # steps over which losses are averaged

MODES: dict[str, dict[str, Any]] = {
    "stochastic": {"round_mode": "stochastic"},
    "nearest": {"round_mode": "nearest"},
    "nearest, error feedback": {"error_feedback": True},
}
SETTINGS: dict[str, dict[str, Any] | None] = {"float32": None} | {
    f"{dtype}, {mode}": {"dtype": dtype, **options}
    for dtype in ("int8", "int4", "int2")
    for mode, options in MODES.items()
    if (dtype, mode) != ("int8", "nearest")  # 8 bits lose next to nothing
}
OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=2e-3),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


class Run(NamedTuple):
    optimizer: str
    setting: str
    seed: int
    steps: int


def train(run: Run, text: torch.Tensor, bar: tqdm[Any]) -> list[float]:
    """The loss of each step, averaged over ranks."""
    model = DistributedDataParallel(new_model(run.seed))
    options = SETTINGS[run.setting]
    if options is not None:
        state = QuantizeState(**options, seed=run.seed)
        model.register_comm_hook(state, quantize_hook)
    optimizer = OPTIMIZERS[run.optimizer](model.parameters())
    losses = torch.empty(run.steps)
    for step in range(run.steps):
        loss = model(batch(text, run.seed, dist.get_rank(), step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
        bar.update()
    dist.all_reduce(losses)
    return (losses / dist.get_world_size()).tolist()


def read(file: Path | None) -> dict[Run, list[float]]:
    """Runs that were done before."""
    if file is None or not file.exists():
        return {}
    lines = map(json.loads, file.read_text().splitlines())
    return {Run(*line["run"]): line["losses"] for line in lines}


def table(runs: dict[Run, list[float]]) -> str:
    """Mean losses of the last steps, and how far above float32's with the same seed: mean and standard deviation."""
    last = {run: statistics.fmean(losses[-LAST:]) for run, losses in runs.items()}
    lines = ["| gradients | " + " | ".join(f"{name} | over float32" for name in OPTIMIZERS) + " |"]
    lines.append("|---" * (1 + 2 * len(OPTIMIZERS)) + "|")
    for setting in SETTINGS:
        cells = [setting]
        for optimizer in OPTIMIZERS:
            own = [run for run in last if run[:2] == (optimizer, setting)]
            if not own:
                cells += ["", ""]
                continue
            excess = [last[run] - last[run._replace(setting="float32")] for run in own]
            spread = f" ± {statistics.stdev(excess):.4f}" if len(own) > 1 and setting != "float32" else ""
            cells += [f"{statistics.fmean(last[run] for run in own):.3f}", f"{statistics.fmean(excess):+.4f}{spread}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(runs: dict[Run, list[float]], path: Path) -> None:
    """By step, how much more the loss is than float32's: means over seeds and over the last steps."""
    from matplotlib import pyplot, rcParams  # noqa: PLC0415  only needed to draw

    rcParams["svg.hashsalt"], rcParams["svg.fonttype"] = "piquant", "none"
    figure, panels = pyplot.subplots(1, len(OPTIMIZERS), figsize=(11, 4), sharey=True)
    for axes, optimizer in zip(panels, OPTIMIZERS, strict=True):
        for setting in SETTINGS:
            own = [run for run in runs if run[:2] == (optimizer, setting)]
            if setting == "float32" or not own:
                continue
            excess = torch.tensor([runs[run] for run in own]).mean(0)
            excess -= torch.tensor([runs[run._replace(setting="float32")] for run in own]).mean(0)
            window = min(LAST, len(excess))
            smooth = excess.unfold(0, window, 1).mean(1)
            dtype, mode = setting.split(", ", 1)
            style = {"stochastic": "-", "nearest": ":", "nearest, error feedback": "--"}[mode]
            color = {"int8": "C0", "int4": "C1", "int2": "C2"}[dtype]
            axes.plot(range(window, len(excess) + 1, 5), smooth[::5], style, color=color, label=setting)
        axes.axhline(0, color="0.5", linewidth=1)
        axes.set(title=optimizer, xlabel="step", ylim=(-0.01, 0.27))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("loss over that of float32, nats a character")
    panels[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare losses of training with quantized gradients.")
    parser.add_argument("--steps", type=int, default=400, help="steps of each run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="file that keeps runs; those that it has are not done again")
    parser.add_argument("--plot", type=Path, help="picture of the losses to write")
    parser.add_argument("--quick", action="store_true", help="one seed, 25 steps, SGD, four settings")
    given = parser.parse_args()
    torch.set_num_threads(1)  # ranks share this machine
    dist.init_process_group("gloo")
    text = read_text()

    optimizers, settings, seeds, steps = [*OPTIMIZERS], [*SETTINGS], given.seeds, given.steps
    if given.quick:
        optimizers, seeds, steps = ["SGD"], 1, 25
        settings = ["float32", "int8, stochastic", "int2, nearest", "int2, nearest, error feedback"]
    runs = read(given.results)
    todo = [Run(o, s, seed, steps) for seed, o, s in itertools.product(range(seeds), optimizers, settings)]
    todo = [run for run in todo if run not in runs]
    first = dist.get_rank() == 0
    with tqdm(total=sum(run.steps for run in todo), unit="step", disable=not first) as bar:
        for run in todo:
            bar.set_description(f"{run.optimizer}, {run.setting}, seed {run.seed}")
            runs[run] = train(run, text, bar)
            if first and given.results:
                with given.results.open("a") as file:
                    file.write(json.dumps({"run": run, "losses": [round(x, 5) for x in runs[run]]}) + "\n")
    if first:
        print(f"{dist.get_world_size()} ranks, {seeds} seeds, {steps} steps; training loss of the last {LAST}")
        print()
        print(table(runs))
        if given.plot:
            plot(runs, given.plot)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
