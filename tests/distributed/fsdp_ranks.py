"""What ranks do in test_fsdp.py: steps of a sharded model."""

import sys

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

import piquant.distributed
from piquant.distributed import AllGather, ReduceScatter, apply_fsdp

PRIVATE = "torch.distributed.fsdp._fully_shard._fsdp_api"


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(70, 83), nn.Tanh(), nn.LayerNorm(83), nn.Linear(83, 190))


def loss_of(model, rank, step):
    x = torch.randn(5, 70, generator=torch.Generator().manual_seed(1000 * step + rank))
    return model(x).float().square().mean()


def shard(mesh, **options):
    """Linear layers send for themselves; the root sends the norm, which is so small that it stays exact."""
    model = make_model()
    for layer in (model[0], model[3]):
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def whole(tensor):
    return tensor.full_tensor().detach().float().numpy()


def train(me, gradients, weights, is_mixed=False):
    """Two steps of SGD: of each what this rank's gradients are without FSDP, and the whole ones; and the parameters."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16) if is_mixed else None
    model = shard(DeviceMesh.from_group(me.group, "cpu"), **({"mp_policy": policy} if policy else {}))
    apply_fsdp(model, gradients, weights)
    return steps_of(me, model)


def steps_of(me, model):
    told = []
    for step in range(2):
        plain = make_model()
        plain.load_state_dict({name: value.full_tensor() for name, value in model.state_dict().items()})
        loss_of(model, me.rank, step).backward()
        loss_of(plain, me.rank, step).backward()
        own = {name: parameter.grad.numpy() for name, parameter in plain.named_parameters()}
        told.append((own, {name: whole(parameter.grad) for name, parameter in model.named_parameters()}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.1)
        model.zero_grad()
    return told, {name: whole(parameter) for name, parameter in model.named_parameters()}


def train_hybrid(me, gradients):
    """Ranks 0 and 1, 2 and 3 share a model; 0 and 2, 1 and 3 have the same shards."""
    mesh = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("replicas", "shards"))
    model = shard(mesh["shards"])
    apply_fsdp(model, gradients, replicas=mesh.get_group("replicas"))
    return steps_of(me, model)


def train_native_hybrid(me):
    """On a mesh of two dimensions torch averages over the replicas."""
    mesh = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("replicas", "shards"))
    model = shard(mesh)
    apply_fsdp(model, "int8")
    try:
        apply_fsdp(model, replicas=mesh.get_group("replicas"))
    except ValueError as error:
        words = str(error)
    return steps_of(me, model), words


def gathered(me, is_async):
    """The weights that layers compute with, as a hook sees them, and those that shards make up."""
    model = shard(DeviceMesh.from_group(me.group, "cpu"))
    apply_fsdp(model, None, "int4")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module._set_unshard_async_op(is_async)
    seen, layer = [], model[3]

    def look(*_):
        seen.append(layer.weight.detach().clone().numpy())

    def look_in_backward_pass(_, __, output):
        output.register_hook(look)

    layer.register_forward_hook(look, prepend=True)  # before FSDP's own hook, which frees the weights
    layer.register_forward_hook(look_in_backward_pass)  # after that which gathers them
    loss_of(model, me.rank, 0).backward()
    return seen, whole(layer.weight)


def misuse(_):
    """What is refused, and with which words; and how a torch without the interface looks."""
    told = []
    for call in (
        lambda: apply_fsdp(make_model()),
        lambda: apply_fsdp(make_model(), "int3"),
        lambda: ReduceScatter("int9"),
        lambda: ReduceScatter(round_mode="up"),
        lambda: AllGather(block_size=0),
    ):
        try:
            call()
        except ValueError as error:
            told.append(str(error))
    known = {name: sys.modules.pop(name) for name in ("piquant.distributed._fsdp", PRIVATE)}
    package = sys.modules["torch.distributed.fsdp._fully_shard"]
    taken = [(package, "_fsdp_api"), (piquant.distributed, "_fsdp")]
    attributes = [vars(module).pop(name) for module, name in taken]
    sys.modules[PRIVATE] = None
    try:
        vars(piquant.distributed)["__getattr__"]("apply_fsdp")
    except ImportError as error:
        told.append(str(error))
    finally:
        sys.modules.update(known)
        for (module, name), attribute in zip(taken, attributes, strict=True):
            setattr(module, name, attribute)
    return told
