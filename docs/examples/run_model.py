"""Prints the logits that a model gives for an image, as docs/inference.md says: run_model.py MODEL IMAGE

IMAGE is raw pixels (u8 in the order channel, row, column) or, where Pillow is installed, a picture. Needs numpy."""
import json, sys
import numpy as np

DTYPES = {"F32": "<f4", "I32": "<i4", "I8": "i1", "U8": "u1"}

def load(path):
    file = open(path, "rb").read()
    length = int.from_bytes(file[:8], "little")
    header, data, tensors = json.loads(file[8 : 8 + length]), file[8 + length :], {}
    graph = json.loads(header.pop("__metadata__")["graph"])
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[first:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return graph, tensors

def req(acc, scale, layer):
    """Activations of sums (C, H, W): one product in binary32, clamped, rounded to even."""
    z, value = layer["zero_point"], acc.astype(np.float32) * scale.reshape(-1, 1, 1)
    value = np.clip(value, np.float32(layer["low"] - z), np.float32(layer["high"] - z))
    return z + np.rint(value).astype(np.int64)

def windows(x, layer):
    """(C, H, W), padded with 0, to (C, H', W', kernel rows, kernel columns)."""
    (top, left, bottom, right), (rows, columns) = layer["padding"], layer["stride"]
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    return np.lib.stride_tricks.sliding_window_view(x, layer["kernel"], axis=(1, 2))[:, ::rows, ::columns]

def logits(graph, tensors, pixels):
    shape = [graph["input"][key] for key in ("channels", "height", "width")]
    outputs = {"input": np.frombuffer(pixels, np.uint8).reshape(shape).astype(np.int64)}
    zeros = {"input": np.array(graph["input"]["zero_points"]).reshape(-1, 1, 1)}
    for layer in graph["layers"]:
        kind, read = layer["kind"], layer["from"]
        weight, bias, scale, table = (tensors.get(f"{layer['name']}.{part}") for part in ("weight", "bias", "scale", "table"))
        x, y = outputs[read[0]], [outputs[name] - zeros[name] for name in read]
        if kind == "conv":
            patches = np.split(windows(y[0], layer), layer["groups"])
            weights = np.split(weight.astype(np.int64), layer["groups"])
            acc = np.concatenate([np.einsum("ihwjk,oijk->ohw", *pair, optimize=True) for pair in zip(patches, weights)])
            x = req(acc + bias.reshape(-1, 1, 1), scale, layer)
        elif kind == "linear":
            acc = (weight.astype(np.int64) @ y[0].reshape(-1) + bias).reshape(-1, 1, 1)
            last = {"zero_point": 0, "low": -(2**24), "high": 2**24}
            x = acc if scale is None else req(acc, scale, layer if "low" in layer else last)
        elif kind == "add":
            acc = sum(m * v for m, v in zip(layer["multipliers"], y)) + (1 << layer["shift"] - 1)
            x = np.clip(layer["zero_point"] + (acc >> layer["shift"]), layer["low"], layer["high"])
        elif kind == "multiply":
            x = req(y[0] * y[1], scale, layer)
        elif kind == "average_pool":
            x = req(windows(y[0], layer).sum(axis=(3, 4)), scale, layer)
        elif kind == "max_pool":
            x = windows(x, layer).max(axis=(3, 4))
        elif kind == "concat":
            x = np.concatenate([outputs[name] for name in read])
        elif kind == "lookup":
            x = table.astype(np.int64)[x]
        outputs[layer["name"]], zeros[layer["name"]] = x, layer.get("zero_point", np.min(zeros[read[0]]))
    return x.reshape(-1).tolist()

def pixels(path, channels, height, width, crop, zero_points):
    data = open(path, "rb").read()
    if len(data) == channels * height * width:
        return data
    from PIL import Image, ImageOps  # decodes and resizes a little differently from `ocelli submit`
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR, bleed=(1 - crop / 256) / 2)
    return np.asarray(picture).transpose(2, 0, 1).tobytes()

if __name__ == "__main__":
    graph, tensors = load(sys.argv[1])
    print(*logits(graph, tensors, pixels(sys.argv[2], **graph["input"])))
