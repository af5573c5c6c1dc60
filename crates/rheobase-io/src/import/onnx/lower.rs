//! Each ONNX operator as operations of the network.
//! In: a node that reads at least one value of the network. Out: its value, or a refusal that names what is in the way.
//! One row of [`OPS`] per operator: its attributes and its function; an attribute that is not in the row is refused.

mod layers;
mod pools;
mod shapes;
mod shortcuts;

use rheobase_core::Result;

use super::build::Builder;
use super::chain::ops as pointwise;
use super::node::{Call, Value};

/// Converts a node.
type Lower = fn(&mut Builder, &mut Call<'_>) -> Result<Value>;

/// Operator, attributes that it may have, function.
type Row = (&'static str, &'static [&'static str], Lower);

const POOL: &[&str] =
    &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"];
const MAXPOOL: &[&str] =
    &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"];

#[rustfmt::skip]
const OPS: &[Row] = &[
    ("Add", &[], shapes::add),
    ("AveragePool", POOL, pools::average),
    ("BatchNormalization", &["epsilon", "momentum", "spatial", "training_mode"], layers::batch_norm),
    ("Cast", &["to", "saturate", "round_mode"], shapes::cast),
    ("Clip", &["min", "max"], pointwise::clip),
    ("Concat", &["axis"], shortcuts::concat),
    ("Conv", &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"], layers::conv),
    ("Div", &[], pointwise::arithmetic),
    ("Dropout", &["ratio", "seed"], shapes::dropout),
    ("Expand", &[], shapes::expand),
    ("Flatten", &["axis"], shapes::flatten),
    ("Floor", &[], pointwise::floor),
    ("Gemm", &["alpha", "beta", "transA", "transB"], layers::gemm),
    ("GlobalAveragePool", &[], pools::global_average),
    ("GlobalMaxPool", &[], pools::global_max),
    ("Identity", &[], shapes::identity),
    ("LogSoftmax", &["axis"], shapes::softmax),
    ("MatMul", &[], layers::matmul),
    ("Max", &[], pointwise::extremum),
    ("MaxPool", MAXPOOL, pools::max),
    ("Min", &[], pointwise::extremum),
    ("Mul", &[], pointwise::arithmetic),
    ("Neg", &[], pointwise::negate),
    ("Pad", &["mode", "pads", "value"], shortcuts::pad),
    ("ReduceMean", &["axes", "keepdims", "noop_with_empty_axes"], pools::reduce_mean),
    ("Relu", &[], pointwise::relu),
    ("Reshape", &["allowzero"], shapes::reshape),
    ("Shape", &["start", "end"], shapes::shape),
    ("Slice", &["axes", "ends", "starts"], shortcuts::slice),
    ("Softmax", &["axis"], shapes::softmax),
    ("Squeeze", &["axes"], shapes::squeeze),
    ("Sub", &[], pointwise::arithmetic),
    ("Sum", &[], shapes::add),
    ("Transpose", &["perm"], shapes::transpose),
    ("Unsqueeze", &["axes"], shapes::unsqueeze),
];

/// Operators that are refused, and why, so that a user knows what to change.
#[rustfmt::skip]
const REFUSED: &[(&[&str], &str)] = &[
    (&["Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"],
     "a spiking neuron stands for ReLU, ReLU6 or QCFS only"),
    (&["Round", "Ceil"], "rounds ties otherwise than floor(x + ½), which QCFS needs"),
    (&["If", "Loop", "Scan"], "control flow is not converted; export with fixed shapes"),
    (&["QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"], "quantised models are not converted; export the float32 one"),
    (&["ArgMax", "TopK"], "the network must end in its logits"),
];

/// Whether the operator is known at all.
pub(super) fn known(op: &str) -> bool {
    OPS.iter().any(|(name, ..)| *name == op)
}

/// Why an operator is refused.
pub(super) fn reason(op: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(ops, _)| ops.contains(&op)).map(|(_, why)| *why)
}

/// Converts a node that reads a value of the network.
pub(super) fn lower(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let Some((_, attributes, f)) = OPS.iter().find(|(name, ..)| *name == call.op()) else {
        let why = reason(call.op()).unwrap_or("the operator is not converted");
        return Err(call.unsupported(why));
    };
    call.only(attributes)?;
    f(b, call)
}
