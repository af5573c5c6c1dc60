//! Layers with weights: convolution, fully connected, batch normalisation.
//! In: Conv, Gemm, MatMul, BatchNormalization with constant weights. Out: the layer as a node of the network.

use std::rc::Rc;

use rheobase_core::network::{BatchNorm, Conv2d, Linear, Op};
use rheobase_core::{Error, Kind, Result, Tensor};

use super::super::array::Array;
use super::super::build::Builder;
use super::super::node::{Call, Value};
use super::pools::{Window, window};

/// Finite weights, taken off the budget.
fn weights(b: &mut Builder, array: &Array) -> Result<Rc<Vec<f32>>> {
    b.budget.spend(array.len())?;
    array.to_weights()
}

pub(super) fn conv(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let (node, pending) = b.padded_image(&call.label, view)?;
    let weight = call.needed(1, "weights")?.clone();
    let &[out, _, kh, kw] = weight.shape.as_slice() else {
        return Err(call
            .unsupported("only two-dimensional convolutions are converted")
            .expected("weights [out, in / groups, height, width]")
            .found(format!("{:?}", weight.shape)));
    };
    if let Some(kernel) = call.ints("kernel_shape")?
        && kernel != [kh as i64, kw as i64]
    {
        return Err(Error::new(Kind::Shape, "kernel_shape does not match the weights")
            .expected(format!("[{kh}, {kw}]"))
            .found(format!("{kernel:?}")));
    }
    let groups = call.int("group")?.unwrap_or(1);
    let groups = usize::try_from(groups)
        .map_err(|_| Error::new(Kind::Format, "groups must be above 0").found(groups.to_string()))?;
    let [_, h, w] = b.shape(node);
    let Window { stride, padding, dilation } = window(call, [kh, kw], [h, w], pending)?;
    let bias = match call.constant(2, "biases")? {
        Some(bias) => {
            let bias = bias.clone();
            let numbers = weights(b, &bias)?;
            if bias.shape != [out] {
                return Err(Error::new(Kind::Shape, "biases do not match the channels")
                    .expected(format!("[{out}]"))
                    .found(format!("{:?}", bias.shape)));
            }
            Some(numbers.to_vec())
        }
        None => None,
    };
    let data = weights(b, &weight)?.to_vec();
    let weight = Tensor::new(weight.shape, data)?;
    let conv = Conv2d { weight, bias, stride, padding, dilation, groups };
    Ok(Value::Image(b.push(&call.label, Op::Conv2d(conv), node)?))
}

/// Rows and columns of a constant matrix.
fn matrix(call: &Call<'_>, array: &Array) -> Result<[usize; 2]> {
    match array.shape.as_slice() {
        &[rows, columns] => Ok([rows, columns]),
        other => Err(call
            .unsupported("weights of a fully connected layer must be a matrix")
            .expected("two dimensions")
            .found(format!("{other:?}"))),
    }
}

fn transposed(data: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| data.iter().skip(c).step_by(columns.max(1)).copied()).collect()
}

/// y = alpha · x · W + beta · bias; W is stored [in, out], or [out, in] where transB is set.
pub(super) fn gemm(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    if matches!(call.inputs.first(), Some(Some(Value::Const(_)))) || call.flag("transA")? {
        return Err(call.unsupported("the image must be the first factor, not transposed"));
    }
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let node = b.flat(&call.label, view)?;
    let weight = call.needed(1, "weights")?.clone();
    let [rows, columns] = matrix(call, &weight)?;
    let (alpha, beta) = (call.float("alpha")?.unwrap_or(1.0), call.float("beta")?.unwrap_or(1.0));
    let data = weights(b, &weight)?;
    let (out, input, mut data) = match call.flag("transB")? {
        true => (rows, columns, data.to_vec()),
        false => (columns, rows, transposed(&data, columns)),
    };
    if alpha != 1.0 {
        data.iter_mut().for_each(|x| *x *= alpha);
    }
    let bias = match call.constant(2, "biases")?.cloned() {
        Some(array) => {
            let numbers = weights(b, &array)?;
            let fits = array.shape.iter().rev().enumerate().all(|(i, &d)| d == 1 || (i == 0 && d == out));
            b.budget.spend(out)?;
            let one = |i: usize| match numbers.as_slice() {
                &[x] => Some(x * beta),
                many => many.get(i).map(|x| x * beta),
            };
            let all: Option<Vec<f32>> = (0..out).map(one).collect();
            Some(all.filter(|_| fits).ok_or_else(|| {
                Error::new(Kind::Shape, "biases do not match the outputs")
                    .expected(format!("[{out}]"))
                    .found(format!("{:?}", array.shape))
            })?)
        }
        None => None,
    };
    let linear = Linear { weight: Tensor::new([out, input], data)?, bias };
    Ok(Value::Image(b.push(&call.label, Op::Linear(linear), node)?))
}

/// y = x · W.
pub(super) fn matmul(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    if matches!(call.inputs.first(), Some(Some(Value::Const(_)))) {
        return Err(call.unsupported("the image must be the first factor"));
    }
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let node = b.flat(&call.label, view)?;
    let weight = call.needed(1, "weights")?.clone();
    let [input, out] = matrix(call, &weight)?;
    let data = weights(b, &weight)?;
    let linear = Linear { weight: Tensor::new([out, input], transposed(&data, out))?, bias: None };
    Ok(Value::Image(b.push(&call.label, Op::Linear(linear), node)?))
}

pub(super) fn batch_norm(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    if call.flag("training_mode")? {
        return Err(call
            .unsupported("batch normalisation computes its statistics from the batch")
            .hint("call `model.eval()` before the export"));
    }
    if call.int("spatial")?.unwrap_or(1) == 0 {
        return Err(call.unsupported("batch normalisation per pixel is not converted"));
    }
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let view = b.by_channel(&call.label, view)?;
    let mut one = |i: usize, what: &str| -> Result<Vec<f32>> {
        let array = call.needed(i, what)?.clone();
        Ok(weights(b, &array)?.to_vec())
    };
    let (scale, shift) = (one(1, "scale")?, one(2, "shift")?);
    let (mean, var) = (one(3, "mean")?, one(4, "variance")?);
    let eps = call.float("epsilon")?.unwrap_or(1e-5);
    let op = Op::BatchNorm(BatchNorm { scale, shift, mean, var, eps });
    let dims = view.dims;
    let made = b.push(&call.label, op, view.node)?;
    Ok(Value::Image(super::super::build::View { dims, ..made }))
}
