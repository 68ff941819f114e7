"""Names made from content: the same inputs give the same name."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

_AS_IT_IS = frozenset({str, int, float, bool, type(None)})
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(*parts: Any) -> str:
    """Return the SHA-256, 64 hexadecimal digits, of the parts in their canonical form.

    Parts may be None, bool, int, float, str, bytes, paths (as text), lists, tuples, dictionaries with
    text keys, numpy arrays (dtype, shape and row-major little-endian bytes), dataclasses and pydantic
    models (by their fields).

    Raises:
        TypeError: a part is of another type; nothing is ever named by its ``repr``.
    """
    sha = hashlib.sha256()
    for part in parts:
        _feed(sha, part)
        sha.update(b"\0")
    return sha.hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _feed(sha: Any, part: Any) -> None:
    """Give the canonical form of a part to a hash; pixels and files are not copied for it."""
    if isinstance(part, np.ndarray):
        array: np.ndarray = np.ascontiguousarray(cast(np.ndarray, part))
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.ravel())
    elif isinstance(part, bytes):
        sha.update(b"bytes:")
        sha.update(part)
    else:
        sha.update(_CANONICAL.encode(_plain(part)).encode())


def _plain(part: Any) -> Any:
    """Turn a part into what JSON knows, deterministically."""
    if type(part) in _AS_IT_IS or isinstance(part, int | float | str):
        return part
    if isinstance(part, Path):
        return str(part)
    if isinstance(part, np.integer | np.floating):
        return part.item()
    if isinstance(part, np.ndarray | bytes):
        sha = hashlib.sha256()
        _feed(sha, part)
        return sha.hexdigest()
    if isinstance(part, BaseModel):
        return part.model_dump(mode="json")
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return {name: _plain(getattr(part, name)) for name in _fields(type(part))}
    if isinstance(part, dict):
        return {
            str(key): value if type(value) in _AS_IT_IS else _plain(value)
            for key, value in cast(dict[Any, Any], part).items()
        }
    if isinstance(part, list | tuple):
        return [_plain(value) for value in cast(list[Any], part)]
    raise TypeError(f"digest_of: {type(part).__name__} has no canonical form")


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))
