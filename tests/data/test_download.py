import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import urllib.request
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from iimt_search.data.download import RemoteFile, check, decompress, extract_tar, fetch, read
from iimt_search.errors import DataError

CONTENT = b"some digits"
MD5 = hashlib.md5(CONTENT).hexdigest()
URL, MIRROR = "https://example.invalid/a.bin", "https://mirror.invalid/a.bin"
FILE = RemoteFile(URL, "a.bin", MD5)


class Web:
    """Stands in for the network: what each address answers, and which were asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []

    def open(self, request: urllib.request.Request, timeout: float) -> io.BytesIO:
        self.asked.append(request.full_url)
        answer = self.answers.get(request.full_url, URLError("Name or service not known"))
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)


@pytest.fixture(autouse=True)
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    web = Web()
    monkeypatch.setattr(urllib.request, "urlopen", web.open)
    return web


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.suffix != ".lock"}


def test_downloads_what_is_absent(web: Web, tmp_path: Path) -> None:
    web.answers[URL] = CONTENT
    fetch("svhn", [FILE], tmp_path / "deep" / "folder")
    assert (tmp_path / "deep" / "folder" / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path / "deep" / "folder") == {"a.bin"}
    fetch("svhn", [FILE], tmp_path / "deep" / "folder")
    assert web.asked == [URL]


def test_touches_nothing_where_all_is_there(web: Web, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    before = tmp_path.stat().st_mtime_ns
    fetch("svhn", [FILE], tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.bin"]
    assert tmp_path.stat().st_mtime_ns == before
    assert web.asked == []


def test_a_present_file_of_another_content(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"else")
    with pytest.raises(DataError) as caught:
        fetch("svhn", [FILE], tmp_path)
    message = str(caught.value)
    found = hashlib.md5(b"else").hexdigest()
    assert f"svhn: {path} has md5 {found} instead of {MD5}" in message
    assert f"put the right file there, or delete {path}" in message
    assert path.read_bytes() == b"else"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (URLError("Name or service not known"), "Name or service not known"),
        (HTTPError(URL, 404, "Not Found", None, None), "HTTP Error 404: Not Found"),  # type: ignore[arg-type]
        (TimeoutError(), "TimeoutError"),
        (IncompleteRead(b""), "IncompleteRead"),
    ],
)
def test_no_network_says_what_to_place_where(
    web: Web, tmp_path: Path, failure: Exception, reason: str
) -> None:
    web.answers[URL] = failure
    with pytest.raises(DataError) as caught:
        fetch("svhn", [FILE], tmp_path)
    message = str(caught.value)
    assert message.startswith(f"svhn needs {tmp_path / 'a.bin'}, which could not be downloaded ({URL}: ")
    assert reason in message
    assert f"download {URL} elsewhere and put it at {tmp_path / 'a.bin'} (md5 {MD5})" in message
    assert "IIMT_DATA" in message
    assert names(tmp_path) == set()


def test_a_download_of_another_content_is_not_kept(web: Web, tmp_path: Path) -> None:
    web.answers[URL] = CONTENT[:-1]
    found = hashlib.md5(CONTENT[:-1]).hexdigest()
    with pytest.raises(DataError, match=rf"what came has md5 {found}.*\(md5 {MD5}\)"):
        fetch("svhn", [FILE], tmp_path)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("first", [URLError("down"), b"a login page, longer than the file itself"])
def test_a_mirror_is_tried_next(web: Web, tmp_path: Path, first: bytes | Exception) -> None:
    web.answers = {URL: first, MIRROR: CONTENT}
    fetch("mnist", [FILE._replace(mirrors=(MIRROR,))], tmp_path)
    assert web.asked == [URL, MIRROR]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_what_a_killed_download_left_is_overwritten(web: Web, tmp_path: Path) -> None:
    web.answers[URL] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(b"half of something longer than the file")
    fetch("svhn", [FILE], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"a.bin"}


def test_interrupted_download_leaves_nothing(web: Web, tmp_path: Path) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise KeyboardInterrupt
            return super().read(3)

    web.open = lambda request, timeout: Interrupted(CONTENT)  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", web.open)
        with pytest.raises(KeyboardInterrupt):
            fetch("svhn", [FILE], tmp_path)
    assert names(tmp_path) == set()


def fail_to_write(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real: Callable[..., Any] = Path.open

    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(code, os.strerror(code))

    def open_(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        return Full() if mode == "wb" else real(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", open_)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"the disk is full: no room for .*a\.bin; free some, or set IIMT_DATA"),
        (errno.EDQUOT, r"the disk is full: no room for .*a\.bin"),
        (errno.EIO, r"cannot write .*a\.bin: Input/output error"),
    ],
)
def test_the_disk_refuses_a_download(
    monkeypatch: pytest.MonkeyPatch, web: Web, tmp_path: Path, code: int, message: str
) -> None:
    web.answers[URL] = CONTENT
    fail_to_write(monkeypatch, code)
    with pytest.raises(DataError, match=message):
        fetch("svhn", [FILE], tmp_path)
    assert names(tmp_path) == set()


def test_the_folder_cannot_be_made(web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot write .*file/folder/a\.bin: .*set IIMT_DATA"):
        fetch("svhn", [FILE], tmp_path / "file" / "folder")
    assert web.asked == []


def test_check_names_what_to_delete(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"stl10 needs {tmp_path}/x \(md5 {MD5}\), which is missing"
    ) as caught:
        check("stl10", tmp_path / "x", MD5, made_from=tmp_path)
    assert str(caught.value).endswith(f"put the right file there, or delete {tmp_path} to have it made again")


def packed(path: Path) -> Path:
    content = os.urandom(5000)
    path.write_bytes(gzip.compress(content))
    path.with_suffix(".expected").write_bytes(content)
    return path


def test_decompress(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.gz")
    decompress(archive, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "a.expected").read_bytes()
    assert names(tmp_path) == {"a", "a.gz", "a.expected"}


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty"])
def test_decompress_a_damaged_file(tmp_path: Path, damage: str) -> None:
    archive = packed(tmp_path / "a.gz")
    data = bytearray(archive.read_bytes())
    if damage == "flipped":
        data[2000] ^= 255
    whole = {"cut": data[:2500], "flipped": data, "other": b"<html>", "empty": data[:12]}[damage]
    archive.write_bytes(bytes(whole))
    with pytest.raises(
        DataError, match=rf"{archive} cannot be read, it is damaged or cut short \(\w+: .*delete it"
    ):
        decompress(archive, tmp_path / "a")
    assert names(tmp_path) == {"a.gz", "a.expected"}


def test_decompress_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.gz")
    fail_to_write(monkeypatch, errno.ENOSPC)
    with pytest.raises(DataError, match=r"the disk is full: no room for .*/a;"):
        decompress(archive, tmp_path / "a")


def tar(path: Path, *members: tarfile.TarInfo, mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for member in members:
            content = b"" if member.linkname else os.urandom(3000)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_extract(tmp_path: Path, mode: str) -> None:
    archive = tar(tmp_path / "a.tar", *map(tarfile.TarInfo, ("set/x", "set/deep/y", "readme")), mode=mode)
    extract_tar(archive, tmp_path / "set")
    assert names(tmp_path) == {"a.tar", "set", "x", "deep", "y"}
    assert (tmp_path / "set" / "deep" / "y").stat().st_size == 3000


def test_a_present_folder_is_left_alone(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", tarfile.TarInfo("set/x"))
    (tmp_path / "set").mkdir()
    extract_tar(archive, tmp_path / "set")
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../evil"),
        tarfile.TarInfo("set/../../evil"),
        link("set/evil", "../../outside"),
        link("set/evil", "/etc/passwd"),
        link("set/evil", "../outside", tarfile.LNKTYPE),
    ],
    ids=lambda member: f"{member.name}-{member.linkname}",
)
def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = tar(inner / "a.tar.gz", tarfile.TarInfo("set/x"), member)
    with pytest.raises(DataError, match=rf"a\.tar\.gz is refused: its member '{member.name}' would leave"):
        extract_tar(archive, inner / "set")
    assert names(tmp_path) == {"inner", "a.tar.gz"}


def test_a_device_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", link("set/null", "x", tarfile.CHRTYPE), mode="w")
    with pytest.raises(DataError, match=r"its member 'set/null'"):
        extract_tar(archive, tmp_path / "set")


def test_rights_of_others_are_not_taken_over(tmp_path: Path) -> None:
    member = tarfile.TarInfo("set/x")
    member.mode = 0o4777
    extract_tar(tar(tmp_path / "a.tar", member, mode="w"), tmp_path / "set")
    assert stat.S_IMODE((tmp_path / "set" / "x").stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.8])
def test_extract_a_truncated_archive(tmp_path: Path, mode: str, share: float) -> None:
    archive = tar(tmp_path / "a.tar", tarfile.TarInfo("set/x"), tarfile.TarInfo("set/y"), mode=mode)
    data = archive.read_bytes()
    end = len(data) if mode == "w:gz" else 2 * (512 + 3072)
    archive.write_bytes(data[: int(end * share)])
    with pytest.raises(DataError, match=rf"{archive} cannot be read, it is damaged or cut short .*delete it"):
        extract_tar(archive, tmp_path / "set")
    assert names(tmp_path) == {"a.tar"}


def test_extract_another_archive(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", tarfile.TarInfo("other/x"))
    with pytest.raises(DataError, match=r"a\.tar\.gz has no folder set"):
        extract_tar(archive, tmp_path / "set")
    assert names(tmp_path) == {"a.tar.gz"}


def test_extract_on_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", tarfile.TarInfo("set/x"))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(DataError, match=r"the disk is full: no room for .*/set;"):
        extract_tar(archive, tmp_path / "set")
    assert names(tmp_path) == {"a.tar.gz"}


def test_read_gives_the_value_or_names_the_file(tmp_path: Path) -> None:
    def fail(error: Exception) -> Callable[[], None]:
        def load() -> None:
            raise error

        return load

    path = tmp_path / "x.mat"
    assert read(path, lambda: 3) == 3
    with pytest.raises(DataError, match=rf"{path} cannot be read, .*\(KeyError: 'X'\)"):
        read(path, fail(KeyError("X")))
    with pytest.raises(DataError, match=r"cut short \(AssertionError\)"):
        read(path, fail(AssertionError()))
    with pytest.raises(DataError, match=r"^as it is$"):
        read(path, fail(DataError("as it is")))
    with pytest.raises(ImportError):
        read(path, fail(ImportError("scipy")))
