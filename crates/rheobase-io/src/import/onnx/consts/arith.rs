//! Arithmetic on constants, with broadcasting.
//! In: a node with one to three constant inputs. Out: the result; integers stay integers.

use rheobase_core::{Error, Kind, Result};

use super::super::array::{Array, Data, Int, product, strides};
use super::super::build::Budget;
use super::super::node::Call;
use super::input;

/// The shape two arrays broadcast to.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size =
        |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).and_then(|i| s.get(i)).copied().unwrap_or(1);
    let one = |i| match (size(a, i), size(b, i)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(Error::new(Kind::Shape, "shapes do not broadcast").found(format!("{a:?} and {b:?}"))),
    };
    (0..rank).map(one).collect()
}

/// For each position of `shape`, the position in an array of shape `from` that broadcasts to it.
pub(super) fn positions(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let skipped = shape.len() - from.len().min(shape.len());
    let step: Vec<usize> = (0..shape.len())
        .map(|i| match i.checked_sub(skipped) {
            Some(k) if from.get(k) != Some(&1) => own.get(k).copied().unwrap_or(0),
            _ => 0,
        })
        .collect();
    let n = product(shape).unwrap_or(0);
    let mut index = vec![0usize; shape.len()];
    let mut at = 0usize;
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        out.push(at);
        for ((i, &d), &s) in index.iter_mut().zip(shape).zip(&step).rev() {
            *i += 1;
            at += s;
            if *i < d {
                break;
            }
            at -= s * d;
            *i = 0;
        }
    }
    out
}

fn pick<T: Copy>(data: &[T], at: usize) -> Result<T> {
    data.get(at).copied().ok_or_else(|| Error::new(Kind::Format, "constant shorter than its shape"))
}

/// `Add`, `Sub`, `Mul`, `Div`, `Pow`, `Equal`, and `Min`, `Max` of any number of inputs.
pub(super) fn binary(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let mut result = input(call, 0)?.clone();
    for i in 1..call.inputs.len() {
        result = pair(call, &result, input(call, i)?, budget)?;
    }
    Ok(result)
}

fn pair(call: &Call<'_>, a: &Array, b: &Array, budget: &mut Budget) -> Result<Array> {
    let shape = broadcast(&a.shape, &b.shape)?;
    budget.spend_shape(&shape)?;
    let (pa, pb) = (positions(&a.shape, &shape), positions(&b.shape, &shape));
    let at = pa.into_iter().zip(pb);
    if let (Data::Ints(x), Data::Ints(y)) = (&a.data, &b.data) {
        let data = at.map(|(i, j)| integer(call, pick(x, i)?, pick(y, j)?)).collect::<Result<_>>()?;
        return Ok(Array::ints(shape, data));
    }
    let (x, y) = (a.to_floats()?, b.to_floats()?);
    if call.op() == "Equal" {
        let same = |(i, j)| Ok(Int::Known(i64::from(pick(&x, i)? == pick(&y, j)?)));
        return Ok(Array::ints(shape, at.map(same).collect::<Result<_>>()?));
    }
    let data = at.map(|(i, j)| float(call, pick(&x, i)?, pick(&y, j)?)).collect::<Result<_>>()?;
    Ok(Array::floats(shape, data))
}

fn float(call: &Call<'_>, x: f32, y: f32) -> Result<f32> {
    Ok(match call.op() {
        "Add" => x + y,
        "Sub" => x - y,
        "Mul" => x * y,
        "Div" => x / y,
        "Pow" => x.powf(y),
        "Min" => x.min(y),
        "Max" => x.max(y),
        _ => return Err(call.unsupported(format!("{} of constants is not folded", call.op()))),
    })
}

fn integer(call: &Call<'_>, x: Int, y: Int) -> Result<Int> {
    use Int::{Batch, Known, Unknown};
    let overflow =
        || Error::new(Kind::Value, "integer overflow in a constant").found(format!("{x:?}, {y:?}"));
    Ok(match (call.op(), x, y) {
        ("Add", Known(x), Known(y)) => Known(x.checked_add(y).ok_or_else(overflow)?),
        ("Sub", Known(x), Known(y)) => Known(x.checked_sub(y).ok_or_else(overflow)?),
        ("Mul", Known(x), Known(y)) => Known(x.checked_mul(y).ok_or_else(overflow)?),
        ("Div", Known(x), Known(y)) => Known(x.checked_div(y).ok_or_else(overflow)?),
        ("Min", Known(x), Known(y)) => Known(x.min(y)),
        ("Max", Known(x), Known(y)) => Known(x.max(y)),
        ("Equal", Known(x), Known(y)) => Known(i64::from(x == y)),
        // A batch size is at least 1, so it never equals a placeholder below that.
        ("Equal", Batch, Known(k)) | ("Equal", Known(k), Batch) if k <= 0 => Known(0),
        ("Mul", Batch, Known(1)) | ("Mul", Known(1), Batch) => Batch,
        ("Div", Batch, Known(1)) => Batch,
        ("Add", Batch, Known(0)) | ("Add", Known(0), Batch) | ("Sub", Batch, Known(0)) => Batch,
        ("Pow", ..) => return Err(call.unsupported("powers of integers are not folded")),
        _ => Unknown,
    })
}

/// Functions of one number.
pub(super) fn unary(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    budget.spend(array.len())?;
    let shape = array.shape.clone();
    if let Data::Ints(x) = &array.data {
        let sign = |i: &Int| match (call.op(), i) {
            ("Neg", Int::Known(i)) => Ok(Int::Known(i.saturating_neg())),
            ("Abs", Int::Known(i)) => Ok(Int::Known(i.saturating_abs())),
            _ => Err(call.unsupported(format!("{} of integers is not folded", call.op()))),
        };
        return Ok(Array::ints(shape, x.iter().map(sign).collect::<Result<_>>()?));
    }
    let f: fn(f32) -> f32 = match call.op() {
        "Abs" => f32::abs,
        "Ceil" => f32::ceil,
        "Exp" => f32::exp,
        "Floor" => f32::floor,
        "Log" => f32::ln,
        "Neg" => |x| -x,
        "Reciprocal" => f32::recip,
        "Relu" => |x| x.max(0.0),
        "Sqrt" => f32::sqrt,
        other => return Err(call.unsupported(format!("{other} of constants is not folded"))),
    };
    Ok(Array::floats(shape, array.to_floats()?.iter().map(|&x| f(x)).collect()))
}

/// `Where`: the second input where the first is true, otherwise the third.
pub(super) fn choose(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let (c, a, b) = (input(call, 0)?, input(call, 1)?, input(call, 2)?);
    let shape = broadcast(&broadcast(&c.shape, &a.shape)?, &b.shape)?;
    budget.spend_shape(&shape)?;
    let truth = c.to_ints()?;
    let mut sources = Vec::new();
    let places = [&c.shape, &a.shape, &b.shape].map(|s| positions(s, &shape));
    for ((&i, &j), &k) in places[0].iter().zip(&places[1]).zip(&places[2]) {
        sources.push(if pick(&truth, i)? != 0 { (true, j) } else { (false, k) });
    }
    if let (Data::Ints(x), Data::Ints(y)) = (&a.data, &b.data) {
        let one = |(first, at): (bool, usize)| pick(if first { x } else { y }, at);
        return Ok(Array::ints(shape, sources.into_iter().map(one).collect::<Result<_>>()?));
    }
    let (x, y) = (a.to_floats()?, b.to_floats()?);
    let one = |(first, at): (bool, usize)| pick(if first { &x } else { &y }, at);
    Ok(Array::floats(shape, sources.into_iter().map(one).collect::<Result<_>>()?))
}

/// `Range` of integers: from the first input to below the second, by the third.
pub(super) fn range(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let one = |i| -> Result<i64> {
        let ints = input(call, i)?.to_ints()?;
        ints.first().copied().ok_or_else(|| Error::new(Kind::Format, "Range needs three numbers"))
    };
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    let span = i128::from(limit) - i128::from(start);
    if step == 0 {
        return Err(Error::new(Kind::Format, "Range needs a step other than 0"));
    }
    let step = i128::from(step);
    let n =
        if (span > 0) == (step > 0) && span != 0 { (span.abs() + step.abs() - 1) / step.abs() } else { 0 };
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    budget.spend(n)?;
    let number = |i: usize| Int::Known((i128::from(start) + i as i128 * step) as i64);
    Ok(Array::ints(vec![n], (0..n).map(number).collect()))
}
