# Arrays as pointers, and rows of pairs in order.

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
    return cnp.PyArray_EMPTY(2, shape, kind, 0)


cdef void* _room(size_t count, size_t size) except NULL:
    cdef void* room = malloc(count * size + 1)
    if room == NULL:
        raise MemoryError
    return room


cdef void* _zeros(size_t count, size_t size) except NULL:
    cdef void* room = calloc(count + 1, size)
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
