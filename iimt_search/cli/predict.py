"""``iimt-search predict``."""

from pathlib import Path
from typing import Any

import click

from iimt_search.cli.options import json_option, print_json
from iimt_search.errors import DataError, UsageError


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

    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    from iimt_search.training.load import load_model

    model = load_model(folder, device)
    results: list[dict[str, Any]] = []
    for path in images:
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB" if model.channels == 3 else "L"))
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path} is not an image that can be read: {error}") from error
        x = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None].to(device)
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
