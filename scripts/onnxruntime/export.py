"""Writes an Ocelli model as an ONNX network whose logits are the same, bit for bit, in ONNX Runtime on any CPU.

See "Who else computes the same bits" in docs/inference.md. Weights are u8 with the zero point 128, or i8 in the layers whose
activations are at most a number: 127 on x86 without VNNI, where i8 is faster but exact only there; with VNNI 255."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Network:
    """Nodes and constants of a graph under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, values, dtype):
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind, inputs, **attributes):
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def cast(self, x, to):
        return self.node("Cast", [x], to=to)

    def value(self, x, zero_point):
        """Bytes as i32, counted from their zero point."""
        return self.node("Sub", [self.cast(x, TensorProto.INT32), self.constant(zero_point, np.int32)])

    def clip(self, x, layer, dtype):
        return self.node("Clip", [x, self.constant(layer["low"], dtype), self.constant(layer["high"], dtype)])

    def finish(self, x, layer, dtype):
        """Bytes of whole numbers that are counted from the zero point."""
        x = self.node("Add", [x, self.constant(layer["zero_point"], dtype)])
        return self.cast(self.clip(x, layer, dtype), TensorProto.UINT8)

    def sums(self, x, read, weight, bias, scale, layer, window, groups, i8):
        """A convolution, with weights (O, I / groups, rows, columns)."""
        offset, dtype = (0, np.int8) if read["high"] <= i8 else (128, np.uint8)
        inputs = [
            x, self.constant(1, np.float32), self.constant(read["zero_point"], np.uint8),
            self.constant(weight.astype(np.int16) + offset, dtype), self.constant(scale, np.float32),
            self.constant(np.full(len(scale), offset), dtype),
            self.constant(1, np.float32), self.constant(layer["zero_point"], np.uint8), self.constant(bias, np.int32),
        ]
        x = self.node("QLinearConv", inputs, group=groups, **window)
        return x if (layer["low"], layer["high"]) == (0, 255) else self.clip(x, layer, np.uint8)

    def logits(self, x, read, weight, bias, scale):
        weight = self.constant(weight.astype(np.int16).T + 128, np.uint8)
        zero_points = [self.constant(read["zero_point"], np.uint8), self.constant(128, np.uint8)]
        x = self.node("MatMulInteger", [self.node("Flatten", [x]), weight, *zero_points])
        x = self.node("Add", [x, self.constant(bias, np.int32)])
        if scale is not None:
            x = self.node("Mul", [self.cast(x, TensorProto.FLOAT), self.constant(scale, np.float32)])
            x = self.node("Clip", [x, self.constant(-(2**24), np.float32), self.constant(2**24, np.float32)])
            x = self.cast(self.node("Round", [x]), TensorProto.INT32)
        return x


def to_onnx(graph, tensors, i8=-1):
    """The network as an ONNX model from `pixels`, u8 (N, C, H, W), to logits, i32 (N, O), with weights i8 where activations are at
    most `i8`."""
    network, shape = Network(), [graph["input"][key] for key in ("channels", "height", "width")]
    zero_points = graph["input"]["zero_points"]
    if len(set(zero_points)) > 1:
        raise ValueError(f"the zero points of the input differ, which QLinearConv cannot say: {zero_points}")
    # What is known of each activation: its name in ONNX, its shape, zero point and bounds.
    known = {"input": {"name": "pixels", "shape": shape, "zero_point": zero_points[0], "low": 0, "high": 255}}
    for layer in graph["layers"]:
        kind, reads = layer["kind"], [known[name] for name in layer["from"]]
        read, x = reads[0], reads[0]["name"]
        weight, bias, scale, table = (
            tensors.get(f"{layer['name']}.{part}") for part in ("weight", "bias", "scale", "table"))
        output = {key: layer.get(key, read[key]) for key in ("zero_point", "low", "high")}
        (channels, *size), window = read["shape"], {}
        if "kernel" in layer:
            top, left, bottom, right = layer["padding"]
            window = {"kernel_shape": layer["kernel"], "strides": layer["stride"], "pads": layer["padding"]}
            padded = size[0] + top + bottom, size[1] + left + right
            size = [(all_ - k) // s + 1 for all_, k, s in zip(padded, layer["kernel"], layer["stride"])]
        if kind == "conv":
            x = network.sums(x, read, weight, bias, scale, layer, window, layer["groups"], i8)
            channels = layer["channels"]
        elif kind == "linear" and "low" not in layer:
            logits = network.logits(x, read, weight, bias, scale)
        elif kind == "linear":
            weight = weight.reshape(-1, channels, *size)
            x = network.sums(x, read, weight, bias, scale, layer, {"kernel_shape": size}, 1, i8)
            channels, size = layer["channels"], [1, 1]
        elif kind == "average_pool":
            ones, bias, scale = np.ones((channels, 1, *layer["kernel"])), np.zeros(channels), np.repeat(scale, channels)
            x = network.sums(x, read, ones, bias, scale, layer, window, channels, i8)
        elif kind == "max_pool":
            x = network.node("MaxPool", [x], **window)
        elif kind == "concat":
            x = network.node("Concat", [read["name"] for read in reads], axis=1)
            channels = sum(read["shape"][0] for read in reads)
            output |= {"low": min(read["low"] for read in reads), "high": max(read["high"] for read in reads)}
        elif kind == "lookup":
            x = network.node("Gather", [network.constant(table, np.uint8), network.cast(x, TensorProto.INT32)])
            values = [*table.tolist(), layer["zero_point"]]
            output |= {"low": min(values), "high": max(values)}
        elif kind == "add" and set(layer["multipliers"]) == {1 << layer["shift"]}:
            # With scales of 1 its floats are whole numbers, so that it is exact wherever it runs.
            inputs = [read["name"] for read in reads]
            zero_points = [network.constant(read["zero_point"], np.uint8) for read in (*reads, layer)]
            one = network.constant(1, np.float32)
            x = network.node("QLinearAdd", [inputs[0], one, zero_points[0], inputs[1], one, zero_points[1], one, zero_points[2]],
                             domain="com.microsoft")
            if (layer["low"], layer["high"]) != (0, 255):
                x = network.clip(x, layer, np.uint8)
        else:
            a, b = (network.value(read["name"], read["zero_point"]) for read in reads)
            if kind == "multiply":
                x = network.cast(network.node("Mul", [a, b]), TensorProto.FLOAT)
                x = network.node("Round", [network.node("Mul", [x, network.constant(scale[0], np.float32)])])
                x = network.finish(x, layer, np.float32)
            else:
                half = 1 << layer["shift"] - 1
                a, b = (network.node("Mul", [value, network.constant(multiplier, np.int32)])
                        for value, multiplier in zip((a, b), layer["multipliers"]))
                x = network.node("Add", [network.node("Add", [a, b]), network.constant(half, np.int32)])
                x = network.node("Mul", [network.cast(x, TensorProto.DOUBLE), network.constant(0.5 / half, np.float64)])
                x = network.finish(network.node("Floor", [x]), layer, np.float64)
        known[layer["name"]] = {"name": x, "shape": [channels, *size], **output}
    return helper.make_model(
        helper.make_graph(
            network.nodes, "ocelli",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *shape])],
            [helper.make_tensor_value_info(logits, TensorProto.INT32, ["N", graph["layers"][-1]["channels"]])],
            network.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
