"""Trains the float network of `cifar10-resnet` on CPUs: train.py --data train.tar.gz --run FOLDER

The network, its whitened first layer, its first weights and the alternating mirroring are after K. Jordan, "94% on CIFAR-10 in 3.29
Seconds on a Single GPU", 2024 (airbench96); convolutions learn by Muon (K. Jordan et al., 2024), all else by SGD. Workers take small
batches of a step in turn, so that it goes as fast as all cores together, however much else they have to do. Products are of
bfloat16 where the processor has them."""

import argparse
import io
import json
import math
import os
import signal
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from PIL import Image
from torch import nn

WIDTHS = (48, 128, 144)
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SHIFT, CUTOUT, SMOOTHING = 4, 8, 0.1
SMALL, SMALL_UNTIL = 24, 0.45  # the side of what is seen first, and until which part of the training
MIXED, MIXED_UNTIL = 0.3, 0.75  # the share of pictures that get a rectangle of another
MICRO = 128  # pictures that batch normalisation sees together
STEP = 512  # pictures before the weights change
MUON, MUON_MOMENTUM = 0.05, 0.9
BIASES, HEAD, MOMENTUM, DECAY = 0.02, 0.0008, 0.85, 2e-6  # rates for the sum of losses over a step
KEPT = 2000


class Norm(nn.Module):
    """Batch normalisation with a bias alone."""

    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("one", torch.ones(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.momentum = 0.1

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.variance, self.one, self.bias, self.training, self.momentum, 1e-5)

    def fold(self, convolution):
        """The convolution and what normalises it as weights and biases."""
        scale = 1 / torch.sqrt(self.variance + 1e-5)
        return convolution.weight * scale[:, None, None, None], self.bias - self.mean * scale


def convolution(inputs, outputs):
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


class Block(nn.Module):
    """A convolution and a max-pool, and two convolutions around which they go."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs), Norm(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs), Norm(outputs)
        self.conv3, self.norm3 = convolution(outputs, outputs), Norm(outputs)

    def forward(self, x):
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)), inplace=True)
        y = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return F.relu(x + self.norm3(self.conv3(y)), inplace=True)


class Network(nn.Module):
    def __init__(self, widths=WIDTHS):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.blocks = nn.ModuleList(Block(*pair) for pair in zip((24, *widths), widths))
        self.head = nn.Linear(widths[-1], 10, bias=False)

    def forward(self, x):
        x = F.relu(self.whiten(x), inplace=True)
        for block in self.blocks:
            x = block(x)
        return self.head(x.amax((2, 3))) / 9


def whiten(layer, pictures):
    """Directions in which windows of the pictures vary, of either sign."""
    patches = pictures.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    directions = (vectors / torch.sqrt(values + 5e-4)).T.reshape(12, 3, 2, 2)
    layer.weight.data.copy_(torch.cat((directions, -directions)))
    layer.bias.data.zero_()
    layer.weight.requires_grad = False


def orthogonal(gradient, steps=4):
    """Newton and Schulz's iteration: the nearest matrix with singular values near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient / (gradient.norm() + 1e-7)
    transposed = x.shape[0] > x.shape[1]
    x = x.T if transposed else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if transposed else x


class Optimizer:
    def __init__(self, network):
        named = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self.filters = [value for value in named.values() if value.dim() == 4]
        self.rest = [(value, HEAD if name.startswith("head") else BIASES) for name, value in named.items() if value.dim() != 4]
        self.buffers = [torch.zeros_like(value) for value in self.filters + [value for value, _ in self.rest]]

    @torch.no_grad()
    def step(self, gradients, rate):
        """`gradients` by parameter; `rate` is the share of the highest rate."""
        for value, moment in zip(self.filters, self.buffers):
            gradient = gradients[value]
            moment.mul_(MUON_MOMENTUM).add_(gradient)
            matrix = (gradient + MUON_MOMENTUM * moment).reshape(len(value), -1)
            value.mul_(math.sqrt(len(value)) / value.norm())
            value.add_(orthogonal(matrix).reshape(value.shape), alpha=-MUON * rate)
        for (value, high), moment in zip(self.rest, self.buffers[len(self.filters):]):
            gradient = gradients[value] + DECAY * STEP / high * value
            moment.mul_(MOMENTUM).add_(gradient)
            value.add_(gradient + MOMENTUM * moment, alpha=-high * rate)


def read(path):
    """Pictures (N, 3, 32, 32) and labels of class folders in a tar; classes in the order of their names."""
    pixels, names = [], []
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and not Path(member.name).name.startswith("."):
                picture = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                pixels.append(np.asarray(picture).transpose(2, 0, 1))
                names.append(Path(member.name).parent.name)
    classes = sorted(set(names))
    labels = [classes.index(name) for name in names]
    return torch.from_numpy(np.stack(pixels)), torch.tensor(labels), classes


def split(count, kept):
    """Pictures to keep back, and the rest. The kept are the first of one order, so that fewer are among more."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[:kept], order[kept:]


def normalise(pixels):
    mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return ((pixels / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last)


class Work:
    """What the processes share: pictures, weights, and the small batches of the step at hand."""

    def __init__(self, pixels, labels, network, workers):
        self.padded = F.pad(pixels.float(), (SHIFT,) * 4, mode="reflect").byte().share_memory_()
        self.labels = labels.share_memory_()
        self.network = network.share_memory()
        items = STEP // MICRO
        self.rows = torch.zeros(items, MICRO, dtype=torch.long).share_memory_()
        self.changes = torch.zeros(items, MICRO, 8, dtype=torch.long).share_memory_()
        self.size = multiprocessing.Value("i", 32)
        self.gradients = [[torch.zeros_like(value).share_memory_() for value in network.parameters() if value.requires_grad]
                          for _ in range(workers)]
        self.sums = torch.zeros(workers, 2).share_memory_()
        self.barrier = multiprocessing.Barrier(workers)
        self.next = multiprocessing.Value("i", 0)
        self.over = multiprocessing.Value("b", 0)

    def pictures(self, item):
        """What a small batch shows, its labels, those of the pictures mixed in, and the shares of these."""
        size, rows = self.size.value, self.rows[item]
        down, right, mirrored, top, left, rows_covered, columns_covered, mixed = self.changes[item].unbind(1)
        windows = self.padded.unfold(2, size, 1).unfold(3, size, 1)
        x = normalise(windows[rows, :, down, right])
        x = torch.where(mirrored.bool()[:, None, None, None], x.flip(3), x)
        place = torch.arange(size)
        row, column = place.reshape(1, size, 1), place.reshape(1, 1, size)
        within = lambda at, start, length: (at >= start[:, None, None]) & (at < (start + length)[:, None, None])
        covered = within(row, top, rows_covered) & within(column, left, columns_covered)
        other = x.roll(1, 0) * mixed[:, None, None, None]
        x = torch.where(covered[:, None], other, x).contiguous(memory_format=torch.channels_last)
        labels = self.labels[rows]
        return x, labels, labels.roll(1), covered.float().mean((1, 2)) * mixed

    def run(self, worker):
        """One worker's part of a step; its gradients are of the sum of losses."""
        parameters = [value for value in self.network.parameters() if value.requires_grad]
        self.barrier.wait()
        if self.over.value:
            return False
        for gradient, value in zip(self.gradients[worker], parameters):
            gradient.zero_()
            value.grad = gradient
        self.sums[worker] = 0
        while True:
            with self.next.get_lock():
                item = self.next.value
                self.next.value += 1
            if item >= len(self.rows):
                break
            x, labels, others, share = self.pictures(item)
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.network(x).float()
            loss_of = lambda labels: F.cross_entropy(logits, labels, label_smoothing=SMOOTHING, reduction="none")
            loss = ((1 - share) * loss_of(labels) + share * loss_of(others)).sum()
            loss.backward()
            self.sums[worker] += torch.tensor([loss.item(), (logits.argmax(1) == labels).sum().item()])
        self.barrier.wait()
        return True


def helper(work, worker):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    work.network = detached(work.network)
    while work.run(worker):
        pass


def detached(network):
    """A network with the same weights in memory, and statistics and gradients of its own."""
    own = Network()
    for mine, shared in zip(own.parameters(), network.parameters()):
        mine.data = shared.data
        mine.requires_grad = shared.requires_grad
    return own.train()


@torch.no_grad()
def evaluate(work, pixels, labels, generator):
    """Statistics of pictures as they are, then loss and share of right answers on those that are kept back."""
    network = detached(work.network)
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    for batch in range(20):
        rows = torch.randint(len(work.labels), (250,), generator=generator)
        for norm in norms:
            norm.momentum = 1 / (batch + 1)
        network(normalise(work.padded[rows, :, SHIFT:SHIFT + 32, SHIFT:SHIFT + 32]))
    network.eval()
    logits = torch.cat([network(normalise(part)) for part in pixels.split(250)])
    return network, F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def draw(work, rows, epoch, size, mixed, generator):
    """Says how each picture of a step is changed; every other epoch shows its other side."""
    items = len(rows)
    whole = lambda high: torch.randint(high, (items, MICRO), generator=generator)
    real = lambda: torch.rand((items, MICRO), generator=generator)
    work.size.value = size
    work.rows[:items] = rows
    shifts = 32 + 2 * SHIFT - size + 1
    mirrored = (work.rows[:items] * 2654435761 // 65536 + epoch) % 2
    mixes = (real() < mixed).long()
    covered = torch.where(mixes.bool(), (size * real().sqrt()).long(), CUTOUT * size // 32)
    work.changes[:items] = torch.stack((whole(shifts), whole(shifts), mirrored, whole(size) - covered // 2,
                                        whole(size) - covered // 2, covered, covered, mixes), 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder of the checkpoint; what is in it goes on")
    parser.add_argument("--epochs", type=float, default=50)
    parser.add_argument("--minutes", type=float, help="end then instead, and sink the rate by the time that is left")
    parser.add_argument("--keep", type=int, default=KEPT, help="pictures to keep back")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--pause", type=Path, help="wait while this file is there")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.run.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    cache = arguments.run / "pictures.pt"
    if not cache.exists():
        torch.save(read(arguments.data), cache)
    pixels, labels, classes = torch.load(cache)
    kept, rest = split(len(labels), arguments.keep)
    network = Network()
    whiten(network.whiten, normalise(pixels[rest[:5000]]))
    work = Work(pixels[rest], labels[rest], network, arguments.workers)
    work.network = detached(network)
    optimizer = Optimizer(work.network)
    parameters = [value for value in work.network.parameters() if value.requires_grad]
    steps_in_epoch = len(rest) // STEP
    state = {"step": 0, "progress": 0.0, "minutes": 0.0}
    checkpoint = arguments.run / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        state = saved["state"]
        for name, value in work.network.state_dict().items():
            value.copy_(saved["network"][name])
        for moment, value in zip(optimizer.buffers, saved["moments"]):
            moment.copy_(value)
        generator.set_state(saved["generator"])

    helpers = [multiprocessing.Process(target=helper, args=(work, worker), daemon=True) for worker in range(1, arguments.workers)]
    for process in helpers:
        process.start()
    log = open(arguments.run / "metrics.jsonl", "a")
    began, first = time.time() - state["minutes"] * 60, state["step"]
    started, sums, counted = time.time(), torch.zeros(2), 0
    while state["progress"] < 1:
        epoch, within = divmod(state["step"], steps_in_epoch)
        if within == 0 or counted == 0:
            shuffled = torch.randperm(len(rest), generator=torch.Generator().manual_seed(arguments.seed * 1000 + epoch))
        while arguments.pause and arguments.pause.exists():
            time.sleep(0.5)
        rows = shuffled[within * STEP:(within + 1) * STEP].reshape(-1, MICRO)
        progress = state["progress"]
        draw(work, rows, epoch, SMALL if progress < SMALL_UNTIL else 32, MIXED if progress < MIXED_UNTIL else 0, generator)
        work.next.value = 0
        work.run(0)
        gradients = {value: sum(part[place] for part in work.gradients) for place, value in enumerate(parameters)}
        optimizer.step(gradients, 1 - progress)
        sums, counted = sums + work.sums.sum(0), counted + STEP
        state["step"] += 1
        state["minutes"] = (time.time() - began) / 60
        if arguments.minutes:
            pace = (time.time() - started) / (state["step"] - first)
            left = max((arguments.minutes - state["minutes"]) * 60 / pace, 0)
        else:
            left = arguments.epochs * steps_in_epoch - state["step"]
        state["progress"] = 1.0 if left < 1 else state["progress"] + (1 - state["progress"]) / (left + 1)
        if state["step"] % steps_in_epoch == 0 or state["progress"] >= 1:
            own, loss, right = evaluate(work, pixels[kept], labels[kept], generator)
            line = {"epoch": state["step"] / steps_in_epoch, "minutes": state["minutes"], "progress": state["progress"],
                    "training_loss": sums[0].item() / counted, "training_right": sums[1].item() / counted,
                    "kept_loss": loss, "kept_right": right, "images_per_second": counted / (time.time() - started)}
            print(json.dumps(line), flush=True)
            print(json.dumps(line), file=log, flush=True)
            torch.save({"state": state, "network": own.state_dict(), "moments": optimizer.buffers,
                        "generator": generator.get_state(), "classes": classes}, checkpoint.with_suffix(".new"))
            os.replace(checkpoint.with_suffix(".new"), checkpoint)
            started, first, sums, counted = time.time(), state["step"], torch.zeros(2), 0
    work.over.value = 1
    work.barrier.wait()
    for process in helpers:
        process.join()


if __name__ == "__main__":
    main()
