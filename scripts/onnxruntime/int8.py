"""What the processor has for int8, and which weights ONNX Runtime is given for it."""

from pathlib import Path


def instructions():
    """The widest of what int8 kernels know, to say beside the figures."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    known = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512bw", "avx2", "i8mm", "asimddp")
    return next((flag for flag in known if flag in flags), "unknown")


def weights():
    """The form of `ocelli model export` that is exact and fastest: VNNI's products do not saturate."""
    return "i8-everywhere" if any(word in instructions() for word in ("vnni", "amx")) else "i8"
