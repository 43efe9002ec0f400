"""The settings of the automatic choice."""

from typing import Literal

from pydantic import Field, field_validator

from engine.models import BY_NAME
from engine.models.base import ModelConfig, Needs

AUTO = "auto"
AUTO_SUMMARY = "Trains several algorithms, takes the simplest of the best on a validation split."
AUTO_NEEDS = Needs()


class AutoConfig(ModelConfig):
    """Settings of the automatic choice."""

    seconds: float = Field(
        900.0, ge=1, le=86_400, description="time budget of choice and training together"
    )
    candidates: tuple[str, ...] = Field(
        (), max_length=32, description="algorithms to try; by default those that fit the catalogue"
    )
    split: Literal["temporal", "leave_last_out", "random"] | None = Field(
        None,
        description="how the validation part is made: the newest interactions, the newest of each "
        "user or a random share of each user; by default what the times allow",
    )
    share: float = Field(
        0.15, ge=0.01, le=0.5, description="share of the interactions in the validation part"
    )
    holdout_after: int | None = Field(
        None,
        description="interactions of this time (seconds since 1970) or later are the validation "
        "part; split and share then do not matter",
    )
    users: int | None = Field(
        None,
        ge=10,
        le=100_000,
        description="most users to judge on; by default 4,000 to 20,000, more where a catalogue is "
        "small",
    )
    half_lives_days: tuple[float, ...] = Field(
        (30.0, 180.0),
        max_length=8,
        description="half-lives to try for the best single model where times carry order",
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="of the split and the users judged on")

    @field_validator("candidates")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BY_NAME:
                raise ValueError(f'"{name}" is none of {", ".join(sorted(BY_NAME))}')
        return names

    @field_validator("half_lives_days")
    @classmethod
    def _positive(cls, days: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < day <= 36_500 for day in days):
            raise ValueError("each is more than 0 and at most 36500")
        return days
