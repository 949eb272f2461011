"""Objects that come otherwise than by a call of their class: copies, pickles, ``__new__``."""

import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import piquant
import piquant.numpy
import piquant.torch
from confined import ALLOCATOR
from piquant import _native

X = np.linspace(-1, 1, 9, dtype=np.float32)
RIGHT = {"scale": 0.125, "zero_point": 3}


class Named(piquant.Context):
    """A subclass with other arguments and with attributes."""

    def __init__(self, name, *, threads):
        super().__init__(threads)
        self.name = name


class Module(torch.nn.Module):
    def __init__(self, ctx):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.ctx = ctx


def settings(ctx):
    return ctx.num_threads, ctx.isa, ctx.serial_cutoff, ctx.stream_threshold


def unusual(ctx):
    ctx.num_threads, ctx.isa, ctx.serial_cutoff, ctx.stream_threshold = 3, piquant.available_isas()[-1], 12345, 678910
    return ctx


def torch_saved(held):
    file = io.BytesIO()
    torch.save(Module(held["ctx"]), file)
    file.seek(0)
    return {"ctx": torch.load(file, weights_only=False).ctx}


COPIES = {
    "copy": lambda held: {"ctx": copy.copy(held["ctx"])},
    "deepcopy": copy.deepcopy,
    "deepcopy of a module": lambda held: {"ctx": copy.deepcopy(Module(held["ctx"])).ctx},
    "torch.save": torch_saved,
} | {
    f"pickle {protocol}": lambda held, protocol=protocol: pickle.loads(pickle.dumps(held, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}


@pytest.mark.parametrize("way", COPIES)
def test_settings_of_a_context_travel(way):
    held = {"ctx": unusual(piquant.Context())}
    other = COPIES[way](held)["ctx"]
    assert type(other) is piquant.Context
    assert other is not held["ctx"]
    assert settings(other) == settings(held["ctx"]) == (3, piquant.available_isas()[-1], 12345, 678910)
    piquant.numpy.quantize(X, **RIGHT, dtype=np.uint8, ctx=other)


def test_copies_of_a_subclass():
    named = unusual(Named("mine", threads=2))
    for other in (copy.copy(named), copy.deepcopy(named), pickle.loads(pickle.dumps(named))):
        assert type(other) is Named
        assert (other.name, *settings(other)) == ("mine", *settings(named))


def test_an_instruction_set_that_this_cpu_lacks():
    function, arguments, _ = piquant.Context().__reduce__()
    elsewhere = (*arguments[:2], "of another CPU", *arguments[3:])
    assert function(*elsewhere).isa == piquant.Context().isa


def test_contexts_are_arguments_of_spawned_processes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        held = unusual(piquant.Context())
        assert pool.apply(settings, (held,)) == settings(held)


def own_classes():
    return [kind for kind in vars(_native).values() if isinstance(kind, type)]


@pytest.mark.filterwarnings("ignore:nanobind:RuntimeWarning")
def test_nothing_uses_what_was_not_initialized():
    kept = piquant.numpy.quantize(np.zeros(48 << 20, np.float32), **RIGHT, dtype=np.uint8)  # lies in kept memory
    memory = type(kept.base.obj if isinstance(kept.base, memoryview) else kept.base)
    assert {piquant.Context.__base__, memory} <= set(own_classes())
    assert len(own_classes()) >= 4
    for kind in (*own_classes(), piquant.Context):
        raw = kind.__new__(kind)
        for use in (memoryview, np.frombuffer):
            with pytest.raises((TypeError, ValueError, BufferError)):
                use(raw)
        for name in set(dir(kind)) - {"get"}:  # which is of the class
            if not name.startswith("__") and name != "_default":
                with pytest.raises(TypeError):
                    getattr(raw, name)()
        with pytest.raises(TypeError, match=r"ctx must be a piquant\.Context"):
            piquant.numpy.quantize(X, **RIGHT, dtype=np.uint8, ctx=raw)
    with pytest.raises(BufferError, match="not initialized"):
        memoryview(memory.__new__(memory))


def test_imported_again_after_removal():
    program = """
        import sys
        import piquant
        names = [name for name in sys.modules if name.partition(".")[0] == "piquant"]
        for name in names:
            del sys.modules[name]
        try:
            import piquant
        except ImportError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported before and removed from sys.modules" in done.stdout


def test_dtypes_of_pi_quant():
    """As version 4.1.0 had them, and the types that are new."""
    old = {"F32": torch.float32, "BF16": torch.bfloat16, "UINT2": torch.quint2x4, "UINT4": torch.quint4x2,
           "UINT8": torch.quint8}  # fmt: skip
    for name, dtype in old.items():
        assert piquant.torch.torch_to_piquant_dtype(dtype) is piquant.DataType[name]
        assert piquant.torch.piquant_to_torch_dtype(piquant.DataType[name]) is dtype
    assert piquant.torch.torch_to_piquant_dtype(torch.uint8) is piquant.DataType.UINT8
    for member in piquant.DataType:
        dtype = piquant.torch.piquant_to_torch_dtype(member)
        assert piquant.torch.piquant_to_torch_dtype(member.value) is dtype
        assert piquant.torch.torch_to_piquant_dtype(dtype) is member
        assert piquant.torch.torch_to_piquant_dtype(getattr(torch, member.value)) is member
    for bad, kind in ((torch.bool, ValueError), (torch.uint3, ValueError), ("uint8", TypeError), (None, TypeError)):
        with pytest.raises(kind, match="dtype must be"):
            piquant.torch.torch_to_piquant_dtype(bad)
    for bad, kind in (("bool", ValueError), (torch.uint8, TypeError), (None, TypeError), ([], TypeError)):
        with pytest.raises(kind, match="dtype must be"):
            piquant.torch.piquant_to_torch_dtype(bad)


SHRUNK = {
    "quantize": (torch.float32, "tensor", lambda x: piquant.torch.quantize(x, **RIGHT, dtype=torch.uint8)),
    "dequantize": (torch.uint8, "tensor", lambda x: piquant.torch.dequantize(x, **RIGHT, dtype=torch.float32)),
    "params": (torch.float32, "tensor", lambda x: piquant.torch.compute_quant_params(x, dtype=torch.uint8)),
    "codes": (
        torch.uint8,
        "out",
        lambda x: piquant.torch.quantize(torch.zeros(x.shape), **RIGHT, dtype=torch.uint8, out=x),
    ),
    "floats": (
        torch.float32,
        "out",
        lambda x: piquant.torch.quantize_dequantize(torch.zeros(x.shape), **RIGHT, dtype=torch.uint8, out=x),
    ),
}


@pytest.mark.parametrize("left", [0, 1 << 20], ids=["nothing", "a part"])
@pytest.mark.parametrize("case", SHRUNK)
def test_storage_resized_beneath_a_large_tensor(case, left):
    dtype, argument, call = SHRUNK[case]
    whole = torch.zeros(16 << 20, dtype=dtype)
    views = whole[4 << 20 :], whole[4 << 20 :][::2], whole.view(4096, -1).T
    whole.untyped_storage().resize_(left)
    for x in views:
        with pytest.raises(
            (ValueError, TypeError), match=f"{argument} must (lie within its storage|have its elements)"
        ):
            call(x)


@pytest.mark.parametrize("case", SHRUNK)
def test_storage_resized_to_nothing_beneath_a_small_tensor(case):
    dtype, argument, call = SHRUNK[case]
    whole = torch.zeros(64, dtype=dtype)
    views = whole, whole[3:], whole[1::2]
    whole.untyped_storage().resize_(0)
    for x in views:
        with pytest.raises(
            (ValueError, TypeError), match=f"{argument} must (lie within its storage|have its elements)"
        ):
            call(x)


def test_many_elements_of_little_memory():
    repeated = torch.ones(1).expand(8 << 20)
    assert piquant.torch.quantize(repeated, **RIGHT, dtype=torch.uint8).eq(11).all()


def test_no_memory_left():
    """MemoryError from every face and form of result, and not before the memory that is kept was given up."""
    program = """
        import resource, sys
        import numpy as np, torch, piquant, piquant.numpy, piquant.torch

        right = dict(scale=1.0, zero_point=0)
        mib = 1 << 20
        x = torch.zeros(96 * mib, dtype=torch.float16)

        class Offers:
            def __array__(self, dtype=None, copy=None):
                return x.numpy().astype(np.float32)  # 384 MiB

        some = np.zeros(96 * mib, np.uint8)
        small = torch.zeros(4 * mib // 8, dtype=torch.float16)  # 1 MiB of results
        calls = {
            "plain": lambda: piquant.torch.quantize(x, **right, dtype=torch.uint8),
            "carrying": lambda: piquant.torch.quantize(x, **right, dtype=torch.quint8),
            "packed": lambda: piquant.torch.quantize(x, **right, dtype=torch.quint4x2),
            "numpy": lambda: piquant.numpy.quantize(x.numpy(), **right, dtype=np.uint8),
            "numpy, strided": lambda: piquant.numpy.quantize(x.numpy().reshape(-1, 2).T, **right, dtype=np.uint8),
            "buffers": lambda: piquant.quantize(memoryview(x.numpy()), **right, dtype="uint8"),
            "converted": lambda: piquant.numpy.quantize(Offers(), **right, dtype=np.uint8, out=some),
            "swapped": lambda: piquant.numpy.quantize(x.numpy().view(">f2"), **right, dtype="uint4"),
        }
        limit = lambda room: resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
        warm = [call() for call in calls.values()]
        del warm
        piquant.release_memory()
        for name, call in calls.items():
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            limit(24 * mib)
            try:
                call()
                sys.exit(f"{name}: no error")
            except MemoryError:
                pass
            limit(1 << 40)
            # A block that is kept, of a size that no result takes, and no room beside it.
            del_me = piquant.numpy.quantize_dequantize(np.zeros(120 * mib, np.float32), **right, dtype=np.uint8)
            del del_me
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            limit(24 * mib)
            call()
            limit(1 << 40)
            piquant.release_memory()
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit(0)
        held = []
        for dtype in (torch.uint8, torch.quint8):  # small results, until nothing is left
            try:
                while True:
                    held.append(piquant.torch.quantize(small, **right, dtype=dtype))
            except MemoryError:
                pass
        limit(1 << 40)
        print("done")
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_working_memory_before_what_is_kept():
    """Nor do the copies and the working memory of a call want for what is kept."""
    program = """
        import resource
        import numpy as np, piquant, piquant.numpy

        right = dict(scale=1.0, zero_point=0)
        context = piquant.Context(64)  # each thread has working memory
        context.serial_cutoff = 0
        x, codes = np.zeros((512, 2048))[:, ::2], np.zeros((512, 1024), np.uint8)
        packed, floats = np.zeros((4096, 1024), np.uint8)[:, ::2], np.zeros((4096, 1024), np.float32)
        calls = [
            lambda: piquant.numpy.quantize(x, **right, dtype=np.uint8, out=codes, ctx=context),
            lambda: piquant.numpy.compute_quant_params(x, dtype=np.uint8, ctx=context),
            lambda: piquant.dequantize(packed, **right, dtype="float32", source_dtype="uint4", out=floats),
        ]

        def no_room():
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))

        for call in calls:
            call()
            del_me = piquant.numpy.quantize_dequantize(np.zeros(12 << 20, np.float32), **right, dtype=np.uint8)
            del del_me
            no_room()
            call()
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            piquant.release_memory()
            no_room()
            try:
                call()
            except MemoryError:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                print("refused")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ | ALLOCATOR,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "refused\n" * 3), done.stderr
