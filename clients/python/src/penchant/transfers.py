"""Models on their way between the service and a local file."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from penchant.errors import PenchantError
from penchant.v1 import model_pb2 as pb

_CHUNK_BYTES = 512 * 1024


def manifest_path(path: Path) -> Path:
    """Where the manifest of an exported artefact lies: beside it, with `.json` appended."""
    return path.with_name(f"{path.name}.json")


class ExportedFile:
    """Writes what ExportModel sends; the file and its manifest appear once all has arrived.

    Args:
        path: of the artefact; replaced when it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._file = self._partial.open("wb")
        self._digest = hashlib.sha256()
        self._manifest: pb.ModelManifest | None = None

    def add(self, message: pb.ExportModelResponse) -> None:
        """Takes the next message of the stream."""
        if message.WhichOneof("part") == "manifest":
            self._manifest = message.manifest
        else:
            self._digest.update(message.chunk)
            self._file.write(message.chunk)

    def finish(self) -> pb.ModelManifest:
        """Puts artefact and manifest in their places.

        Raises:
            PenchantError: what arrived is not what its checksum names.
        """
        self._file.close()
        manifest = self._manifest
        if manifest is None or self._digest.hexdigest() != manifest.content_hash:
            raise PenchantError("what arrived is not the model that its checksum names")
        kept = {
            "model": manifest.model,
            "version": manifest.version,
            "content_hash": manifest.content_hash,
            "size_bytes": manifest.size_bytes,
            "manifest": json.loads(manifest.manifest_json or "{}"),
        }
        manifest_path(self._path).write_text(json.dumps(kept, indent=2) + "\n")
        self._partial.replace(self._path)
        return manifest

    def discard(self) -> None:
        """Removes what is there of an export that did not finish; nothing after `finish`."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


def import_requests(path: Path, model: str) -> Iterator[pb.ImportModelRequest]:
    """The messages that import an exported file.

    Args:
        path: of the artefact, its manifest beside it.
        model: the name to import under; the one that it was exported from when empty.
    """
    kept = json.loads(manifest_path(path).read_text())
    yield pb.ImportModelRequest(
        manifest=pb.ModelManifest(
            model=model or kept["model"],
            version=kept["version"],
            content_hash=kept["content_hash"],
            size_bytes=kept["size_bytes"],
            manifest_json=json.dumps(kept["manifest"]),
        )
    )
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield pb.ImportModelRequest(chunk=chunk)
