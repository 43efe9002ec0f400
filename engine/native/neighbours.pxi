# Rows of a neighbour matrix, weighed and summed: the best entities, and who led to each.

ctypedef struct Led:
    float share
    int32_t place


cdef inline bint _worse(Scored* a, Scored* b) noexcept:
    return _before(b, a)


cdef void _sink(Scored* heap, Py_ssize_t at, Py_ssize_t end) noexcept:
    """Restores a heap whose first is the worst, of which only the one `at` may be out of order."""
    cdef Py_ssize_t child
    cdef Scored row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= end:
            break
        if child + 1 < end and _worse(&heap[child + 1], &heap[child]):
            child += 1
        if not _worse(&heap[child], &row):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = row


cdef Py_ssize_t _largest(float* sums, Py_ssize_t n, Scored* heap, Py_ssize_t k) noexcept:
    """Puts the k largest positive sums into a heap, whose first is the worst; how many there are."""
    cdef Py_ssize_t i, at, kept = 0
    for i in range(n):
        if not sums[i] > 0:
            continue
        if kept < k:
            heap[kept].score, heap[kept].tie = sums[i], i
            kept += 1
            if kept == k:
                for at in range(k // 2 - 1, -1, -1):
                    _sink(heap, at, k)
        elif sums[i] > heap[0].score:  # an equal one stands behind it
            heap[0].score, heap[0].tie = sums[i], i
            _sink(heap, 0, k)
    return kept


def top(
    cnp.ndarray indptr not None,
    cnp.ndarray indices not None,
    cnp.ndarray data not None,
    cnp.ndarray rows not None,
    cnp.ndarray weights not None,
    cnp.ndarray exclude not None,
    Py_ssize_t k,
):
    cdef Py_ssize_t n = _dim(indptr, 0) - 1, entries = _dim(data, 0), h = _dim(rows, 0)
    cdef int64_t* starts = <int64_t*>_data(indptr, cnp.NPY_INT64, 1, -1)
    cdef int32_t* columns = <int32_t*>_data(indices, cnp.NPY_INT32, 1, entries)
    cdef float* parts = <float*>_data(data, cnp.NPY_FLOAT32, 1, entries)
    cdef int32_t* own = <int32_t*>_data(rows, cnp.NPY_INT32, 1, -1)
    cdef float* weighs = <float*>_data(weights, cnp.NPY_FLOAT32, 1, h)
    cdef int32_t* without = <int32_t*>_data(exclude, cnp.NPY_INT32, 1, -1)
    cdef Py_ssize_t i, j, kept
    cdef int64_t entry
    cdef float share
    cdef float* sums = NULL
    cdef int32_t* ranks = NULL  # by entity, from 1 on; 0: it is not among the best
    cdef Scored* best = NULL
    cdef Led* led = NULL
    cdef Led* three
    cdef cnp.ndarray items, scores
    cdef list because = []
    for i in range(h):
        if not 0 <= own[i] < n or not 0 <= starts[own[i]] <= starts[own[i] + 1] <= entries:
            raise IndexError("a row that is not there")
    for i in range(_dim(exclude, 0)):
        if not 0 <= without[i] < n:
            raise IndexError("an excluded place that is not there")
    k = min(max(k, 0), n)
    try:
        sums = <float*>_zeros(n, sizeof(float))
        best = <Scored*>_room(k, sizeof(Scored))
        for i in range(h):
            for entry in range(starts[own[i]], starts[own[i] + 1]):
                if not 0 <= columns[entry] < n:
                    raise IndexError("a column that is not there")
                sums[columns[entry]] += parts[entry] * weighs[i]
        for i in range(_dim(exclude, 0)):
            sums[without[i]] = 0
        kept = _largest(sums, n, best, k) if k else 0
        _sort(best, 0, kept, kept)
        ranks = <int32_t*>_zeros(n, sizeof(int32_t))
        led = <Led*>_zeros(kept * LED, sizeof(Led))
        for i in range(kept):
            ranks[best[i].tie] = i + 1
        for i in range(h):
            for entry in range(starts[own[i]], starts[own[i] + 1]):
                if not ranks[columns[entry]]:
                    continue
                share = parts[entry] * weighs[i]
                three = led + (ranks[columns[entry]] - 1) * LED
                if share > three[LED - 1].share:  # of equal ones the first
                    j = LED - 1
                    while j > 0 and share > three[j - 1].share:
                        three[j] = three[j - 1]
                        j -= 1
                    three[j].share, three[j].place = share, i
        items, scores = _vector(kept, cnp.NPY_INT32), _vector(kept, cnp.NPY_FLOAT32)
        for i in range(kept):
            (<int32_t*>cnp.PyArray_DATA(items))[i] = best[i].tie
            (<float*>cnp.PyArray_DATA(scores))[i] = best[i].score
            three = led + i * LED
            j = 0
            while j < LED and three[j].share > 0:
                j += 1
            if j == 3:
                because.append((three[0].place, three[1].place, three[2].place))
            elif j == 2:
                because.append((three[0].place, three[1].place))
            elif j == 1:
                because.append((three[0].place,))
            else:
                because.append(())
        return items, scores, because
    finally:
        free(sums)
        free(ranks)
        free(best)
        free(led)
