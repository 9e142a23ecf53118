"""Operators of ai.onnx.ml: the number of features that their parameters ask for."""

from __future__ import annotations

from .constrained_call import ML, ConstrainedCall, constrains


def _require_features(call: ConstrainedCall, count: int, *, index: int = 0, exact: bool = True) -> None:
    """Require that the last dim of an operand is `count`, or at least `count` unless `exact`."""
    if count < 1:
        return
    require = call.equal if exact else call.equations.require_least
    require(call.dims(index)[-1], count)


def _length_of(call: ConstrainedCall, name: str) -> int:
    """The number of elements of an attribute; 0 when it is absent."""
    value = call.attribute(name)
    return len(value) if isinstance(value, (tuple, list)) else 0


def _class_count(call: ConstrainedCall) -> int:
    return max(_length_of(call, name) for name in ("classlabels_ints", "classlabels_strings", "classlabels_int64s"))


@constrains("Scaler", "Imputer", domain=ML)
def _scaler(call: ConstrainedCall) -> None:
    names = ("offset", "scale", "imputed_value_floats", "imputed_value_int64s")
    _require_features(call, next((count for name in names if (count := _length_of(call, name)) > 1), 0))


@constrains("LinearClassifier", domain=ML)
def _linear_classifier(call: ConstrainedCall) -> None:
    rows = _length_of(call, "intercepts") or _class_count(call)
    _require_features(call, _length_of(call, "coefficients") // max(rows, 1))


@constrains("LinearRegressor", domain=ML)
def _linear_regressor(call: ConstrainedCall) -> None:
    _require_features(call, _length_of(call, "coefficients") // max(call.integer("targets", 1), 1))


@constrains("SVMClassifier", "SVMRegressor", domain=ML)
def _support_vectors(call: ConstrainedCall) -> None:
    vectors = sum(call.integers("vectors_per_class", ())) or call.integer("n_supports")
    total = _length_of(call, "support_vectors") if vectors else _length_of(call, "coefficients")
    _require_features(call, total // max(vectors or _class_count(call), 1))


@constrains("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", domain=ML)
def _trees(call: ConstrainedCall) -> None:
    _require_features(call, max(call.integers("nodes_featureids"), default=-1) + 1, exact=False)


@constrains("FeatureVectorizer", domain=ML)
def _vectorizer(call: ConstrainedCall) -> None:
    for index, size in enumerate(call.integers("inputdimensions")[: len(call.inputs)]):
        _require_features(call, size, index=index)


@constrains("ArrayFeatureExtractor", domain=ML)
def _extractor(call: ConstrainedCall) -> None:
    _require_features(call, max(call.numbers(1)) + 1, exact=False)


@constrains("ZipMap", domain=ML)
def _zip_map(call: ConstrainedCall) -> None:
    _require_features(call, _class_count(call))
