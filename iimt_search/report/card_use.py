"""The part of a model card that says how to use the model; its code is run by the tests."""

from collections.abc import Mapping
from typing import Any

from iimt_search.training.formats import FORMATS

_INPUT = {
    "image": "images in RGB, uint8 {shape}, values 0 to 255; normalisation is part of the model. The package "
    "cuts images of any size to their middle square and resizes them (bicubic, antialiased); {formats}",
    "series": "time series, float32 {shape}, as measured; normalisation is part of the model{formats}",
    "vector": "vectors, float32 {shape}, as measured; normalisation is part of the model{formats}",
}
_AXES = {
    "image": "(B, channels, height, width)",
    "series": "(B, channels, length)",
    "vector": "(B, features)",
}
_FILE = {"image": "photo.png", "series": "series.npy", "vector": "vectors.npy"}

_PACKAGE = """
With the package (`pip install iimt-search`):

```python
import torch
import iimt_search

model = iimt_search.load_model(".")  # this folder
samples = torch.zeros({shape}, dtype=torch.{dtype})  # yours
probabilities = model(samples).softmax(dim=1)
print(model.classes[int(probabilities[0].argmax())])
```

    iimt-search predict . {file} --output predictions.csv
"""

_TORCH_EXPORT = """
`model.pt2`, with PyTorch alone:

```python
import json
import torch

about = {{"model.json": ""}}
model = torch.export.load("model.pt2", extra_files=about).module()
classes = json.loads(about["model.json"])["classes"]
logits = model(torch.zeros({shape}, dtype=torch.{dtype}))
print(classes[int(logits[0].argmax())])
```
"""

_ONNX = """
`model.onnx`, with ONNX Runtime alone:

```python
import json
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
classes = json.loads(session.get_modelmeta().custom_metadata_map["model.json"])["classes"]
(logits,) = session.run(["logits"], {{"samples": numpy.zeros({shape}, numpy.{dtype})}})
print(classes[int(logits[0].argmax())])
```
"""
_CODE = {"torch-export": _TORCH_EXPORT, "onnx": _ONNX}


def _check(format_name: str, found: Mapping[str, Any]) -> str:
    samples = " and ".join(f"{count} {kind}" for kind, count in found["samples"].items() if count)
    return (
        f"\n`{FORMATS[format_name].file}` was read back and compared with `model.safetensors` on {samples} "
        f"samples: the greatest difference of a logit was {found['difference']:.1g}.\n"
    )


def use_section(metadata: Mapping[str, Any]) -> str:
    """Return how to load and call an exported model, as Markdown.

    Args:
        metadata: the content of its ``model.json``.
    """
    kind, sample_shape = metadata["preprocessing"]["kind"], metadata["preprocessing"]["sample_shape"]
    formats: Mapping[str, Any] = metadata.get("formats", {})
    shape = f"({', '.join(map(str, [1, *sample_shape]))})"
    dtype = "uint8" if kind == "image" else "float32"
    exact = "the other formats take this size only" if kind == "image" else ""
    text = "## How to use it\n\n- Input: " + _INPUT[kind].format(
        shape=f"{_AXES[kind]} = (B, {shape[4:]}", formats=exact
    )
    text += (
        f".\n- Output: logits float32 (B, {len(metadata['classes'])}), in the order of the classes; their "
        f"softmax is the probabilities. B is free.\n"
    )
    text += _PACKAGE.format(shape=shape, dtype=dtype, file=_FILE[kind])
    for name, found in formats.items():
        text += _CODE[name].format(shape=shape, dtype=dtype) + _check(name, found)
    return text
