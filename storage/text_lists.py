"""Lists of texts as one argument of a statement."""

from collections.abc import Sequence

_BETWEEN = "\x1f"


def joined(texts: Sequence[str]) -> str:
    """Ids one after the other, the unit separator between them, for `string_to_array`.

    An array is encoded element by element, at half a microsecond each, which this is not.

    Raises:
        ValueError: one of them holds the control character that stands between them.
    """
    text = _BETWEEN.join(texts)
    if text.count(_BETWEEN) != max(0, len(texts) - 1):
        raise ValueError("an id holds a control character")
    return text
