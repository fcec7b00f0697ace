"""Sealed files: AES-256-GCM in blocks, bound to a name, so that files can be neither read, changed, cut, nor swapped.

A file is a header (magic, 16 random bytes) and blocks of 1 MiB, each with its tag. Every file has a key of its own, derived
from the home's key and the random bytes (HKDF-SHA256, RFC 5869). A block's nonce is its number and whether it is the last
one; its associated data are the header and the file's name (the STREAM construction of Hoang et al. 2015).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from iss_assets.warehouse.keys import KEY_BYTES, Key

_MAGIC: Final = b"ISSSEAL1"
_SALT_BYTES: Final = 16
_HEADER_BYTES: Final = len(_MAGIC) + _SALT_BYTES
_TAG_BYTES: Final = 16
BLOCK_BYTES: Final = 2**20
"""Content of a block; the last one is shorter or empty."""


class BrokenSeal(ValueError):
    """A sealed file was changed, cut, or renamed, or another key sealed it."""


class _Cipher:
    def __init__(self, key: Key, header: bytes, name: str) -> None:
        derived = HKDF(SHA256(), KEY_BYTES, header, b"iss-assets sealed file").derive(key.raw)
        self._cipher, self._context = AESGCM(derived), header + name.encode()

    def seal(self, number: int, last: bool, content: bytes | memoryview) -> bytes:
        return self._cipher.encrypt(_nonce(number, last), content, self._context)

    def open(self, number: int, last: bool, block: bytes | memoryview) -> bytes:
        return self._cipher.decrypt(_nonce(number, last), block, self._context)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class SealedWriter(io.RawIOBase):
    """A file that seals what is written to it; it is complete once it is closed.

    Parameters
    ----------
    path : Path
        The file; it is created, readable by its owner only.
    name : str
        What the content is bound to: the file's place, even if it is written elsewhere first.
    key : Key
        The home's key.
    """

    def __init__(self, path: Path, name: str, key: Key) -> None:
        super().__init__()
        header = _MAGIC + os.urandom(_SALT_BYTES)
        self._file = open(path, "wb", opener=_private)  # noqa: SIM115 - closed by `close`
        self._cipher = _Cipher(key, header, name)
        self._waiting, self._number, self._size = bytearray(), 0, 0
        self._file.write(header)

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written to it."""
        return self._size

    def write(self, content: Any) -> int:
        """Seal and write content; what does not fill a block waits."""
        given = memoryview(content).cast("B")
        self._size += len(given)
        self._waiting += given
        # a full block is written only once more content follows: the last block has a nonce of its own
        while len(self._waiting) > BLOCK_BYTES:
            self._file.write(self._cipher.seal(self._number, False, bytes(self._waiting[:BLOCK_BYTES])))
            del self._waiting[:BLOCK_BYTES]
            self._number += 1
        return len(given)

    def close(self) -> None:
        """Write the last block and close the file."""
        if not self.closed:
            self._file.write(self._cipher.seal(self._number, True, bytes(self._waiting)))
            self._waiting.clear()
            self._file.close()
        super().close()


def is_sealed(path: Path) -> bool:
    """Return whether a file begins like a sealed one."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def unseal(path: Path, name: str, key: Key) -> bytearray:
    """Return the content of a sealed file, all of it authenticated.

    Raises
    ------
    BrokenSeal
        If it is not exactly what was sealed under this name with this key.
    """
    size = BLOCK_BYTES + _TAG_BYTES
    content = bytearray()
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise BrokenSeal(f"{path.name} is not sealed")
        cipher = _Cipher(key, header, name)
        block, number = file.read(size), 0
        try:
            while True:
                following = file.read(size)
                content += cipher.open(number, not following, block)
                if not following:
                    return content
                block, number = following, number + 1
        except InvalidTag:
            raise BrokenSeal(f"{path.name} was changed, cut, or renamed, or another key sealed it") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
