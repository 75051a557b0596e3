"""Asks a node as programs do that are made for Triton. Run by a test, with the node's address, and with pixels and logits as JSON."""

import json
import sys

import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, given = sys.argv[1:]
pixels, expected = json.loads(given)
pixels = numpy.array(pixels, numpy.uint8).reshape(-1, 3, 32, 32)
expected = numpy.array(expected, numpy.int32)
model = "cifar10-cnn"

client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert client.is_model_ready(model, "1") and not client.is_model_ready("none")
assert client.get_server_metadata()["name"] == "ocelli"
metadata = client.get_model_metadata(model)
assert client.get_model_config(model)["max_batch_size"] > 0
assert client.get_model_repository_index()[0]["name"] == model
tensor = metadata["inputs"][0]


def ask(binary_in=True, binary_out=True, outputs=None):
    pictures = triton.InferInput(tensor["name"], pixels.shape, tensor["datatype"])
    pictures.set_data_from_numpy(pixels, binary_data=binary_in)
    if outputs is None:
        outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("logits", "probabilities")]
    return client.infer(model, [pictures], outputs=outputs or None, request_id="7")


for binary_in in (True, False):
    for binary_out in (True, False):
        answer = ask(binary_in, binary_out)
        assert (answer.as_numpy("logits") == expected).all()
        assert numpy.allclose(answer.as_numpy("probabilities").sum(axis=1), 1)
        assert answer.get_response()["id"] == "7"
# All outputs, as bytes, unless some are named.
assert (ask(outputs=[]).as_numpy("logits") == expected).all()

for binary in (True, False):
    best = ask(outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)])
    rows = best.as_numpy("probabilities")
    assert rows.shape == (len(pixels), 3), rows.shape
    for row, logits in zip(rows, expected):
        texts = [text.decode() if isinstance(text, bytes) else text for text in row]
        value, index, label = texts[0].split(":")
        assert int(index) == logits.argmax() and label and 0 < float(value) <= 1, texts

try:
    client.infer("none", [triton.InferInput(tensor["name"], pixels.shape, "UINT8").set_data_from_numpy(pixels)])
except InferenceServerException as error:
    assert "found no model `none`" in error.message(), error
else:
    raise SystemExit("a model that is not there has answered")
