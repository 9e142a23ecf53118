"""Sizes of open dims as weights and constants demand them: the first inputs that are made run."""

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import Feeds, Outputs, SessionOptions, open_session, usable_feeds

OPSETS = '"": 21, "ai.onnx.ml": 3, "com.microsoft": 1'


def f(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def proto(text: str, weights: dict[str, np.ndarray], unranked: tuple[str, ...] = ()) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{OPSETS}]> {text}")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    for value in model.graph.input:
        if value.name in unranked:
            value.type.tensor_type.ClearField("shape")
    return model


# The name, the graph, its weights, and the inputs that lose their declared rank.
CASES = [
    (
        "weight of a product",
        """g (float[B,D] x) => (float[B,5] y) {
                y=MatMul(x,w)}""",
        {"w": f(10, 5)},
        (),
    ),
    (
        "product of an unranked input",
        """g (float[B,D] x) => (float[B,5] y) {
                y=MatMul(x,w)}""",
        {"w": f(10, 5)},
        ("x",),
    ),
    (
        "channels",
        """g (float[N,C,H,W] x) => (float[N,O,P,Q] y) {
                y=Conv(x,w)}""",
        {"w": f(8, 3, 3, 3)},
        (),
    ),
    (
        "channels in groups",
        """g (float[N,C,H,W] x) => (float[N,O,P,Q] y) {
                y=Conv<group=4>(x,w)}""",
        {"w": f(8, 6, 3, 3)},
        (),
    ),
    (
        "channels 1-D",
        """g (float[N,C,T] x) => (float[N,O,P] y) {
                y=Conv(x,w)}""",
        {"w": f(8, 7, 3)},
        (),
    ),
    (
        "unranked 3-D convolution",
        """g (float[N,C,D,H,W] x) => (float[N,O,P,Q,R] y) {
                y=Conv(x,w)}""",
        {"w": f(8, 2, 3, 3, 3)},
        ("x",),
    ),
    (
        "image behind flattening",
        """g (float[N,C,H,W] x) => (float[N,4] y) {
                a=Conv<strides=[2,2],pads=[1,1,1,1]>(x,w) b=Relu(a)
                p=MaxPool<kernel_shape=[2,2],strides=[2,2]>(b) c=Flatten(p) y=Gemm(c,v)}""",
        {"w": f(8, 3, 3, 3), "v": f(392, 4)},
        (),
    ),
    (
        "multiple for a reshape",
        """g (float[N,T] x) => (float[M,3,7] y) {
                s=Constant<value_ints=[-1,3,7]>() y=Reshape(x,s)}""",
        {},
        (),
    ),
    (
        "reshape to constants",
        """g (float[N] x) => (float[A,B,C] y) {
                s=Constant<value_ints=[7,11,13]>() y=Reshape(x,s)}""",
        {},
        (),
    ),
    (
        "split heads",
        """g (float[B,S,H] x) => (float[B,S,4,16] y) {
                s=Constant<value_ints=[0,0,4,16]>() y=Reshape(x,s)}""",
        {},
        (),
    ),
    (
        "states and lengths of an LSTM",
        """g (float[T,B,F] x, float[L,B2,H] h, float[L2,B3,H2] c, int32[Q] l) => (float[T,D,B,H] y) {
                y=LSTM<hidden_size=6>(x,w,r,z,l,h,c)}""",
        {"w": f(1, 24, 5), "r": f(1, 24, 6), "z": f(1, 48)},
        (),
    ),
    (
        "unranked GRU",
        """g (float[T,B,F] x, float[L,B2,H] h) => (float[T,D,B,H] y) {
                y=GRU<hidden_size=6,direction="bidirectional">(x,w,r,z,,h)}""",
        {"w": f(2, 18, 5), "r": f(2, 18, 6), "z": f(2, 36)},
        ("x", "h"),
    ),
    (
        "scaler",
        """g (float[N,F] x) => (float[N,F] y) {
                y=ai.onnx.ml.Scaler<offset=[0.,1.,2.],scale=[1.,1.,2.]>(x)}""",
        {},
        (),
    ),
    (
        "linear regressor",
        """g (float[N,F] x) => (float[N,1] y) {
                y=ai.onnx.ml.LinearRegressor<coefficients=[1.,2.,3.,4.],intercepts=[0.]>(x)}""",
        {},
        (),
    ),
    (
        "batch norm",
        """g (float[N,C,H,W] x) => (float[N,C,H,W] y) {
                y=BatchNormalization(x,a,b,c,d)}""",
        {"a": f(11), "b": f(11), "c": f(11), "d": f(11) ** 2},
        (),
    ),
    (
        "unranked layer norm",
        """g (float[N,C,H] x) => (float[N,C,H] y) {
                y=LayerNormalization(x,a)}""",
        {"a": f(11)},
        ("x",),
    ),
    (
        "einsum",
        """g (float[B,S,D] x) => (float[B,S,E] y) {
                y=Einsum<equation="bsd,de->bse">(x,w)}""",
        {"w": f(9, 5)},
        (),
    ),
    (
        "broadcast constant",
        """g (float[N,D] x) => (float[N,D] y) {
                y=Add(x,w)}""",
        {"w": f(6, 13)},
        (),
    ),
    (
        "slopes",
        """g (float[N,C,H,W] x) => (float[N,C,H,W] y) {
                y=PRelu(x,w)}""",
        {"w": f(6, 1, 1)},
        (),
    ),
    (
        "constant split",
        """g (float[N,D] x) => (float[N,3] a,float[N,4] b) {
                s=Constant<value_ints=[3,4]>() a,b=Split<axis=1>(x,s)}""",
        {},
        (),
    ),
    (
        "regions",
        """g (float[N,C,H,W] x, float[R,K] r, int64[I] b) => (float[R,C,1,1] y) {
                y=RoiAlign(x,r,b)}""",
        {},
        (),
    ),
    (
        "MultiHeadAttention",
        """g (float[B,S,H] q,float[B2,T,H2] k,float[B3,T2,H3] v) => (float[B,S,H] y) {
                y=com.microsoft.MultiHeadAttention<num_heads=5>(q,k,v)}""",
        {},
        (),
    ),
    (
        "com.microsoft Attention",
        """g (float[B,S,H] x) => (float[B,S,12] y) {
                y=com.microsoft.Attention<num_heads=4>(x,w,b)}""",
        {"w": f(20, 36), "b": f(36)},
        (),
    ),
    (
        "concat with constant",
        """g (float[N,D] x) => (float[N,E] y) {
                c=Concat<axis=0>(x,k) y=Relu(c)}""",
        {"k": f(3, 9)},
        (),
    ),
    (
        "computed shape",
        """g (float[B,S,H] x) => (float[A,C,D,E] y) {
                s=Shape(x) z=Constant<value_int=0>() o=Constant<value_int=1>() a=Gather(s,z) b=Gather(s,o)
                t=Constant<value_ints=[0]>() p=Unsqueeze(a,t) q=Unsqueeze(b,t) h=Constant<value_ints=[4,8]>()
                r=Concat<axis=0>(p,q,h) y=Reshape(x,r)}""",
        {},
        (),
    ),
    (
        "unranked elementwise",
        """g (float x) => (float y) {
                y=Relu(x)}""",
        {},
        ("x",),
    ),
    (
        "blocks of channels",
        """g (float[N,C,H,W] x) => (float[N,D,P,Q] y) {
                y=DepthToSpace<blocksize=3>(x)}""",
        {},
        (),
    ),
    (
        "branches",
        """g (float[N,D] x, bool c) => (float[N,5] y) {
                y=If(c)<then_branch=t () => (float[N,5] u){u=MatMul(x,w)},
                        else_branch=e () => (float[N,5] v){v=MatMul(x,w2)}>}""",
        {"w": f(7, 5), "w2": f(7, 5)},
        (),
    ),
    (
        "loop body",
        """g (float[N,D] x) => (float[N,D] y) {
                n=Constant<value_int=3>() c=Constant<value=bool {1}>()
                y=Loop(n,c,x)<body=b (int64 i,bool d,float[N,D] v)=>(bool e,float[N,D] u){e=Identity(d)
                u=MatMul(v,w)}>}""",
        {"w": f(7, 7)},
        (),
    ),
]


SIZED_BY_TRIAL = {"MultiHeadAttention"}  # nothing in the graph tells the size of its values


@pytest.mark.parametrize("name, text, weights, unranked", CASES, ids=[case[0] for case in CASES])
def test_the_first_inputs_that_are_made_run(
    name: str, text: str, weights: dict[str, np.ndarray], unranked: tuple[str, ...]
) -> None:
    model = proto(text, weights, unranked)
    session = open_session(model.SerializeToString(), SessionOptions(optimize=False))
    runs = 0
    run = session.run

    def counted(feeds: Feeds, time_limit_s: float | None = None) -> Outputs:
        nonlocal runs
        runs += 1
        return run(feeds, time_limit_s)

    session.run = counted  # type: ignore[method-assign]
    assert len(usable_feeds(session, ir.from_proto(model), count=3)) == 3
    assert runs == 3 or name in SIZED_BY_TRIAL
