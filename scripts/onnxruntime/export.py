"""Writes an Ocelli model as the f32 ONNX network that its integers stand for.

Every activation is `unit` times the integers of it, a weight is `weight / 2^shift` in these units, a bias loses its
rounding half, and a clamp is a Clip. What a shift rounds away stays, so logits differ a little and labels hardly ever.
The units are chosen so that nothing is left to multiply: those of a float network that is trained with such layers."""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
LARGEST = 127.0


class Activation(NamedTuple):
    """An output in the ONNX graph: `unit` times the integers; (N, C) if it is flat, else (N, C, H, W)."""

    name: str
    unit: float
    is_flat: bool


class Network:
    """Nodes and constants of a graph under construction."""

    def __init__(self):
        self.nodes, self.constants, self.reshaped = [], [], {}

    def constant(self, name, values):
        values = np.asarray(values, np.float32)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def clip(self, x, name, largest):
        bounds = [self.constant(f"{name}.{bound}", value) for bound, value in (("least", 0.0), ("most", largest))]
        return self.node("Clip", [x, *bounds], f"{name}.clipped")

    def flat(self, x):
        return x.name if x.is_flat else self.once("Flatten", [x.name], f"{x.name}.flat")

    def planar(self, x):
        if not x.is_flat:
            return x.name
        if "axes" not in self.reshaped:
            self.reshaped["axes"] = "axes"
            self.constants.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
        return self.once("Unsqueeze", [x.name, "axes"], f"{x.name}.planar")

    def once(self, kind, inputs, name):
        if name not in self.reshaped:
            self.reshaped[name] = self.node(kind, inputs, name)
        return name


def to_onnx(graph, tensors):
    """The network: input `pixels` (N, C, H, W) in f32, each `pixel >> 1`; output the logits (N, classes)."""
    network = Network()
    shape = [graph["input"][key] for key in ("channels", "height", "width")]
    x = Activation("pixels", 1.0, is_flat=False)
    outputs = {"input": x}
    for layer in graph["layers"]:
        name, kind = layer["name"], layer["kind"]
        if kind == "max_pool":
            x = Activation(network.node("MaxPool", [network.planar(x)], name, **window(layer)), x.unit, False)
        elif kind == "sum_pool":
            area, divisor = layer["kernel"] ** 2, 2 ** layer["shift"]
            unit = x.unit * divisor / area
            mean = network.node("AveragePool", [network.planar(x)], name, **window(layer))
            x = Activation(network.clip(mean, name, LARGEST * unit) if area > divisor else mean, unit, False)
        else:
            x = weighted(network, layer, tensors, x, outputs)
        outputs[name] = x
    model = helper.make_model(
        helper.make_graph(
            network.nodes, "ocelli",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info(x.name, TensorProto.FLOAT, ["N", graph["layers"][-1]["channels"]])],
            network.constants),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def weighted(network, layer, tensors, before, outputs):
    """The output of a convolution or a linear layer."""
    name, is_flat = layer["name"], layer["kind"] == "linear"
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    # Only the last layer has no shift.
    shift = tensors.get(f"{name}.shift")
    divisor = np.ones(layer["channels"]) if shift is None else 2.0 ** shift.astype(np.float64)
    unit, skip = 1.0, None
    if "skip" in layer:
        skip, multiplier = outputs[layer["skip"]], tensors[f"{name}.multiplier"]
        if factor := common_factor(multiplier, divisor):
            unit = skip.unit / factor
    scale = unit / divisor
    inputs = [network.flat(before) if is_flat else network.planar(before),
              network.constant(f"{name}.weight", weight * per_channel(scale, weight.ndim) / before.unit),
              network.constant(f"{name}.bias", (bias - np.floor(divisor / 2)) * scale)]
    if is_flat:
        x = network.node("Gemm", inputs, name, transB=1)
    else:
        x = network.node("Conv", inputs, name, kernel_shape=[layer["kernel"]] * 2,
                         strides=[layer["stride"]] * 2, pads=[layer["padding"]] * 4)
    if skip:
        added = network.flat(skip) if is_flat else network.planar(skip)
        if not factor:
            factors = per_channel(multiplier * scale / skip.unit, 2 if is_flat else 4, axis=1)
            added = network.node("Mul", [added, network.constant(f"{name}.multiplier", factors)], f"{name}.skip")
        x = network.node("Add", [x, added], f"{name}.sum")
    if shift is not None:
        x = network.clip(x, name, LARGEST * unit)
    return Activation(x, unit, is_flat)


def window(layer):
    return {"kernel_shape": [layer["kernel"]] * 2, "strides": [layer["stride"]] * 2}


def per_channel(values, dimensions, axis=0):
    """One number a channel, in the shape that meets a tensor whose channels are this axis."""
    return np.asarray(values).reshape([-1 if dimension == axis else 1 for dimension in range(dimensions)])


def common_factor(multipliers, divisors):
    """What every channel multiplies its skip by, if it is one number up to the rounding of the multipliers; else None."""
    largest = np.argmax(multipliers)
    factor = multipliers[largest] / divisors[largest]
    return float(factor) if factor > 0 and np.all(np.abs(multipliers - factor * divisors) <= 1) else None
