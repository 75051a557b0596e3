"""Prints what a block says of a picture: answer.py MODEL.safetensors MODEL.onnx PICTURE. Needs Pillow, onnxruntime and numpy.

The second is what `ocelli model export` writes of the first; PICTURE is what a transaction carries: a JPEG that docs/picture.md
accepts. Three lines: logits, best classes, digest."""
import hashlib, sys
import numpy as np, onnxruntime
from PIL import Image
from run_model import load

graph, _ = load(sys.argv[1])
colours, H, W, crop = (graph["input"].get(key, 256) for key in ("channels", "height", "width", "crop"))
picture = Image.open(sys.argv[3]).convert("RGB")
columns, rows = picture.size
w, h = (max(1, rows * W // H), rows) if columns * H > rows * W else (columns, max(1, columns * H // W))
w, h = max(1, w * crop // 256), max(1, h * crop // 256)
left, top = (columns - w) // 2, (rows - h) // 2
picture = picture.crop((left, top, left + w, top + h)).resize((W, h), Image.BILINEAR).resize((W, H), Image.BILINEAR)
pixels = np.asarray(picture if colours == 3 else picture.convert("L")).reshape(H, W, colours).transpose(2, 0, 1)[None]
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
logits = session.run(None, {"pixels": pixels})[0][0]
tag = hashlib.sha256(b"ocelli/logits").digest()
digest = hashlib.sha256(tag + tag + len(logits).to_bytes(8, "little") + logits.astype("<i4").tobytes()).hexdigest()
best = sorted(enumerate(logits.tolist()), key=lambda answer: (-answer[1], answer[0]))[:5]
print(*logits)
print(*(f"{name}:{logit}" for name, logit in best))
print(digest)
