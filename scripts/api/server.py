"""A model in ONNX Runtime behind FastAPI, as people serve one: run by uvicorn, the network's file in OCELLI_ONNX."""

import io
import json
import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, Request, Response
from PIL import Image

options = ort.SessionOptions()
options.intra_op_num_threads = int(os.environ["OCELLI_THREADS"])
options.log_severity_level = 3
session = ort.InferenceSession(os.environ["OCELLI_ONNX"], options, providers=["CPUExecutionProvider"])
CLASSES = os.environ["OCELLI_CLASSES"].split(",")
SCALE = float(os.environ["OCELLI_SCALE"])
SIDE = int(os.environ["OCELLI_SIDE"])
app = FastAPI()


def probabilities(logits):
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) * SCALE)
    return powers / powers.sum(axis=1, keepdims=True)


@app.post("/v1/classify")
async def classify(request: Request):
    picture = Image.open(io.BytesIO(await request.body())).convert("RGB").resize((SIDE, SIDE))
    pixels = np.asarray(picture, np.uint8).transpose(2, 0, 1)[None]
    row = probabilities(session.run(None, {"pixels": pixels})[0])[0]
    best = np.argsort(-row)[:5]
    top = [{"label": CLASSES[at], "probability": round(float(row[at]), 6), "index": int(at)} for at in best]
    return {"label": top[0]["label"], "probability": top[0]["probability"], "top": top}


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request):
    """By the Open Inference Protocol with the binary tensor extension: a head of JSON and pixels as bytes in, the same of logits out."""
    body = await request.body()
    length = int(request.headers["inference-header-content-length"])
    shape = json.loads(body[:length])["inputs"][0]["shape"]
    logits = session.run(None, {"pixels": np.frombuffer(body, np.uint8, offset=length).reshape(shape)})[0].astype(np.int32)
    output = {"name": "logits", "datatype": "INT32", "shape": logits.shape, "parameters": {"binary_data_size": logits.nbytes}}
    head = json.dumps({"model_name": name, "outputs": [output]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Response(head + logits.tobytes(), headers=headers, media_type="application/octet-stream")
