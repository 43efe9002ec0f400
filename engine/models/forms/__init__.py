"""The serving forms. A new one is a file here and a line below."""

from engine.models.forms.base import History, Scored, ServingModel
from engine.models.forms.blend import Blend
from engine.models.forms.clusters import ClusterModel
from engine.models.forms.factors import FactorModel
from engine.models.forms.neighbours import NeighbourMatrix
from engine.models.forms.scores import ItemScores

FORMS: tuple[type[ServingModel], ...] = (
    NeighbourMatrix,
    FactorModel,
    ItemScores,
    ClusterModel,
    Blend,
)

BY_FORM: dict[str, type[ServingModel]] = {form.form: form for form in FORMS}

__all__ = [
    "BY_FORM",
    "FORMS",
    "Blend",
    "ClusterModel",
    "FactorModel",
    "History",
    "ItemScores",
    "NeighbourMatrix",
    "Scored",
    "ServingModel",
]
