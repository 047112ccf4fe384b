"""Files of other people's making, read within limits: size, nesting, digits, and nothing but plain files.

Invariant: what comes back is UTF-8 text or JSON whose numbers a float holds and whose texts can be written again;
anything else raises, in one line, before it costs time or memory.
"""

from __future__ import annotations

import errno
import json
import math
import reprlib
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from llmco2.errors import FileFormatError, explain

MAX_DEPTH: Final = 64  # of lists and objects inside each other
MAX_JSON_BYTES: Final = 16_000_000
MAX_TEXT_BYTES: Final = 256_000_000
MAX_UNPACKED_BYTES: Final = 512_000_000  # of a compressed file
MAX_COLUMNS: Final = 1_000  # of a table
MAX_CELLS: Final = 50_000_000
_FLOAT_BITS: Final = 1024  # an integer of more bits is no float
_TOO_LARGE: Final = "a number larger than any float"
_CHUNK_BYTES: Final = 1 << 20
_SHORT: Final = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 2, 4, 4, 120, 120


def plain_file_bytes(path: Path, *, limit_bytes: int) -> bytes:
    """Return the content of a plain file.

    Raises OSError where it is missing or no plain file (a folder, a pipe, a device), ValueError where it is larger than
    ``limit_bytes`` or its path cannot be one; both in one line.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(
            errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL,
            "Is a directory" if stat.S_ISDIR(found.st_mode) else "a pipe or a device, no plain file",
        )
    if found.st_size > limit_bytes:
        raise ValueError(f"{found.st_size:,} bytes, more than {limit_bytes:,}")
    return path.read_bytes()


def read_plain_file(path: Path, *, limit_bytes: int, expected: str | None = None) -> bytes:
    """Return the content of a plain file of at most ``limit_bytes``; ``expected`` says in errors what it should be.

    Raises FileFormatError, one line, where :func:`plain_file_bytes` raises.
    """
    try:
        return plain_file_bytes(path, limit_bytes=limit_bytes)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileFormatError(
            explain(f"cannot read {_path_text(path)}", got=reason, expected=expected)
        ) from error


def unpacked_gzip(content: bytes, *, limit_bytes: int = MAX_UNPACKED_BYTES) -> bytes:
    """Return what a gzip file of ``content`` holds.

    Raises ValueError for more than ``limit_bytes``, EOFError for a file that breaks off, zlib.error for a damaged one.
    """
    parts, total, rest = [], 0, content
    while rest:
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        while rest and not unpacker.eof:
            part = unpacker.decompress(rest, _CHUNK_BYTES)
            total += len(part)
            if total > limit_bytes:
                raise ValueError(f"more than {limit_bytes:,} bytes unpacked")
            parts.append(part)
            rest = unpacker.unconsumed_tail
            if not part and not rest and not unpacker.eof:
                break
        if not unpacker.eof:
            raise EOFError("the compressed data break off")
        rest = unpacker.unused_data
    return b"".join(parts)


def json_value(
    content: str | bytes,
    *,
    constants: Callable[[str], Any] | None = None,
    usable: bool = True,
    keys_once: bool = False,
) -> Any:
    """Return what JSON ``content`` says; ``constants`` makes something of the names NaN and Infinity.

    With ``keys_once`` an object that says a key twice is refused in place of taking the last.

    Where not all of it is ``usable``, :func:`check_json` is left to the caller but for the nesting.

    Raises ValueError with one line for what nests deeper than MAX_DEPTH or holds a number that no float holds or text
    that is no Unicode; its kinds json.JSONDecodeError for what is no JSON, UnicodeDecodeError for bytes that are no
    UTF-8.
    """
    if isinstance(content, bytes):
        content = content.decode("utf-8-sig")
    try:
        value = json.loads(
            content,
            parse_constant=constants or _refuse_constant,
            parse_float=_float,
            object_pairs_hook=_once if keys_once else None,
        )
    except RecursionError:
        raise ValueError(f"lists or objects nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError(f"a number of more than {sys.get_int_max_str_digits():,} digits") from None
        raise
    check_json(value, usable=usable)
    return value


def check_json(value: object, *, usable: bool = True) -> None:
    """Raise ValueError where ``value`` nests too deep or, if ``usable``, holds a number or text that cannot be used.

    What stands in it at several places (as YAML's aliases do) is looked at once, so its size is that of the file.
    """
    stack: list[tuple[object, int]] = [(value, 1)]
    seen: set[int] = set()
    while stack:
        item, depth = stack.pop()
        if isinstance(item, str):
            if usable and not item.isascii():
                _check_text(item)
        elif isinstance(item, int):
            if usable and item.bit_length() > _FLOAT_BITS:
                raise ValueError(_TOO_LARGE)
        elif isinstance(item, dict | list):
            if depth > MAX_DEPTH:
                raise ValueError(f"lists or objects nested deeper than {MAX_DEPTH}")
            if id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, dict):
                stack.extend((key, depth) for key in item)
                stack.extend((each, depth + 1) for each in item.values())
            else:
                stack.extend((each, depth + 1) for each in item)


def shown(value: object) -> str:
    """Return ``value`` as an error shows it: its repr, cut short before it is made long."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list within itself
        return f"a {type(value).__name__} too large to show"


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(_TOO_LARGE)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} twice")
    return found


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text with half a surrogate pair") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _path_text(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else repr(text)
