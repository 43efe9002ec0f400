"""What the long run says of memory and connections."""

from benchmarks.steady import Sample, thirds


def samples(memory: list[float], connections: list[int]) -> list[Sample]:
    return [Sample(n, *each) for n, each in enumerate(zip(memory, connections, strict=True))]


def test_memory_that_grows_while_it_warms_up_is_flat() -> None:
    said = thirds(samples([10, 50, 100, 100, 104, 104], [1, 2, 8, 9, 10, 10]))
    assert (said["flat"], said["constant"]) == (True, True)


def test_memory_that_still_grows_in_the_end_is_not_flat() -> None:
    said = thirds(samples([10, 50, 100, 100, 110, 110], [10, 10, 10, 10, 10, 11]))
    assert (said["flat"], said["constant"]) == (False, False)
    assert round(said["memory_ratio"], 3) == 1.1
