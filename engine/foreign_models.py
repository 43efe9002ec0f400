"""A factor model of another program as one of ours: its entities found, its users folded in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from engine.models.artefact import write_artefact
from engine.models.forms.factors import FactorModel, ridge
from engine.registry_transfer import Sent, tenant_facts
from storage.artefacts import content_hash
from storage.exceptions import FailedPrecondition
from storage.tenants import Tenant

_RIDGE = 1e-3  # of the gram's mean diagonal: factors need not be orthonormal, nor of full rank


def write_foreign(
    tenant: Tenant,
    name: str,
    factors: NDArray[np.float32],
    entity_nos: NDArray[np.int64],
    path: Path,
    notes: Mapping[str, Any],
) -> Sent:
    """Writes an artefact that `ModelTransfers.take_in` takes for the tenant.

    Args:
        factors: float32 (n, f).
        entity_nos: int64 (n,), which entity each row is.
        notes: JSON-ready, join the manifest.

    Raises:
        FailedPrecondition: no entity of it is known (NOT_ENOUGH_DATA).
    """
    if not len(entity_nos):
        raise FailedPrecondition(
            "None of the model's entities is known to the tenant.", reason="NOT_ENOUGH_DATA"
        )
    order = np.argsort(entity_nos)
    rows = np.ascontiguousarray(factors[order])
    strength = _RIDGE * float(np.square(rows).sum()) / rows.shape[1]
    model = FactorModel(entity_nos[order], rows, ridge(rows, max(strength, 1e-9)))
    facts = {
        **tenant_facts(tenant),
        "algorithm": "svd",
        "hyperparameters": {"n_components": int(rows.shape[1])},
        **notes,
    }
    write_artefact(model, path, facts)
    return Sent(name, content_hash(path), path.stat().st_size, orjson.dumps(facts).decode())
