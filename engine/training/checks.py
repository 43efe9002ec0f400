"""What can be refused before a fit: names, hyperparameters, too little data, too much memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from engine.models import BY_NAME
from engine.models.base import Interactions, ModelConfig, Needs
from engine.training.auto import AUTO, AUTO_NEEDS, AUTO_SUMMARY, AutoConfig
from storage.exceptions import FailedPrecondition, InvalidArgument


@dataclass(frozen=True, slots=True)
class Described:
    """An algorithm as callers may name it, "auto" included."""

    name: str
    summary: str
    config: type[ModelConfig]
    needs: Needs

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its hyperparameters."""
        return self.config.model_json_schema()


def described() -> list[Described]:
    """All that CreateModel takes, by name; loads every algorithm."""
    return [_described(name) for name in names()]


def names() -> list[str]:
    """The names that CreateModel takes, sorted."""
    return sorted([*BY_NAME, AUTO])


def _described(name: str) -> Described:
    if name == AUTO:
        return Described(AUTO, AUTO_SUMMARY, AutoConfig, AUTO_NEEDS)
    algorithm = BY_NAME[name]
    return Described(name, algorithm.summary, algorithm.config, algorithm.needs)


def check_algorithm(name: str, *, field: str = "model.algorithm") -> Described:
    """The algorithm of that name.

    Args:
        field: path of the name in the request.

    Raises:
        InvalidArgument: UNKNOWN_ALGORITHM, listing the known ones.
    """
    if name not in names():
        raise InvalidArgument.field(
            field,
            f'there is no algorithm "{name[:100]}"; there are {", ".join(names())}.',
            reason="UNKNOWN_ALGORITHM",
        )
    return _described(name)


def check_hyperparameters(
    algorithm: str, given: Mapping[str, Any], *, field: str = "model.hyperparameters"
) -> ModelConfig:
    """The settings, checked, defaults filled in.

    Args:
        given: as they came in JSON; null stands for the default.
        field: path of the hyperparameters in the request.

    Raises:
        InvalidArgument: UNKNOWN_ALGORITHM, or INVALID_HYPERPARAMETERS: one violation for each
            fault, each telling what is allowed.
    """
    config = check_algorithm(algorithm).config
    try:
        return config.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise _refused(algorithm, config, error, field) from None


def _refused(
    algorithm: str, config: type[ModelConfig], error: ValidationError, field: str
) -> InvalidArgument:
    violations = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join([field, *(str(part)[:100] for part in fault["loc"])])
        unknown = fault["type"] == "extra_forbidden"
        why = f"{algorithm} has no such hyperparameter" if unknown else fault["msg"]
        violations.append(InvalidArgument.field(place, f"{why}.").violations[0])
    known = "; ".join(allowed(config)) or "none"
    first = violations[0]
    return InvalidArgument(
        f"{first.field}: {first.description} Allowed for {algorithm}: {known}.",
        reason="INVALID_HYPERPARAMETERS",
        violations=violations,
    )


_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


def allowed(config: type[ModelConfig]) -> list[str]:
    """A line a hyperparameter: its name, type, limits and default."""
    lines = []
    for name, schema in config.model_json_schema().get("properties", {}).items():
        kinds = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
        words = []
        for kind in kinds:
            if "enum" in kind:
                words.append("one of " + ", ".join(map(str, kind["enum"])))
            elif "const" in kind:
                words.append(str(kind["const"]))
            else:
                words.append(str(kind.get("type", "object")))
            words += [said.format(kind[key]) for key, said in _BOUNDS.items() if key in kind]
        if schema.get("default") is not None:
            words.append(f"default {schema['default']}")
        lines.append(f"{name} ({', '.join(words)})")
    return lines


def check_needs(algorithm: str, data: Interactions, config: ModelConfig | None = None) -> None:
    """Whether there is enough to learn from, and not too much.

    Args:
        config: checked settings; without them the size is not looked at.

    Raises:
        FailedPrecondition: NOT_ENOUGH_DATA or MODEL_TOO_LARGE, with what there is.
    """
    why = missing(algorithm, check_algorithm(algorithm).needs, data)
    if why is not None:
        raise FailedPrecondition(why, reason="NOT_ENOUGH_DATA")
    if config is not None and algorithm != AUTO:
        refusal = BY_NAME[algorithm].refuse(data, config)
        if refusal is not None:
            raise FailedPrecondition(refusal, reason="MODEL_TOO_LARGE")


def missing(algorithm: str, needs: Needs, data: Interactions) -> str | None:
    """What an algorithm needs and what there is, where that is too little; else None."""
    liked = data.weights > 0
    there = Needs(
        users=len(np.unique(data.users[liked])),
        items=len(np.unique(data.items[liked])),
        interactions=int(liked.sum()),
    )
    if (
        there.users >= needs.users
        and there.items >= needs.items
        and there.interactions >= needs.interactions
    ):
        return None
    return f"{algorithm} needs {_said(needs)} with positive weights; there are {_said(there)}."


def _said(needs: Needs) -> str:
    return f"{needs.users} users, {needs.items} entities and {needs.interactions} interactions"
