# Item to item: the neighbours of what a user met, weighed and summed.

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
