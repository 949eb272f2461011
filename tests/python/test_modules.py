"""Modules with quantized weights: torch's with the weights dequantized, brought back from wherever they were put."""

from __future__ import annotations

import copy
import io
import json
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

import piquant.torch
from piquant.torch import QuantizedEmbedding, QuantizedLinear, QuantizedTensor, quantize_module

IDS = torch.tensor([[3, 0, 49], [3, 17, 2]])


def network(real=torch.float32, seed=0):
    """An embedding and two layers of odd sizes, one of them without bias."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(50, 33, padding_idx=0), nn.Linear(33, 17), nn.ReLU(), nn.Linear(17, 5, bias=False)
    ).to(real)


def answers(model, weights, ids=IDS):
    """What the network says with these weights, by torch's functions."""
    first = functional.linear(functional.embedding(ids, weights[0]), weights[1], model[1].bias)
    return functional.linear(functional.relu(first), weights[2])


def dequantized(model, **how):
    """The weights of a network as quantization leaves them, each by itself."""
    layers = model[0], model[1], model[3]
    return [piquant.torch.quantize_dynamic(layer.weight.detach(), **how).dequantize() for layer in layers]


def quantized(dtype="int4", block_size=16, **how):
    return quantize_module(network(), dtype, block_size, **how)


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("real", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    ("dtype", "block_size", "symmetric", "scale_dtype"),
    [
        ("int4", 16, False, None),
        (torch.uint8, -1, True, torch.bfloat16),
        ("int2", (7, 5), False, "float16"),
        ("uint4", (-1, 1), False, None),
        ("uint16", (4, -1), True, None),
        ("int8", None, False, None),
    ],
)
def test_equal_to_torch_with_the_weights_dequantized(real, dtype, block_size, symmetric, scale_dtype):
    how = {"dtype": dtype, "block_size": block_size, "symmetric": symmetric, "scale_dtype": scale_dtype}
    model = network(real)
    weights = dequantized(model, **how)
    expected = answers(model, weights)
    assert quantize_module(model, **how) is model
    assert [type(m) for m in model] == [QuantizedEmbedding, QuantizedLinear, nn.ReLU, QuantizedLinear]
    assert torch.equal(model(IDS), expected)
    for i, weight in zip((0, 1, 3), weights, strict=True):
        assert torch.equal(model[i].weight, weight)
        assert torch.equal(model[i].quantized_weight.dequantize(), weight)


@pytest.mark.parametrize(
    "ids", [torch.tensor(7), torch.tensor([], dtype=torch.int64), IDS.int(), IDS.T, IDS.expand(2, 2, 3)]
)
@pytest.mark.parametrize("block_size", [16, (3, 16), -1])
def test_embedding_takes_indices_as_torch_does(ids, block_size):
    model = quantized("int4", block_size)
    expected = functional.embedding(ids, model[0].weight)
    assert torch.equal(model[0](ids), expected)
    assert model[0](ids).shape == expected.shape


def test_embedding_dequantizes_the_rows_asked_for_and_no_others():
    embedding = quantized("int4", 16)[0]
    expected = embedding(IDS)
    others = [i for i in range(50) if i not in IDS]
    embedding.weight_scale[others] = 0  # which is refused where it is read
    with pytest.raises(ValueError, match="scale"):
        _ = embedding.weight
    assert torch.equal(embedding(IDS), expected)


def test_embedding_refuses_what_torch_refuses():
    embedding = quantized()[0]
    for ids in torch.tensor([50]), torch.tensor([-1]):
        with pytest.raises(IndexError):
            embedding(ids)
    with pytest.raises(RuntimeError, match="int"):
        embedding(torch.tensor([1.0]))
    with pytest.raises(TypeError, match="must be Tensor, not list"):
        embedding([1])


def test_gradients_reach_input_and_bias():
    model = quantized()
    x = torch.randn(4, 33, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    functional.linear(y, model[1].weight, model[1].bias).square().sum().backward()
    expected = model[1].bias.grad
    model[1].bias.grad = None
    model[1](x).square().sum().backward()
    assert torch.equal(x.grad, y.grad)
    assert torch.equal(model[1].bias.grad, expected)
    assert [name for name, _ in model.named_parameters()] == ["1.bias"]


def test_attributes_and_words():
    original = network()
    bias = original[1].bias
    model = quantize_module(original.eval(), "int4", 16)
    embedding, linear = model[0], model[1]
    assert (embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx) == (50, 33, 0)
    assert (linear.in_features, linear.out_features) == (33, 17)
    assert linear.bias is bias
    assert not linear.training
    assert (linear.quant_dtype, linear.block_size, linear.dtype) == ("int4", (1, 16), torch.float32)
    assert "50, 33, padding_idx=0, int4 in blocks of (1, 16), 7.758 bits a weight" in repr(embedding)
    assert "in_features=33, out_features=17, bias=True, int4" in repr(linear)
    buffers = {"weight_data", "weight_scale", "weight_zero_point", "weight_format"}
    assert set(linear._buffers) == buffers
    assert linear.state_dict().keys() == buffers | {"bias"}
    assert all(type(buffer) is torch.Tensor for buffer in linear.buffers())


def test_filter_is_told_module_and_name():
    model = network()
    told = []
    quantize_module(model, "int8", -1, lambda module, name: told.append((type(module), name)) or name == "1")
    assert told == [(nn.Embedding, "0"), (nn.Linear, "1"), (nn.Linear, "3")]
    assert [type(m) for m in model] == [nn.Embedding, QuantizedLinear, nn.ReLU, nn.Linear]
    quantize_module(model, "int4", 16)  # what is left
    assert [m.quant_dtype for m in model if not isinstance(m, nn.ReLU)] == ["int4", "int8", "int4"]


def test_a_single_layer_is_replaced_by_what_is_returned():
    layer = nn.Linear(8, 3)
    made = quantize_module(layer, "int8", -1)
    assert isinstance(made, QuantizedLinear)
    assert type(layer) is nn.Linear


def test_subclasses_stay_and_what_reads_weight_works():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    x = torch.randn(2, 5, 32)
    expected = copy.deepcopy(layer)
    quantize_module(layer, "int8", -1)
    assert isinstance(layer.self_attn.out_proj, nn.Linear)
    for name in "linear1", "linear2":
        getattr(expected, name).weight = nn.Parameter(getattr(layer, name).weight)
    with torch.no_grad():  # where torch takes another way, and reads linear1.weight
        assert torch.equal(layer(x), expected(x))
    torch.testing.assert_close(layer(x), expected(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head, self.norm = nn.Embedding(20, 8), nn.Linear(8, 20), nn.LayerNorm(8)
        self.head.weight = self.embedding.weight
        self.again = self.head

    def forward(self, ids):
        return self.again(self.norm(self.embedding(ids)))


def test_shared_weights_stay_shared():
    model = quantize_module(Tied(), "int8", -1)
    assert model.again is model.head
    for made in (model, copy.deepcopy(model).double(), pickle.loads(pickle.dumps(model))):
        assert made.head.weight_data.data_ptr() == made.embedding.weight_data.data_ptr()
        assert made.again is made.head
    assert torch.equal(model.head.weight, model.embedding.weight)


@pytest.mark.parametrize("left", ["embedding", "head", "again"])
def test_a_weight_that_is_shared_with_what_stays_is_refused(left):
    model = Tied()
    with pytest.raises(ValueError, match=rf"filter must take all or none.*leaves \['{left}.weight"):
        quantize_module(model, "int8", -1, lambda _, name: name != left)
    assert isinstance(model.embedding, nn.Embedding)


@pytest.mark.parametrize("real", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_change_what_weights_become_and_no_codes(real):
    model = quantized(scale_dtype="float32")
    moved = copy.deepcopy(model).to(real)
    for a, b in ((model[0], moved[0]), (model[1], moved[1])):
        assert torch.equal(a.weight_data, b.weight_data)
        assert b.weight_scale.dtype == torch.float32
        assert torch.equal(a.weight_scale, b.weight_scale)
        expected = piquant.torch.dequantize(
            a.weight_data,
            scale=a.weight_scale,
            zero_point=a.weight_zero_point,
            dtype=real,
            block_size=16,
            source_dtype="int4",
            shape=a._shape,
        )
        assert torch.equal(b.weight, expected)
    assert moved[1].bias.dtype == moved(IDS).dtype == real
    arrays = {name: moved.state_dict()[f"1.weight_{name}"] for name in ("data", "scale", "zero_point", "format")}
    assert QuantizedTensor.from_dict(arrays) == moved[1].quantized_weight
    assert moved.float()[1].quantized_weight == model[1].quantized_weight
    assert copy.deepcopy(model).type(real)[1].quantized_weight == copy.deepcopy(model).to(real)[1].quantized_weight


def test_dtypes_that_are_no_floats_are_refused():
    model = quantized()
    with pytest.raises(TypeError, match=r"dtype must be one of float16.*, got torch\.int32"):
        model[1].type(torch.int32)
    assert same_state(model, quantized())


def test_state_dicts():
    model, other = quantized(), quantize_module(network(seed=1), "int4", 16)
    assert not same_state(other, model)
    other.load_state_dict(model.state_dict())
    assert same_state(other, model)
    assert torch.equal(other(IDS), model(IDS))
    half = copy.deepcopy(model).half()
    other.load_state_dict(half.state_dict())  # converts, as torch does
    assert other[1].dtype == other(IDS).dtype == torch.float32
    other.load_state_dict(half.state_dict(), assign=True)  # takes what comes, as torch does
    assert other[1].dtype == other(IDS).dtype == torch.float16
    assert same_state(other, half)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"dtype": "uint4"}, "format must be uint4 of shape"),
        ({"block_size": 8}, r"in blocks of \(1, 8\)"),
        ({"symmetric": True}, "zero points 0, got"),
        ({"scale_dtype": "float16"}, "scales of torch.float16"),
    ],
)
def test_another_format_is_refused(how, words):
    model = quantized(**how)
    before = copy.deepcopy(model[1].state_dict())
    for strict in True, False:
        with pytest.raises(RuntimeError, match=words):
            model.load_state_dict(quantized().state_dict(), strict=strict)
    after = model[1].state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_state_dicts_that_do_not_fit_are_refused():
    model = quantized()
    with pytest.raises(RuntimeError, match=r"0\.weight holds floats: load them before quantize_module"):
        model.load_state_dict(network().state_dict(), strict=False)
    for name in "format", "scale", "zero_point":
        state = model.state_dict()
        del state[f"1.weight_{name}"]
        with pytest.raises(RuntimeError, match=r"1\.weight_\*: arrays must be those that to_dict gives"):
            model.load_state_dict(state, strict=False)
    state = model.state_dict()
    state["1.weight_data"] = state["1.weight_data"].float()
    with pytest.raises(RuntimeError, match="data must be of dtype uint8"):
        model.load_state_dict(state)
    state = model.state_dict()
    text = json.loads(bytes(state["1.weight_format"].tolist())) | {"version": 2}
    state["1.weight_format"] = torch.tensor(list(json.dumps(text).encode()), dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="format must be of version 1, got 2"):
        model.load_state_dict(state)


def through_save(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_safetensors(state):
    return safetensors.torch.load(safetensors.torch.save(state))


@pytest.mark.parametrize("through", [dict, through_save, through_safetensors])
@pytest.mark.parametrize("how", [{}, {"symmetric": True}, {"scale_dtype": "bfloat16"}, {"dtype": "uint16"}])
def test_files_and_the_meta_device(through, how):
    model = quantized(**how)
    state = through(model.state_dict())
    with torch.device("meta"):
        inside = quantize_module(network(), **({"dtype": "int4", "block_size": 16} | how))
        outside = network()
    outside = quantize_module(outside, **({"dtype": "int4", "block_size": 16} | how))
    for empty in inside, outside, quantized(**how).to("meta"):
        assert all(tensor.is_meta for tensor in empty.state_dict().values())
        made = copy.deepcopy(empty)
        made.load_state_dict(state, assign=True)
        assert same_state(made, model)
        assert torch.equal(made(IDS), model(IDS))
        made = empty.to_empty(device="cpu")
        assert bytes(made[1].weight_format.tolist()) == bytes(model[1].weight_format.tolist())
        made.load_state_dict(state)
        assert same_state(made, model)


def test_transposed_weights_are_stored_densely():
    layer = nn.Linear(8, 6)
    layer.weight = nn.Parameter(torch.randn(8, 6).T)
    made = quantize_module(layer, "int8", -1)
    assert made.weight_data.is_contiguous()
    through_safetensors(made.state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(copied):
    model = quantized()
    made = copied(model)
    assert same_state(made, model)
    made[1].weight_scale.mul_(2)
    assert torch.equal(made[1].weight, 2 * model[1].weight)
    assert torch.equal(made[0](IDS), model[0](IDS))


def test_compile_in_one_graph():
    model = quantized()
    for backend in "eager", "aot_eager", "inductor":
        compiled = torch.compile(model, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(IDS), model(IDS))
        torch.testing.assert_close(compiled(IDS[:, :2]), model(IDS[:, :2]))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch 2.10's own
@pytest.mark.parametrize("strict", [True, False])
def test_export(strict):
    model = quantized().eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(model, (IDS,), dynamic_shapes=({0: batch},), strict=strict)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for ids in IDS, IDS.repeat(3, 1):
        assert torch.equal(loaded(ids), model(ids))


def hooked():
    model = network()
    model[1].register_forward_hook(lambda *_: None)
    return model


def not_finite():
    model = network()
    model[3].weight.data[2, 3] = float("nan")
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "error", "words"),
    [
        (lambda: 3, {}, TypeError, "model must be a torch.nn.Module, got 3"),
        (nn.ReLU, {}, ValueError, "model must hold a torch.nn.Linear or torch.nn.Embedding, got ReLU"),
        (network, {"filter": lambda *_: False}, ValueError, "Embedding that filter takes, got Sequential"),
        (network, {"filter": "1"}, TypeError, "filter must be a function of a module and its name, or None, got '1'"),
        (network, {"dtype": "int3"}, ValueError, "dtype must be one of"),
        (network, {"dtype": torch.quint8}, ValueError, "a plain dtype"),
        (network, {"block_size": 0}, ValueError, "block_size must be"),
        (network, {"scale_dtype": "int8"}, ValueError, "scale_dtype must be"),
        (hooked, {}, ValueError, "got '1' with hooks"),
        (lambda: nn.Sequential(nn.Embedding(4, 3, max_norm=1.0)), {}, ValueError, "got '0' with max_norm=1.0"),
        (not_finite, {}, ValueError, r"3.weight: .*NaN or infinity in block \(2, 0\)"),
    ],
)
def test_errors_name_what_is_wrong_and_leave_the_model_alone(model, arguments, error, words):
    model = model()
    before = list(model.children()) if isinstance(model, nn.Module) else None
    with pytest.raises(error, match=words):
        quantize_module(model, **({"dtype": "int4", "block_size": 16} | arguments))
    if before is not None:
        assert all(a is b for a, b in zip(before, model.children(), strict=True))


def test_modules_refuse_what_is_no_matrix():
    for kind in QuantizedLinear, QuantizedEmbedding:
        with pytest.raises(TypeError, match="weight must be a QuantizedTensor, got"):
            kind(torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"weight must have 2 dimensions, got shape \(3,\)"):
            kind(piquant.torch.quantize_dynamic(torch.ones(3), dtype="int8"))
