"""`inner_products` of `products.py`, compiled by numba (the `fast` extra).

Rows are read where they lie, as float32, and widened in registers: nothing is copied, and six
values loaded serve eight products. Blocks of columns are short enough that what one group of rows
has fetched is still in the processor's cache for the next.

Importing this compiles it, or loads what an earlier import compiled: two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numba import carray, float32, intp, njit, types
from numba.extending import intrinsic

_COLUMNS = 4096
_LEFT, _RIGHT = 4, 2  # rows of each side that are multiplied at a time


def _compile(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    # Sums may be taken in any order; NaN, infinities and signed zeros stay what they are.
    options = {"nogil": True, "fastmath": {"reassoc", "contract"}}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        compiled: Callable[..., None]
        try:
            compiled = njit(signature, cache=True, **options)(function)
        except RuntimeError:  # no folder that can be written to keep the result in
            compiled = njit(signature, **options)(function)
        return compiled

    return decorate


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, _address: Any) -> Any:
    """The address as a pointer to float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(float32)(intp), generate


@_compile("void(intp[::1], intp[::1], intp, boolean, float64[:, ::1])")
def _multiply(left: Any, right: Any, width: int, same: bool, out: Any) -> None:
    """Add to `out` the products of rows at the addresses `left` and `right`; where both are the
    same, to its lower triangle at least.
    """
    for start in range(0, width, _COLUMNS):
        n = min(_COLUMNS, width - start)
        skip = 4 * start
        for i in range(0, left.size, _LEFT):
            a0 = carray(_pointer(left[i] + skip), n)
            a1 = carray(_pointer(left[i + 1] + skip), n)
            a2 = carray(_pointer(left[i + 2] + skip), n)
            a3 = carray(_pointer(left[i + 3] + skip), n)
            for j in range(0, i + _LEFT if same else right.size, _RIGHT):
                b0 = carray(_pointer(right[j] + skip), n)
                b1 = carray(_pointer(right[j + 1] + skip), n)
                s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = 0.0
                for k in range(n):
                    x0, x1 = np.float64(a0[k]), np.float64(a1[k])
                    x2, x3 = np.float64(a2[k]), np.float64(a3[k])
                    y0, y1 = np.float64(b0[k]), np.float64(b1[k])
                    s00 += x0 * y0
                    s01 += x0 * y1
                    s10 += x1 * y0
                    s11 += x1 * y1
                    s20 += x2 * y0
                    s21 += x2 * y1
                    s30 += x3 * y0
                    s31 += x3 * y1
                out[i, j] += s00
                out[i, j + 1] += s01
                out[i + 1, j] += s10
                out[i + 1, j + 1] += s11
                out[i + 2, j] += s20
                out[i + 2, j + 1] += s21
                out[i + 3, j] += s30
                out[i + 3, j + 1] += s31


@_compile("void(intp[::1], intp, float64[::1])")
def _square(rows: Any, width: int, out: Any) -> None:
    """Add to `out` the squared lengths of the rows at the addresses `rows`."""
    for i in range(out.size):
        row = carray(_pointer(rows[i]), width)
        total = 0.0
        for k in range(width):
            total += np.float64(row[k]) * np.float64(row[k])
        out[i] += total


def inner_products(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray] | None, images: range
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """See `products.inner_products`. ValueError: arrays of several shapes, or images they lack."""
    same = right is None
    left = [np.require(maps, np.float32, ["C", "A"]) for maps in left]
    right = left if right is None else [np.require(maps, np.float32, ["C", "A"]) for maps in right]
    (count, width), a, b = left[0].shape, len(left), len(right)
    if {maps.shape for maps in (*left, *right)} != {(count, width)} or images.stop > count:
        raise ValueError("maps of all models must have one shape and hold the images")
    left_rows, right_rows = _addresses(left, _LEFT), _addresses(right, _LEFT if same else _RIGHT)
    for image in images:
        skip = 4 * width * image
        out = np.zeros((len(left_rows), len(right_rows)))
        _multiply(left_rows + skip, right_rows + skip, width, same, out)
        products = out[:a, :b]
        if same:
            products = np.tril(products) + np.tril(products, -1).T
            yield products, products.diagonal(), products.diagonal()
        else:
            left_squares, right_squares = np.zeros(a), np.zeros(b)
            _square(left_rows + skip, width, left_squares)
            _square(right_rows + skip, width, right_squares)
            yield products, left_squares, right_squares


def _addresses(maps: Sequence[np.ndarray], multiple: int) -> np.ndarray:
    """Where each array begins, the last one repeated until their number is a multiple."""
    found = [values.ctypes.data for values in maps]
    found += found[-1:] * (-len(found) % multiple)
    return np.array(found, dtype=np.intp)
