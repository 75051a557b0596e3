"""Runs networks in ONNX Runtime or LiteRT, for src/runtime.rs.

A job is a line of JSON on stdin, the bytes of the network's file, and those of its pictures: pixels, u8 (N, C, H, W). Its
answer on stdout is a line of JSON, and i32 (N, outputs), little-endian. The first line on stdout says that the runtime is there."""

import importlib.metadata
import json
import sys

import numpy as np


def litert(model, pixels, given):
    """`given` has for each channel, or for all, what the network gets for each pixel."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    [read], [written] = interpreter.get_input_details(), interpreter.get_output_details()
    tables = np.asarray(given, np.float32).astype(read["dtype"])
    results = []
    for picture in pixels:
        values = [tables[channel % len(tables)][plane] for channel, plane in enumerate(picture)]
        interpreter.set_tensor(read["index"], np.stack(values, axis=-1)[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(written["index"]).ravel())
    return results


def onnxruntime(model, pixels, given):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    [read] = session.get_inputs()
    return [session.run(None, {read.name: picture[None]})[0].ravel() for picture in pixels]


RUNTIMES = {"litert": (litert, "ai-edge-litert"), "onnxruntime": (onnxruntime, "onnxruntime")}


def main():
    run, package = RUNTIMES[sys.argv[1]]
    read, write = sys.stdin.buffer, sys.stdout.buffer

    def answer(**fields):
        write.write(json.dumps(fields).encode() + b"\n")

    answer(version=importlib.metadata.version(package))
    write.flush()
    while line := read.readline():
        job = json.loads(line)
        model = read.read(job["model"])
        shape = [job["pictures"], *job["shape"]]
        pixels = np.frombuffer(read.read(int(np.prod(shape))), np.uint8).reshape(shape)
        try:
            results = np.stack(run(model, pixels, job["given"])).astype("<i4")
        except Exception as error:  # Whatever a runtime says of a network.
            answer(error=f"{type(error).__name__}: {error}"[:2000])
        else:
            answer(outputs=results.shape[1])
            write.write(results.tobytes())
        write.flush()


main()
