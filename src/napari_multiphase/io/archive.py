"""Many small files behind one path: a folder tree, or a zip read member by member and never unpacked."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from napari_multiphase.errors import UserError

MEMBER_LIMIT = 256 << 20
_COUNT_LIMIT = 100_000
_BLOCK = 1 << 20


class Files:
    """The files of a folder, or of a zip. Names are relative, with forward slashes."""

    def __init__(self, path: Path, archive: zipfile.ZipFile | None) -> None:
        self.path = path
        self._archive = archive

    def names(self) -> list[str]:
        """Every file, hidden ones aside, in the order of names."""
        if self._archive is None:
            found = (p for p in self.path.rglob("*") if p.is_file())
            names = [p.relative_to(self.path).as_posix() for p in found]
        else:
            names = [i.filename for i in self._archive.infolist() if not i.is_dir()]
        names = [n for n in names if not _is_hidden(n)]
        if len(names) > _COUNT_LIMIT:
            raise UserError(f"{self.path}: holds {len(names):,} files; choose the folder of one patient")
        return sorted(names)

    def holds(self, name: str) -> bool:
        """Whether there is a file of exactly this name."""
        return (self.path / name).is_file() if self._archive is None else name in self._archive.NameToInfo

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file for reading."""
        if self._archive is None:
            with (self.path / name).open("rb") as handle:
                yield handle
        else:
            with self._archive.open(name) as handle:
                yield handle

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked, as the zip claims it."""
        return (self.path / name).stat().st_size if self._archive is None else self._archive.getinfo(name).file_size

    def packed_size(self, name: str) -> int:
        """Bytes that a file takes on the disk, as the zip claims it."""
        return self.size(name) if self._archive is None else self._archive.getinfo(name).compress_size

    def is_link(self, name: str) -> bool:
        """Whether a file is a link to another one."""
        if self._archive is None:
            return (self.path / name).is_symlink()
        return stat.S_ISLNK(self._archive.getinfo(name).external_attr >> 16)

    def blocks(self, name: str) -> Iterator[bytes]:
        """A file, block by block.

        Raises
        ------
        UserError : it is damaged, packed in a way that Python cannot unpack, or cannot be read.
        """
        try:
            with self.open(name) as handle:
                while block := handle.read(_BLOCK):
                    yield block
        except NotImplementedError as error:
            raise UserError(
                f"{self.path.name}: {name} in it is packed in a way that is not read here; unpack the zip and name the "
                "folder"
            ) from error
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError) as error:
            raise self._damaged(name) from error
        except OSError as error:
            if self._archive is not None and error.errno is None:  # bz2 says so of damaged data
                raise self._damaged(name) from error
            words = error.strerror or str(error)
            raise UserError(f"{self.path / name}: cannot be read ({words}); copy it again") from error

    def _damaged(self, name: str) -> UserError:
        return UserError(f"{self.path.name}: {name} in it is damaged; copy or download the zip again")

    def read(self, name: str) -> bytes:
        """The whole of a file, at most `MEMBER_LIMIT` bytes; as `blocks`."""
        content = bytearray()
        for block in self.blocks(name):
            content += block
            if len(content) > MEMBER_LIMIT:
                raise UserError(f"{self.path.name}: {name} is larger than {MEMBER_LIMIT >> 20} MB and is not read")
        return bytes(content)


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(p.startswith(".") and p not in (".", "..") for p in parts)


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """The files behind `path`, a folder or a zip.

    Raises
    ------
    UserError : where it is neither, cannot be read, or is locked with a password.
    """
    if path.is_dir():
        yield Files(path, None)
        return
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder; check the name")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise UserError(f"{path.name}: is not a readable zip; copy or download it again") from error
    with archive:
        if any(info.flag_bits & 1 for info in archive.infolist()):
            raise UserError(f"{path.name}: is locked with a password; unpack it yourself and open the folder")
        yield Files(path, archive)
