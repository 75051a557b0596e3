"""Writes an Ocelli model as a TFLite file of the same layers, for LiteRT with XNNPACK.

The same work, not the same bits: at strides above 1 it pads as TensorFlow does (SAME, which costs no layer of its own), bytes are
clamped to what they hold, and logits have 8 bits, which are all that the format can say. It has the kinds of layers of the standard
networks."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl


class Network:
    def __init__(self):
        self.buffers, self.tensors, self.operators, self.codes = [tfl.BufferT()], [], [], []

    def tensor(self, shape, kind, scale, zero_point=0, data=None):
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(tfl.BufferT())
            self.buffers[-1].data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        tensor = tfl.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = f"t{len(self.tensors)}", list(shape), kind, buffer
        tensor.quantization = tfl.QuantizationParametersT()
        tensor.quantization.scale = [float(number) for number in np.atleast_1d(scale)]
        tensor.quantization.zeroPoint = [zero_point] * np.size(scale)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, shape, zero_point, scale=1.0):
        channels, height, width = shape
        return self.tensor((1, height, width, channels), tfl.TensorType.INT8, scale, zero_point - 128)

    def operator(self, code, kind, inputs, output, options=None, **fields):
        if code not in self.codes:
            self.codes.append(code)
        operator = tfl.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes.index(code), inputs, [output]
        if options:
            operator.builtinOptionsType, operator.builtinOptions = kind, options()
            for name, value in fields.items():
                setattr(operator.builtinOptions, name, value)
        self.operators.append(operator)

    def sums(self, read, weight, bias, scale, layer, shape, depthwise):
        """A convolution; `weight` (O, I / groups, rows, columns)."""
        x, y = read["index"], self.activation(shape, layer["zero_point"])
        weight = weight.transpose(1, 2, 3, 0) if depthwise else weight.transpose(0, 2, 3, 1)
        tensors = [x, self.tensor(weight.shape, tfl.TensorType.INT8, scale, 0, weight.astype(np.int8)),
                   self.tensor(bias.shape, tfl.TensorType.INT32, scale, 0, bias.astype(np.int32))]
        # Each channel has a scale of its own.
        self.tensors[tensors[1]].quantization.quantizedDimension = 3 if depthwise else 0
        padding = tfl.Padding.SAME if any(layer["padding"]) else tfl.Padding.VALID
        fields = {"padding": padding, "strideH": layer["stride"][0], "strideW": layer["stride"][1]}
        if depthwise:
            self.operator(tfl.BuiltinOperator.DEPTHWISE_CONV_2D, tfl.BuiltinOptions.DepthwiseConv2DOptions, tensors, y,
                          tfl.DepthwiseConv2DOptionsT, depthMultiplier=1, dilationHFactor=1, dilationWFactor=1, **fields)
        else:
            self.operator(tfl.BuiltinOperator.CONV_2D, tfl.BuiltinOptions.Conv2DOptions, tensors, y, tfl.Conv2DOptionsT,
                          dilationHFactor=1, dilationWFactor=1, **fields)
        return y


def to_tflite(graph, tensors):
    network, shape = Network(), [graph["input"][key] for key in ("channels", "height", "width")]
    zero_point = graph["input"]["zero_points"][0]
    known = {"input": {"index": network.activation(shape, zero_point), "shape": shape, "zero_point": zero_point}}
    first = known["input"]["index"]
    for layer in graph["layers"]:
        kind, reads = layer["kind"], [known[name] for name in layer["from"]]
        read = reads[0]
        weight, bias, scale = (tensors.get(f"{layer['name']}.{part}") for part in ("weight", "bias", "scale"))
        channels, *size = read["shape"]
        if "kernel" in layer:
            top, left, bottom, right = layer["padding"]
            padded = size[0] + top + bottom, size[1] + left + right
            size = [(all_ - k) // s + 1 for all_, k, s in zip(padded, layer["kernel"], layer["stride"])]
        zero_point = layer.get("zero_point", read["zero_point"])
        if kind == "conv":
            shape = [layer["channels"], *size]
            depthwise = layer["groups"] == channels == layer["channels"]
            y = network.sums(read, weight, bias, scale, layer, shape, depthwise)
        elif kind == "average_pool":
            shape = [channels, *size]
            ones = np.ones((channels, 1, *layer["kernel"]))
            y = network.sums(read, ones, np.zeros(channels), np.repeat(scale, channels), layer, shape, True)
        elif kind == "max_pool":
            shape = [channels, *size]
            y = network.activation(shape, zero_point)
            padding = tfl.Padding.SAME if any(layer["padding"]) else tfl.Padding.VALID
            network.operator(tfl.BuiltinOperator.MAX_POOL_2D, tfl.BuiltinOptions.Pool2DOptions, [read["index"]], y,
                             tfl.Pool2DOptionsT, padding=padding, strideH=layer["stride"][0], strideW=layer["stride"][1],
                             filterHeight=layer["kernel"][0], filterWidth=layer["kernel"][1])
        elif kind == "add":
            shape = read["shape"]
            y = network.activation(shape, zero_point)
            network.operator(tfl.BuiltinOperator.ADD, tfl.BuiltinOptions.AddOptions, [r["index"] for r in reads], y, tfl.AddOptionsT)
        elif kind == "linear" and "low" not in layer:
            y = network.tensor((1, layer["channels"]), tfl.TensorType.INT8, 64.0)
            weights = [network.tensor(weight.shape, tfl.TensorType.INT8, 1.0, 0, weight),
                       network.tensor(bias.shape, tfl.TensorType.INT32, 1.0, 0, bias)]
            network.operator(tfl.BuiltinOperator.FULLY_CONNECTED, tfl.BuiltinOptions.FullyConnectedOptions,
                             [read["index"], *weights], y, tfl.FullyConnectedOptionsT)
        else:
            raise ValueError(f"found a layer {kind}, which the standard networks do not have")
        known[layer["name"]] = {"index": y, "shape": shape, "zero_point": zero_point}
    model, subgraph = tfl.ModelT(), tfl.SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = network.tensors, network.operators, [first], [y]
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [subgraph], network.buffers, []
    for code in network.codes:
        entry = tfl.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 3
        model.operatorCodes.append(entry)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
