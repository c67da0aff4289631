import shutil
from pathlib import Path

import pytest
from PIL import Image

from iimt_search.data.assemble import load_task
from iimt_search.data.registry import DOMAINS
from iimt_search.errors import DataError
from iimt_search.space import KnownNames, load_space
from iimt_search.validators.registry import VALIDATORS


@pytest.mark.parametrize(
    ("space", "within", "tasks"),
    [("office31", "images", 6), ("office-home", "", 12), ("visda", "", 1), ("pacs", "", 12)],
)
def test_spaces_of_photographs_find_the_data_as_it_is_downloaded(
    space: str, within: str, tasks: int, tmp_path: Path
) -> None:
    (tmp_path / "spaces").mkdir()
    copy = shutil.copy(Path(__file__).parents[3] / "spaces" / f"{space}.yaml", tmp_path / "spaces")
    found = load_space(Path(copy), KnownNames(DOMAINS, VALIDATORS)).tasks
    folders = {Path(d.folder or "").resolve() for task in found for d in (*task.source, task.target)}
    assert len(found) == tasks and all(path.is_relative_to(tmp_path / "data") for path in folders)
    with pytest.raises(DataError, match="there is no folder .*data/"):
        load_task(found[0], 4)
    for value, folder in enumerate(sorted(folders)):
        (folder / within).mkdir(parents=True)
        (folder / "image_list.txt").write_text("bike/0.png 0\n")
        for name in ("bike", "back_pack"):
            (folder / within / name).mkdir()
            for index in range(2):
                Image.new("RGB", (8, 8), (value, 9 * index, 0)).save(folder / within / name / f"{index}.png")
    for task in found:
        assert load_task(task, 4).classes == ("back_pack", "bike")
