//! Operators that change a value's sizes or nothing at all, and sums.
//! In: Reshape, Flatten, Transpose, Identity, Add and their kind. Out: the same numbers under other sizes; what would move numbers is refused.

use rheobase_core::network::Op;
use rheobase_core::{Error, Kind, Result};

use super::super::array::{Int, axis, product};
use super::super::build::{Builder, View, dims_text};
use super::super::chain;
use super::super::consts::{permutation, shape_slice, unsqueezed};
use super::super::node::{Call, Value};
use super::super::proto::tensor_proto::DataType;
use super::super::tensors::MAX_RANK;

/// Input 0 as a value of the network; pixels taken and channels added are written down.
fn view(b: &mut Builder, call: &mut Call<'_>) -> Result<View> {
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    b.plain(&call.label, view)
}

fn sized(view: View, dims: Vec<usize>) -> Result<Value> {
    if dims.len() >= MAX_RANK || product(&dims) != product(&view.dims) {
        return Err(Error::new(Kind::Shape, "value does not fit its new sizes")
            .expected(dims_text(&view.dims))
            .found(dims_text(&dims)));
    }
    Ok(Value::Image(View { dims, ..view }))
}

pub(super) fn identity(_: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    call.take(0)
}

pub(super) fn dropout(_: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    if let Some(training) = call.constant(2, "settings")?
        && training.to_ints()? != [0]
    {
        return Err(call
            .unsupported("dropout is in training mode")
            .hint("call `model.eval()` before the export"));
    }
    call.take(0)
}

pub(super) fn cast(_: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    if call.int("to")? != Some(DataType::Float as i64) {
        return Err(call
            .unsupported("values of the network stay float32")
            .found(format!("cast to type {}", call.int("to")?.unwrap_or(0)))
            .hint("export the model in float32"));
    }
    call.take(0)
}

/// `Softmax` or `LogSoftmax` at the very end: the logits are what comes before, in the same order.
pub(super) fn softmax(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let at = call.int("axis")?.unwrap_or(if call.opset < 13 { 1 } else { -1 });
    let view = view(b, call)?;
    let over_classes = axis(at, view.dims.len() + 1)? == 1 && view.dims.iter().skip(1).all(|&d| d == 1);
    if !call.last || !over_classes {
        return Err(call.unsupported("converted only over the classes at the very end of the network"));
    }
    b.network.notes.push(format!(
        "dropped {} `{}` at the end: the output is the logits",
        call.op(),
        call.label
    ));
    Ok(Value::Image(view))
}

pub(super) fn shape(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let value = call.take(0)?;
    let own = match &value {
        Value::Image(view) => &view.dims[..],
        Value::Chain(chain) => &chain.view.dims[..],
        Value::Zeros(dims) => dims,
        Value::Const(_) | Value::Refused => {
            return Err(call.unsupported("Shape of this value is not converted"));
        }
    };
    let batch = b.batch.map_or(Int::Batch, |n| Int::Known(n as i64));
    let dims = std::iter::once(batch).chain(own.iter().map(|&d| Int::Known(d as i64))).collect();
    Ok(Value::Const(shape_slice(call, dims)?))
}

pub(super) fn flatten(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let view = view(b, call)?;
    let at = call.int("axis")?.unwrap_or(1);
    let rank = view.dims.len() + 1;
    if at != 1 && axis(at, rank)? != 1 {
        return Err(call
            .unsupported("only a flattening that keeps the batch is converted")
            .found(format!("axis {at}")));
    }
    let n = product(&view.dims).unwrap_or(0);
    sized(view, vec![n])
}

pub(super) fn reshape(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let target = call.needed(1, "shape")?.integers()?;
    let keep_zero = call.flag("allowzero")?;
    let view = view(b, call)?;
    let features = product(&view.dims).unwrap_or(0);
    let refuse = || {
        call.unsupported("only a reshape that keeps the batch is converted")
            .expected(format!("[N, ...] with {features} numbers per image"))
            .found(target_text(&target))
    };
    let (first, rest) = target.split_first().ok_or_else(refuse)?;
    let mut open = None;
    let mut dims = Vec::new();
    for (i, int) in rest.iter().enumerate().take(MAX_RANK) {
        match *int {
            Int::Known(-1) if open.is_none() => {
                open = Some(i);
                dims.push(1);
            }
            Int::Known(0) if !keep_zero => dims.push(view.dims.get(i).copied().ok_or_else(refuse)?),
            Int::Known(d) => dims.push(usize::try_from(d).map_err(|_| refuse())?),
            Int::Batch | Int::Unknown => return Err(refuse()),
        }
    }
    let known = product(&dims).unwrap_or(0);
    if let Some(slot) = open.and_then(|i| dims.get_mut(i)) {
        *slot = features.checked_div(known).unwrap_or(0);
    }
    let keeps_batch = match *first {
        Int::Batch => true,
        Int::Known(0) => !keep_zero,
        Int::Known(-1) => open.is_none(),
        Int::Known(n) => b.batch.is_some_and(|batch| i64::try_from(batch) == Ok(n)),
        Int::Unknown => false,
    };
    if !keeps_batch || dims.is_empty() || product(&dims) != Some(features) {
        return Err(refuse());
    }
    sized(view, dims)
}

fn target_text(target: &[Int]) -> String {
    let one = |i: &Int| match i {
        Int::Known(i) => i.to_string(),
        Int::Batch => "N".into(),
        Int::Unknown => "?".into(),
    };
    format!("[{}]", target.iter().take(MAX_RANK + 1).map(one).collect::<Vec<_>>().join(", "))
}

pub(super) fn squeeze(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let axes = call.ints_or_input("axes", 1)?;
    let view = view(b, call)?;
    let batch = || call.unsupported("the batch must stay").hint("name the axes to squeeze");
    let gone: Vec<usize> = match axes {
        Some(axes) => axes
            .into_iter()
            .map(|a| axis(a, view.dims.len() + 1)?.checked_sub(1).ok_or_else(batch))
            .collect::<Result<_>>()?,
        None if b.batch == Some(1) => return Err(batch()),
        None => (0..view.dims.len()).filter(|&i| view.dims.get(i) == Some(&1)).collect(),
    };
    let left = view.dims.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, &d)| d).collect();
    sized(view, left)
}

pub(super) fn unsqueeze(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let axes = call.ints_or_input("axes", 1)?.unwrap_or_default();
    let view = view(b, call)?;
    let rank = view.dims.len() + 1 + axes.len().min(MAX_RANK);
    let mut own = Vec::new();
    for &a in &axes {
        let a = axis(a, rank)?.checked_sub(1);
        own.push(a.ok_or_else(|| call.unsupported("the batch must stay the first axis"))? as i64);
    }
    let dims = unsqueezed(&view.dims, &own)?;
    sized(view, dims)
}

/// Converted where only sizes of 1 change places.
pub(super) fn transpose(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let view = view(b, call)?;
    let perm = permutation(call, view.dims.len() + 1)?;
    let own: Vec<usize> = perm.iter().skip(1).map(|p| p.saturating_sub(1)).collect();
    let size = |i: usize| view.dims.get(i).copied().unwrap_or(0);
    let real: Vec<usize> = own.iter().copied().filter(|&i| size(i) != 1).collect();
    if perm.first() != Some(&0) || !real.is_sorted() {
        return Err(call
            .unsupported("a transpose that moves numbers is not converted")
            .found(format!("axes {perm:?} of {}", dims_text(&view.dims)))
            .hint("export the model channels first, [N, C, H, W]"));
    }
    let dims = own.iter().map(|&i| size(i)).collect();
    sized(view, dims)
}

/// Converted where it changes nothing.
pub(super) fn expand(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let target = call.needed(1, "shape")?.integers()?;
    let view = view(b, call)?;
    let rank = view.dims.len() + 1;
    let fits = |(i, int): (usize, &Int)| {
        let Some(k) = (i + rank).checked_sub(target.len()) else { return false };
        match (k.checked_sub(1), int) {
            (_, Int::Known(1)) => true,
            (None, Int::Batch) => true,
            (None, Int::Known(n)) => b.batch.is_some_and(|batch| i64::try_from(batch) == Ok(*n)),
            (Some(k), Int::Known(n)) => view.dims.get(k).is_some_and(|&d| i64::try_from(d) == Ok(*n)),
            (_, Int::Batch | Int::Unknown) => false,
        }
    };
    if !target.iter().enumerate().all(fits) {
        return Err(call.unsupported("repeating values is not converted").found(target_text(&target)));
    }
    Ok(Value::Image(view))
}

/// `Add` or `Sum`: a residual connection, or a constant.
pub(super) fn add(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let constants = call.inputs.iter().filter(|v| matches!(v, Some(Value::Const(_)))).count();
    if constants > 0 {
        if call.inputs.len() != 2 {
            return Err(call.unsupported("a sum of more than two values with a constant is not converted"));
        }
        return chain::ops::arithmetic(b, call);
    }
    let mut views = Vec::new();
    for i in 0..call.inputs.len() {
        let value = call.take(i)?;
        let view = b.image_value(&call.label, value)?;
        views.push(b.plain(&call.label, view)?);
    }
    let Some(first) = views.first() else {
        return Err(Error::new(Kind::Format, "a sum of nothing"));
    };
    let dims = first.dims.clone();
    if let Some(other) = views.iter().find(|v| v.dims != dims) {
        return Err(Error::new(Kind::Unsupported, "only values of one shape are added")
            .expected(dims_text(&dims))
            .found(dims_text(&other.dims)));
    }
    let flat = dims.len() == 1;
    let same = views.iter().all(|v| b.shape(v.node) == b.shape(first.node));
    let mut nodes = Vec::new();
    for view in views {
        nodes.push(match (same, flat) {
            (true, _) => view.node,
            (false, true) => b.flat(&call.label, view)?,
            (false, false) => b.image(&call.label, view)?,
        });
    }
    if let &[one] = nodes.as_slice() {
        return Ok(Value::Image(View { dims, ..b.view(one) }));
    }
    let made = b.join(&call.label, Op::Add, &nodes)?;
    Ok(Value::Image(View { dims, ..made }))
}
