//! Constants rearranged: reshaped, sliced, gathered, joined.
//! In: a node with constant inputs. Out: the same numbers in another order or shape.

use rheobase_core::{Error, Kind, Result};

use super::super::array::{Array, Data, Int, axis, product, strides};
use super::super::build::Budget;
use super::super::node::Call;
use super::super::tensors::MAX_RANK;
use super::arith::positions;
use super::input;

/// Sizes from a file as sizes of memory.
pub(super) fn sizes(ints: &[i64]) -> Result<Vec<usize>> {
    if ints.len() > MAX_RANK {
        return Err(Error::new(Kind::Limit, "too many dimensions")
            .expected(format!("at most {MAX_RANK}"))
            .found(ints.len().to_string()));
    }
    let size = |&i: &i64| {
        usize::try_from(i)
            .map_err(|_| Error::new(Kind::Format, "a size is negative").found(format!("{ints:?}")))
    };
    ints.iter().map(size).collect()
}

/// The numbers at these positions.
fn gathered(from: &Array, shape: Vec<usize>, at: &[usize]) -> Result<Array> {
    fn each<T: Copy>(data: &[T], at: &[usize]) -> Result<Vec<T>> {
        let one = |&i: &usize| data.get(i).copied();
        let all: Option<Vec<T>> = at.iter().map(one).collect();
        all.ok_or_else(|| Error::new(Kind::Format, "index outside a constant"))
    }
    Ok(match &from.data {
        Data::Floats(x) => Array::floats(shape, each(x, at)?),
        Data::Ints(x) => Array::ints(shape, each(x, at)?),
    })
}

/// The same numbers in another shape of the same size.
fn shaped(from: &Array, shape: Vec<usize>) -> Result<Array> {
    if product(&shape) != Some(from.len()) || shape.len() > MAX_RANK {
        return Err(Error::new(Kind::Shape, "constant does not fit its new shape")
            .expected(format!("{} numbers", from.len()))
            .found(format!("{shape:?}")));
    }
    Ok(Array { name: from.name.clone(), shape, data: from.data.clone() })
}

pub(super) fn reshape(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let target = input(call, 1)?.to_ints()?;
    let keep_zero = call.flag("allowzero")?;
    let mut shape = Vec::new();
    let mut open = None;
    for (i, &d) in target.iter().enumerate().take(MAX_RANK + 1) {
        match d {
            -1 if open.is_none() => {
                open = Some(i);
                shape.push(1);
            }
            0 if !keep_zero => shape.push(array.shape.get(i).copied().unwrap_or(0)),
            d => shape.extend(sizes(&[d])?),
        }
    }
    if let Some(i) = open {
        let rest = product(&shape).unwrap_or(0);
        let missing = array.len().checked_div(rest).unwrap_or(0);
        if let Some(slot) = shape.get_mut(i) {
            *slot = missing;
        }
    }
    shaped(array, shape)
}

pub(super) fn flatten(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let rank = array.shape.len();
    let at = call.int("axis")?.unwrap_or(1);
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    let outer = array.shape.get(..at).and_then(product).unwrap_or(0);
    let inner = array.shape.get(at..).and_then(product).unwrap_or(0);
    shaped(array, vec![outer, inner])
}

pub(super) fn squeeze(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let rank = array.shape.len();
    let axes = call.ints_or_input("axes", 1)?;
    let gone = match axes {
        Some(axes) => axes.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).filter(|&i| array.shape.get(i) == Some(&1)).collect(),
    };
    let kept = array.shape.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, &d)| d);
    shaped(array, kept.collect())
}

pub(super) fn unsqueeze(call: &Call<'_>, _: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let axes = call.ints_or_input("axes", 1)?.unwrap_or_default();
    shaped(array, unsqueezed(&array.shape, &axes)?)
}

/// The shape after sizes of 1 were put at `axes`.
pub(in super::super) fn unsqueezed(shape: &[usize], axes: &[i64]) -> Result<Vec<usize>> {
    let rank = shape.len() + axes.len();
    if rank > MAX_RANK {
        return Err(Error::new(Kind::Limit, "too many dimensions").found(rank.to_string()));
    }
    let new = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
    let mut old = shape.iter();
    Ok((0..rank).map(|i| if new.contains(&i) { 1 } else { old.next().copied().unwrap_or(1) }).collect())
}

pub(super) fn transpose(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let perm = permutation(call, array.shape.len())?;
    let n = budget.spend_shape(&array.shape)?;
    let own = strides(&array.shape);
    let at = |v: &[usize]| perm.iter().map(|&p| v.get(p).copied().unwrap_or(0)).collect::<Vec<_>>();
    let (shape, steps) = (at(&array.shape), at(&own));
    let mut places = if n == 0 { vec![] } else { vec![0usize] };
    for (&d, &s) in shape.iter().zip(&steps).filter(|_| n > 0) {
        places = places.iter().flat_map(|&p| (0..d).map(move |i| p + i * s)).collect();
    }
    gathered(array, shape, &places)
}

/// `perm`, by default the reverse; checked to be a permutation.
pub(in super::super) fn permutation(call: &Call<'_>, rank: usize) -> Result<Vec<usize>> {
    let perm = match call.ints("perm")? {
        Some(p) => p.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank || !(0..rank).all(|i| perm.contains(&i)) {
        return Err(Error::new(Kind::Format, "not a permutation of the value's axes")
            .expected(format!("{rank} axes"))
            .found(format!("{perm:?}")));
    }
    Ok(perm)
}

pub(super) fn expand(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let target = sizes(&input(call, 1)?.to_ints()?)?;
    let rank = target.len().max(array.shape.len());
    let size =
        |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).and_then(|i| s.get(i)).copied().unwrap_or(1);
    let mut shape = Vec::new();
    for i in 0..rank {
        shape.push(match (size(&array.shape, i), size(&target, i)) {
            (x, y) if x == y || y == 1 => x,
            (1, y) => y,
            _ => return Err(Error::new(Kind::Shape, "shapes do not broadcast").found(format!("{target:?}"))),
        });
    }
    budget.spend_shape(&shape)?;
    let at = positions(&array.shape, &shape);
    gathered(array, shape, &at)
}

pub(super) fn gather(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let (array, indices) = (input(call, 0)?, input(call, 1)?);
    let along = axis(call.int("axis")?.unwrap_or(0), array.shape.len())?;
    let size = array.shape.get(along).copied().unwrap_or(0);
    let outer = array.shape.get(..along).and_then(product).unwrap_or(0);
    let inner = array.shape.get(along + 1..).and_then(product).unwrap_or(0);
    let wanted = indices.to_ints()?.into_iter().map(|i| axis(i, size)).collect::<Result<Vec<_>>>()?;
    let mut shape = array.shape.get(..along).unwrap_or(&[]).to_vec();
    shape.extend(&indices.shape);
    shape.extend(array.shape.get(along + 1..).unwrap_or(&[]));
    let n = budget.spend_shape(&shape)?;
    let mut places = Vec::new();
    for o in 0..if n == 0 { 0 } else { outer } {
        for &w in &wanted {
            places.extend((0..inner).map(|i| (o * size + w) * inner + i));
        }
    }
    gathered(array, shape, &places)
}

pub(super) fn slice(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let array = input(call, 0)?;
    let picks = slices(call, &array.shape)?;
    let shape: Vec<usize> = picks.iter().map(|p| p.count).collect();
    let n = budget.spend_shape(&shape)?;
    let mut places = if n == 0 { vec![] } else { vec![0usize] };
    for (p, s) in picks.iter().zip(strides(&array.shape)).filter(|_| n > 0) {
        let along: Vec<usize> = (0..p.count).filter_map(|i| p.at(i)).collect();
        places = places.iter().flat_map(|&o| along.iter().map(move |&i| o + i * s)).collect();
    }
    gathered(array, shape, &places)
}

/// What a slice takes along one axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Pick {
    /// The first index.
    pub start: usize,
    /// From one index to the next; below zero backwards.
    pub step: i64,
    /// How many.
    pub count: usize,
}

impl Pick {
    fn at(&self, i: usize) -> Option<usize> {
        let moved = i64::try_from(i).ok()?.checked_mul(self.step)?;
        usize::try_from(i64::try_from(self.start).ok()?.checked_add(moved)?).ok()
    }
}

/// `Slice` along every axis of `shape`: bounds from attributes or inputs, clamped as ONNX says.
pub(in super::super) fn slices(call: &Call<'_>, shape: &[usize]) -> Result<Vec<Pick>> {
    let missing = |what| Error::new(Kind::Format, format!("Slice lacks its {what}"));
    let starts = call.ints_or_input("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = call.ints_or_input("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let n = starts.len();
    let axes = call.ints_or_input("axes", 3)?.unwrap_or_else(|| (0..n as i64).collect());
    let steps = call.constant(4, "steps")?.map(Array::to_ints).transpose()?.unwrap_or_else(|| vec![1; n]);
    if ends.len() != n || axes.len() != n || steps.len() != n || n > shape.len() {
        return Err(Error::new(Kind::Format, "Slice's bounds differ in number")
            .expected(format!("{n}, at most {}", shape.len()))
            .found(format!("{} ends, {} axes, {} steps", ends.len(), axes.len(), steps.len())));
    }
    let mut picks: Vec<Pick> = shape.iter().map(|&d| Pick { start: 0, step: 1, count: d }).collect();
    for (((start, end), a), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        if let Some(p) = picks.get_mut(axis(a, shape.len())?) {
            *p = pick(start, end, step, p.count)?;
        }
    }
    Ok(picks)
}

fn pick(start: i64, end: i64, step: i64, size: usize) -> Result<Pick> {
    let d = i64::try_from(size).map_err(|_| Error::new(Kind::Limit, "value too large"))?;
    let from = |i: i64| if i < 0 { i.saturating_add(d) } else { i };
    let (start, count) = match step {
        0 => return Err(Error::new(Kind::Format, "Slice needs a step other than 0")),
        1.. => {
            let (s, e) = (from(start).clamp(0, d), from(end).clamp(0, d));
            (s, (i128::from(e) - i128::from(s) + i128::from(step) - 1) / i128::from(step))
        }
        _ => {
            let (s, e) = (from(start).clamp(-1, d - 1), from(end).clamp(-1, d - 1));
            let back = -i128::from(step);
            (s, (i128::from(s) - i128::from(e) + back - 1) / back)
        }
    };
    let count = usize::try_from(count.max(0)).unwrap_or(0);
    Ok(Pick { start: usize::try_from(start).unwrap_or(0), step, count })
}

pub(super) fn concat(call: &Call<'_>, budget: &mut Budget) -> Result<Array> {
    let parts = (0..call.inputs.len()).map(|i| input(call, i)).collect::<Result<Vec<_>>>()?;
    let first = input(call, 0)?;
    let Some(along) = call.int("axis")? else {
        return Err(Error::new(Kind::Format, "Concat lacks its axis"));
    };
    let along = axis(along, first.shape.len())?;
    let mut shape = first.shape.clone();
    let mut total = 0usize;
    for part in &parts {
        let mut other = part.shape.clone();
        if other.len() != shape.len() {
            return Err(Error::new(Kind::Shape, "constants to join differ in dimensions"));
        }
        total = total.saturating_add(other.get(along).copied().unwrap_or(0));
        if let (Some(a), Some(b)) = (other.get_mut(along), first.shape.get(along)) {
            *a = *b;
        }
        if other != first.shape {
            return Err(Error::new(Kind::Shape, "constants to join differ in shape"));
        }
    }
    if let Some(slot) = shape.get_mut(along) {
        *slot = total;
    }
    let n = budget.spend_shape(&shape)?;
    let outer = if n == 0 { 0 } else { shape.get(..along).and_then(product).unwrap_or(0) };
    if parts.iter().all(|p| matches!(p.data, Data::Ints(_))) {
        let data = parts.iter().map(|p| p.integers()).collect::<Result<Vec<_>>>()?;
        return Ok(Array::ints(
            shape,
            joined(&data.iter().map(|d| d.as_slice()).collect::<Vec<&[Int]>>(), outer),
        ));
    }
    let data = parts.iter().map(|p| p.to_floats()).collect::<Result<Vec<_>>>()?;
    Ok(Array::floats(shape, joined(&data.iter().map(|d| d.as_slice()).collect::<Vec<&[f32]>>(), outer)))
}

/// Blocks of each part, one after the other, `outer` times.
fn joined<T: Copy>(parts: &[&[T]], outer: usize) -> Vec<T> {
    let mut out = Vec::new();
    for o in 0..outer {
        for part in parts {
            let block = part.len() / outer.max(1);
            out.extend(part.iter().skip(o * block).take(block).copied());
        }
    }
    out
}
