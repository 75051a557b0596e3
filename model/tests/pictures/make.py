"""Makes the pictures of this folder and the references that they are compared with.

Run in this folder, with cjpeg of libjpeg-turbo, cwebp and webpmux of libwebp, and Pillow on the path:

    python3 make.py

Pictures are written by other programs where those write the kind, else byte by byte from the format's specification. What
is lossless must give the pixels that went in. A JPEG or lossy WebP must give what Pillow (libjpeg-turbo, libwebp) gives.
"""

import io
import pathlib
import shutil
import struct
import subprocess
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
TABLE = []  # Rows of table.tsv: picture, reference, the most that a sample may differ.
REFERENCES = {}


def scene(width, height):
    """A picture, u8 in H×W×3, that no turn or flip leaves as it is: slopes, and a red and a blue rectangle."""
    row, column = np.mgrid[0:height, 0:width]
    red = 40 + 180 * column // width
    green = 220 - 190 * row // height
    blue = 60 + 5 * ((2 * column + 3 * row) % 37)
    picture = np.stack([red, green, blue], -1)
    picture[height // 5 : height // 2, width // 8 : width // 3] = [250, 20, 30]
    picture[height // 2 : height * 4 // 5, width // 2 : width * 7 // 8] = [20, 40, 240]
    return picture.astype(np.uint8)


def add(name, file, reference, tolerance=0):
    """Writes a picture, and its reference (u8, H×W×3) as PPM, once for all pictures that share it."""
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file)
    height, width, _ = reference.shape
    ppm = b"P6 %d %d 255\n" % (width, height) + np.ascontiguousarray(reference, np.uint8).tobytes()
    if ppm not in REFERENCES:
        REFERENCES[ppm] = f"references/{name.replace('/', '-').rsplit('.', 1)[0]}.ppm"
        path = HERE / REFERENCES[ppm]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(ppm)
    TABLE.append(f"{name}\t{REFERENCES[ppm]}\t{tolerance}\n")


def refuse(name, file):
    """Writes a picture that is refused; the words are in the test."""
    path = HERE / "refused" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file)


def on_white(rgba):
    """As the docs of this project say: (value · alpha + 255 · (255 - alpha) + 127) / 255."""
    rgba = rgba.astype(np.int64)
    alpha = rgba[..., 3:]
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def pillow(file):
    """What Pillow decodes, RGB, turned as EXIF says."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB"))


COLUMNS, ROWS = SMALL = 13, 9  # Of the pictures without loss.
MIDDLE = 19, 21  # Of the others: no whole number of blocks, at any sampling.

# The samples of two decoders differ by the rounding of the inverse transform, of upsampling and of the colours.
JPEG_TOLERANCE = 3


def run(*command, file=None):
    return subprocess.run([str(part) for part in command], input=file, capture_output=True, check=True).stdout


def ppm_of(picture):
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PPM")
    return out.getvalue()


def cjpeg(*options, scans=None, picture=None):
    picture = scene(*MIDDLE) if picture is None else picture
    with tempfile.NamedTemporaryFile("w", suffix=".scans") as script:
        if scans:
            script.write(scans)
            script.flush()
            options = [*options, "-scans", script.name]
        return run("cjpeg", "-quality", "80", *([] if "-arithmetic" in options else ["-optimize"]), *options, file=ppm_of(picture))


def jpeg(name, file, shown=None):
    """A JPEG, and what Pillow gives for it or for the file `shown` of the same picture."""
    add(f"jpeg/{name}.jpg", file, pillow(shown or file), JPEG_TOLERANCE)


SAMPLINGS = {
    "444": "1x1,1x1,1x1",
    "422": "2x1,1x1,1x1",
    "420": "2x2,1x1,1x1",
    "440": "1x2,1x1,1x1",
    "411": "4x1,1x1,1x1",
    "410": "4x2,1x1,1x1",
    "441": "1x4,1x1,1x1",
}
# Factors that few encoders write.
ODD_SAMPLINGS = {
    "y-1x3": "1x3,1x1,1x1",
    "all-1x2": "1x2,1x2,1x2",
    "all-2x1": "2x1,2x1,2x1",
    "chroma-2x2": "1x1,2x2,2x2",
    "cb-2x2": "1x1,2x2,1x1",
    "cr-2x1": "1x1,1x1,2x1",
    "y-2x2-cb-2x1-cr-1x2": "2x2,2x1,1x2",
    "y-2x2-chroma-2x1": "2x2,2x1,2x1",
    "y-2x2-chroma-1x2": "2x2,1x2,1x2",
    "y-3x1": "3x1,1x1,1x1",
}
SCANS = {
    "y-cb-cr": "0; 1; 2;",
    "cr-cb-y": "2; 1; 0;",
    "cb-y-cr": "1; 0; 2;",
    "y-cbcr": "0; 1 2;",
    "cbcr-y": "1 2; 0;",
    "ycb-cr": "0 1; 2;",
}
PROGRESSIVE_APART = (
    "0: 0-0, 0, 1; 1: 0-0, 0, 1; 2: 0-0, 0, 1; 2: 1-63, 0, 0; 1: 1-63, 0, 0;"
    "0: 1-9, 0, 2; 0: 10-63, 0, 2; 0: 1-63, 2, 1; 0: 1-63, 1, 0; 0: 0-0, 1, 0; 1: 0-0, 1, 0; 2: 0-0, 1, 0;"
)


def segments(file):
    """The segments before the first scan, each with its marker, and what follows from that scan on."""
    at, found = 2, []
    while file[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        found.append(file[at:end])
        at = end
    return found, file[at:]


def joined(head, rest):
    return b"\xff\xd8" + b"".join(head) + rest


def with_segment(file, marker, body):
    """The file with a segment put first."""
    return file[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + file[2:]


def without(file, *markers):
    head, rest = segments(file)
    return joined([segment for segment in head if segment[1] not in markers], rest)


def adobe(transform):
    return b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform)


def with_ids(file, ids):
    """The file with other names of its components."""
    head, rest = segments(file)
    head = [bytearray(segment) for segment in head]
    old = None
    for segment in head:
        if 0xC0 <= segment[1] <= 0xC2:
            old = [segment[10 + 3 * i] for i in range(segment[9])]
            for i, name in enumerate(ids):
                segment[10 + 3 * i] = name
    rest = bytearray(rest)
    for i in range(rest[4]):
        rest[5 + 2 * i] = ids[old.index(rest[5 + 2 * i])]
    return joined([bytes(segment) for segment in head], bytes(rest))


def with_frame(file, change):
    """The file with another start of frame, as `change` leaves its bytes."""
    head, rest = segments(file)
    for i, segment in enumerate(head):
        if 0xC0 <= segment[1] <= 0xC2:
            frame = bytearray(segment)
            change(frame)
            head[i] = bytes(frame)
    return joined(head, rest)


def four(picture, options, rgb=None):
    """A JPEG of four components that Pillow writes: 444, an Adobe marker with transform 0, inverted."""
    out = io.BytesIO()
    Image.fromarray(picture, "CMYK").save(out, "JPEG", quality=85, **options)
    return out.getvalue()


def inks(width, height):
    rgb = 255 - scene(width, height).astype(int)
    black = rgb.min(-1, keepdims=True) // 2
    return np.concatenate([rgb - black, black], -1).astype(np.uint8)


def jpegs():
    for name, sampling in SAMPLINGS.items():
        jpeg(f"sampling-{name}", cjpeg("-sample", sampling))
        jpeg(f"restarts-{name}", cjpeg("-sample", sampling, "-restart", "1B"))
        jpeg(f"progressive-{name}", cjpeg("-sample", sampling, "-progressive"))
        jpeg(f"progressive-apart-{name}", cjpeg("-sample", sampling, scans=PROGRESSIVE_APART))
        jpeg(f"progressive-restarts-{name}", cjpeg("-sample", sampling, "-restart", "2B", "-progressive"))
        jpeg(f"scans-{name}-y-cb-cr", cjpeg("-sample", sampling, scans=SCANS["y-cb-cr"]))
        jpeg(f"scans-{name}-cbcr-y", cjpeg("-sample", sampling, scans=SCANS["cbcr-y"]))
        jpeg(f"scans-{name}-restarts", cjpeg("-sample", sampling, "-restart", "2B", scans=SCANS["y-cb-cr"]))
    for name, scans in SCANS.items():
        jpeg(f"scans-420-{name}", cjpeg("-sample", "2x2", scans=scans))
    for name, sampling in ODD_SAMPLINGS.items():
        jpeg(f"odd-sampling-{name}", cjpeg("-sample", sampling))
        jpeg(f"odd-sampling-{name}-scans", cjpeg("-sample", sampling, scans=SCANS["y-cb-cr"]))
        jpeg(f"odd-sampling-{name}-progressive", cjpeg("-sample", sampling, "-progressive"))
    for width, height in [(5, 9), (16, 16), (17, 1), (33, 7), (8, 40)]:
        for name in ["420", "422"]:
            picture = scene(width, height)
            jpeg(f"size-{name}-{width}x{height}", cjpeg("-sample", SAMPLINGS[name], picture=picture))
            jpeg(f"size-{name}-{width}x{height}-scans", cjpeg("-sample", SAMPLINGS[name], scans=SCANS["y-cb-cr"], picture=picture))

    jpeg("grey", cjpeg("-grayscale"))
    jpeg("grey-progressive", cjpeg("-grayscale", "-progressive"))
    # The factors of a lone component say nothing about its size.
    jpeg("grey-factors-2x2", with_frame(cjpeg("-grayscale", "-restart", "1B"), lambda frame: frame.__setitem__(11, 0x22)))

    rgb = cjpeg("-rgb", "-sample", "1x1")
    jpeg("rgb-named-rgb-adobe-0", rgb)
    jpeg("rgb-named-rgb", without(rgb, 0xEE))
    jpeg("rgb-adobe-0", with_ids(rgb, [1, 2, 3]))
    jpeg("rgb-progressive", cjpeg("-rgb", "-sample", "1x1", "-progressive"))
    plain = without(cjpeg("-sample", "2x2"), 0xE0)
    jpeg("ycc-no-app", plain)
    jpeg("ycc-named-0-1-2", with_ids(plain, [0, 1, 2]))
    jpeg("ycc-named-9-7-5", with_ids(plain, [9, 7, 5]))
    jpeg("ycc-adobe-1", with_segment(plain, 0xEE, adobe(1)))
    jpeg("ycc-named-rgb-adobe-1", with_segment(with_ids(plain, [82, 71, 66]), 0xEE, adobe(1)))
    jpeg("ycc-jfif-named-rgb", with_ids(cjpeg("-sample", "2x2"), [82, 71, 66]))
    jpeg("ycc-jfif-adobe-0", with_segment(cjpeg("-sample", "2x2"), 0xEE, adobe(0)))

    cmyk = four(inks(*MIDDLE), {})
    jpeg("cmyk-adobe-0", cmyk)
    jpeg("cmyk-progressive", four(inks(*MIDDLE), {"progressive": True}))
    jpeg("cmyk-no-adobe", without(cmyk, 0xEE))
    ycck = with_segment(without(cmyk, 0xEE), 0xEE, adobe(2))
    jpeg("ycck-adobe-2", ycck)
    jpeg("cmyk-restarts", four(inks(*MIDDLE), {"restart_marker_blocks": 2}))

    apart = cjpeg("-sample", "2x2")
    jpeg("app2-icc", with_segment(apart, 0xE2, b"ICC_PROFILE\0\1\1" + bytes(128)))
    jpeg("comment", with_segment(apart, 0xFE, b"Created with \xff\xd9 and \xff\xc0 in a comment"))
    jpeg("fill-bytes", joined([b"\xff\xff" + s if i else s for i, s in enumerate(segments(apart)[0])], segments(apart)[1]))
    jpeg("thumbnail", with_segment(apart, 0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + cjpeg("-grayscale", picture=scene(8, 8))))
    jpeg("trailing-bytes", apart + b"maker's bytes \xff\xd8 after the end")
    jpeg("trailing-picture", apart + cjpeg(picture=scene(8, 8)))
    extended = bytearray(apart)
    extended[apart.index(b"\xff\xc0") + 1] = 0xC1
    jpeg("extended-sequential", bytes(extended))
    # All data, no end marker: Pillow calls some of these truncated.
    maker = b"SEFHk\0\0\0\1\0\0\0SEFT\0\0\1\n\x0eImage_UTC_Data1527163200000" * 3
    for name, options, scans in [
        ("", [], None),
        ("-progressive", ["-progressive"], None),
        ("-scans", [], SCANS["y-cb-cr"]),
        ("-restarts", ["-restart", "1B"], None),
    ]:
        whole = cjpeg("-sample", "2x2", *options, scans=scans)
        jpeg(f"no-end{name}", whole[:-2], whole)
        jpeg(f"no-end{name}-trailer", whole[:-2] + maker, whole)
        jpeg(f"no-end{name}-trailer-of-markers", whole[:-2] + b"\0\xff\xd8\xff\xe0\0\4ab\xff\xc0" + maker, whole)

    small = cjpeg("-sample", "2x1", picture=scene(*SMALL))
    for orientation in range(1, 9):
        jpeg(f"orientation-{orientation}", with_segment(small, 0xE1, b"Exif\0\0" + tiff(orientation)))
    jpeg("orientation-6-big-endian", with_segment(small, 0xE1, b"Exif\0\0" + tiff(6, ">")))
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    jpeg("orientation-6-after-xmp", with_segment(with_segment(small, 0xE1, b"Exif\0\0" + tiff(6)), 0xE1, xmp))
    jpeg("orientation-progressive", with_segment(cjpeg("-progressive", picture=scene(*SMALL)), 0xE1, b"Exif\0\0" + tiff(8)))

    # What is no picture of this program, or not whole.
    for name, sampling in [("y-4x1-chroma-2x1", "4x1,2x1,2x1"), ("y-4x1-cb-2x1", "4x1,2x1,1x1")]:
        refuse(f"jpeg-sampling-{name}.jpg", cjpeg("-sample", sampling, scans=SCANS["y-cb-cr"]))
    refuse("jpeg-narrow.jpg", cjpeg("-sample", "2x2", picture=scene(4, 9)))
    refuse("jpeg-dc-only.jpg", cjpeg("-sample", "2x2", scans="0 1 2: 0-0, 0, 0;"))
    refuse("jpeg-bits-left-out.jpg", cjpeg("-sample", "2x2", scans="0 1 2: 0-0, 0, 0; 0: 1-63, 0, 1; 1: 1-63, 0, 0; 2: 1-63, 0, 0;"))
    refuse("jpeg-arithmetic.jpg", cjpeg("-arithmetic"))
    refuse("jpeg-arithmetic-progressive.jpg", cjpeg("-arithmetic", "-progressive"))
    for name, marker in [("lossless", 0xC3), ("lossless-arithmetic", 0xCB), ("hierarchical", 0xC5)]:
        refuse(f"jpeg-{name}.jpg", with_frame(apart, lambda frame: frame.__setitem__(1, marker)))
    twelve = bytearray(extended)
    twelve[apart.index(b"\xff\xc0") + 4] = 12
    refuse("jpeg-12-bit.jpg", bytes(twelve))
    two = cjpeg("-grayscale")
    refuse("jpeg-two-components.jpg", with_frame(two, lambda f: (f.extend(b"\2\x11\0"), f.__setitem__(9, 2), f.__setitem__(3, 14))))
    dnl = with_frame(apart, lambda frame: frame.__setitem__(slice(5, 7), b"\0\0"))
    refuse("jpeg-height-after-scan.jpg", dnl[:-2] + b"\xff\xdc\0\4\0\x15" + b"\xff\xd9")
    refuse("jpeg-fractional-sampling.jpg", with_frame(cjpeg("-sample", "2x2"), lambda f: (f.__setitem__(11, 0x32), f.__setitem__(14, 0x21))))
    missing = cjpeg("-sample", "2x2", scans="0; 1; 2;")
    refuse("jpeg-scan-missing.jpg", missing[: missing.rindex(b"\xff\xda")] + b"\xff\xd9")
    refuse("jpeg-cut.jpg", apart[: len(apart) * 3 // 4])
    refuse("jpeg-cut-with-end.jpg", apart[: len(apart) * 3 // 4] + b"\xff\xd9")
    refuse("jpeg-cut-two-bytes.jpg", apart[:-4])
    refuse("jpeg-cut-one-byte-with-end.jpg", apart[:-4] + b"\xff\xd9")
    for name, options, scans in [("progressive", ["-progressive"], None), ("scans", [], SCANS["y-cb-cr"]), ("restarts", ["-restart", "1B"], None)]:
        whole = cjpeg("-sample", "2x2", *options, scans=scans)
        refuse(f"jpeg-cut-{name}.jpg", whole[:-9])
        refuse(f"jpeg-cut-{name}-with-end.jpg", whole[:-9] + b"\xff\xd9")
        refuse(f"jpeg-cut-{name}-half.jpg", whole[: len(whole) // 2])
        at = whole.index(b"\xff\xd1") if name == "restarts" else None
        if at:
            refuse("jpeg-restart-short.jpg", whole[: at - 4] + whole[at:])
    restarts = cjpeg("-sample", "2x2", "-restart", "1B")
    at = restarts.index(b"\xff\xd1")
    refuse("jpeg-restart-missing.jpg", restarts[: restarts.index(b"\xff\xd0")] + restarts[at:])
    refuse("jpeg-no-scan.jpg", joined(segments(apart)[0], b"\xff\xd9"))


def tiff(orientation, order="<", offset=0):
    """EXIF data that say an orientation, little or big endian."""
    mark = b"II" if order == "<" else b"MM"
    entries = struct.pack(order + "HHHIHH", 2, 0x0103, 3, 1, 6, 0) + struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "HI", 42, 8) + entries + bytes(4)


def turned(picture, orientation):
    image = Image.fromarray(picture)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


PNG = b"\x89PNG\r\n\x1a\n"
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(samples, depth, colour, before=b"", after=b"", interlaced=False):
    """A PNG of samples (H×W×channels), `before` and `after` its data more chunks."""
    height, width, channels = samples.shape

    def rows(part):
        out = b""
        for row in part:
            bits = "".join(format(int(value), f"0{depth}b") for value in row.reshape(-1))
            bits += "0" * (-len(bits) % 8)
            out += b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        return out

    if interlaced:
        passes = [samples[top::down, left::right] for top, left, down, right in ADAM7]
        data = b"".join(rows(part) for part in passes if part.size)
    else:
        data = rows(samples)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return PNG + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(data, 9)) + after + chunk(b"IEND", b"")


def pngs():
    rgb = scene(*SMALL)
    alpha = (np.add.outer(np.arange(ROWS) * 31, np.arange(COLUMNS) * 17) % 256).astype(np.uint8)[..., None]
    rgba = np.concatenate([rgb, alpha], -1)
    grey = rgb[..., :1]
    for way, interlaced in [("", False), ("-interlaced", True)]:
        add(f"png/rgb-8{way}.png", png(rgb, 8, 2, interlaced=interlaced), rgb)
        add(f"png/rgba-8{way}.png", png(rgba, 8, 6, interlaced=interlaced), on_white(rgba))
        add(f"png/grey-8{way}.png", png(grey, 8, 0, interlaced=interlaced), grey.repeat(3, -1))
        both = np.concatenate([grey, alpha], -1)
        shown = on_white(np.concatenate([grey.repeat(3, -1), alpha], -1))
        add(f"png/grey-alpha-8{way}.png", png(both, 8, 4, interlaced=interlaced), shown)
        for depth in [1, 2, 4]:
            few = grey >> (8 - depth)
            full = (few.astype(int) * 255 // ((1 << depth) - 1)).repeat(3, -1)
            add(f"png/grey-{depth}{way}.png", png(few, depth, 0, interlaced=interlaced), full)
            clear = chunk(b"tRNS", struct.pack(">H", int(few[0, 0, 0])))
            seen = np.where(few == few[0, 0, 0], 255, full)
            add(f"png/grey-{depth}-clear{way}.png", png(few, depth, 0, clear, interlaced=interlaced), seen)
        for depth in [1, 2, 4, 8]:
            count = 1 << depth
            indices = (np.add.outer(np.arange(ROWS) * 5, np.arange(COLUMNS) * 3) % count).astype(np.uint8)[..., None]
            colours = np.stack([np.arange(count) * 255 // (count - 1), np.arange(count)[::-1], np.arange(count) * 7 % 256], -1)
            palette = chunk(b"PLTE", colours.astype(np.uint8).tobytes())
            add(f"png/palette-{depth}{way}.png", png(indices, depth, 3, palette, interlaced=interlaced), colours[indices[..., 0]])
            # Alphas of the first colours only: the rest are opaque.
            alphas = [0, 100][: count - 1]
            known = np.concatenate([colours, np.full((count, 1), 255)], -1)
            known[: len(alphas), 3] = alphas
            file = png(indices, depth, 3, palette + chunk(b"tRNS", bytes(alphas)), interlaced=interlaced)
            add(f"png/palette-{depth}-clear{way}.png", file, on_white(known[indices[..., 0]]))
    # 16 bits a sample, rounded to 8: (v + 128) / 257.
    deep = rgba.astype(int) * 257
    deep[..., :3] = np.clip(deep[..., :3] + np.arange(ROWS)[:, None, None] * 9 - 60, 0, 65535)
    eight = (deep + 128) // 257
    add("png/rgb-16.png", png(deep[..., :3], 16, 2), eight[..., :3])
    add("png/grey-16.png", png(deep[..., :1], 16, 0), eight[..., :1].repeat(3, -1))
    add("png/rgba-16.png", png(deep, 16, 6), on_white(eight))
    add("png/grey-alpha-16.png", png(deep[..., [0, 3]], 16, 4), on_white(eight[..., [0, 0, 0, 3]]))
    clear = chunk(b"tRNS", deep[0, 0, :3].astype(">u2").tobytes())
    add("png/rgb-16-clear.png", png(deep[..., :3], 16, 2, clear), np.where((deep == deep[0, 0])[..., :3].all(-1, keepdims=True), 255, eight[..., :3]))
    clear = chunk(b"tRNS", rgb[7, 4].astype(">u2").tobytes())
    add("png/rgb-8-clear.png", png(rgb, 8, 2, clear), np.where((rgb == rgb[7, 4]).all(-1, keepdims=True), 255, rgb))

    profile = chunk(b"iCCP", b"odd\0\0" + zlib.compress(bytes(128)))
    add("png/icc.png", png(rgb, 8, 2, profile), rgb)
    add("png/gamma.png", png(rgb, 8, 2, chunk(b"gAMA", struct.pack(">I", 100000))), rgb)
    # An animation whose first frame is the picture of IDAT, and one that does not show that.
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    frame = lambda number: chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, *SMALL, 0, 0, 1, 1, 0, 0))
    second = struct.pack(">I", 2) + zlib.compress(b"".join(b"\0" + bytes(3 * COLUMNS) for _ in range(ROWS)))
    add("png/animated.png", png(rgb, 8, 2, control + frame(0), frame(1) + chunk(b"fdAT", second)), rgb)

    small = scene(*SMALL)
    for orientation in range(1, 9):
        exif = chunk(b"eXIf", tiff(orientation))
        shown = turned(small, orientation)
        add(f"png/orientation-{orientation}.png", png(small, 8, 2, exif), shown)
        add(f"png/orientation-{orientation}-after-data.png", png(small, 8, 2, after=exif), shown)
    add("png/orientation-big-endian.png", png(small, 8, 2, chunk(b"eXIf", tiff(6, ">"))), turned(small, 6))
    add("png/orientation-prefix.png", png(small, 8, 2, chunk(b"eXIf", b"Exif\0\0" + tiff(6))), turned(small, 6))

    whole = png(rgb, 8, 2)
    refuse("png-cut.png", whole[: len(whole) // 2])
    broken = bytearray(whole)
    broken[whole.index(b"IDAT") + 20] ^= 1
    refuse("png-checksum.png", bytes(broken))
    refuse("png-short.png", png(rgb[:-1], 8, 2).replace(chunk(b"IHDR", struct.pack(">IIBBBBB", COLUMNS, ROWS - 1, 8, 2, 0, 0, 0)), chunk(b"IHDR", struct.pack(">IIBBBBB", COLUMNS, ROWS, 8, 2, 0, 0, 0))))


def lzw(indices, bits):
    """GIF's compression with a clear code before the table grows: each code is one index."""
    clear, width = 1 << bits, bits + 1
    codes, since = [], clear
    for index in indices:
        if since >= clear - 2:
            codes.append(clear)
            since = 0
        codes.append(int(index))
        since += 1
    codes.append(clear + 1)
    bits_out = "".join(format(code, f"0{width}b")[::-1] for code in codes)
    bits_out += "0" * (-len(bits_out) % 8)
    data = bytes(int(bits_out[i : i + 8][::-1], 2) for i in range(0, len(bits_out), 8))
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return bytes([bits]) + blocks + b"\0"


def gif_frame(indices, left=0, top=0, local=None, clear=None, interlaced=False, disposal=0, bits=4):
    height, width = indices.shape
    flags = (disposal << 2) | (clear is not None)
    control = b"\x21\xf9\x04" + struct.pack("<BHBB", flags, 10, clear or 0, 0)
    if interlaced:
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        indices = indices[order]
    place = struct.pack("<HHHHB", left, top, width, height, (0x40 if interlaced else 0) | (0x80 | (bits - 1) if local is not None else 0))
    return control + b"\x2c" + place + (local.astype(np.uint8).tobytes() if local is not None else b"") + lzw(indices.reshape(-1), bits)


def gif(width, height, palette, *frames, background=0, end=b"\x3b"):
    flags = 0x80 | 3 if palette is not None else 0
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, background, 0)
    return head + (palette.astype(np.uint8).tobytes() if palette is not None else b"") + b"".join(frames) + end


def gifs():
    palette = np.stack([np.arange(16) * 17, 255 - np.arange(16) * 13, np.arange(16) * 91 % 256], -1)
    other = palette[::-1, [2, 0, 1]]
    indices = (np.add.outer(np.arange(ROWS) * 5, np.arange(COLUMNS) * 3) % 16).astype(np.uint8)
    colours = palette[indices]
    white = np.full((ROWS, COLUMNS, 3), 255)
    add("gif/plain.gif", gif(*SMALL, palette, gif_frame(indices)), colours)
    add("gif/no-trailer.gif", gif(*SMALL, palette, gif_frame(indices), end=b""), colours)
    add("gif/background.gif", gif(*SMALL, palette, gif_frame(indices), background=5), colours)
    add("gif/interlaced.gif", gif(*SMALL, palette, gif_frame(indices, interlaced=True)), colours)
    add("gif/local-palette.gif", gif(*SMALL, palette, gif_frame(indices, local=other)), other[indices])
    add("gif/only-local-palette.gif", gif(*SMALL, None, gif_frame(indices, local=other)), other[indices])
    seen = np.where(indices[..., None] == 3, 255, colours)
    add("gif/clear.gif", gif(*SMALL, palette, gif_frame(indices, clear=3)), seen)
    part = indices[:5, :8]
    for name, left, top in [("smaller", 0, 0), ("offset", 3, 2), ("offset-to-the-edge", 5, 4)]:
        shown = white.copy()
        shown[top : top + 5, left : left + 8] = palette[part]
        add(f"gif/{name}.gif", gif(*SMALL, palette, gif_frame(part, left, top)), shown)
    shown = white.copy()
    shown[3:8, :] = palette[indices[:5]]
    add("gif/offset-full-width.gif", gif(*SMALL, palette, gif_frame(indices[:5], 0, 3)), shown)
    shown = white.copy()
    shown[2:7, 3:11] = np.where(part[..., None] == 3, 255, other[part])
    file = gif(*SMALL, palette, gif_frame(part, 3, 2, local=other, clear=3, interlaced=True))
    add("gif/offset-local-clear-interlaced.gif", file, shown)
    for disposal in range(4):
        second = gif_frame(15 - indices, disposal=disposal)
        add(f"gif/animated-disposal-{disposal}.gif", gif(*SMALL, palette, gif_frame(indices, disposal=disposal), second), colours)

    for name, left, top, frame in [
        ("right", 7, 0, part), ("below", 0, 6, part), ("corner", 10, 7, part), ("larger", 0, 0, np.pad(indices, ((0, 3), (0, 2)))),
        ("wholly", 30, 0, part), ("only-lower", 0, 4, indices),
    ]:
        refuse(f"gif-outside-{name}.gif", gif(*SMALL, palette, gif_frame(frame, left, top)))
    refuse("gif-cut.gif", gif(*SMALL, palette, gif_frame(indices))[:-40])
    refuse("gif-no-frame.gif", gif(*SMALL, palette))
    refuse("gif-no-palette.gif", gif(*SMALL, None, gif_frame(indices)))
    short = gif_frame(indices)
    refuse("gif-few-pixels.gif", gif(*SMALL, palette, short[:18] + lzw(indices.reshape(-1)[:90], 4)))


def bmp(header, size, masks, palette, data, height=None, width=COLUMNS, bits=24, compression=0, colours=0, offset=None):
    """A BMP with a header of `header` bytes; `masks` are of red, green, blue and, where the header has it, alpha."""
    height = ROWS if height is None else height
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(data), 2835, 2835, colours, 0)
        room = {40: 0, 52: 12, 56: 16, 108: 16, 124: 16}[header]
        packed = b"".join(struct.pack("<I", mask) for mask in masks)
        info += packed[:room].ljust(room, b"\0")
        if header >= 108:
            info += b"BGRs" + bytes(36 + 12)
        if header == 124:
            info += struct.pack("<IIII", 4, 0, 0, 0)
        assert len(info) == header, (len(info), header)
        if header == 40 and compression == 3:
            info += packed[:12]
    at = 14 + len(info) + len(palette)
    offset = at if offset is None else offset
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, offset) + info + palette + data


def packed_rows(values, bits):
    """Rows of numbers of some bits, padded to four bytes, the lowest row first."""
    out = b""
    for row in values[::-1]:
        if bits >= 8:
            line = b"".join(int(value).to_bytes(bits // 8, "little") for value in row)
        else:
            text = "".join(format(int(value), f"0{bits}b") for value in row)
            text += "0" * (-len(text) % 8)
            line = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        out += line + bytes(-len(line) % 4)
    return out


def bits_of(picture, masks):
    """Each pixel (R, G, B, A in 8 bits) as one number, and the pixel that can be read from it."""
    values = np.zeros(picture.shape[:2], np.int64)
    shown = np.full((*picture.shape[:2], 4), 255, np.int64)
    for channel, mask in enumerate(masks):
        if mask == 0:
            continue
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        part = (picture[..., channel].astype(np.int64) * most + 127) // 255
        values |= part << shift
        shown[..., channel] = (part * 255 * 2 + most) // (2 * most)
    return values, shown


def rle(indices, bits, absolute):
    """Run lengths of each row, the lowest first; `absolute` writes the first columns as they are."""
    out = b""
    for row in indices[::-1]:
        row = [int(value) for value in row]
        if absolute:
            head, row = row[:7], row[7:]
            if bits == 8:
                raw = bytes(head)
            else:
                even = head + [0] * (len(head) % 2)
                raw = bytes(a << 4 | b for a, b in zip(even[::2], even[1::2]))
            out += bytes([0, 7]) + raw + bytes(len(raw) % 2)
        while row:
            run = 1
            while run < len(row) and row[run] == row[0]:
                run += 1
            out += bytes([run, row[0] if bits == 8 else row[0] << 4 | row[0]])
            row = row[run:]
        out += b"\0\0"
    return out[:-2] + b"\0\1"


def bmps():
    rgb = scene(*SMALL)
    opaque = np.concatenate([rgb, np.full((ROWS, COLUMNS, 1), 255, np.uint8)], -1)
    alpha = (np.add.outer(np.arange(ROWS) * 31, np.arange(COLUMNS) * 17) % 256).astype(np.uint8)[..., None]
    glass = np.concatenate([rgb, alpha], -1)
    none = np.concatenate([rgb, np.zeros((ROWS, COLUMNS, 1), np.uint8)], -1)
    bgr = packed_rows(rgb.astype(np.int64) @ [1 << 16, 1 << 8, 1], 24)
    names = {12: "core", 40: "info", 52: "v2", 56: "v3", 108: "v4", 124: "v5"}
    for header, name in names.items():
        add(f"bmp/{name}-24.bmp", bmp(header, 0, [0] * 4, b"", bgr), rgb)
    upside = packed_rows((rgb.astype(np.int64) @ [1 << 16, 1 << 8, 1])[::-1], 24)
    add("bmp/top-down-24.bmp", bmp(40, 0, [], b"", upside, height=-ROWS), rgb)
    gap = bmp(40, 0, [], bytes(30), bgr)
    add("bmp/gap-before-pixels.bmp", gap, rgb)

    # 32 bits without masks: the fourth byte says nothing.
    for name, picture in [("zero", none), ("any", glass)]:
        values = bits_of(picture, [0xFF0000, 0xFF00, 0xFF, 0xFF000000])[0]
        for header in [40, 108, 124]:
            add(f"bmp/{names[header]}-32-fourth-{name}.bmp", bmp(header, 0, [0] * 4, b"", packed_rows(values, 32), bits=32), rgb)
    masks = {
        "bgra": [0xFF0000, 0xFF00, 0xFF, 0xFF000000],
        "rgba": [0xFF, 0xFF00, 0xFF0000, 0xFF000000],
        "abgr": [0xFF000000, 0xFF0000, 0xFF00, 0xFF],
        "1010102": [0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000],
        "5551": [0x7C00, 0x3E0, 0x1F, 0x8000],
        "4444": [0xF00, 0xF0, 0xF, 0xF000],
    }
    for name, four_masks in masks.items():
        bits = 16 if max(four_masks) <= 0xFFFF else 32
        for header in [56, 108, 124]:
            make = lambda values: bmp(header, 0, four_masks, b"", packed_rows(values, bits), bits=bits, compression=3)
            for kind, picture in [("alpha", glass), ("alpha-zero", none), ("alpha-full", opaque)]:
                values, shown = bits_of(picture, four_masks)
                # A fourth channel of zeros is one that nobody filled in.
                shown = shown[..., :3] if kind != "alpha" else on_white(shown)
                # A channel of ten bits may round to either neighbour.
                add(f"bmp/{names[header]}-{name}-{kind}.bmp", make(values), shown, int(name == "1010102"))
    for name, three_masks, bits in [("565", [0xF800, 0x7E0, 0x1F], 16), ("555", [0x7C00, 0x3E0, 0x1F], 16), ("888", [0xFF0000, 0xFF00, 0xFF], 32)]:
        for header in [40, 52, 108]:
            values, shown = bits_of(opaque, [*three_masks, 0])
            file = bmp(header, 0, [*three_masks, 0], b"", packed_rows(values, bits), bits=bits, compression=3)
            add(f"bmp/{names[header]}-bitfields-{name}.bmp", file, shown[..., :3])
    values, shown = bits_of(opaque, [0x7C00, 0x3E0, 0x1F, 0])
    add("bmp/info-16.bmp", bmp(40, 0, [], b"", packed_rows(values, 16), bits=16), shown[..., :3])

    for bits in [1, 2, 4, 8]:
        count = 1 << bits
        indices = (np.add.outer(np.arange(ROWS) * 5, np.arange(COLUMNS) * 3) % count).astype(np.uint8)
        colours = np.stack([np.arange(count) * 255 // (count - 1), np.arange(count)[::-1], np.arange(count) * 7 % 256], -1)
        stored = colours[:, ::-1].astype(np.uint8)
        data = packed_rows(indices, bits)
        if bits != 2:
            add(f"bmp/core-palette-{bits}.bmp", bmp(12, 0, [], stored.tobytes(), data, bits=bits), colours[indices])
        wide = np.concatenate([stored, np.zeros((count, 1), np.uint8)], -1)
        add(f"bmp/info-palette-{bits}.bmp", bmp(40, 0, [], wide.tobytes(), data, bits=bits), colours[indices])
        few = max(2, count // 2 - 1)
        some = indices % few
        file = bmp(108, 0, [0] * 4, wide[:few].tobytes(), packed_rows(some, bits), bits=bits, colours=few)
        add(f"bmp/v4-palette-{bits}-few.bmp", file, colours[some])
        if bits >= 4:
            compression = 1 if bits == 8 else 2
            blocks = indices // 3 % 16
            for name, absolute in [("runs", False), ("absolute", True)]:
                file = bmp(40, 0, [], wide.tobytes(), rle(blocks, bits, absolute), bits=bits, compression=compression)
                add(f"bmp/rle{bits}-{name}.bmp", file, colours[blocks])

    wide = np.concatenate([stored, np.zeros((256, 1), np.uint8)], -1).tobytes()
    refuse("bmp-cut.bmp", bmp(40, 0, [], b"", bgr)[:-100])
    refuse("bmp-pixels-in-header.bmp", bmp(40, 0, [], b"", bgr, offset=20))
    refuse("bmp-os2-64.bmp", bmp(40, 0, [], bytes(24), bgr).replace(struct.pack("<I", 40), struct.pack("<I", 64), 1))
    refuse("bmp-jpeg-inside.bmp", bmp(40, 0, [], b"", cjpeg(), bits=0, compression=4))
    indices = np.full((ROWS, COLUMNS), 200)
    # Rows that end early, a jump over pixels, an end before the last row.
    early = b"".join(bytes([9, 200, 0, 0]) for _ in range(ROWS)) + b"\0\1"
    jump = bytes([3, 200, 0, 2, 3, 2, 4, 200, 0, 0]) + b"".join(bytes([COLUMNS, 200, 0, 0]) for _ in range(ROWS - 3)) + b"\0\1"
    end = b"".join(bytes([COLUMNS, 200, 0, 0]) for _ in range(ROWS - 4)) + b"\0\1"
    for name, data in [("row-ends-early", early), ("jump", jump), ("ends-early", end)]:
        refuse(f"bmp-rle8-{name}.bmp", bmp(40, 0, [], wide, data, bits=8, compression=1))


def webp(*options, picture):
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(picture).save(f"{folder}/in.png")
        run("cwebp", "-quiet", "-metadata", "none", *options, f"{folder}/in.png", "-o", f"{folder}/out.webp")
        return pathlib.Path(f"{folder}/out.webp").read_bytes()


def riff(*chunks):
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunks_of(file):
    at, found = 12, []
    while at < len(file):
        length = int.from_bytes(file[at + 4 : at + 8], "little")
        found.append((file[at : at + 4], file[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def extended(flags, width, height):
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def webps():
    rgb = scene(*SMALL)
    alpha = (np.add.outer(np.arange(ROWS) * 31, np.arange(COLUMNS) * 17) % 256).astype(np.uint8)[..., None]
    glass = np.concatenate([rgb, alpha], -1)
    add("webp/lossless.webp", webp("-lossless", picture=rgb), rgb)
    add("webp/lossless-alpha.webp", webp("-lossless", "-exact", picture=glass), on_white(glass))
    indexed = rgb // 128 * 255
    add("webp/lossless-palette.webp", webp("-lossless", "-m", "6", picture=indexed), indexed)
    big = scene(*MIDDLE)
    shown = lambda file: on_white(np.asarray(Image.open(io.BytesIO(file)).convert("RGBA")))
    for name, options in [("lossy", ["-q", "75"]), ("lossy-segments", ["-q", "40", "-segments", "4", "-sns", "90"]), ("lossy-simple-filter", ["-q", "20", "-nostrong"]), ("lossy-partitions", ["-q", "60", "-partition_limit", "50"])]:
        file = webp(*options, picture=big)
        add(f"webp/{name}.webp", file, shown(file))
    for name, options in [("none", ["-alpha_filter", "none"]), ("fast", ["-alpha_filter", "fast"]), ("best", ["-alpha_filter", "best"]), ("raw", ["-alpha_method", "0"]), ("reduced", ["-alpha_q", "30"])]:
        file = webp("-q", "75", *options, picture=glass)
        add(f"webp/lossy-alpha-{name}.webp", file, shown(file))
    still = chunks_of(webp("-lossless", picture=rgb))
    add("webp/icc.webp", riff(extended(0x20, *SMALL), (b"ICCP", bytes(128)), *still), rgb)
    add("webp/unknown-chunk.webp", riff(extended(0, *SMALL), (b"ODDS", b"abc"), *still), rgb)
    small = scene(*SMALL)
    stored = chunks_of(webp("-lossless", picture=small))
    for orientation in range(1, 9):
        file = riff(extended(0x08, *SMALL), *stored, (b"EXIF", tiff(orientation)))
        add(f"webp/orientation-{orientation}.webp", file, turned(small, orientation))
    add("webp/orientation-prefix.webp", riff(extended(0x08, *SMALL), *stored, (b"EXIF", b"Exif\0\0" + tiff(6))), turned(small, 6))
    add("webp/orientation-big-endian.webp", riff(extended(0x08, *SMALL), *stored, (b"EXIF", tiff(6, ">"))), turned(small, 6))
    file = webp("-q", "75", picture=small)
    add("webp/orientation-lossy.webp", riff(extended(0x08, *SMALL), *chunks_of(file), (b"EXIF", tiff(6))), turned(shown(file), 6))

    def frame(picture, left, top, flags, lossy=False):
        data = chunks_of(webp(*(["-q", "75"] if lossy else ["-lossless", "-exact"]), picture=picture))
        data = [part for part in data if part[0] != b"VP8X"]
        height, width = picture.shape[:2]
        place = b"".join((n).to_bytes(3, "little") for n in [left // 2, top // 2, width - 1, height - 1, 100])
        return b"ANMF", place + bytes([flags]) + riff(*data)[12:]

    # The colour that a file gives for behind its frames (here red) is a hint that readers pass over.
    background = (b"ANIM", bytes([0, 0, 255, 255, 0, 0]))
    second = frame(255 - rgb, 0, 0, 0)
    for name, flags in [("blended", 0), ("replaced", 2), ("disposed", 1)]:
        add(f"webp/animated-{name}.webp", riff(extended(0x02, *SMALL), background, frame(rgb, 0, 0, flags), second), rgb, 1)
        file = riff(extended(0x12, *SMALL), background, frame(glass, 0, 0, flags), second)
        # Blending rounds twice.
        add(f"webp/animated-alpha-{name}.webp", file, on_white(glass), 1)
        canvas = np.concatenate([np.full((ROWS, COLUMNS, 3), 255), np.zeros((ROWS, COLUMNS, 1))], -1).astype(int)
        canvas[2:7, 4:12] = glass[:5, :8]
        file = riff(extended(0x12, *SMALL), background, frame(glass[:5, :8], 4, 2, flags), second)
        add(f"webp/animated-offset-{name}.webp", file, on_white(canvas), 1)
    file = riff(extended(0x12, *SMALL), background, frame(glass, 0, 0, 0, lossy=True), second)
    add("webp/animated-lossy-alpha.webp", file, shown(file), 1)

    refuse("webp-cut.webp", webp("-lossless", picture=rgb)[:-60])
    refuse("webp-lossy-cut.webp", webp("-q", "75", picture=big)[:-200])
    refuse("webp-other-size.webp", riff(extended(0, COLUMNS + 1, ROWS), *chunks_of(webp("-q", "75", picture=rgb))))
    refuse("webp-animated-smaller.webp", riff(extended(0x02, *SMALL), background, frame(rgb[:5, :8], 4, 2, 0), second))
    refuse("webp-outside.webp", riff(extended(0x12, *SMALL), background, frame(rgb, 4, 2, 0)))


def reported():
    """Pictures that people had, as they are in `reported`; what they show, as Pillow sees their pixels."""
    folder = HERE / "reported"
    scans = (folder / "jpeg-scans-420.jpg").read_bytes()
    panorama = (folder / "jpeg-no-end-trailer.jpg").read_bytes()
    bitmap = (folder / "bmp-v4-alpha-zero.bmp").read_bytes()
    add("reported/jpeg-scans-420.jpg", scans, pillow(scans), JPEG_TOLERANCE)
    add("reported/jpeg-no-end-trailer.jpg", panorama, pillow(panorama + b"\xff\xd9"), JPEG_TOLERANCE)
    add("reported/bmp-v4-alpha-zero.bmp", bitmap, np.asarray(Image.open(io.BytesIO(bitmap)))[..., :3])


def main():
    for folder in ["jpeg", "png", "gif", "bmp", "webp", "references", "refused"]:
        shutil.rmtree(HERE / folder, ignore_errors=True)
    jpegs()
    pngs()
    gifs()
    bmps()
    webps()
    reported()
    (HERE / "table.tsv").write_text("".join(sorted(TABLE)))


if __name__ == "__main__":
    main()
