"""Prints the logits that a model gives for an image, as docs/inference.md says: run_model.py MODEL IMAGE

IMAGE is raw pixels (u8 in the order channel, row, column) or, where Pillow is installed, a picture. Needs numpy."""
import json, sys
import numpy as np

DTYPES = {"I8": "i1", "I16": "<i2", "I32": "<i4", "U8": "u1"}

def load(path):
    file = open(path, "rb").read()
    length = int.from_bytes(file[:8], "little")
    header, data, tensors = json.loads(file[8 : 8 + length]), file[8 + length :], {}
    graph = json.loads(header.pop("__metadata__")["graph"])
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        tensor = np.frombuffer(data[first:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = tensor.astype(np.int64)
    return graph, tensors

def windows(x, layer):
    """(C, H, W) to (C, H', W', kernel, kernel)."""
    size, stride = (layer["kernel"], layer["kernel"]), layer["stride"]
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))[:, ::stride, ::stride]

def logits(graph, tensors, pixels):
    shape = [graph["input"][key] for key in ("channels", "height", "width")]
    x = np.frombuffer(pixels, np.uint8).reshape(shape).astype(np.int64) >> 1
    outputs = {"input": x}
    for layer in graph["layers"]:
        # One number for each output channel: shape (O, 1, 1). The last layer has no shift.
        bias, multiplier, shift = (
            tensors[key][:, None, None] if (key := f"{layer['name']}.{part}") in tensors else None
            for part in ("bias", "multiplier", "shift"))
        if layer["kind"] == "max_pool":
            x = windows(x, layer).max(axis=(3, 4))
        elif layer["kind"] == "sum_pool":
            x = windows(x, layer).sum(axis=(3, 4)) + (1 << layer["shift"] >> 1)
            shift = layer["shift"]
        elif layer["kind"] == "conv":
            edge = (layer["padding"], layer["padding"])
            x = windows(np.pad(x, ((0, 0), edge, edge)), layer)
            x = np.einsum("ihwjk,oijk->ohw", x, tensors[layer["name"] + ".weight"]) + bias
        else:
            x = (tensors[layer["name"] + ".weight"] @ x.reshape(-1))[:, None, None] + bias
        if multiplier is not None:
            x = x + multiplier * outputs[layer["skip"]]
        outputs[layer["name"]] = x = x if shift is None else np.clip(x >> shift, 0, 127)
    return x.reshape(-1).tolist()

def pixels(path, channels, height, width):
    data = open(path, "rb").read()
    if len(data) == channels * height * width:
        return data
    from PIL import Image, ImageOps  # decodes and resizes a little differently from `ocelli submit`
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1).tobytes()

if __name__ == "__main__":
    graph, tensors = load(sys.argv[1])
    print(*logits(graph, tensors, pixels(sys.argv[2], **graph["input"])))
