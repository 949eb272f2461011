"""A tensor to 4 bits and back. Needs torch."""

import torch

import piquant.torch

x = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))

scale, zero_point = piquant.torch.compute_quant_params(x, dtype=torch.int4)
q = piquant.torch.quantize(x, scale=scale, zero_point=zero_point, dtype=torch.int4)
y = piquant.torch.dequantize(q, scale=scale, zero_point=zero_point, dtype=torch.float32, source_dtype=torch.int4)

worst = (x - y).abs().max().item()
print(f"{x.nbytes:,} bytes -> {q.nbytes:,} bytes")
print(f"worst error {worst:.4f}, half a step {scale / 2:.4f}")
