"""Checks a step's gradients and takes their addresses, all of them in one compiled call.

For hundreds of small tensors Python's own attribute look-ups would take longer than the step. NumPy's array structure is
part of its public C interface (``PyArrayObject_fields``), so its fields are read directly: data, nd, dimensions, strides,
base, descr, flags, behind the object header. ``numpy/gather.py`` compares one known array before it trusts the layout.
This text is compiled through the same cache as the loops.
"""

from numba import carray, njit

from steepest.engines.numba.pointers import address_int32, address_int64

ALIGNED = 0x0100


@njit(nogil=True)
def gather(objects, header, array_type, dtypes, ndims, first_dim, shapes, strides, sizes, starts, ends, out):
    """Write each array's data address to ``out``; return the first array that needs a closer look, or -1."""
    for t in range(len(objects)):
        words = carray(address_int64(objects[t] + header - 8), (8,))
        ndim = carray(address_int32(objects[t] + header + 8), (1,))[0]
        flags = carray(address_int32(objects[t] + header + 48), (1,))[0]
        if words[0] != array_type or words[6] != dtypes[t] or ndim != ndims[t] or flags & ALIGNED == 0:
            return t
        if ndim > 0:
            shape = carray(address_int64(words[3]), (ndim,))
            stride = carray(address_int64(words[4]), (ndim,))
            for d in range(ndim):
                if shape[d] != shapes[first_dim[t] + d]:
                    return t
                if stride[d] != strides[first_dim[t] + d] and shape[d] > 1:
                    return t
        data = words[1]
        low, high = 0, len(starts)
        while low < high:
            middle = (low + high) // 2
            if ends[middle] <= data:
                low = middle + 1
            else:
                high = middle
        if low < len(starts) and starts[low] < data + sizes[t]:
            return t
        out[t] = data
    return -1
