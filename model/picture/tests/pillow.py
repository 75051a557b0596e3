"""Makes JPEG files, and says what Pillow makes of them: for tests/pillow.rs, which runs it.

    python3 pillow.py SEED COUNT

On stdout, for each file, in little-endian: its bytes, and the model's channels, height, width and crop (u32 each); whether
it must be taken (u32: 0 or 1); the bytes of Pillow's pixels (u32, 0 if Pillow refuses the file); the file; the pixels.

Every second file is changed after it is written: then it may be refused, but what is taken must be what Pillow shows.
"""

import io
import random
import struct
import sys
import warnings

from PIL import Image, ImageFile, features

MAX_SIDE = 1024
# The buffer that files are written into: what Pillow guesses is too small for odd tables.
ImageFile.MAXBLOCK = 1 << 22

if not features.check("libjpeg_turbo"):
    sys.exit("this Pillow was built without libjpeg-turbo")
warnings.simplefilter("ignore")


def side(rng):
    most = rng.choice([3, 9, 17, 40, 40, 80, 80, 150])
    if rng.random() < 0.01:
        return rng.choice([MAX_SIDE, MAX_SIDE - 1, 700])
    return rng.randint(1, most)


def picture(rng):
    """Noise, flat colours, or what is smooth as a photograph; sometimes grey."""
    mode = "L" if rng.random() < 0.15 else "RGB"
    channels = len(mode)
    columns, rows = side(rng), side(rng)
    kind = rng.random()
    if kind < 0.3:
        return Image.frombytes(mode, (columns, rows), rng.randbytes(columns * rows * channels))
    if kind < 0.45:
        return Image.frombytes(mode, (columns, rows), bytes(rng.choice((0, 255)) for _ in range(columns * rows * channels)))
    if kind < 0.55:
        return Image.new(mode, (columns, rows), tuple(rng.randbytes(channels)) if channels > 1 else rng.randrange(256))
    small = rng.randint(2, 12)
    seeds = Image.frombytes(mode, (small, small), rng.randbytes(small * small * channels))
    return seeds.resize((columns, rows), Image.BICUBIC)


def encode(rng, image):
    """A file that must be taken, unless it is too large."""
    options = {"quality": rng.choice([rng.randint(1, 100), rng.randint(70, 98)]), "optimize": rng.random() < 0.5}
    if image.mode == "RGB":
        options["subsampling"] = rng.choice(["4:4:4", "4:2:2", "4:2:0"])
    if rng.random() < 0.2:
        options["restart_marker_blocks"] = rng.randint(1, 9)
    elif rng.random() < 0.1:
        options["restart_marker_rows"] = 1
    if rng.random() < 0.1:
        tables = [[rng.randint(1, 255) for _ in range(64)] for _ in range(1 if image.mode == "L" else 2)]
        options["qtables"] = tables
        del options["quality"]
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def change(rng, file):
    """One to three bytes or bits of a file are others, are gone, or are new."""
    file = bytearray(file)
    scan = file.rfind(b"\xff\xda")
    for _ in range(rng.randint(1, 3)):
        # Most of what happens in the scan is taken; most of what happens before is not.
        begin = min(scan + 10, len(file) - 1) if rng.random() < 0.7 else 0
        at = rng.randrange(begin, len(file))
        what = rng.random()
        if what < 0.5:
            file[at] ^= 1 << rng.randrange(8)
        elif what < 0.8:
            file[at] = rng.choice([rng.randrange(256), 0x00, 0xFF, 0x7F])
        elif what < 0.88:
            del file[at]
        elif what < 0.96:
            file.insert(at, rng.choice([rng.randrange(256), 0x00, 0xFF]))
        else:
            del file[max(4, at):]
        if len(file) < 4:
            break
    return bytes(file)


def kept(columns, rows, height, width, crop):
    if columns * height > rows * width:
        w, h = max(rows * width // height, 1), rows
    else:
        w, h = columns, max(columns * height // width, 1)
    w, h = max(w * crop // 256, 1), max(h * crop // 256, 1)
    left, top = (columns - w) // 2, (rows - h) // 2
    return left, top, left + w, top + h


def pixels(file, channels, height, width, crop):
    """What Pillow shows, or nothing."""
    try:
        image = Image.open(io.BytesIO(file), formats=["JPEG"])
        if max(image.size) > MAX_SIDE:
            return b""
        image = image.convert("RGB")
    except Exception:  # Pillow raises whatever its parsers come upon.
        return b""
    left, top, right, bottom = kept(*image.size, height, width, crop)
    # In two calls, so that every version resizes the rows first.
    image = image.crop((left, top, right, bottom)).resize((width, bottom - top), Image.BILINEAR)
    image = image.resize((width, height), Image.BILINEAR)
    if channels == 1:
        return image.convert("L").tobytes()
    return b"".join(band.tobytes() for band in image.split())


def main(seed, count):
    rng = random.Random(seed)
    out = sys.stdout.buffer
    for number in range(count):
        file = encode(rng, picture(rng))
        whole = number % 2 == 0
        if not whole:
            file = change(rng, file)
        square = rng.choice([None, 32, 96])
        height, width = (square, square) if square else (rng.randint(1, 64), rng.randint(1, 64))
        if rng.random() < 0.01:
            height, width = rng.choice([(224, 224), (1, 1024), (1024, 1), (300, 200)])
        channels = rng.choice([1, 3, 3])
        crop = rng.choice([256, 256, 224, rng.randint(1, 256)])
        shown = pixels(file, channels, height, width, crop)
        must = whole and len(file) <= 262144
        out.write(struct.pack("<7I", len(file), channels, height, width, crop, must, len(shown)))
        out.write(file)
        out.write(shown)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
