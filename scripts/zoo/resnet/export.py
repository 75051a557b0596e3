"""Writes the network that train.py has trained as ONNX: export.py FOLDER OUT.onnx

Batch normalisation is folded into weights and biases, and logits are divided by the temperature at which the probabilities of the
pictures that were kept back are right most (C. Guo et al., "On Calibration of Modern Neural Networks", 2017)."""

import argparse
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from train import KEPT, Network, normalise, split


class Graph:
    """Nodes and constants under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(values.detach().contiguous().numpy(), name))
        return name

    def convolution(self, x, name, weight, bias, padding):
        values = [self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        return self.node("Conv", [x, *values], name, kernel_shape=weight.shape[2:], pads=[padding] * 4)


def to_onnx(network, temperature):
    graph = Graph()
    x = graph.convolution("pictures", "stem", network.whiten.weight, network.whiten.bias, 0)
    x = graph.node("Relu", [x], "stem.relu")
    for number, block in enumerate(network.blocks, 1):
        folded = lambda x, part, norm: graph.convolution(x, f"block{number}.{part}", *norm.fold(getattr(block, part)), 1)
        x = graph.node("Relu", [folded(x, "conv1", block.norm1)], f"block{number}.relu1")
        x = graph.node("MaxPool", [x], f"block{number}.pool", kernel_shape=[2, 2], strides=[2, 2])
        y = graph.node("Relu", [folded(x, "conv2", block.norm2)], f"block{number}.relu2")
        x = graph.node("Add", [folded(y, "conv3", block.norm3), x], f"block{number}.sum")
        x = graph.node("Relu", [x], f"block{number}.relu3")
    x = graph.node("Flatten", [graph.node("GlobalMaxPool", [x], "pool")], "flat")
    weight = graph.constant("head.weight", network.head.weight / 9 / temperature)
    graph.node("Gemm", [x, weight], "logits", transB=1)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "cifar10-resnet",
            [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", 3, 32, 32])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="cifar10-resnet",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("output")
    parser.add_argument("--keep", type=int, default=KEPT, help="as it was given to train.py")
    arguments = parser.parse_args()
    network = Network().eval()
    network.load_state_dict(torch.load(arguments.run / "checkpoint.pt")["network"])
    pixels, labels, _ = torch.load(arguments.run / "pictures.pt")
    kept, _ = split(len(labels), arguments.keep)
    logits = torch.cat([network(normalise(part)) for part in pixels[kept].split(250)])
    temperatures = torch.linspace(0.3, 2.0, 171).tolist()
    temperature = min(temperatures, key=lambda value: F.cross_entropy(logits / value, labels[kept]).item())
    loss, right = F.cross_entropy(logits / temperature, labels[kept]), (logits.argmax(1) == labels[kept]).float().mean()
    print(f"temperature {temperature:.2f}; of {len(kept)} pictures kept back {right:.2%} right, loss {loss:.4f}")
    onnx.save(to_onnx(network, temperature), arguments.output)


if __name__ == "__main__":
    main()
