"""Progress of a part within the whole."""

from dataclasses import dataclass

from engine.models.base import Progress


@dataclass(frozen=True, slots=True)
class Phase:
    """Tells what a part reports as a stretch of the whole, under the part's own name.

    Attributes:
        report: is told.
        begin, end: the stretch, 0 to 1.
        name: "tuning spectral"; empty: the names that the part itself gives.
    """

    report: Progress
    begin: float = 0.0
    end: float = 1.0
    name: str = ""

    def __call__(self, phase: str, share: float) -> None:
        """See Progress."""
        share = min(max(share, 0.0), 1.0)
        self.report(self.name or phase, self.begin + share * (self.end - self.begin))

    def part(self, begin: float, end: float, name: str = "") -> "Phase":
        """A stretch of this stretch."""
        length = self.end - self.begin
        return Phase(
            self.report, self.begin + begin * length, self.begin + end * length, name or self.name
        )


class Forward:
    """Progress that never goes back, whatever the parts say.

    Args:
        report: is told.
    """

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._share = 0.0

    def __call__(self, phase: str, share: float) -> None:
        """See Progress."""
        self._share = max(self._share, share)
        self._report(phase, self._share)
