"""``iimt-search predict``."""

from pathlib import Path
from typing import Any

import click

from iimt_search.cli.options import json_option, print_json
from iimt_search.errors import UsageError


@click.command("predict")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N.")
@json_option
def command(folder: Path, images: tuple[Path, ...], device: str, as_json: bool) -> None:
    """Classify IMAGES with the exported model in FOLDER."""
    inside = sorted(path.parent.name for path in folder.glob("*/model.json"))
    if inside and not (folder / "model.json").exists():
        raise UsageError(
            f"{folder} holds several models; name one: {', '.join(f'{folder}/{n}' for n in inside)}"
        )

    import torch

    from iimt_search.data.images import read_image
    from iimt_search.training.load import load_model

    model = load_model(folder, device)
    if model.kind != "image":
        raise UsageError(f"{folder} classifies {model.kind} data; use iimt_search.load_model in Python")
    results: list[dict[str, Any]] = []
    for path in images:
        x = torch.from_numpy(read_image(path, model.sample_shape[1])[None].copy()).to(device)
        with torch.no_grad():
            probabilities = torch.softmax(model(x), dim=1)[0]
        best = int(probabilities.argmax())
        results.append(
            {
                "image": str(path),
                "class": model.classes[best],
                "probability": float(probabilities[best]),
                "probabilities": dict(zip(model.classes, probabilities.tolist(), strict=True)),
            }
        )
    if as_json:
        print_json(results)
        return
    for result in results:
        click.echo(f"{result['image']}: {result['class']}  ({result['probability']:.1%})")
