"""Where a foreign array becomes ours: what holds other numbers than its bits say, or none, is read right or refused."""

import collections
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import piquant
import piquant.numpy
import piquant.torch

RIGHT = {"scale": 0.5, "zero_point": 3}
QUANTIZED = [torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4]
SHELLS = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in range(1, 8)]


def calls_with(x, q, out_floats=None, out_codes=None):
    """Each function with one of the arrays in question, the rest right."""
    floats, codes = torch.zeros(6), torch.zeros(6, dtype=torch.uint8)
    if x is not None:
        yield lambda: piquant.torch.quantize(x, **RIGHT, dtype=torch.uint8)
        yield lambda: piquant.torch.quantize(x, **RIGHT, dtype=torch.quint8)
        yield lambda: piquant.torch.quantize_dequantize(x, **RIGHT, dtype=torch.uint8)
        yield lambda: piquant.torch.compute_quant_params(x, dtype=torch.uint8)
    if q is not None:
        yield lambda: piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32)
    if out_floats is not None:
        yield lambda: piquant.torch.dequantize(codes, **RIGHT, dtype=torch.float32, out=out_floats)
        yield lambda: piquant.torch.quantize_dequantize(floats, **RIGHT, dtype=torch.uint8, out=out_floats)
    if out_codes is not None:
        yield lambda: piquant.torch.quantize(floats, **RIGHT, dtype=torch.uint8, out=out_codes)


@pytest.mark.parametrize("dtype", SHELLS, ids=str)
def test_shell_dtypes_of_torch_are_no_codes(dtype):
    """They have a byte for each element and nothing else; the dtypes of that name mean packed codes here."""
    memory = torch.full((6,), 77, dtype=torch.uint8)
    shell = memory.view(dtype)
    for call in calls_with(None, shell):
        with pytest.raises(TypeError, match=rf"tensor must be of one of .*, got torch\.{str(dtype)[6:]}$"):
            call()
    for call in calls_with(shell, None):
        with pytest.raises(TypeError, match=r"tensor must be of one of torch\.float16"):
            call()
    for call in calls_with(None, None, shell, shell):
        with pytest.raises(TypeError, match=rf"out must be of torch\.\w+, got torch\.{str(dtype)[6:]}$"):
            call()
    assert memory.eq(77).all()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_lazily_negated_codes(dtype):
    q = torch.arange(1, 7, dtype=torch.int64).to(dtype)
    negated = torch._neg_view(q)
    wanted = piquant.torch.dequantize(negated.clone().resolve_neg(), **RIGHT, dtype=torch.float32)
    assert torch.equal(wanted, (negated.resolve_neg().to(torch.float32) - 3) / 2)
    for given in (negated, torch.nn.Parameter(negated, requires_grad=False), negated.view(2, 3)):
        got = piquant.torch.dequantize(given, **RIGHT, dtype=torch.float32)
        assert torch.equal(got.reshape(-1), wanted)
    before = q.clone()
    with pytest.raises(ValueError, match="out must not be a view of negated values"):
        piquant.torch.quantize(torch.zeros(6), **RIGHT, dtype=dtype, out=negated)
    floats = torch._neg_view(torch.zeros(6))
    with pytest.raises(ValueError, match="out must not be a view of negated values"):
        piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32, out=floats)
    assert torch.equal(q, before)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.quint4x2, 4), (torch.quint2x4, 2)], ids=str)
def test_memory_behind_rows_that_share_bytes(dtype, bits):
    """It is no part of the output; the input may lie there. Of a lazily negated one that is checked before the copy."""
    memory = torch.zeros(256, dtype=torch.uint8)
    out = torch._empty_affine_quantized((64,), **RIGHT, dtype=dtype)
    end = 64 * bits // 8
    out.set_(memory.untyped_storage(), 0, (64,), (1,))
    behind, within = (torch._neg_view(memory[at : at + 128].view(torch.float16)) for at in (end, end - 2))
    assert piquant.torch.quantize(behind, **RIGHT, dtype=dtype, out=out) is out
    assert memory.tolist() == [0xFF if bits == 2 else 0x33] * end + [0] * (256 - end)
    with pytest.raises(ValueError, match="out must not overlap the input"):
        piquant.torch.quantize(within, **RIGHT, dtype=dtype, out=out)


@pytest.mark.parametrize("dtype", QUANTIZED, ids=str)
def test_quantized_tensors_that_carry_other_parameters(dtype):
    x = torch.linspace(-1, 1, 6)
    q = piquant.torch.quantize(x, **RIGHT, dtype=dtype)
    right = piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32)
    assert torch.equal(right, q.dequantize())
    for given in ({"scale": 0.25}, {"zero_point": 2}):
        words = (
            rf"tensor must carry .*scale={given.get('scale', 0.5)}, zero_point={given.get('zero_point', 3)}; got one"
        )
        with pytest.raises(ValueError, match=words + r" that carries scale=0\.5, zero_point=3$"):
            piquant.torch.dequantize(q, **RIGHT | given, dtype=torch.float32)
    # The same numbers in other types are the same parameters.
    same = {"scale": torch.tensor(0.5), "zero_point": np.int64(3)}
    assert torch.equal(piquant.torch.dequantize(q, **same, dtype=torch.float32), right)


def test_quantized_tensors_of_several_scales():
    x = torch.randn(2, 8)
    scales, zero_points = torch.tensor([0.5, 0.25]), torch.tensor([3, 3])
    for dtype, points in ((torch.quint8, zero_points), (torch.quint4x2, zero_points.float())):
        q = torch.quantize_per_channel(x, scales, points, 0, dtype)
        with pytest.raises(
            ValueError, match=r"tensor must carry one scale and zero point .* got a tensor of torch\.per_ch"
        ):
            piquant.torch.dequantize(q, **RIGHT, dtype=torch.float32)
        with pytest.raises(ValueError, match="out must carry one scale and zero point"):
            piquant.torch.quantize(x, **RIGHT, dtype=dtype, out=q)


def test_masked_arrays():
    x = np.ma.masked_array(np.array([1.0, 1e30, 2.0], np.float32), mask=[False, True, False])
    q = np.ma.masked_array(np.array([1, 2, 3], np.uint8), mask=[False, True, False])
    for call in (
        lambda: piquant.numpy.compute_quant_params(x, dtype="uint8"),
        lambda: piquant.numpy.quantize(x, **RIGHT, dtype="uint8"),
        lambda: piquant.numpy.quantize_dequantize(x, **RIGHT, dtype="uint8"),
        lambda: piquant.numpy.dequantize(q, **RIGHT, dtype="float32"),
        lambda: piquant.numpy.quantize(x.data, **RIGHT, dtype="uint8", out=q),
        lambda: piquant.numpy.quantize(x.data, **RIGHT, dtype="uint8", out=np.ma.zeros(3, np.uint8)),
    ):
        with pytest.raises(TypeError, match=r"(x|q|out) must hold its elements without a mask, got a masked array"):
            call()
    unmasked = np.ma.masked_array(np.array([1.0, 3.0], np.float32))
    for given in (unmasked, np.ma.masked_array(unmasked.data, mask=[False, False])):
        got = piquant.numpy.quantize(given, **RIGHT, dtype="uint8")
        assert type(got) is np.ndarray
        assert got.tolist() == [5, 9]


def test_tensors_of_other_layouts():
    x = torch.randn(2, 3)
    for strange, words in ((x.to_mkldnn(), "layout torch._mkldnn"), (x.to_sparse(), "layout torch.sparse_coo")):
        for call in calls_with(strange, strange, strange, strange):
            with pytest.raises(
                TypeError,
                match=rf"(tensor|out) must be strided and on the CPU or a CUDA device, got device cpu, {words}",
            ):
                call()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_and_uninitialized_tensors():
    nested = torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)])
    jagged = torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)], layout=torch.jagged)
    lazy = [torch.nn.UninitializedParameter(), torch.nn.UninitializedBuffer()]
    for strange, words in [
        (nested, "nested tensor"),
        (jagged, "nested tensor"),
        *((t, "an uninitialized") for t in lazy),
    ]:
        for call in calls_with(strange, strange, strange, strange):
            with pytest.raises(TypeError, match=rf"(tensor|out) must .* got .*{words}"):
                call()


class Hostile:
    """Raises from everything that an argument may be asked."""

    def _raise(self, *_):
        raise RuntimeError("hostile")

    __index__ = __float__ = __repr__ = __str__ = __eq__ = __len__ = __iter__ = __getitem__ = __bool__ = _raise
    __hash__ = None


class HostileName(str):
    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("hostile")

    def __hash__(self):
        raise RuntimeError("hostile")

    __repr__ = __hash__


@pytest.mark.parametrize("face", [piquant.torch, piquant.numpy, piquant], ids=["torch", "numpy", "buffers"])
def test_hostile_arguments(face):
    x, q = np.zeros(6, np.float32), np.zeros(6, np.uint8)
    if face is piquant.torch:
        x, q = torch.from_numpy(x), torch.from_numpy(q)
    u8, f32 = (torch.uint8, torch.float32) if face is piquant.torch else ("uint8", "float32")
    for function, given, right in (
        (face.quantize, x, RIGHT | {"dtype": u8}),
        (face.dequantize, q, RIGHT | {"dtype": f32}),
        (face.quantize_dequantize, x, RIGHT | {"dtype": u8}),
        (face.compute_quant_params, x, {"dtype": u8}),
        (face.quantize_dynamic, x, {"dtype": u8}),
    ):
        for argument in function.__kwdefaults__ | right:
            for hostile in (Hostile(), HostileName("uint8")):
                with pytest.raises((TypeError, ValueError), match=rf"{argument}.* must|must.* {argument}"):
                    function(given, **right | {argument: hostile})
        with pytest.raises(TypeError, match="must"):
            function(Hostile(), **right)


@pytest.mark.parametrize(
    "dtype",
    ["9T", "9Z", "f4,f4", "(2,3)f4", "V8", "O", "M8[s]", "U4", "S3", "i3", "f16", "float128", "float8_e4m3fn", "", "<",
     "<<f4", "=", "\ud800", "int4\0", "i4\0", {"names": ["a"], "formats": ["9T"]}, [("a", "9T")], ("f4", (1 << 62, 9))],
    ids=repr,
)  # fmt: skip
def test_dtypes_are_looked_up_and_not_parsed(dtype):
    """Some of these strings end the process within numpy's own parser."""
    code = f"""
        import numpy as np, piquant.numpy
        dtype = {dtype!r}
        x, q = np.zeros(3, np.float32), np.zeros(3, np.uint8)
        right = {{"scale": 1.0, "zero_point": 0}}
        for call in (
            lambda: piquant.numpy.quantize(x, dtype=dtype, **right),
            lambda: piquant.numpy.dequantize(q, dtype=dtype, **right),
            lambda: piquant.numpy.dequantize(q, dtype="float32", source_dtype=dtype, **right),
            lambda: piquant.numpy.quantize_dequantize(x, dtype=dtype, **right),
            lambda: piquant.numpy.compute_quant_params(x, dtype=dtype),
        ):
            try:
                call()
            except {"ValueError" if isinstance(dtype, str) else "TypeError"} as error:
                assert "dtype must be one of" in str(error), error
            else:
                raise AssertionError("taken")
    """
    if dtype in ("9T", "9Z"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    else:
        exec(textwrap.dedent(code), {})


NAMES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "uint4", "int4", "uint2", "int2")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_torch_dtypes_as_torch_prints_them(name):
    x = torch.randn(3, 5)
    right = {"scale": 0.1, "zero_point": 1}
    wanted = piquant.torch.quantize(x, **right, dtype=getattr(torch, name))
    assert torch.equal(piquant.torch.quantize(x, **right, dtype=str(getattr(torch, name))), wanted)
    back = {"source_dtype": f"torch.{name}", "shape": (3, 5)}
    got = piquant.torch.dequantize(wanted, **right, dtype="torch.float64", **back)
    assert got.dtype == torch.float64
    assert torch.equal(got, piquant.torch.quantize_dequantize(x.double(), **right, dtype=name))
    assert piquant.torch.quantize(x, **right, dtype="torch.quint8").q_scale() == 0.1


@pytest.mark.parametrize("face", [piquant.torch, piquant.numpy, piquant], ids=["torch", "numpy", "buffers"])
def test_packed_bytes_that_nobody_told_of(face):
    codes = piquant.numpy.quantize(np.zeros((3, 8), np.float32), **RIGHT, dtype="uint4")
    given, f32 = (torch.from_numpy(codes), torch.float32) if face is piquant.torch else (codes, "float32")
    with pytest.raises(
        ValueError, match=r"^source_dtype must say so if (q|tensor) holds packed codes; without it each byte"
    ):
        face.dequantize(given, **RIGHT, dtype=f32, shape=(3, 8))
    told = face.dequantize(given, **RIGHT, dtype=f32, shape=(3, 8), source_dtype="uint4")
    assert np.asarray(told).tolist() == [[0.0] * 8] * 3


class Offers:
    """An array of another package."""

    def __init__(self, values, *, dlpack):
        self.values = values
        if dlpack:
            self.__class__ = OffersDlpack

    def __array__(self, dtype=None, copy=None):
        return self.values


class OffersDlpack:
    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Elsewhere:
    """An array of another package, on another device."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("cannot convert an array on device tpu:0")


def test_arrays_of_other_packages_and_lists():
    values = np.array([[1.0, 2.0], [3.5, -1.0]], np.float32)
    wanted = piquant.numpy.quantize(values, **RIGHT, dtype="uint8")
    assert wanted.tolist() == [[5, 7], [10, 1]]
    for given in (
        Offers(values, dlpack=False), Offers(values, dlpack=True), torch.from_numpy(values), values.tolist(),
        tuple(map(tuple, values.tolist())), [list(row) for row in values],
    ):  # fmt: skip
        assert np.array_equal(piquant.numpy.quantize(given, **RIGHT, dtype="uint8"), wanted)
        out = np.zeros((2, 2), np.uint8)
        assert piquant.numpy.quantize(given, **RIGHT, dtype="uint8", out=out) is out
        assert np.array_equal(out, wanted)
        assert piquant.numpy.compute_quant_params(given, dtype="uint8")[1] == 57
        back = piquant.numpy.quantize_dequantize(given, **RIGHT, dtype="uint8")
        assert np.array_equal(back, (wanted.astype(np.float32) - 3) / 2)
    assert piquant.numpy.dequantize([3, 4], **RIGHT, dtype="float32").tolist() == [0.0, 0.5]
    assert piquant.numpy.quantize(np.float32(1), **RIGHT, dtype="uint8").shape == ()
    with pytest.raises(
        TypeError, match=r"x must be convertible .* got Elsewhere: cannot convert an array on device tpu:0"
    ):
        piquant.numpy.quantize(Elsewhere(), **RIGHT, dtype="uint8")
    for bad in (
        [[1.0], [2.0, 3.0]],
        [object()],
        ["a"],
        torch.zeros(2, device="meta"),
        torch.zeros(2, requires_grad=True),
    ):
        with pytest.raises(TypeError, match=r"x must be convertible|the dtype of x must be one of"):
            piquant.numpy.quantize(bad, **RIGHT, dtype="uint8")
    for no_array in (None, 3, {1.0}, collections.deque([1.0]), "1.0", b"1234"):
        with pytest.raises(TypeError, match=r"x must be a numpy\.ndarray, or convertible to one, got"):
            piquant.numpy.quantize(no_array, **RIGHT, dtype="uint8")
    for no_output in (Offers(np.zeros((2, 2), np.uint8), dlpack=False), [[0, 0], [0, 0]], torch.zeros(2, 2).byte()):
        with pytest.raises(TypeError, match=r"out must be a numpy\.ndarray or None, got"):
            piquant.numpy.quantize(values, **RIGHT, dtype="uint8", out=no_output)


def test_the_first_parameter_of_torchs_functions_is_called_tensor():
    x = torch.randn(6)
    scale, zero_point = piquant.torch.compute_quant_params(tensor=x, dtype=torch.uint8)
    right = {"scale": scale, "zero_point": zero_point}
    q = piquant.torch.quantize(tensor=x, **right, dtype=torch.uint8)
    y = piquant.torch.dequantize(tensor=q, **right, dtype=torch.float32)
    assert torch.equal(y, piquant.torch.quantize_dequantize(tensor=x, **right, dtype=torch.uint8))


class Liar(np.ndarray):
    """Says other things about itself than are so."""

    shape = property(lambda _: (1 << 20,))
    strides = property(lambda _: (1 << 20,))
    __array_interface__ = property(lambda _: {"data": (1, False), "shape": (3,), "typestr": "<f4", "version": 3})
    dtype = property(lambda _: np.dtype("float64"))


class LyingTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return {"data_ptr": 1, "numel": 1 << 20, "stride": (1 << 20,)}.get(function.__name__, NotImplemented)


def test_subclasses_are_what_their_memory_holds():
    x = np.array([1.0, 2.0, 3.5], np.float32)
    right = {**RIGHT, "dtype": "uint8"}
    assert piquant.numpy.quantize(x.view(Liar), **right).tolist() == [5, 7, 10]
    out = np.zeros(3, np.uint8)
    piquant.numpy.quantize(x.view(Liar), **right, out=out.view(Liar))
    assert out.tolist() == [5, 7, 10]
    t = torch.from_numpy(x).as_subclass(LyingTensor)
    assert piquant.torch.quantize(t, **right).tolist() == [5, 7, 10]
    subclass = x.view(np.memmap)
    assert piquant.numpy.quantize_dequantize(subclass, **right, out=subclass) is subclass  # exactly in place
    assert x.tolist() == [1.0, 2.0, 3.5]
    with pytest.raises(ValueError, match="out must not overlap the input"):
        piquant.numpy.quantize_dequantize(subclass[1:], **right, out=x[:2])


class Resizing:
    """A number that changes an array when it is asked for its value."""

    def __init__(self, x, value):
        self.x, self.value = x, value

    def __float__(self):
        self.x.resize(0, refcheck=False)
        return float(self.value)

    def __index__(self):
        self.x.resize(0, refcheck=False)
        return self.value


@pytest.mark.parametrize("argument", ["scale", "zero_point", "quant_min", "seed", "offset", "shape"])
def test_arguments_that_change_the_array(argument):
    value = {"scale": 1, "shape": 0}.get(argument, 3)
    x, q = np.zeros(1 << 20, np.float32), np.zeros(1 << 20, np.uint8)
    if argument != "shape":
        changing = RIGHT | {argument: Resizing(x, value)}
        assert piquant.numpy.quantize(x, **changing, dtype="uint8", round_mode="stochastic").size == 0
    if argument in ("scale", "zero_point", "shape"):
        number = Resizing(q, value)
        changing = RIGHT | {argument: number if argument != "shape" else [number]}
        assert piquant.numpy.dequantize(q, **changing, dtype="float32").size == 0
