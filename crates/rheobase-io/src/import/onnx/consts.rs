//! Constant folding: the small computations around a network whose inputs are all known.
//! In: a node whose inputs are constants. Out: its value, computed as ONNX defines it.
//! One row of [`FOLDS`] per operator: its attributes and its function.

mod arith;
mod moves;

pub(super) use moves::{permutation, slices, unsqueezed};

use rheobase_core::{Error, Kind, Result};

use super::array::{Array, Data, Int};
use super::build::Budget;
use super::node::{Call, Value};
use super::proto::tensor_proto::DataType;
use super::tensors::{External, decode};

/// Computes a node from constants.
type Fold = fn(&Call<'_>, &mut Budget) -> Result<Array>;

/// Operator, attributes that it may have, function.
type Row = (&'static str, &'static [&'static str], Fold);

#[rustfmt::skip]
const FOLDS: &[Row] = &[
    ("Abs", &[], arith::unary),
    ("Add", &[], arith::binary),
    ("Cast", &["to", "saturate", "round_mode"], cast),
    ("Ceil", &[], arith::unary),
    ("Concat", &["axis"], moves::concat),
    ("Div", &[], arith::binary),
    ("Equal", &[], arith::binary),
    ("Exp", &[], arith::unary),
    ("Expand", &[], moves::expand),
    ("Flatten", &["axis"], moves::flatten),
    ("Floor", &[], arith::unary),
    ("Gather", &["axis"], moves::gather),
    ("Identity", &[], identity),
    ("Log", &[], arith::unary),
    ("Max", &[], arith::binary),
    ("Min", &[], arith::binary),
    ("Mul", &[], arith::binary),
    ("Neg", &[], arith::unary),
    ("Pow", &[], arith::binary),
    ("Range", &[], arith::range),
    ("Reciprocal", &[], arith::unary),
    ("Relu", &[], arith::unary),
    ("Reshape", &["allowzero"], moves::reshape),
    ("Shape", &["start", "end"], shape),
    ("Size", &[], size),
    ("Slice", &["starts", "ends", "axes"], moves::slice),
    ("Sqrt", &[], arith::unary),
    ("Squeeze", &["axes"], moves::squeeze),
    ("Sub", &[], arith::binary),
    ("Transpose", &["perm"], moves::transpose),
    ("Unsqueeze", &["axes"], moves::unsqueeze),
    ("Where", &[], arith::choose),
];

/// Folds the node where all its inputs are constants and its operator can be folded; otherwise `None`.
pub(super) fn fold(call: &Call<'_>, budget: &mut Budget, external: &mut External) -> Result<Option<Value>> {
    match call.op() {
        "Constant" => return constant(call, external).map(|a| Some(Value::Const(a))),
        "ConstantOfShape" => return constant_of_shape(call, budget, external).map(Some),
        _ => {}
    }
    if call.op() == "Expand"
        && let Some(zeros) = expand_zeros(call)?
    {
        return Ok(Some(zeros));
    }
    let constant = |v: &Option<Value>| matches!(v, None | Some(Value::Const(_)));
    if call.inputs.is_empty() || !call.inputs.iter().all(constant) {
        return Ok(None);
    }
    let Some((_, attributes, fold)) = FOLDS.iter().find(|(op, ..)| *op == call.op()) else {
        return Ok(None);
    };
    call.only(attributes)?;
    fold(call, budget).map(|a| Some(Value::Const(a)))
}

/// Whether the operator can be folded.
pub(super) fn known(op: &str) -> bool {
    ["Constant", "ConstantOfShape"].contains(&op) || FOLDS.iter().any(|(name, ..)| *name == op)
}

/// Input `i` of a node that is being folded.
fn input<'a>(call: &'a Call<'_>, i: usize) -> Result<&'a Array> {
    call.needed(i, "input")
}

fn identity(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    input(call, 0).cloned()
}

/// The value in one of the attributes that `Constant` may have.
fn constant(call: &Call<'_>, external: &mut External) -> Result<Array> {
    let known = ["value", "value_float", "value_floats", "value_int", "value_ints"];
    call.only(&known)?;
    let Some(name) = known.into_iter().find(|n| call.raw(n).is_some()) else {
        return Err(Error::new(Kind::Format, "Constant without a value"));
    };
    let raw = call.raw(name);
    Ok(match name {
        "value" => {
            let tensor = raw.and_then(|a| a.t.as_ref());
            decode(tensor.ok_or_else(|| Error::new(Kind::Format, "Constant without a tensor"))?, external)?
        }
        "value_float" => Array::floats(vec![], vec![call.float(name)?.unwrap_or(0.0)]),
        "value_floats" => {
            let floats = raw.map(|a| a.floats.clone()).unwrap_or_default();
            Array::floats(vec![floats.len()], floats)
        }
        "value_int" => Array::ints(vec![], vec![Int::Known(call.int(name)?.unwrap_or(0))]),
        _ => {
            let ints: Vec<Int> = call.ints(name)?.unwrap_or(&[]).iter().copied().map(Int::Known).collect();
            Array::ints(vec![ints.len()], ints)
        }
    })
}

fn constant_of_shape(call: &Call<'_>, budget: &mut Budget, external: &mut External) -> Result<Value> {
    call.only(&["value"])?;
    let fill = match call.raw("value").and_then(|a| a.t.as_ref()) {
        Some(tensor) => decode(tensor, external)?,
        None => Array::floats(vec![1], vec![0.0]),
    };
    if fill.len() != 1 {
        return Err(Error::new(Kind::Format, "ConstantOfShape needs one number"));
    }
    let target = call.needed(0, "shape")?;
    if let Some(zeros) = zeros(&fill, target)? {
        return Ok(zeros);
    }
    let shape = moves::sizes(&target.to_ints()?)?;
    let n = budget.spend_shape(&shape)?;
    Ok(Value::Const(match &fill.data {
        Data::Floats(x) => Array::floats(shape, vec![x.first().copied().unwrap_or(0.0); n]),
        Data::Ints(x) => Array::ints(shape, vec![x.first().copied().unwrap_or(Int::Unknown); n]),
    }))
}

/// `Expand` of a zero to a shape whose first size is the symbolic batch.
fn expand_zeros(call: &Call<'_>) -> Result<Option<Value>> {
    match (call.inputs.first(), call.inputs.get(1)) {
        (Some(Some(Value::Const(x))), Some(Some(Value::Const(shape)))) if x.len() == 1 => zeros(x, shape),
        _ => Ok(None),
    }
}

/// Zeros with a symbolic batch, where `fill` is zero and `shape` begins with the batch.
fn zeros(fill: &Array, shape: &Array) -> Result<Option<Value>> {
    let ints = shape.integers()?;
    let Some((Int::Batch, rest)) = ints.split_first() else { return Ok(None) };
    if fill.to_floats()?.first() != Some(&0.0) {
        return Ok(None);
    }
    let known = rest.iter().map(|i| match i {
        Int::Known(i) => usize::try_from(*i).ok(),
        Int::Batch | Int::Unknown => None,
    });
    Ok(known.collect::<Option<Vec<usize>>>().map(|dims| Value::Zeros(dims.into())))
}

fn shape(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    let dims = input(call, 0)?.shape.iter().map(|&d| Int::Known(d as i64)).collect();
    shape_slice(call, dims)
}

/// What `Shape` gives for a value of these sizes: all of them, or from `start` to `end`.
pub(super) fn shape_slice(call: &Call<'_>, dims: Vec<Int>) -> Result<Array> {
    let rank = dims.len() as i64;
    let clamp = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let start = clamp(call.int("start")?.unwrap_or(0));
    let end = clamp(call.int("end")?.unwrap_or(rank));
    let part = dims.get(start..end).unwrap_or(&[]).to_vec();
    Ok(Array::ints(vec![part.len()], part))
}

fn size(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    Ok(Array::ints(vec![], vec![Int::Known(input(call, 0)?.len() as i64)]))
}

fn cast(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let to = call.int("to")?.and_then(|t| i32::try_from(t).ok()).unwrap_or(0);
    let shape = array.shape.clone();
    match DataType::try_from(to) {
        Ok(DataType::Float | DataType::Double) => {
            budget.spend(array.len())?;
            Ok(Array { name: array.name.clone(), shape, data: Data::Floats(array.to_floats()?) })
        }
        Ok(DataType::Int64 | DataType::Int32) => match &array.data {
            Data::Ints(_) => Ok(array.clone()),
            Data::Floats(x) => {
                budget.spend(array.len())?;
                Ok(Array::ints(shape, x.iter().map(|&x| Int::Known(x as i64)).collect()))
            }
        },
        Ok(DataType::Bool) => {
            budget.spend(array.len())?;
            let truth = |x: &f32| Int::Known(i64::from(*x != 0.0));
            Ok(Array::ints(shape, array.to_floats()?.iter().map(truth).collect()))
        }
        _ => Err(call.unsupported("cast to a type that is not converted").found(to.to_string())),
    }
}
