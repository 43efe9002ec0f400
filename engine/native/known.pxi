# Entities as a worker remembers them: what may be shown of a ranking, and the union of several.

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
