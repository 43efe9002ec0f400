# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What lies between the calls of NumPy in a computed answer; kernels.pyi says what each does.

Elements are reached by pointers, since a view of an array costs as much as most of the work here.
So each array's type, shape and order are looked at before (`_data`), and each index that comes from
outside is compared with what it is an index of. Sums are made in the order in which NumPy makes
them: what is equal there is equal here, and stands in the same order.
"""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

cnp.import_array()

cdef enum:
    LED = 3  # entities that are named for a candidate
    SHORT = 16  # rows that are sorted one by one
    AT_TIMES = 2  # as engine/known_entities.py has it
    ALWAYS = 1
    WHOLE = 0x80  # as engine/item_columns.py has it

cdef double FLOOR = 0.05  # as engine/blend.py has it

ctypedef struct Scored:
    double score
    int64_t tie

ctypedef struct Numbered:
    int64_t number
    int64_t place

ctypedef struct Summed:
    int64_t number
    double sum

ctypedef fused Row:
    Scored
    Numbered


cdef void* _data(cnp.ndarray array, int kind, int dimensions, Py_ssize_t length) except NULL:
    """The elements of an array of a kind; length: what it must have for its first; -1: any."""
    if cnp.PyArray_TYPE(array) != kind or cnp.PyArray_NDIM(array) != dimensions:
        raise TypeError(f"an array of {dimensions} dimensions and another type is wanted")
    if not cnp.PyArray_ISCARRAY_RO(array):
        raise ValueError("an array is not contiguous")
    if length >= 0 and cnp.PyArray_DIM(array, 0) != length:
        raise ValueError("arrays of one length are wanted")
    return cnp.PyArray_DATA(array)


cdef inline cnp.ndarray _vector(Py_ssize_t length, int kind):
    cdef cnp.npy_intp shape = length
    return cnp.PyArray_EMPTY(1, &shape, kind, 0)


cdef inline cnp.ndarray _matrix(Py_ssize_t rows, Py_ssize_t columns, int kind):
    cdef cnp.npy_intp[2] shape
    shape[0] = rows
    shape[1] = columns
    return cnp.PyArray_ZEROS(2, shape, kind, 0)


cdef void* _room(size_t count, size_t size) except NULL:
    cdef void* room = malloc(count * size + 1)
    if room == NULL:
        raise MemoryError
    return room


cdef inline bint _before(Row* a, Row* b) noexcept:
    if Row is Scored:
        return a.score > b.score or (a.score == b.score and a.tie < b.tie)
    else:
        return a.number < b.number or (a.number == b.number and a.place < b.place)


cdef void _sort(Row* rows, Py_ssize_t low, Py_ssize_t high, Py_ssize_t wanted) noexcept:
    """Puts the first that are wanted into order; no two are equal, so that any sort is stable."""
    cdef Py_ssize_t i, j, middle
    cdef Row pivot, row
    while high - low > SHORT and low < wanted:
        middle = low + (high - low) // 2
        if _before(&rows[middle], &rows[low]):
            rows[middle], rows[low] = rows[low], rows[middle]
        if _before(&rows[high - 1], &rows[low]):
            rows[high - 1], rows[low] = rows[low], rows[high - 1]
        if _before(&rows[high - 1], &rows[middle]):
            rows[high - 1], rows[middle] = rows[middle], rows[high - 1]
        pivot = rows[middle]
        i, j = low - 1, high
        while True:
            i += 1
            while _before(&rows[i], &pivot):
                i += 1
            j -= 1
            while _before(&pivot, &rows[j]):
                j -= 1
            if i >= j:
                break
            rows[i], rows[j] = rows[j], rows[i]
        if j + 1 >= high:  # where one is not a number: it must end all the same
            break
        if j + 1 - low < high - j - 1:
            _sort(rows, low, j + 1, wanted)
            low = j + 1
        else:
            _sort(rows, j + 1, high, wanted)
            high = j + 1
    if low >= wanted:
        return
    for i in range(low + 1, high):
        row = rows[i]
        j = i
        while j > low and _before(&row, &rows[j - 1]):
            rows[j] = rows[j - 1]
            j -= 1
        rows[j] = row


cdef class Sums:
    cdef Py_ssize_t count  # entities
    cdef size_t mask
    cdef int32_t* slots  # of a table of entities; -1: free
    cdef int32_t* of  # the entity of each neighbour
    cdef Summed* entities
    cdef list scores, weights, anchors

    def __cinit__(self, list numbers not None, list scores not None, list weights not None,
                  list anchors not None):
        cdef Py_ssize_t many = len(numbers), total = 0, done = 0, anchor, length, i
        cdef size_t size = 16, slot
        cdef int32_t place
        cdef cnp.ndarray array
        cdef int64_t* known
        cdef float* said
        cdef double weight
        if not (len(scores) == len(weights) == len(anchors) == many):
            raise ValueError("lists of one length are wanted")
        for array in numbers:
            _data(array, cnp.NPY_INT64, 1, -1)
            total += cnp.PyArray_DIM(array, 0)
        if total > 2**30:
            raise ValueError("too many neighbours")
        while size < <size_t>(2 * total):
            size *= 2
        self.mask = size - 1
        self.slots = <int32_t*>_room(size, sizeof(int32_t))
        self.of = <int32_t*>_room(total, sizeof(int32_t))
        self.entities = <Summed*>_room(total, sizeof(Summed))
        self.scores, self.weights, self.anchors = list(scores), list(weights), list(anchors)
        memset(self.slots, 0xFF, size * sizeof(int32_t))
        for anchor in range(many):
            array = numbers[anchor]
            length = cnp.PyArray_DIM(array, 0)
            known = <int64_t*>cnp.PyArray_DATA(array)
            said = <float*>_data(scores[anchor], cnp.NPY_FLOAT32, 1, length)
            weight = weights[anchor]
            for i in range(length):
                slot = self.slot(known[i])
                place = self.slots[slot]
                if place < 0:
                    place = self.slots[slot] = self.count
                    self.entities[place].number = known[i]
                    self.entities[place].sum = 0.0
                    self.count += 1
                self.entities[place].sum += weight * said[i]
                self.of[done] = place
                done += 1

    def __dealloc__(self):
        free(self.slots)
        free(self.of)
        free(self.entities)

    cdef inline size_t slot(self, int64_t number) noexcept:
        """The slot that holds an entity, or the free one where it would stand."""
        cdef size_t slot = ((<size_t>number * <size_t>0x9E3779B97F4A7C15) >> 20) & self.mask
        while self.slots[slot] >= 0 and self.entities[self.slots[slot]].number != number:
            slot = (slot + 1) & self.mask
        return slot

    def best(self, Py_ssize_t limit):
        cdef Scored* rows = <Scored*>_room(self.count, sizeof(Scored))
        cdef Py_ssize_t found = 0, i
        cdef cnp.ndarray numbers, sums
        cdef int64_t* into_numbers
        cdef double* into_sums
        try:
            for i in range(self.count):
                if self.entities[i].sum > 0:
                    rows[found].score, rows[found].tie = self.entities[i].sum, self.entities[i].number
                    found += 1
            limit = min(max(limit, 0), found)
            _sort(rows, 0, found, limit)
            numbers, sums = _vector(limit, cnp.NPY_INT64), _vector(limit, cnp.NPY_FLOAT64)
            into_numbers = <int64_t*>cnp.PyArray_DATA(numbers)
            into_sums = <double*>cnp.PyArray_DATA(sums)
            for i in range(limit):
                into_numbers[i], into_sums[i] = rows[i].tie, rows[i].score
            return numbers, sums
        finally:
            free(rows)

    def because(self, cnp.ndarray wanted not None):
        cdef int64_t* asked = <int64_t*>_data(wanted, cnp.NPY_INT64, 1, -1)
        cdef Py_ssize_t count = cnp.PyArray_DIM(wanted, 0), done = 0, anchor, length, i, j, place
        cdef cnp.ndarray array
        cdef float* said
        cdef int32_t* row = NULL  # by entity; -1: it is not wanted
        cdef int32_t* lengths = NULL
        cdef Scored* best = NULL
        cdef Scored* own
        cdef Scored new
        cdef double weight
        cdef dict found = {}
        try:
            row = <int32_t*>_room(self.count, sizeof(int32_t))
            lengths = <int32_t*>_room(count, sizeof(int32_t))
            best = <Scored*>_room(count * LED, sizeof(Scored))
            memset(row, 0xFF, self.count * sizeof(int32_t))
            memset(lengths, 0, count * sizeof(int32_t))
            for i in range(count):
                place = self.slots[self.slot(asked[i])]
                if place >= 0:
                    row[place] = i
            for anchor in range(len(self.scores)):
                array = self.scores[anchor]
                said = <float*>cnp.PyArray_DATA(array)
                new.tie, weight = self.anchors[anchor], self.weights[anchor]
                length = cnp.PyArray_DIM(array, 0)
                for i in range(length):
                    place = row[self.of[done + i]]
                    if place < 0:
                        continue
                    new.score = weight * said[i]
                    own = best + place * LED
                    if lengths[place] < LED:
                        j = lengths[place]
                        lengths[place] += 1
                    elif _before(&new, &own[LED - 1]):
                        j = LED - 1
                    else:
                        continue
                    while j > 0 and _before(&new, &own[j - 1]):
                        own[j] = own[j - 1]
                        j -= 1
                    own[j] = new
                done += length
            for i in range(count):
                if lengths[i]:
                    found[asked[i]] = [best[i * LED + j].tie for j in range(lengths[i])]
            return found
        finally:
            free(row)
            free(lengths)
            free(best)


cdef double _sum(double* row, Py_ssize_t count) noexcept:
    """The sum of a row of fewer than 128, as NumPy adds it up: from eight on by eights."""
    cdef double[8] eighth
    cdef double total = 0.0
    cdef Py_ssize_t i = 0
    if count >= 8:
        memcpy(eighth, row, sizeof(eighth))
        for i in range(8, count - count % 8):
            eighth[i % 8] += row[i]
        total = ((eighth[0] + eighth[1]) + (eighth[2] + eighth[3])) + (
            (eighth[4] + eighth[5]) + (eighth[6] + eighth[7]))
    for i in range(count - count % 8 if count >= 8 else 0, count):
        total += row[i]
    return total


def blend(cnp.ndarray items not None, cnp.ndarray sources not None, cnp.ndarray scores not None,
          cnp.ndarray weights not None, Py_ssize_t n_items):
    cdef Py_ssize_t said = cnp.PyArray_DIM(items, 0), many = cnp.PyArray_DIM(weights, 0), i, j, k
    cdef cnp.npy_intp* item = <cnp.npy_intp*>_data(items, cnp.NPY_INTP, 1, said)
    cdef cnp.npy_intp* source = <cnp.npy_intp*>_data(sources, cnp.NPY_INTP, 1, said)
    cdef double* score = <double*>_data(scores, cnp.NPY_FLOAT64, 1, said)
    cdef double* weight = <double*>_data(weights, cnp.NPY_FLOAT64, 1, many)
    cdef cnp.ndarray totals = _vector(n_items, cnp.NPY_FLOAT64)
    cdef cnp.ndarray shares = _matrix(n_items, many, cnp.NPY_FLOAT64)
    cdef double* total = <double*>cnp.PyArray_DATA(totals)
    cdef double* share = <double*>cnp.PyArray_DATA(shares)
    cdef double part, present = 0.0
    cdef double* low = <double*>_room(3 * many, sizeof(double))
    cdef double* high = low + many
    cdef double* offers = high + many
    try:
        for j in range(many):
            if not (isfinite(weight[j]) and weight[j] >= 0):
                raise ValueError("weights of sources must be finite and not negative")
            offers[j] = 0.0
        for i in range(said):
            j = source[i]
            if not (0 <= j < many and 0 <= item[i] < n_items):
                raise IndexError("no such source, or no such item")
            if not offers[j]:
                low[j] = high[j] = score[i]
                offers[j] = 1.0
            elif score[i] < low[j]:
                low[j] = score[i]
            elif score[i] > high[j]:
                high[j] = score[i]
        for j in range(many):
            if offers[j] and weight[j]:
                present += weight[j]
        for i in range(said):
            j = source[i]
            if not weight[j]:
                continue
            part = weight[j]
            if high[j] != low[j]:
                part *= FLOOR + (1.0 - FLOOR) * (score[i] - low[j]) / (high[j] - low[j])
            k = item[i] * many + j
            if part > share[k]:
                share[k] = part
        for i in range(n_items):
            k = i * many
            part = _sum(share + k, many)
            if part > 0:
                for j in range(many):
                    share[k + j] /= part
            if present:
                part /= present
            total[i] = min(part, 1.0)
        return totals, shares
    finally:
        free(low)


def descending(cnp.ndarray scores not None):
    cdef Py_ssize_t count = cnp.PyArray_DIM(scores, 0), i
    cdef double* score = <double*>_data(scores, cnp.NPY_FLOAT64, 1, count)
    cdef cnp.ndarray order = _vector(count, cnp.NPY_INTP)
    cdef cnp.npy_intp* into = <cnp.npy_intp*>cnp.PyArray_DATA(order)
    cdef Scored* rows = <Scored*>_room(count, sizeof(Scored))
    for i in range(count):
        rows[i].score, rows[i].tie = score[i], i
    _sort(rows, 0, count, count)
    for i in range(count):
        into[i] = rows[i].tie
    free(rows)
    return order
