//! Values cut, padded and joined: what parameter-free shortcuts and explicit paddings are made of.
//! In: Slice, Pad, Concat. Out: strides, channels and zeros that wait for the node they become part of; joined channels.

use rheobase_core::network::Op;
use rheobase_core::{Error, Kind, Result};

use super::super::array::{Array, axis};
use super::super::build::{Builder, NO_SHORTCUT, View};
use super::super::consts::slices;
use super::super::node::{Call, Value};
use super::pools::extents;

/// A value that is [N, C, H, W], so that channels and pixels can be told apart; zeros and strides may be pending.
fn image_view(b: &mut Builder, call: &Call<'_>, value: Value) -> Result<View> {
    let view = b.image_value(&call.label, value)?;
    if view.shortcut != NO_SHORTCUT || view.pad != [0; 4] || view.dims == b.shape(view.node) {
        return Ok(view);
    }
    let node = b.image(&call.label, view)?;
    Ok(b.view(node))
}

/// Every stride-th pixel from the first on.
pub(super) fn slice(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let value = call.take(0)?;
    let mut view = b.image_value(&call.label, value)?;
    // The batch may have any size; a slice must leave it alone, which any size shows.
    let batch = b.batch.unwrap_or(usize::MAX >> 1);
    let full: Vec<usize> = std::iter::once(batch).chain(view.dims.iter().copied()).collect();
    let picks = slices(call, &full)?;
    let whole = |i: usize| {
        picks.get(i).zip(full.get(i)).is_some_and(|(p, &d)| p.start == 0 && p.step == 1 && p.count == d)
    };
    if (0..full.len()).all(whole) {
        return Ok(Value::Image(view));
    }
    if full.len() == 4 {
        view = image_view(b, call, Value::Image(view))?;
    }
    let strided = |i: usize| -> Option<usize> {
        let (p, &d) = (picks.get(i)?, full.get(i)?);
        let step = usize::try_from(p.step).ok().filter(|&s| s > 0)?;
        (p.start == 0 && p.count == d.div_ceil(step)).then_some(step)
    };
    let steps = [strided(2), strided(3)];
    let ([Some(sh), Some(sw)], true) = (steps, full.len() == 4 && whole(0) && whole(1) && view.pad == [0; 4])
    else {
        return Err(call
            .unsupported("only slices that take every k-th pixel of the whole image are converted")
            .found(format!("{:?}", picks.iter().map(|p| (p.start, p.count, p.step)).collect::<Vec<_>>())));
    };
    view.maker = call.label.as_str().into();
    let [old_h, old_w] = view.shortcut.stride;
    view.shortcut.stride = [old_h.saturating_mul(sh), old_w.saturating_mul(sw)];
    for (size, step) in view.dims.iter_mut().skip(1).zip([sh, sw]) {
        *size = size.div_ceil(step);
    }
    Ok(Value::Image(view))
}

/// Zeros around the image or beside its channels.
pub(super) fn pad(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    if !matches!(call.text("mode")?, None | Some("constant")) {
        return Err(call
            .unsupported("only padding by zeros is converted")
            .found(format!("mode `{}`", call.text("mode")?.unwrap_or(""))));
    }
    let fill = match call.float("value")? {
        Some(x) => x,
        None => call.constant(2, "fill values")?.map(Array::scalar).transpose()?.unwrap_or(0.0),
    };
    if fill != 0.0 {
        return Err(call.unsupported("only padding by zeros is converted").found(fill.to_string()));
    }
    let Some(amounts) = call.ints_or_input("pads", 1)? else {
        return Err(Error::new(Kind::Format, "Pad lacks its amounts"));
    };
    let axes = call.constant(3, "axes")?.map(Array::to_ints).transpose()?;
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let rank = view.dims.len() + 1;
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    if axes.len() > rank || amounts.len() != 2 * axes.len() {
        return Err(Error::new(Kind::Format, "Pad's amounts do not match the value")
            .expected(format!("two for each of {rank} axes"))
            .found(amounts.len().to_string()));
    }
    let (before, after) = amounts.split_at(axes.len());
    let mut full = vec![[0i64; 2]; rank];
    for ((a, &x), &y) in axes.into_iter().zip(before).zip(after) {
        if let Some(slot) = full.get_mut(axis(a, rank)?) {
            *slot = [x, y];
        }
    }
    if full.iter().all(|p| *p == [0, 0]) {
        return Ok(Value::Image(view));
    }
    let &[[0, 0], channels, [top, bottom], [left, right]] = full.as_slice() else {
        return Err(call
            .unsupported("only channels and pixels of [N, C, H, W] can be padded")
            .found(format!("{full:?}")));
    };
    let mut view = image_view(b, call, Value::Image(view))?;
    let sides: [usize; 4] = extents("pads", Some(&[top, left, bottom, right]), 0)?;
    let [more_before, more_after]: [usize; 2] = extents("pads", Some(&channels), 0)?;
    let grow = [more_before + more_after, sides[0] + sides[2], sides[1] + sides[3]];
    for (size, n) in view.dims.iter_mut().zip(grow) {
        *size = size.saturating_add(n);
    }
    for (own, n) in view.pad.iter_mut().zip(sides) {
        *own = own.saturating_add(n);
    }
    view.maker = call.label.as_str().into();
    view.shortcut.before = view.shortcut.before.saturating_add(more_before);
    view.shortcut.after = view.shortcut.after.saturating_add(more_after);
    Ok(Value::Image(view))
}

/// One value to join: a value of the network, or so many channels of zeros.
enum Part {
    Image(View),
    Zeros(usize),
}

/// Channels one after the other; zeros at either end become added channels.
pub(super) fn concat(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let mut parts = Vec::new();
    let mut dims: Option<Vec<usize>> = None;
    for i in 0..call.inputs.len() {
        let (part, own) = match call.take(i)? {
            Value::Zeros(own) => (Part::Zeros(own.first().copied().unwrap_or(0)), own.to_vec()),
            Value::Const(array) => zeros(b, call, &array)?,
            value => {
                let view = b.image_value(&call.label, value)?;
                let view = b.plain(&call.label, view)?;
                let own = view.dims.clone();
                (Part::Image(view), own)
            }
        };
        if let Some(dims) = &dims
            && (dims.len() != own.len() || dims.get(1..) != own.get(1..))
        {
            return Err(Error::new(Kind::Shape, "values to join differ in shape")
                .expected(format!("{dims:?}"))
                .found(format!("{own:?}")));
        }
        dims.get_or_insert(own);
        parts.push(part);
    }
    let dims = dims.unwrap_or_default();
    let Some(along) = call.int("axis")? else {
        return Err(Error::new(Kind::Format, "Concat lacks its axis"));
    };
    if axis(along, dims.len() + 1)? != 1 || ![1, 3].contains(&dims.len()) {
        return Err(call
            .unsupported("only channels are joined")
            .found(format!("axis {along} of {} axes", dims.len() + 1)));
    }
    let is_zero = |p: &Part| matches!(p, Part::Zeros(_));
    let count = |p: &Part| if let Part::Zeros(n) = p { *n } else { 0 };
    let front = parts.iter().take_while(|p| is_zero(p)).count();
    let back = parts.iter().rev().take_while(|p| is_zero(p)).count();
    let before: usize = parts.iter().take(front).map(count).fold(0, usize::saturating_add);
    let after: usize = parts.iter().rev().take(back).map(count).fold(0, usize::saturating_add);
    if parts.iter().filter(|p| is_zero(p)).count() > front + back {
        return Err(call.unsupported("zeros are joined only before or after the other channels"));
    }
    let mut nodes = Vec::new();
    for part in parts {
        match part {
            Part::Image(view) if dims.len() == 1 => nodes.push(b.flat(&call.label, view)?),
            Part::Image(view) => nodes.push(b.image(&call.label, view)?),
            Part::Zeros(_) => {}
        }
    }
    join(b, call, &nodes, [before, after], dims.len())
}

fn join(b: &mut Builder, call: &Call<'_>, nodes: &[usize], zeros: [usize; 2], rank: usize) -> Result<Value> {
    let mut view = match nodes {
        [] => return Err(call.unsupported("joins nothing but constants")),
        &[one] => View { sole: false, ..b.view(one) },
        many => b.join(&call.label, Op::Concat, many)?,
    };
    view.maker = call.label.as_str().into();
    view.shortcut.before = zeros[0];
    view.shortcut.after = zeros[1];
    if let Some(channels) = view.dims.first_mut() {
        *channels = channels.saturating_add(zeros[0]).saturating_add(zeros[1]);
    }
    view.dims.truncate(rank);
    Ok(Value::Image(view))
}

/// A constant to join with values of the network: zeros for every image.
fn zeros(b: &Builder, call: &Call<'_>, array: &Array) -> Result<(Part, Vec<usize>)> {
    let fits = array.shape.first().copied() == b.batch && b.batch.is_some();
    if !fits || array.to_floats()?.iter().any(|&x| x != 0.0) {
        return Err(call
            .unsupported("a constant other than zeros is joined")
            .found(format!("{:?}", array.shape)));
    }
    let dims = array.shape.get(1..).unwrap_or(&[]).to_vec();
    Ok((Part::Zeros(dims.first().copied().unwrap_or(0)), dims))
}
