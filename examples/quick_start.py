"""From a space file to predictions, as a script. In a notebook: quick_start.ipynb."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

import iimt_search


def main() -> None:
    """Search, export, predict, and audit."""
    space = iimt_search.load_space(Path(__file__).with_name("quick_start.yaml"))
    (choice,) = iimt_search.run(space, progress=print)
    print(f"chosen without target labels: {choice.title}; {choice.reason}")

    exported = iimt_search.export("quick-start-models", formats=["torch-export"])
    folder = exported["syn-digits->digits"].folder
    model = iimt_search.load_model(folder)

    digits = load_digits()
    images = torch.from_numpy(digits.images[:8] * 15.9).to(torch.uint8)[:, None]  # any size, grey or RGB
    with torch.no_grad():
        probabilities = model(images).softmax(dim=1)
    for row in probabilities:
        print(f"{model.classes[int(row.argmax())]}  ({row.max():.0%})")

    # Only now, and only because digits has labels to measure with.
    audit = iimt_search.audit(train=False)["syn-digits->digits"]
    print(f"target test accuracy {audit.choice:.1f} %, without adaptation {audit.source_only:.1f} %")


# Worker processes import this file again: without this line they would run it again.
if __name__ == "__main__":
    main()
