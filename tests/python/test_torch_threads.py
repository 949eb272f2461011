"""piquant.torch on torch's threads: the same bits, wherever and however torch runs them."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import textwrap

import pytest
import torch

import piquant
import piquant.torch
import piquant.torch._tensors
from workers import SOAK, in_child, is_right

N = 3_000_017
SETTINGS = {"scale": 0.01, "zero_point": 3}


def expected(x: torch.Tensor) -> torch.Tensor:
    """What a context's own pool gives."""
    context = piquant.Context()
    return piquant.torch.quantize(x, **SETTINGS, dtype=torch.int8, round_mode="stochastic", seed=5, ctx=context)


def quantized(x: torch.Tensor) -> torch.Tensor:
    """The same on torch's threads."""
    return piquant.torch.quantize(x, **SETTINGS, dtype=torch.int8, round_mode="stochastic", seed=5)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(N, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(code: str, **environment: str) -> str:
    """Runs a program in a process of its own, which must end by itself, without a word on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads(x, threads):
    torch.set_num_threads(threads)
    assert torch.equal(quantized(x), expected(x))
    assert piquant.torch.compute_quant_params(x, dtype=torch.uint8) == piquant.torch.compute_quant_params(
        x, dtype=torch.uint8, ctx=piquant.Context()
    )
    total = torch.ones(N)
    codes = quantized(x)
    piquant.torch.dequantize(codes, **SETTINGS, dtype=torch.float32, reduce_op="add", out=total)
    alone = torch.ones(N)
    piquant.torch.dequantize(codes, **SETTINGS, dtype=torch.float32, reduce_op="add", out=alone, ctx=piquant.Context(1))
    assert torch.equal(total, alone)


def test_layouts(x):
    square = x[: 1500 * 2000].view(1500, 2000)
    for view in (square.T, square[::2], square[:, ::3]):
        assert torch.equal(quantized(view), expected(view))


def test_threads_of_python(x):
    """Each thread that is not torch's gets a team of its own."""
    want = expected(x)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(got, want) for got in pool.map(quantized, [x] * 12))


def test_threads_of_autograd(x):
    got = []

    class Quantized(torch.autograd.Function):
        @staticmethod
        def forward(_, t):
            return t * 2

        @staticmethod
        def backward(_, gradient):
            got.append(quantized(x))
            return gradient

    leaf = torch.ones(3, requires_grad=True)
    Quantized.apply(leaf).sum().backward()
    assert torch.equal(got[0], expected(x))


def test_inference_mode(x):
    with torch.inference_mode():
        assert torch.equal(quantized(x), expected(x))


# How many threads come to those of torch, which worked in parallel before: by a call of piquant.torch, then of numpy.
COUNT = """
    import os
    import torch
    import piquant.numpy
    import piquant.torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(4)
    x = torch.ones(4_000_000)
    x.add_(1)
    before = len(os.listdir("/proc/self/task"))
    piquant.set_num_threads(4)
    piquant.torch.quantize(x, scale=1.0, zero_point=0, dtype=torch.uint8)
    print(len(os.listdir("/proc/self/task")) - before)
    piquant.numpy.quantize(x.numpy(), scale=1.0, zero_point=0, dtype="uint8")
    print(len(os.listdir("/proc/self/task")) - before)
"""


def test_no_thread_is_started_beside_those_of_torch():
    """numpy has threads of its own."""
    assert run(COUNT).split() == ["0", "3"]


def test_the_own_pool_by_environment():
    assert run(COUNT, PIQUANT_TORCH_THREADS="0").split() == ["3", "3"]


def test_one_thread_of_openmp():
    assert run(COUNT, OMP_NUM_THREADS="1").split() == ["0", "3"]


def test_a_wrong_environment_is_named(monkeypatch):
    monkeypatch.setenv("PIQUANT_TORCH_THREADS", "maybe")
    with pytest.raises(ValueError, match="PIQUANT_TORCH_THREADS must be 0 or 1, got maybe"):
        piquant.torch._tensors._uses_torch_threads()


# Children of fork() have none of torch's threads, and torch waits for them for ever.


@pytest.mark.no_cover  # where another thread holds the lock of coverage's tracer, a child would wait for it
def test_forked_children(x):
    want = quantized(x)  # on torch's threads, which exist now
    torch.ones(4_000_000).add_(1)
    few = slice(None, None, 1000)  # torch compares these on one thread
    assert in_child(lambda: torch.equal(quantized(x)[few], want[few])) == 0
    assert torch.equal(quantized(x), want)


class Codes(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return piquant.torch.quantize(torch.full((400_000,), float(i)), scale=1.0, zero_point=0, dtype=torch.uint8)


@pytest.mark.no_cover
def test_workers_of_a_data_loader():
    torch.ones(4_000_000).add_(1)
    loader = torch.utils.data.DataLoader(Codes(), batch_size=2, num_workers=2, timeout=120)
    assert [int(batch[:, -1].sum()) for batch in loader] == [1, 5, 9, 13]


def test_children_of_multiprocessing_that_import_it_first():
    code = """
        import multiprocessing
        import torch

        x = torch.ones(4_000_000)

        def child(queue):
            import piquant.torch

            y = piquant.torch.quantize(x, scale=1.0, zero_point=0, dtype=torch.uint8)
            queue.put(int(y[-1]))

        x.add_(1)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
    """
    assert run(code) == "2"


FORKED = """
    import os
    import signal
    import torch

    {before}
    for setting in {settings}:
        child = os.fork()
        if child == 0:
            os.environ |= setting
            break
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit(1)
    else:
        raise SystemExit(0)
    signal.alarm(100)
    {within}
    os._exit(0)
"""


def forked(before: str, within: str, *settings: dict[str, str]) -> str:
    """A program that runs something in a forked child; or in several, one after the other, with these environments."""
    within = textwrap.indent(textwrap.dedent(within), " " * 4).strip()
    return FORKED.format(before=before, within=within, settings=settings or ({},))


def test_forked_children_that_import_it_first():
    quantize = """
        import piquant.torch
        codes = piquant.torch.quantize(x, scale=1.0, zero_point=0, dtype=torch.uint8)
        print(int(codes[-1]), flush=True)
    """
    assert run(forked("x = torch.ones(4_000_000)", quantize)) == "1"


def test_the_environment_knows_forked_children_that_have_torch_threads():
    settings = [{"PIQUANT_TORCH_THREADS": given} for given in ("", "0", "1")]
    count = forked("pass", COUNT + "    import sys\n    sys.stdout.flush()\n", *settings)
    assert run(count).split() == ["3", "3", "3", "3", "0", "3"]


def test_calls_while_the_interpreter_exits():
    """From the main thread: torch's own functions, with which tensors are looked at, end a daemon thread's process."""
    code = """
        import atexit
        import weakref
        import torch
        import piquant.torch

        x = torch.ones(8_000_000)

        def call(when):
            print(when, int(piquant.torch.quantize(x, scale=1.0, zero_point=0, dtype=torch.uint8)[-1]), flush=True)

        class Owner:
            pass

        owner = Owner()
        weakref.finalize(owner, call, "finalize")
        atexit.register(call, "atexit")
        call("main")
    """
    assert run(code).splitlines() == ["main 1", "atexit 1", "finalize 1"]


def test_a_torch_without_the_functions():
    assert piquant._native.find_torch_threads("/nowhere/libtorch_cpu.so") is False


class ManyCodes(torch.utils.data.Dataset):
    def __len__(self):
        return 200

    def __getitem__(self, i):
        return piquant.torch.quantize(torch.full((100_000,), float(i)), scale=1.0, zero_point=0, dtype=torch.uint8)


def test_data_loader_of_many_arrays():
    """200 arrays from two workers, or from 200 of them when there is time; by several threads in every call."""
    default = piquant.Context.get()
    before = default.num_threads, default.serial_cutoff
    default.num_threads, default.serial_cutoff = 3, 0
    try:
        for _ in range(100 if SOAK else 1):
            loader = torch.utils.data.DataLoader(ManyCodes(), batch_size=4, num_workers=2, timeout=600)
            assert [batch[:, -1].tolist() for batch in loader] == [list(range(i, i + 4)) for i in range(0, 200, 4)]
        assert is_right(default)
    finally:
        default.num_threads, default.serial_cutoff = before
