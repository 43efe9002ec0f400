# From what the sources offer to an ordered list with reasons, as columns.

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
        memset(share, 0, n_items * many * sizeof(double))
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
