"""An all-reduce of gradients that travel in 8 bits, beside that of torch.

    torchrun --standalone --nproc-per-node 4 examples/gradient_allreduce.py

Every rank holds a gradient; in the end all hold the same sum. Needs torch.
"""

import torch
import torch.distributed as dist

from piquant.distributed import all_reduce

dist.init_process_group("gloo")
gradient = 1e-3 * torch.randn(1_000_000, generator=torch.Generator().manual_seed(dist.get_rank()))
exact = gradient.double()
dist.all_reduce(exact)
all_reduce(gradient, dtype="int8")  # dist.all_reduce(gradient), with a quarter of the bytes

others = [torch.empty_like(gradient) for _ in range(dist.get_world_size())]
dist.all_gather(others, gradient)
if dist.get_rank() == 0:
    print("every rank holds the same sum:", all(torch.equal(gradient, other) for other in others))
    print(f"root mean square of errors over that of the sum: {((gradient - exact).norm() / exact.norm()).item():.4f}")
    print(f"mean error over mean size: {((gradient - exact).mean() / exact.abs().mean()).item():+.0e}")
dist.destroy_process_group()
