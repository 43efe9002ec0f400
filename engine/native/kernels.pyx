# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What lies between the calls of NumPy in a computed answer; kernels.pyi says what each does.

Elements are reached by pointers, since a view of an array costs as much as most of the work here.
So each array's type, shape and order are looked at before (`_data`), and each index that comes from
outside is compared with what it is an index of. Sums are made in the order in which NumPy makes
them: what is equal there is equal here, and stands in the same order.
"""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

cnp.import_array()

cdef enum:
    LED = 3  # entities that are named for a candidate
    SHORT = 16  # rows that are sorted one by one
    AT_TIMES = 2  # as engine/known_entities.py has it
    ALWAYS = 1
    WHOLE = 0x80  # as engine/item_columns.py has it
    SOURCES = 0x7F

cdef double FLOOR = 0.05  # as engine/blend.py has it
cdef int64_t SMALL = 2**32  # as engine/item_columns.py has it

ctypedef struct Scored:
    double score
    int64_t tie

ctypedef struct Numbered:
    int64_t number
    int64_t place

ctypedef struct Summed:
    int64_t number
    double sum

ctypedef struct Offer:
    int64_t place
    int64_t source
    double raw

ctypedef fused Row:
    Scored
    Numbered


cdef inline Py_ssize_t _dim(cnp.ndarray array, int axis) except -1:
    """How long an array is along an axis."""
    if axis >= cnp.PyArray_NDIM(array):
        raise TypeError("an array of more dimensions is wanted")
    return cnp.PyArray_DIM(array, axis)


cdef void* _data(cnp.ndarray array, int kind, int dimensions, Py_ssize_t length) except? NULL:
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
            total += _dim(array, 0)
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
            length = _dim(array, 0)
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
        cdef Py_ssize_t count = _dim(wanted, 0), done = 0, anchor, length, i, j, place
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
                length = _dim(array, 0)
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
    cdef Py_ssize_t said = _dim(items, 0), many = _dim(weights, 0), i, j, k
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
    cdef Py_ssize_t count = _dim(scores, 0), i
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


cdef void _block(cnp.ndarray blocked, cnp.npy_bool* mask, Py_ssize_t size, bint value) noexcept:
    cdef cnp.npy_intp* place = <cnp.npy_intp*>cnp.PyArray_DATA(blocked)
    cdef Py_ssize_t i
    for i in range(cnp.PyArray_DIM(blocked, 0)):
        if 0 <= place[i] < size:
            mask[place[i]] = value


cdef tuple _cut(cnp.ndarray places, cnp.ndarray scores, Py_ssize_t length):
    if length == _dim(places, 0):
        return places, scores
    return places[:length].copy(), scores[:length].copy()


def unblocked(cnp.ndarray places not None, cnp.ndarray scores not None, Py_ssize_t limit,
              cnp.ndarray blocked not None, cnp.ndarray mask not None):
    cdef Py_ssize_t count = _dim(places, 0), size = _dim(mask, 0), kept = 0, i
    cdef cnp.npy_intp* place = <cnp.npy_intp*>_data(places, cnp.NPY_INTP, 1, count)
    cdef double* score = <double*>_data(scores, cnp.NPY_FLOAT64, 1, count)
    cdef cnp.npy_bool* marked = <cnp.npy_bool*>_data(mask, cnp.NPY_BOOL, 1, size)
    cdef cnp.ndarray kept_places, kept_scores
    cdef cnp.npy_intp* into_places
    cdef double* into_scores
    _data(blocked, cnp.NPY_INTP, 1, -1)
    if not 0 <= limit <= count:
        return None
    kept_places, kept_scores = _vector(limit, cnp.NPY_INTP), _vector(limit, cnp.NPY_FLOAT64)
    into_places = <cnp.npy_intp*>cnp.PyArray_DATA(kept_places)
    into_scores = <double*>cnp.PyArray_DATA(kept_scores)
    _block(blocked, marked, size, True)
    for i in range(count):
        if kept == limit:
            break
        if 0 <= place[i] < size and not marked[place[i]]:
            into_places[kept], into_scores[kept] = place[i], score[i]
            kept += 1
    _block(blocked, marked, size, False)
    return (kept_places, kept_scores) if kept == limit else None


def shown(cnp.ndarray numbers not None, cnp.ndarray scores not None, Py_ssize_t limit,
          dict known not None, cnp.ndarray states not None, cnp.ndarray blocked not None,
          cnp.ndarray mask not None, blocked_numbers, dict at_times not None, at):
    cdef Py_ssize_t count = _dim(numbers, 0), size = _dim(mask, 0)
    cdef Py_ssize_t kept = 0, i, place
    cdef int64_t* number = <int64_t*>_data(numbers, cnp.NPY_INT64, 1, count)
    cdef double* score = <double*>_data(scores, cnp.NPY_FLOAT64, 1, count)
    cdef uint8_t* state = <uint8_t*>_data(states, cnp.NPY_UINT8, 1, size)
    cdef cnp.npy_bool* marked = <cnp.npy_bool*>_data(mask, cnp.NPY_BOOL, 1, size)
    cdef cnp.ndarray kept_places, kept_scores
    cdef cnp.npy_intp* into_places
    cdef double* into_scores
    _data(blocked, cnp.NPY_INTP, 1, -1)
    limit = min(max(limit, 0), count)
    kept_places, kept_scores = _vector(limit, cnp.NPY_INTP), _vector(limit, cnp.NPY_FLOAT64)
    into_places = <cnp.npy_intp*>cnp.PyArray_DATA(kept_places)
    into_scores = <double*>cnp.PyArray_DATA(kept_scores)
    _block(blocked, marked, size, True)
    try:
        for i in range(count):
            if kept == limit:
                break
            key = number[i]
            found = known.get(key)
            if found is None:
                if key not in blocked_numbers():
                    return None
                continue
            place = found
            if not 0 <= place < size:
                raise IndexError("no such place")
            if marked[place]:
                continue
            if state[place] == ALWAYS or (state[place] == AT_TIMES and at_times[found].is_shown(at)):
                into_places[kept], into_scores[kept] = place, score[i]
                kept += 1
    finally:
        _block(blocked, marked, size, False)
    return _cut(kept_places, kept_scores, kept)


def places_of(dict known not None, cnp.ndarray numbers not None):
    cdef Py_ssize_t count = _dim(numbers, 0), i
    cdef int64_t* number = <int64_t*>_data(numbers, cnp.NPY_INT64, 1, count)
    cdef cnp.ndarray places = _vector(count, cnp.NPY_INTP)
    cdef cnp.npy_intp* into = <cnp.npy_intp*>cnp.PyArray_DATA(places)
    for i in range(count):
        found = known.get(number[i])
        into[i] = -1 if found is None else found
    return places


def union(list places not None, list scores not None, cnp.ndarray numbers not None,
          list looks not None, list with_vectors not None, dict vectors not None):
    cdef Py_ssize_t many = len(places), known = min(len(looks), _dim(numbers, 0))
    cdef Py_ssize_t total = 0, count = 0, source, length, i, place
    cdef int64_t* number = <int64_t*>_data(numbers, cnp.NPY_INT64, 1, -1)
    cdef int64_t* into_numbers
    cdef cnp.npy_intp* into_items
    cdef cnp.npy_intp* into_offered
    cdef cnp.npy_intp* own
    cdef double* into_raws
    cdef double* said
    cdef cnp.ndarray array, items, offered_by, raws
    cdef Numbered* rows = NULL
    cdef Offer* offers = NULL
    cdef list seen = [], shown_as = []
    if not (len(scores) == len(with_vectors) == many):
        raise ValueError("lists of one length are wanted")
    for array in places:
        _data(array, cnp.NPY_INTP, 1, -1)
        total += _dim(array, 0)
    try:
        rows = <Numbered*>_room(total, sizeof(Numbered))
        offers = <Offer*>_room(total, sizeof(Offer))
        total = 0
        for source in range(many):
            array = places[source]
            length = _dim(array, 0)
            own = <cnp.npy_intp*>cnp.PyArray_DATA(array)
            said = <double*>_data(scores[source], cnp.NPY_FLOAT64, 1, length)
            for i in range(length):
                if not 0 <= own[i] < known:
                    raise IndexError("no such place")
                rows[total].number, rows[total].place = number[own[i]], total
                offers[total].place, offers[total].source = own[i], source
                offers[total].raw = said[i]
                total += 1
        _sort(rows, 0, total, total)
        items, offered_by = _vector(total, cnp.NPY_INTP), _vector(total, cnp.NPY_INTP)
        raws = _vector(total, cnp.NPY_FLOAT64)
        into_items = <cnp.npy_intp*>cnp.PyArray_DATA(items)
        into_offered = <cnp.npy_intp*>cnp.PyArray_DATA(offered_by)
        into_raws = <double*>cnp.PyArray_DATA(raws)
        for i in range(total):
            place, source = offers[rows[i].place].place, offers[rows[i].place].source
            if i == 0 or rows[i].number != rows[i - 1].number:
                count += 1
                shown_as.append(looks[place])
                seen.append(None)
            if with_vectors[source]:
                seen[count - 1] = vectors.get(rows[i].number)
            into_items[i], into_offered[i] = count - 1, source
            into_raws[i] = offers[rows[i].place].raw
        array = _vector(count, cnp.NPY_INT64)
        into_numbers = <int64_t*>cnp.PyArray_DATA(array)
        for i in range(total):
            into_numbers[into_items[i]] = rows[i].number
        return array, shown_as, items, offered_by, raws, seen
    finally:
        free(rows)
        free(offers)


cdef inline float _wide(uint32_t half) noexcept:
    """A float16 as float32, exactly."""
    cdef uint32_t bits = (half & 0x7FFF) << 13
    cdef float value
    memcpy(&value, &bits, sizeof(value))
    value *= 5.192296858534828e33  # 2 ** 112: what the two differ by in their exponents
    memcpy(&bits, &value, sizeof(bits))
    if (half & 0x7C00) == 0x7C00:  # infinite, or not a number
        bits |= 0x7F800000
    bits |= (half & 0x8000) << 16
    memcpy(&value, &bits, sizeof(value))
    return value


def stacked(list vectors not None):
    cdef Py_ssize_t count = len(vectors), dimension, row, i
    cdef cnp.ndarray array, rows
    cdef float* into
    cdef uint16_t* half
    if not count:
        raise ValueError("no vectors")
    dimension = _dim(vectors[0], 0)
    rows = _matrix(count, dimension, cnp.NPY_FLOAT32)
    into = <float*>cnp.PyArray_DATA(rows)
    for row in range(count):
        array = vectors[row]
        if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT16 and cnp.PyArray_ISCARRAY_RO(array):
            half = <uint16_t*>_data(array, cnp.NPY_FLOAT16, 1, dimension)
            for i in range(dimension):
                into[i] = _wide(half[i])
        else:
            array = cnp.PyArray_FROM_OTF(array, cnp.NPY_FLOAT32, cnp.NPY_ARRAY_CARRAY_RO
                                         | cnp.NPY_ARRAY_FORCECAST)
            memcpy(into, _data(array, cnp.NPY_FLOAT32, 1, dimension), dimension * sizeof(float))
        into += dimension
    return rows


def offered(cnp.ndarray chosen not None, cnp.ndarray items not None,
            cnp.ndarray offered_by not None, Py_ssize_t source, list vectors not None):
    cdef Py_ssize_t count = _dim(chosen, 0), said = _dim(items, 0), i
    cdef Py_ssize_t known = len(vectors)
    cdef cnp.npy_intp* place = <cnp.npy_intp*>_data(chosen, cnp.NPY_INTP, 1, count)
    cdef cnp.npy_intp* item = <cnp.npy_intp*>_data(items, cnp.NPY_INTP, 1, said)
    cdef cnp.npy_intp* by = <cnp.npy_intp*>_data(offered_by, cnp.NPY_INTP, 1, said)
    cdef uint8_t* is_offered = <uint8_t*>_room(known, 1)
    cdef list rows = [], found = []
    try:
        memset(is_offered, 0, known)
        for i in range(said):
            if by[i] == source:
                if not 0 <= item[i] < known:
                    raise IndexError("no such item")
                is_offered[item[i]] = 1
        for i in range(count):
            if not 0 <= place[i] < known:
                raise IndexError("no such candidate")
            if is_offered[place[i]]:
                vector = vectors[place[i]]
                if vector is not None:
                    rows.append(i)
                    found.append(vector)
        return rows, found
    finally:
        free(is_offered)


def put_nearest(cnp.ndarray near not None, list anchors not None, cnp.ndarray into not None,
                list rows not None, Py_ssize_t column):
    cdef Py_ssize_t count = _dim(near, 0), many = len(anchors), i, j, k
    cdef float* cosine = <float*>_data(near, cnp.NPY_FLOAT32, 2, len(rows))
    cdef int32_t* places = <int32_t*>_data(into, cnp.NPY_INT32, 3, -1)
    cdef Py_ssize_t height = _dim(into, 0), width = _dim(into, 1)
    cdef Py_ssize_t depth = _dim(into, 2), row
    cdef Py_ssize_t[LED] best
    if _dim(near, 1) != many or not 0 <= column < width or depth < LED:
        raise ValueError("arrays that do not fit")
    for i in range(count):
        row = rows[i]
        if not 0 <= row < height:
            raise IndexError("no such row")
        for j in range(LED):
            best[j] = -1
        for j in range(many):
            if not cosine[j] > 0 or (best[LED - 1] >= 0 and cosine[best[LED - 1]] >= cosine[j]):
                continue
            k = LED - 1
            while k > 0 and (best[k - 1] < 0 or cosine[j] > cosine[best[k - 1]]):
                best[k] = best[k - 1]
                k -= 1
            best[k] = j
        for j in range(min(LED, many)):
            places[(row * width + column) * depth + j] = anchors[best[j]] if best[j] >= 0 else -1
        cosine += many


def put(cnp.ndarray into not None, Py_ssize_t column, list led not None, dict place not None):
    cdef int32_t* places = <int32_t*>_data(into, cnp.NPY_INT32, 3, len(led))
    cdef Py_ssize_t width = _dim(into, 1), depth = _dim(into, 2), row, i
    if not 0 <= column < width:
        raise IndexError("no such column")
    for row in range(len(led)):
        i = (row * width + column) * depth
        names = led[row]
        if len(names) > depth:
            raise ValueError("there is no room for so many")
        for name in names:
            found = place.get(name)
            places[i] = -1 if found is None else found
            i += 1


def reasons(cnp.ndarray shares not None, cnp.ndarray chosen not None, cnp.ndarray items not None,
            cnp.ndarray offered_by not None, cnp.ndarray led not None):
    cdef Py_ssize_t candidates = _dim(shares, 0), many = _dim(shares, 1)
    cdef Py_ssize_t count = _dim(chosen, 0), said = _dim(items, 0)
    cdef Py_ssize_t depth = _dim(led, 2), found = 0, named = 0, start, row, i, j, k
    cdef double* share = <double*>_data(shares, cnp.NPY_FLOAT64, 2, -1)
    cdef cnp.npy_intp* place = <cnp.npy_intp*>_data(chosen, cnp.NPY_INTP, 1, count)
    cdef cnp.npy_intp* item = <cnp.npy_intp*>_data(items, cnp.NPY_INTP, 1, said)
    cdef cnp.npy_intp* by = <cnp.npy_intp*>_data(offered_by, cnp.NPY_INTP, 1, said)
    cdef int32_t* leader = <int32_t*>_data(led, cnp.NPY_INT32, 3, count)
    cdef cnp.ndarray counts = _vector(count, cnp.NPY_UINT8), origins, parts, leads, because
    cdef uint8_t* into_counts = <uint8_t*>cnp.PyArray_DATA(counts)
    cdef uint8_t* into_leads
    cdef uint16_t* into_because
    cdef Scored* own
    cdef Scored one
    cdef Scored* all = NULL  # reasons, by their share and source
    if _dim(led, 1) != many or many > SOURCES:
        raise ValueError("arrays that do not fit")
    try:
        all = <Scored*>_room(count * many, sizeof(Scored))
        for row in range(count):
            if not 0 <= place[row] < candidates:
                raise IndexError("no such candidate")
            own, start = all + found, found
            for i in range(many):
                one.score, one.tie = share[place[row] * many + i], i
                if one.score > 0:
                    j = found - start
                    while j > 0 and _before(&one, &own[j - 1]):
                        own[j] = own[j - 1]
                        j -= 1
                    own[j] = one
                    found += 1
            if found == start:  # no source has a weight: they share equally, as they stand
                for i in range(_first_of(item, said, place[row]), said):
                    if item[i] != place[row]:
                        break
                    if not 0 <= by[i] < many:
                        raise IndexError("no such source")
                    for j in range(start, found):
                        if all[j].tie == by[i]:
                            break
                    else:
                        all[found].tie = by[i]
                        found += 1
                for j in range(start, found):
                    all[j].score = 1.0 / <double>(found - start)
            into_counts[row] = <uint8_t>(found - start)
        origins, parts = _vector(found, cnp.NPY_UINT8), _vector(found, cnp.NPY_FLOAT64)
        leads, because = _vector(found, cnp.NPY_UINT8), _vector(found * depth, cnp.NPY_UINT16)
        into_leads = <uint8_t*>cnp.PyArray_DATA(leads)
        into_because = <uint16_t*>cnp.PyArray_DATA(because)
        i = 0
        for row in range(count):
            for j in range(into_counts[row]):
                (<uint8_t*>cnp.PyArray_DATA(origins))[i] = <uint8_t>all[i].tie
                (<double*>cnp.PyArray_DATA(parts))[i] = all[i].score
                start = named
                for k in range((row * many + all[i].tie) * depth,
                               (row * many + all[i].tie + 1) * depth):
                    if leader[k] >= 0:
                        into_because[named] = <uint16_t>leader[k]
                        named += 1
                into_leads[i] = <uint8_t>(named - start)
                i += 1
        return counts, origins, parts, leads, because[:named]
    finally:
        free(all)


cdef Py_ssize_t _first_of(cnp.npy_intp* items, Py_ssize_t count, cnp.npy_intp wanted) noexcept:
    """The first of ascending items that is not below the wanted one."""
    cdef Py_ssize_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) // 2
        if items[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


cdef Py_ssize_t _sum_of(cnp.ndarray lengths, Py_ssize_t start, Py_ssize_t end) except -1:
    cdef uint8_t* length = <uint8_t*>_data(lengths, cnp.NPY_UINT8, 1, -1)
    cdef Py_ssize_t total = 0, i
    if not 0 <= start <= end <= _dim(lengths, 0):
        raise IndexError("columns that do not fit")
    for i in range(start, end):
        total += length[i]
    return total


def spans(cnp.ndarray reasons not None, cnp.ndarray leads not None, cnp.ndarray told not None,
          Py_ssize_t start, Py_ssize_t end):
    cdef Py_ssize_t why = _sum_of(reasons, 0, start), who, said = _sum_of(told, 0, start)
    cdef Py_ssize_t why_end = why + _sum_of(reasons, start, end)
    who = _sum_of(leads, 0, why)
    return (
        slice(why, why_end),
        slice(who, who + _sum_of(leads, why, why_end)),
        slice(said, said + _sum_of(told, start, end)),
    )


def packed(cnp.ndarray numbers not None, cnp.ndarray origins not None, cnp.ndarray shares not None,
           cnp.ndarray because not None, Py_ssize_t names):
    cdef Py_ssize_t count = _dim(numbers, 0), many = _dim(origins, 0)
    cdef Py_ssize_t led = _dim(because, 0), parts = 0, i
    cdef int64_t* number = <int64_t*>_data(numbers, cnp.NPY_INT64, 1, count)
    cdef uint8_t* origin = <uint8_t*>_data(origins, cnp.NPY_UINT8, 1, many)
    cdef double* share = <double*>_data(shares, cnp.NPY_FLOAT64, 1, many)
    cdef uint16_t* who = <uint16_t*>_data(because, cnp.NPY_UINT16, 1, led)
    cdef bint small = True
    cdef uint32_t* short_numbers = NULL
    cdef uint8_t* flags = NULL
    cdef double* own = NULL
    cdef uint16_t* places = NULL
    cdef int32_t* new = NULL
    cdef list named = []
    try:
        short_numbers = <uint32_t*>_room(count, sizeof(uint32_t))
        flags = <uint8_t*>_room(many, 1)
        own = <double*>_room(many, sizeof(double))
        places = <uint16_t*>_room(led, sizeof(uint16_t))
        new = <int32_t*>_room(names, sizeof(int32_t))
        for i in range(count):
            small = small and number[i] < SMALL
            short_numbers[i] = <uint32_t>number[i]
        for i in range(many):
            flags[i] = origin[i]
            if share[i] == 1.0:
                flags[i] |= WHOLE
            else:
                own[parts] = share[i]
                parts += 1
        memset(new, 0, names * sizeof(int32_t))
        for i in range(led):
            if who[i] >= names:
                raise IndexError("no such name")
            new[who[i]] = 1
        for i in range(names):
            if new[i]:
                new[i] = len(named)
                named.append(i)
        for i in range(led):
            places[i] = <uint16_t>new[who[i]]
        return (
            named,
            (<char*>short_numbers)[:count * sizeof(uint32_t)] if small
            else (<char*>number)[:count * sizeof(int64_t)],
            (<char*>flags)[:many],
            (<char*>own)[:parts * sizeof(double)],
            (<char*>places)[:led * sizeof(uint16_t)],
        )
    finally:
        free(short_numbers)
        free(flags)
        free(own)
        free(places)
        free(new)
