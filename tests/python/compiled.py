"""Kernels for CUDA devices compiled as for an H200, which needs none: what Triton's interpreter cannot tell.

python compiled.py      prints what is not as it must be
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from piquant._dtypes import DTYPE_ID
from piquant.torch._triton import dequantize, dynamic, launch, quantize, tiles
from piquant.torch._triton.launch import Kernel
from piquant.torch._triton.tiles import BYTES, Form, Launch

TARGET = GPUTarget("cuda", 90, 32)
DEFAULT_NANS = {"float64": -(1 << 51), "float32": -(1 << 22), "float16": -(1 << 9), "bfloat16": -(1 << 6)}
POSITIVE_NAN = {"float64": 0x7FF8 << 48, "float32": 0x7FC00000, "float16": 0x7E00, "bfloat16": 0x7FC0}


def form(operation: int, real: str, code: str, block: int, **told: int) -> Form:
    """Of 2^20 elements side by side, in blocks."""
    sizes = BYTES[DTYPE_ID[real]], BYTES[DTYPE_ID[code]]
    ins, outs = {tiles.DEQUANTIZE: sizes[::-1], tiles.QUANTIZE_DEQUANTIZE: sizes[:1] * 2}.get(operation, sizes)
    rest = {"stochastic": 0, "add": 0, "symmetric": 1, "nan_scales": 1, "scale_dtype": DTYPE_ID["float32"]} | told
    return Form(
        operation, DTYPE_ID[real], DTYPE_ID[code], True,
        zero_dtype=launch.NONE if rest["symmetric"] else DTYPE_ID["int8"],
        in_beyond=0, out_beyond=0, offset_beyond=0, dims=((1 << 20, ins, outs, block, 1),), **rest,
    )  # fmt: skip


def assembly(kernel: Kernel, how: Launch) -> str:
    """PTX, of arguments as ``Kernel`` gives them. It is translated for the processor, too."""
    named = kernel._named(how.constants)
    names = kernel._jit.arg_names
    aligned = {"in_": named.get("IN_ALIGNED"), "out": named.get("OUT_ALIGNED")}
    signature = {name: "constexpr" if name in named else "*i8" if name in launch._POINTERS else "i64" for name in names}
    constants = {(names.index(name),): value for name, value in named.items()}
    multiples = {(names.index(name),): [["tt.divisibility", 16]] for name in names if aligned.get(name)}
    source = ASTSource(kernel._jit, signature, constants, multiples)
    made = triton.compile(source, target=TARGET, options={"num_warps": how.warps, "enable_fp_fusion": False})
    return str(made.asm["ptx"])


def wrong(name: str, ptx: str, is_stochastic: bool, constants: list[int]) -> Iterator[str]:
    """No instruction rounds otherwise than IEEE says, or flushes subnormals; maxima take a number before NaN."""
    patterns = [r"\.approx", r"\.ftz", r"div\.full", r"(max|min)\.NaN"] + [r"\bfma\."] * (not is_stochastic)
    for pattern in patterns:
        found = re.findall(rf".*{pattern}.*", ptx)
        if found:
            yield f"{name}: {found[0].strip()}"
    for constant in constants:
        written = rf"{constant}|0[fdx]{constant % (1 << 64):X}"
        if not re.search(rf"(?<![\w-])({written})\b", ptx):
            yield f"{name}: nothing is {constant}"


def main() -> None:
    for real, code in (("float32", "int8"), ("bfloat16", "int4"), ("float16", "uint8"), ("float64", "int16")):
        nan = [DEFAULT_NANS[real]]
        for add in (0, 1):
            of = form(tiles.DEQUANTIZE, real, code, 256, add=add)
            report(f"{code} to {real}, {add=}", dequantize, tiles.conversion(of), constants=nan)
        of = form(
            tiles.QUANTIZE_DYNAMIC, real, code, 128, symmetric=int(real != "bfloat16"), scale_dtype=DTYPE_ID[real]
        )
        how = tiles.finding_in_blocks(of)
        assert how is not None
        report(f"{real} to {code} in one pass", dynamic.quantize_dynamic, how, constants=[POSITIVE_NAN[real]])
    of = form(tiles.QUANTIZE_DEQUANTIZE, "float32", "int8", 48, stochastic=1)
    nan = [DEFAULT_NANS["float32"]]
    report("float32 to int8 and back", quantize, tiles.conversion(of), is_stochastic=True, constants=nan)
    report("float32 to int8", quantize, tiles.conversion(form(tiles.QUANTIZE, "float32", "int8", 1)))
    for beyond in (0, 4):  # bytes, of the input
        how = tiles.conversion(form(tiles.QUANTIZE, "float32", "int8", 256)._replace(in_beyond=beyond))
        if ("ld.global.v4" in assembly(quantize, how)) != (beyond == 0):
            print(
                f"loads of 16 bytes from addresses {beyond} bytes beyond a multiple of 16, or none where there could be"
            )
    of = form(tiles.COMPUTE_PARAMS, "float32", "int8", 1 << 19)
    report("extents", dynamic.find_extents, tiles.finding_across(of))
    report("parameters", dynamic.settle_parameters, tiles.settling(of, 2), constants=[POSITIVE_NAN["float32"]])


def report(
    name: str, kernel: Kernel, how: Launch, is_stochastic: bool = False, constants: list[int] | None = None
) -> None:
    for words in wrong(name, assembly(kernel, how), is_stochastic, constants or []):
        print(words)


if __name__ == "__main__":
    main()
