"""Operators of ai.onnx.ml: the number of features that their parameters ask for."""

from __future__ import annotations

from .... import ir
from ..symbolic_size import Size
from .call import ML, Call, Results, SymbolicTensor, infers


def _require_features(call: Call, count: int, *, index: int = 0, exact: bool = True) -> None:
    """Require that the last dim of an operand is `count`, or at least `count` unless `exact`."""
    dims = call.dims(index)
    if not dims or count < 1:
        return
    if exact:
        call.equal(dims[-1], count)
    elif dims[-1].constant is None:
        call.equations.require_least(dims[-1], count)


@infers("Scaler Imputer", ML)
def _scaler(call: Call) -> Results | None:
    names = ("offset", "scale", "imputed_value_floats", "imputed_value_int64s")
    counts = [count for name in names if (count := call.length_of(name)) > 1]
    if counts:
        _require_features(call, counts[0])
    return [SymbolicTensor(ir.DataType.FLOAT if call.op_type == "Scaler" else None, call.dims(0))]


@infers("Normalizer Binarizer", ML)
def _same_features(call: Call) -> Results | None:
    return [SymbolicTensor(ir.DataType.FLOAT if call.op_type == "Normalizer" else None, call.dims(0))]


def _class_count(call: Call) -> int:
    return max(call.length_of(name) for name in ("classlabels_ints", "classlabels_strings", "classlabels_int64s"))


def _scores(call: Call, classes: int) -> Results:
    """The results of a classifier: one label and `classes` scores per row."""
    dims = call.dims(0)
    rows = dims[0] if dims is not None and len(dims) > 1 else Size.number(1)
    return [SymbolicTensor(None, (rows,)), SymbolicTensor(ir.DataType.FLOAT, (rows, Size.number(max(classes, 1))))]


@infers("LinearClassifier", ML)
def _linear_classifier(call: Call) -> Results | None:
    rows = call.length_of("intercepts") or _class_count(call)
    _require_features(call, call.length_of("coefficients") // max(rows, 1))
    return _scores(call, _class_count(call))


@infers("LinearRegressor", ML)
def _linear_regressor(call: Call) -> Results | None:
    targets = call.integer("targets", 1)
    _require_features(call, call.length_of("coefficients") // max(targets, 1))
    return _scores(call, targets)[1:]


@infers("SVMClassifier", ML)
def _svm_classifier(call: Call) -> Results | None:
    vectors = sum(call.integers("vectors_per_class"))
    if vectors:
        _require_features(call, call.length_of("support_vectors") // vectors)
    else:
        _require_features(call, call.length_of("coefficients") // max(_class_count(call), 1))
    return _scores(call, _class_count(call))


@infers("SVMRegressor", ML)
def _svm_regressor(call: Call) -> Results | None:
    vectors = call.integer("n_supports")
    count = call.length_of("support_vectors") // vectors if vectors else call.length_of("coefficients")
    _require_features(call, count)
    return _scores(call, 1)[1:]


@infers("TreeEnsembleClassifier TreeEnsembleRegressor TreeEnsemble", ML)
def _trees(call: Call) -> Results | None:
    _require_features(call, max(call.integers("nodes_featureids"), default=-1) + 1, exact=False)
    if call.op_type == "TreeEnsembleClassifier":
        return _scores(call, _class_count(call))
    return _scores(call, call.integer("n_targets", 1))[1:]


@infers("FeatureVectorizer", ML)
def _vectorizer(call: Call) -> Results | None:
    sizes = call.integers("inputdimensions")
    for index, size in enumerate(sizes[: len(call.inputs)]):
        _require_features(call, size, index=index)
    rows = call.dims(0)
    return None if rows is None else [SymbolicTensor(ir.DataType.FLOAT, (rows[0], Size.number(sum(sizes))))]


@infers("ArrayFeatureExtractor", ML)
def _extractor(call: Call) -> Results | None:
    numbers = call.constant(1)
    if numbers:
        _require_features(call, max(numbers) + 1, exact=False)
    return None


@infers("ZipMap", ML)
def _zip_map(call: Call) -> Results | None:
    _require_features(call, _class_count(call))
    return []
