"""A model as a file: safetensors (arrays and a JSON header, no code), named by its SHA-256.

Format: https://huggingface.co/docs/safetensors (8 bytes header length, JSON header, the arrays).
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from engine.models.forms import BY_FORM, ServingModel
from storage.artefacts import check_hash, content_hash, corrupt, unreadable

LAYOUT = 1
_MAX_HEADER = 100 << 20
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """A model out of a file, and what its manifest says (layout, form, settings and more)."""

    model: ServingModel
    manifest: Mapping[str, Any]


def write_artefact(model: ServingModel, path: Path, facts: Mapping[str, Any]) -> None:
    """Writes a model with its manifest; facts are JSON-ready and join the manifest."""
    manifest = {**facts, "layout": LAYOUT, "form": model.form, "settings": model.settings()}
    arrays = {name: np.ascontiguousarray(array) for name, array in model.arrays().items()}
    save_file(arrays, path, {"penchant": json.dumps(manifest, sort_keys=True)})


def open_artefact(path: Path, expected_hash: str | None = None) -> Opened:
    """Maps a model's file into memory: its pages are shared by all processes that read it.

    Args:
        expected_hash: SHA-256 that the file must have; None: not checked.

    Raises:
        FailedPrecondition: ARTEFACT_CORRUPT: missing, other content, truncated or foreign.
    """
    try:
        if expected_hash is not None:
            check_hash(content_hash(path), expected_hash)
        arrays, metadata = _map(path)
        manifest = json.loads(metadata["penchant"])
        if manifest["layout"] != LAYOUT:
            raise corrupt(f"has layout {manifest['layout']}, this release reads {LAYOUT}")
        form = BY_FORM[manifest["form"]]
        return Opened(form.from_arrays(arrays, manifest["settings"]), manifest)
    except OSError as error:
        raise unreadable(error) from error
    except (KeyError, ValueError, TypeError) as error:
        raise corrupt(f"is damaged or not of this service: {error}") from error


def _map(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _MAX_HEADER:
            raise ValueError("no header")
        header = json.loads(file.read(size))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, about in header.items():
        begin, end = (8 + size + offset for offset in about["data_offsets"])
        dtype = np.dtype(_DTYPES[about["dtype"]])
        shape = tuple(about["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        if end > len(mapped) or end - begin != count * dtype.itemsize:
            raise ValueError(f"array {name} is cut off")
        arrays[name] = np.frombuffer(mapped, dtype, count, begin).reshape(shape)
    return arrays, metadata
