"""A KV cache of few bits that grows token by token: its bytes, and the error of attention. Needs torch and tqdm.

    python examples/kv_cache.py [--tokens 2048]

Blocks are those of KIVI. Some channels of keys are large for every token, so keys get a scale for each channel, over 32
tokens; a token of keys waits as float32 until its 32 are there. Values get scales for each token, in groups of 64. All
memory is allocated at the start, and codes are written into slices of it. Attention restores 256 tokens at a time, and
never all. The second error is that of keys with scales for each token, too.

Keys and values are random numbers of a normal distribution, in one of 32 channels of the keys around 8 instead of 0.
"""

from __future__ import annotations

import argparse
import math

import torch
from tqdm import trange

import piquant.torch
from piquant.torch import QuantizedTensor

BATCH, HEADS, WIDTH = 1, 8, 128
BY_CHANNEL, BY_TOKEN = (32, 1), (1, 64)
PIECE = 256  # tokens that attention restores at a time, a multiple of 32


def allocate(tokens: int, dtype: str, block_size: tuple[int, int]) -> QuantizedTensor:
    nothing = torch.zeros(()).expand(BATCH, HEADS, tokens, WIDTH)  # takes no memory
    return piquant.torch.quantize_dynamic(nothing, dtype=dtype, block_size=block_size, scale_dtype=torch.float16)


def part(q: QuantizedTensor, start: int, stop: int) -> QuantizedTensor:
    """Some tokens, in the memory of all. They begin with a block."""
    block = q.block_size[2]
    tokens, blocks = slice(start, stop), slice(start // block, math.ceil(stop / block))
    return QuantizedTensor(
        q.data[:, :, tokens],
        q.scale[:, :, blocks],
        q.zero_point[:, :, blocks],
        q.quant_dtype,
        (BATCH, HEADS, stop - start, WIDTH),
        (1, 1, min(block, stop - start), q.block_size[3]),
        q.dtype,
    )


def put(x: torch.Tensor, into: QuantizedTensor) -> None:
    """Codes are written where they stay. Parameters are few, and copied: they are made side by side."""
    told = {"dtype": into.quant_dtype, "block_size": into.block_size}
    scale, zero_point = piquant.torch.compute_quant_params(x, scale_dtype=into.scale.dtype, **told)
    piquant.torch.quantize(x, scale=scale, zero_point=zero_point, out=into.data, **told)
    into.scale.copy_(scale)
    into.zero_point.copy_(zero_point)


class Cache:
    """Keys and values of up to ``tokens`` tokens, of shape (batch, heads, tokens, width)."""

    def __init__(self, tokens: int, dtype: str, key_blocks: tuple[int, int]) -> None:
        self.length = 0
        self.keys = allocate(tokens, dtype, key_blocks)
        self.values = allocate(tokens, dtype, BY_TOKEN)
        self.waiting = torch.empty(BATCH, HEADS, key_blocks[0], WIDTH)  # keys whose blocks are not full
        self.restored = torch.empty(BATCH, HEADS, PIECE, WIDTH)

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + self.waiting.nbytes

    def append(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """A token more."""
        block = self.waiting.shape[2]
        start, self.length = self.length, self.length + 1
        put(value, part(self.values, start, self.length))
        self.waiting[:, :, start % block] = key[:, :, 0]
        if self.length % block == 0:
            put(self.waiting, part(self.keys, self.length - block, self.length))

    def attend(self, query: torch.Tensor) -> torch.Tensor:
        """``softmax(query keys^T / sqrt(width)) values``."""
        quantized = self.length - self.length % self.waiting.shape[2]
        scores = torch.empty(BATCH, HEADS, 1, self.length)
        for start, stop, keys in self.pieces(self.keys, quantized):
            scores[..., start:stop] = query @ keys.mT
        scores[..., quantized:] = query @ self.waiting[:, :, : self.length - quantized].mT
        weights = (scores / math.sqrt(WIDTH)).softmax(-1)
        result = torch.zeros(BATCH, HEADS, 1, WIDTH)
        for start, stop, values in self.pieces(self.values, self.length):
            result += weights[..., start:stop] @ values
        return result

    def pieces(self, q: QuantizedTensor, length: int):
        for start in range(0, length, PIECE):
            stop = min(start + PIECE, length)
            yield start, stop, part(q, start, stop).dequantize(out=self.restored[:, :, : stop - start])


def error(dtype: str, key_blocks: tuple[int, int], keys: torch.Tensor, values: torch.Tensor) -> tuple[float, int]:
    """Of attention, root mean square, relative to the attention of float32; and the bytes of the cache."""
    tokens = keys.shape[2]
    cache = Cache(tokens, dtype, key_blocks)
    generator = torch.Generator().manual_seed(1)
    squares = torch.zeros(2, dtype=torch.float64)
    for token in trange(
        tokens, desc=f"{dtype}, keys in blocks of {key_blocks}", unit="token", leave=False, disable=None
    ):
        cache.append(keys[:, :, token : token + 1], values[:, :, token : token + 1])
        if token % 50 == 0:  # also where keys wait
            sought = keys[:, :, torch.randint(token + 1, (1,), generator=generator)]
            query = 0.5 * (sought + torch.randn(sought.shape, generator=generator))
            exact = torch.nn.functional.scaled_dot_product_attention(
                query, keys[:, :, : token + 1], values[:, :, : token + 1]
            )
            difference = cache.attend(query) - exact
            squares += torch.tensor([difference.square().sum(), exact.square().sum()])
    return math.sqrt(squares[0] / squares[1]), cache.nbytes


def main() -> None:
    parser = argparse.ArgumentParser(description="Error and memory of attention with a quantized KV cache.")
    parser.add_argument("--tokens", type=int, default=2048, help="default: %(default)s")
    tokens: int = parser.parse_args().tokens
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, BATCH, HEADS, tokens, WIDTH, generator=generator)
    keys[..., ::32] += 8
    whole = keys.nbytes + values.nbytes
    print(f"{tokens:,} tokens, {HEADS} heads of {WIDTH}: {whole:,} bytes of float32")
    print(f"{'type':6}  {'bytes':>10}  {'smaller':>7}  {'error, keys by channel':>22}  {'by token':>8}")
    for dtype in ("uint8", "uint4", "uint2"):
        by_channel, nbytes = error(dtype, BY_CHANNEL, keys, values)
        by_token, _ = error(dtype, BY_TOKEN, keys, values)
        print(f"{dtype:6}  {nbytes:10,}  {whole / nbytes:6.2f}x  {by_channel:22.4f}  {by_token:8.4f}")


if __name__ == "__main__":
    main()
