"""Model files of other programs: what is found in them, and what is refused."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD

from sources.trusted_models import read_trusted
from storage.exceptions import FailedPrecondition

FACTORS = np.arange(6, dtype=np.float64).reshape(3, 2)
IDS = ["a", "b", "c"]


def svd() -> TruncatedSVD:
    return TruncatedSVD(n_components=2, random_state=1).fit(np.eye(3) + 0.1)


@pytest.mark.parametrize(
    "held",
    [
        {"item_ids": IDS, "item_factors": FACTORS},
        {"items": np.asarray(IDS), "components": FACTORS.T},
        SimpleNamespace(item_ids=IDS, item_factors=FACTORS),
        {"item_ids": IDS, "model": SimpleNamespace(components_=FACTORS.T)},
    ],
)
@pytest.mark.parametrize("write", ["pickle", "joblib"])
def test_factors_and_ids_are_found(tmp_path: Path, held: Any, write: str) -> None:
    path = tmp_path / "model"
    if write == "pickle":
        path.write_bytes(pickle.dumps(held))
    else:
        joblib.dump(held, path)
    found = read_trusted(path)
    assert found.entity_ids == IDS
    assert found.factors.dtype == np.float32
    assert found.factors.tolist() == FACTORS.tolist()


def test_a_scikit_learn_model_beside_its_ids_is_read(tmp_path: Path) -> None:
    model = svd()
    joblib.dump({"item_ids": [1, 2, 3], "model": model}, tmp_path / "model")
    found = read_trusted(tmp_path / "model")
    assert found.entity_ids == ["1", "2", "3"]
    np.testing.assert_allclose(found.factors, model.components_.T, rtol=1e-6)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"item_factors": FACTORS}, "holds no item_ids"),
        ({"item_ids": IDS}, "holds no item_ids"),
        ({"item_ids": ["a"], "item_factors": FACTORS}, "has 1 ids"),
        ({"item_ids": ["a", "a", "b"], "item_factors": FACTORS}, "has an id twice"),
        ({"item_ids": IDS, "item_factors": FACTORS * np.nan}, "not finite"),
        ({"item_ids": IDS, "item_factors": "abc"}, "no numbers"),
        (7, "holds no item_ids"),
    ],
)
def test_what_is_no_factor_model_is_refused(tmp_path: Path, held: Any, said: str) -> None:
    (tmp_path / "model").write_bytes(pickle.dumps(held))
    with pytest.raises(FailedPrecondition, match=said):
        read_trusted(tmp_path / "model")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"item_ids": IDS})[:-3]])
def test_a_file_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        read_trusted(tmp_path / "model")
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        read_trusted(tmp_path / "nothing")
