"""What is this model? Functions over onnx-ir's own graph; the only layer that names onnx or onnx_ir.

There are no wrapper objects: one use-def chain, no second truth. Every change goes through `Rewriter`.
"""

from onnx_ir import (
    Attr,
    AttributeType,
    DataType,
    ExternalTensor,
    Function,
    Graph,
    Model,
    Node,
    OptionalType,
    SequenceType,
    Shape,
    SymbolicDim,
    TensorProtocol,
    TensorType,
    TypeProtocol,
    Value,
    tensor,
)
from onnx_ir import OperatorIdentifier as OperatorIdentifier

from .diagnostics import (
    Diagnostic,
    Location,
    MachineError,
    ModelError,
    OptimizeGraphError,
    PipelineError,
    Severity,
    VerificationError,
)
from .effects import is_deterministic, is_known, is_removable
from .facts import (
    Array,
    constant,
    constant_tensor,
    declared_dtype,
    is_constant,
    is_overridable,
    is_private,
    is_public,
    is_read,
    scalar,
)
from .opset import (
    UNKNOWN,
    AttributeValue,
    attribute,
    attributes,
    defaults_of,
    input_index,
    named_input,
    parameter,
    schema,
    schema_of,
    stamp_versions,
)
from .rewriter import PROVENANCE, Listener, Rewriter, discard, new_node, pending_constant
from .scopes import graphs, in_function, is_captured, nodes, nodes_within, subgraphs_of

__all__ = [name for name in dir() if not name.startswith("_")]
