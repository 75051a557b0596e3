"""Compares a model with the float network it was made of: measure.py FLOAT.onnx MODEL.onnx PICTURES CROP

PICTURES is a .tar or folder of class folders whose names begin with the class's number; both networks see the same pixels: the
centre, CROP 256ths of the sides, resized. Needs numpy, onnxruntime and Pillow."""

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps

MEAN, DEVIATION = 127.0, 128.0


def pictures(path):
    """Class and bytes of every picture."""
    path = Path(path)
    if path.is_dir():
        files = ((file.relative_to(path).as_posix(), file.read_bytes()) for file in sorted(path.rglob("*")) if file.is_file())
    else:
        with tarfile.open(path) as tar:
            files = [(member.name, tar.extractfile(member).read()) for member in tar if member.isfile()]
    for name, data in files:
        yield int(Path(name).parent.name.split("_")[0]), data


def pixels(data, crop):
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    picture = ImageOps.fit(picture, (224, 224), Image.Resampling.BILINEAR, bleed=(1 - crop / 256) / 2)
    return np.asarray(picture).transpose(2, 0, 1)[None]


def main():
    parent, model = (ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in sys.argv[1:3])
    total = right = parent_right = same = 0
    for label, data in pictures(sys.argv[3]):
        seen = pixels(data, int(sys.argv[4]))
        floats = parent.run(None, {"pictures": ((seen - MEAN) / DEVIATION).astype(np.float32)})[0][0]
        integers = model.run(None, {"pixels": seen})[0][0]
        total += 1
        right += integers.argmax() == label
        parent_right += floats.argmax() == label
        same += integers.argmax() == floats.argmax()
    print(f"{total} pictures: {total - same} labels other than the float network's; right {right}, float {parent_right}")


if __name__ == "__main__":
    main()
