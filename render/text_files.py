"""Text files that are there complete, or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it; what is no regular file as it is. Raises OSError."""
    if path.exists() and not path.is_file():  # /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    place = path.resolve()  # a link stays one
    part = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
