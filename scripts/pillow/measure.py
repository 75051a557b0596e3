"""Ours and Pillow, in turns: from JPEG files in memory to the pixels of a model of 224x224, on one core.

    measure.py RATE [--json] [--rounds N] [--pictures FOLDER]

RATE is model/picture/examples/rate.rs, built.
"""

import argparse
import io
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import PIL
from PIL import Image, ImageChops, ImageOps, features

MODEL = 224
SOURCES = (448, 320, 224)
QUALITY = 90
# What one turn takes, about, for either.
TURN_SECONDS = 0.4


def made(rng):
    """A picture of 448x448 that has about as much to encode as a photograph: ever finer noise, ever less of it."""
    picture = Image.new("RGB", (448, 448), (128, 128, 128))
    for side, strength in ((4, 0.9), (14, 0.5), (56, 0.25), (224, 0.1), (448, 0.05)):
        noise = Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side)).resize((448, 448), Image.BICUBIC)
        grey = Image.new("RGB", (448, 448), (128, 128, 128))
        picture = ImageChops.add(picture, Image.blend(grey, noise, strength), 1, -128)
    return picture


def encode(picture, side):
    out = io.BytesIO()
    ImageOps.fit(picture.convert("RGB"), (side, side), Image.LANCZOS).save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def pillow(file):
    """For pictures and models that are square, one call resizes as the two of docs/picture.md do."""
    picture = Image.open(io.BytesIO(file)).convert("RGB").resize((MODEL, MODEL), Image.BILINEAR)
    return b"".join(band.tobytes() for band in picture.split())


def measure(rate, folder, side, pictures, rounds):
    files = [encode(picture, side) for picture in pictures]
    paths = [folder / f"{side}-{number}.jpg" for number in range(len(files))]
    for path, file in zip(paths, files):
        path.write_bytes(file)
    ours = subprocess.Popen([rate, str(MODEL), folder / "pixels", *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn_of_ours(times):
        ours.stdin.write(f"{times}\n")
        ours.stdin.flush()
        return int(ours.stdout.readline()) / 1e9

    def turn_of_pillow(times):
        begin = time.perf_counter()
        for _ in range(times):
            for file in files:
                pillow(file)
        return time.perf_counter() - begin

    once = max(turn_of_ours(1), turn_of_ours(1), 1e-4)
    if (folder / "pixels").read_bytes() != b"".join(pillow(file) for file in files):
        sys.exit(f"pixels of {side}x{side} differ from Pillow's")
    times = max(1, round(TURN_SECONDS / once))
    turns = [(turn_of_ours(times), turn_of_pillow(times)) for _ in range(rounds)]
    ours.stdin.close()
    ours.wait()
    each = times * len(files)
    return {
        "side": side,
        "bytes": round(statistics.mean(len(file) for file in files)),
        "ours_ms": statistics.median(mine for mine, _ in turns) / each * 1e3,
        "pillow_ms": statistics.median(theirs for _, theirs in turns) / each * 1e3,
        "ratio": statistics.median(theirs / mine for mine, theirs in turns),
        "ratio_least": min(theirs / mine for mine, theirs in turns),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rate")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pictures", type=pathlib.Path)
    arguments = parser.parse_args()
    # One core for both, this process and the one that it starts.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if arguments.pictures:
        paths = sorted(path for path in arguments.pictures.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        # None is enlarged.
        pictures = [Image.open(path) for path in paths]
        pictures = [picture for picture in pictures if min(picture.size) >= max(SOURCES)][:20]
        if not pictures:
            sys.exit(f"found no picture with sides of {max(SOURCES)} or more in {arguments.pictures}")
    else:
        rng = random.Random(23)
        pictures = [made(rng) for _ in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(arguments.rate, pathlib.Path(folder), side, pictures, arguments.rounds) for side in SOURCES]
    print(f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}; {len(pictures)} pictures, quality {QUALITY}, 4:2:0")
    print(f"{'FROM':>9} {'BYTES':>7} {'OURS':>9} {'PILLOW':>9} {'RATE':>6} {'LEAST':>6}   (to {MODEL}x{MODEL}; rate over Pillow's)")
    for row in rows:
        name = f"{row['side']}x{row['side']}"
        print(f"{name:>9} {row['bytes']:>7} {row['ours_ms']:>6.3f} ms {row['pillow_ms']:>6.3f} ms {row['ratio']:>6.2f} {row['ratio_least']:>6.2f}")
    if arguments.json:
        print(json.dumps({"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo"), "rows": rows}))


if __name__ == "__main__":
    main()
