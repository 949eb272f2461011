"""Tensors of torch.distributed: results that are under way, and parts of what other ranks hold."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import sys

    import torch
    import torch.distributed as dist
    import torch.distributed._functional_collectives as collectives
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor, init_device_mesh

    from piquant.torch import compute_quant_params, dequantize, quantize, quantize_dequantize, quantize_dynamic

    rank = int(sys.argv[1])
    dist.init_process_group("gloo", store=dist.FileStore(sys.argv[2], 2), rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(4, 24)
    under_way = collectives.all_reduce(x, "sum", dist.group.WORLD)
    assert type(under_way) is collectives.AsyncCollectiveTensor
    assert torch.equal(quantize(under_way, scale=0.1, dtype="int4"), quantize(2 * x, scale=0.1, dtype="int4"))
    assert under_way.completed
    under_way = collectives.all_reduce(x, "sum", dist.group.WORLD)
    assert quantize_dynamic(under_way, dtype="int8", block_size=2) == quantize_dynamic(
        2 * x, dtype="int8", block_size=2
    )


    def raises(exception, words, call):
        try:
            call()
        except exception as error:
            assert words in str(error), error
        else:
            raise AssertionError(words)


    def same(sharded, whole):
        assert type(sharded) is DTensor, type(sharded)
        assert sharded.shape == whole.shape, (sharded.shape, whole.shape)
        assert sharded.dtype == whole.dtype
        assert sharded.stride() == whole.stride(), (sharded.stride(), whole.stride())
        assert torch.equal(sharded.full_tensor(), whole)


    mesh = init_device_mesh("cpu", (2,))
    scales = torch.rand(4, 6) + 0.1
    rows, columns = [Shard(0)], [Shard(1)]
    # An uneven cut, and one in front of the last dimension of 4-bit codes.
    for shape, placements in (((4, 24), rows), ((4, 24), columns), ((4, 24), [Replicate()]), ((5, 24), rows)):
        x = torch.randn(shape)
        scales = torch.rand(shape[0], 6) + 0.1
        sharded = distribute_tensor(x, mesh, placements)
        for view in (lambda t: t, lambda t: t.t().contiguous().t()):
            for right in ({"scale": 0.1, "zero_point": 2}, {"scale": scales, "block_size": 4}):
                right["dtype"] = "int4"
                want = quantize(view(x), **right)
                q = quantize(view(sharded), **right)
                same(q, want)
                back = right | {"dtype": "float32", "source_dtype": "int4", "shape": shape}
                same(dequantize(q, **back), dequantize(want, **back))
                same(quantize_dequantize(view(sharded), **right), quantize_dequantize(view(x), **right))
        parts = distribute_tensor(scales, mesh, placements)
        int8 = {"dtype": "int8", "block_size": 4}
        same(quantize(sharded, scale=parts, **int8), quantize(x, scale=scales, **int8))
        scale, zero_point = compute_quant_params(sharded, dtype="int8", block_size=4)
        wanted = compute_quant_params(x, dtype="int8", block_size=4)
        same(scale, wanted[0])
        same(zero_point, wanted[1])
        found, whole = (quantize_dynamic(t, dtype="int4", block_size=4) for t in (sharded, x))
        for part, full in zip(found._arrays(), whole._arrays(), strict=True):
            same(part, full)
        same(found.dequantize(), whole.dequantize())
        assert "int4, shape" in repr(found)  # of one rank alone it waits for no other
        leaf = sharded.clone().detach().requires_grad_()
        quantize_dequantize(leaf, scale=0.1, dtype="int4").sum().backward()
        plain = x.clone().requires_grad_()
        quantize_dequantize(plain, scale=0.1, dtype="int4").sum().backward()
        assert torch.equal(leaf.grad.full_tensor(), plain.grad)
        out = distribute_tensor(torch.ones(shape), mesh, placements)
        assert quantize_dequantize(sharded, scale=0.1, dtype="int8", out=out, reduce_op="add") is out
        assert torch.equal(out.full_tensor(), 1 + quantize_dequantize(x, scale=0.1, dtype="int8"))

    # Parameters of the whole are found where it is whole, and used everywhere.
    x = torch.randn(4, 24)
    sharded, copies = distribute_tensor(x, mesh, rows), distribute_tensor(x, mesh, [Replicate()])
    scale, zero_point = compute_quant_params(copies, dtype="uint8", block_size=(-1, -1))
    same(
        quantize(sharded, scale=scale, zero_point=zero_point, dtype="uint8"),
        quantize(x, scale=scale.to_local(), zero_point=zero_point.to_local(), dtype="uint8"),
    )

    raises(ValueError, "must not be cut within blocks", lambda: quantize_dynamic(sharded, dtype="int8"))
    raises(
        ValueError, "dimension 1 of 24 in 2 parts, and blocks of 8",
        lambda: quantize_dynamic(distribute_tensor(x, mesh, columns), dtype="int8", block_size=8),
    )
    raises(
        ValueError, "must not be cut within bytes",
        lambda: quantize(distribute_tensor(x[:, :6], mesh, columns), scale=0.1, dtype="int4"),
    )
    partial = DTensor.from_local(x, mesh, [Partial()])
    raises(TypeError, "must be a DTensor of shards and replicas", lambda: quantize(partial, scale=0.1, dtype="int8"))
    raises(
        ValueError, "round_mode must be 'nearest' for a DTensor",
        lambda: quantize(sharded, scale=0.1, dtype="int8", round_mode="stochastic", seed=3),
    )
    out = torch.zeros(4, 24)
    raises(
        TypeError, "out must be a DTensor", lambda: quantize_dequantize(sharded, scale=0.1, dtype="int8", out=out)
    )
    # What does not fit is an error on each rank, also on one whose part would fit.
    for call in (
        lambda: quantize(sharded, scale=torch.ones(3, 1), dtype="int8", block_size=-1),
        lambda: quantize(
            sharded, scale=torch.ones(4, 1), zero_point=torch.ones(3, 1).int(), dtype="int8", block_size=-1
        ),
    ):
        raises(ValueError, "must have shape (4, 1) for tensor of shape (4, 24)", call)
    for shape, words in (((3, 24), "out must have shape (4, 24), got (3"), ((4, 24), "must not require a gradient")):
        out = distribute_tensor(torch.zeros(shape), mesh, rows).requires_grad_()
        raises(ValueError, words, lambda: quantize_dequantize(sharded, scale=0.1, dtype="int8", out=out))
    out = torch.zeros(4, 24)
    # Without dimensions; a rank without elements; meshes of two dimensions.
    number = distribute_tensor(torch.tensor(0.5), mesh, [Replicate()])
    same(quantize_dynamic(number, dtype="int4").dequantize(), torch.tensor(0.5))
    one_row = torch.randn(1, 24)
    for names, placements in (((2,), rows), ((1, 2), [Shard(1), Shard(0)]), ((2, 1), [Replicate(), Shard(0)])):
        part = distribute_tensor(one_row, init_device_mesh("cpu", names), placements)
        found, whole = (quantize_dynamic(t, dtype="int4", block_size=4) for t in (part, one_row))
        same(found.dequantize(), whole.dequantize())
        same(
            quantize(part, scale=found.scale, zero_point=found.zero_point, dtype="int8", block_size=4),
            quantize(one_row, scale=whole.scale, zero_point=whole.zero_point, dtype="int8", block_size=4),
        )
    raises(TypeError, "scale must not be a DTensor", lambda: quantize(x, scale=copies.abs(), dtype="int8"))
    raises(TypeError, "finds tensors", lambda: compute_quant_params(sharded, dtype="int8"))
    assert not out.any()
    dist.destroy_process_group()
"""


def test_tensors_of_several_processes(tmp_path):
    pytest.importorskip("torch")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, "-W", "ignore", str(program)]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path / "store")]) for rank in range(2)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
