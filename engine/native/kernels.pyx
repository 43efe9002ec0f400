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

include "arrays.pxi"
include "sums.pxi"
include "known.pxi"
include "ranked.pxi"
include "neighbours.pxi"
