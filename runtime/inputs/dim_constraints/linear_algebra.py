"""Linear algebra: matrix products, whose contracted dims are equal, square matrices, Fourier transforms."""

from __future__ import annotations

from ..symbolic_size import Size
from .call import MICROSOFT, Call, Dims, Results, SymbolicTensor, infers


@infers("MatMul MatMulInteger QLinearMatMul")
def _matmul(call: Call) -> Results | None:
    other = call.dims(3 if call.op_type == "QLinearMatMul" else 1)
    return [SymbolicTensor(None, _product(call, call.dims(0), other))]


@infers("MatMulIntegerToFloat DynamicQuantizeMatMul TransposeMatMul FusedMatMul", MICROSOFT)
def _fused_matmul(call: Call) -> Results | None:
    one, two = call.dims(0), call.dims(1)
    if one is not None and call.integer("transA"):
        one = (*one[:-2], one[-1], one[-2])
    if two is not None and call.integer("transB"):
        two = (*two[:-2], two[-1], two[-2])
    return [SymbolicTensor(call.dtype(0), _product(call, one, two))]


def _product(call: Call, one: Dims | None, two: Dims | None) -> Dims | None:
    if one is None or two is None:
        return None
    call.equal(one[-1], two[-2] if len(two) > 1 else two[0])
    batch = call.broadcast(one[:-2], two[:-2]) or ()
    return (*batch, *(one[-2:-1]), *(two[-1:] if len(two) > 1 else ()))


@infers("Gemm")
def _gemm(call: Call) -> Results | None:
    a, b = call.dims(0), call.dims(1)
    if a is None or b is None:
        return None
    rows, inner = (a[1], a[0]) if call.integer("transA") else (a[0], a[1])
    depth, columns = (b[1], b[0]) if call.integer("transB") else (b[0], b[1])
    call.equal(inner, depth)
    call.require_broadcast_into(call.tensor(2), (rows, columns))
    return [SymbolicTensor(None, (rows, columns))]


@infers("FusedGemm", MICROSOFT)
def _fused_gemm(call: Call) -> Results | None:
    return _gemm(call)


@infers("MatMulNBits MatMulBnb4 MatMulFpQ4", MICROSOFT)
def _matmul_bits(call: Call) -> Results | None:
    x = call.required(0)
    if x.dims is None:
        return None
    call.equal(x.dims[-1], call.integer("K"))
    return [SymbolicTensor(x.dtype, (*x.dims[:-1], Size.number(call.integer("N"))))]


@infers("Einsum")
def _einsum(call: Call) -> Results | None:
    left, arrow, right = call.string("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in left or len(terms) != len(call.inputs):
        return None
    labels: dict[str, Size] = {}
    for index, term in enumerate(terms):
        dims = call.dims(index)
        if dims is None:
            continue
        for label, dim in zip(term, dims, strict=True):
            call.equal(labels.setdefault(label, dim), dim)
            labels[label] = dim if labels[label].constant is None else labels[label]
    if not arrow:
        right = "".join(sorted(label for label in set(left) - {","} if left.count(label) == 1))
    return [SymbolicTensor(None, tuple(labels.get(label) or call.unknown() for label in right))]


@infers("Det Inverse")
def _square(call: Call) -> Results | None:
    if (dims := call.dims(0)) is not None:
        call.equal(dims[-1], dims[-2])
    return None


@infers("DFT")
def _dft(call: Call) -> Results | None:
    if (dims := call.dims(0)) is not None and dims[-1].constant is None:
        call.equal(dims[-1], 1)  # a real signal
    return None
