//! Pools and means over positions, and the windows that pools and convolutions share.
//! In: AveragePool, MaxPool, GlobalAveragePool, GlobalMaxPool, ReduceMean. Out: a pool or the global mean.

use rheobase_core::network::{Op, Pool, PoolKind, Sides};
use rheobase_core::{Error, Kind, Result};

use super::super::array::axis;
use super::super::build::{Builder, View};
use super::super::node::{Call, Value};

/// The largest padding, stride or dilation: beyond it shapes make no sense.
const MAX_EXTENT: i64 = 1 << 20;

/// How a kernel moves over its input.
pub(super) struct Window {
    pub stride: [usize; 2],
    pub padding: Sides,
    pub dilation: [usize; 2],
}

/// A list of sizes from the file, each within sensible bounds.
pub(super) fn extents<const N: usize>(what: &str, given: Option<&[i64]>, default: i64) -> Result<[usize; N]> {
    let least = i64::from(default > 0);
    let bad = |found: &[i64]| {
        Error::new(Kind::Unsupported, format!("{what} are not converted"))
            .expected(format!("{N} numbers from {least} to {MAX_EXTENT}"))
            .found(format!("{found:?}"))
    };
    let numbers: [i64; N] = match given {
        None => [default; N],
        Some(found) => found.try_into().map_err(|_| bad(found))?,
    };
    if numbers.iter().any(|n| !(least..=MAX_EXTENT).contains(n)) {
        return Err(bad(&numbers));
    }
    Ok(numbers.map(|n| usize::try_from(n).unwrap_or(0)))
}

/// Stride, padding and dilation; `pending` zeros around the input are added to the padding.
pub(super) fn window(
    call: &Call<'_>,
    kernel: [usize; 2],
    size: [usize; 2],
    pending: Sides,
) -> Result<Window> {
    let stride: [usize; 2] = extents("strides", call.ints("strides")?, 1)?;
    let dilation: [usize; 2] = extents("dilations", call.ints("dilations")?, 1)?;
    let mode = call.text("auto_pad")?.unwrap_or("NOTSET");
    let own: Sides = match mode {
        "NOTSET" | "" => extents("pads", call.ints("pads")?, 0)?,
        "VALID" => [0; 4],
        "SAME_UPPER" | "SAME_LOWER" => {
            let [top, left, bottom, right] = pending;
            let padded = [size[0] + top + bottom, size[1] + left + right];
            let same = |i: usize| {
                let span = dilation[i].saturating_mul(kernel[i].saturating_sub(1)) + 1;
                let reach = (padded[i].div_ceil(stride[i]).saturating_sub(1)).saturating_mul(stride[i]);
                let total = reach.saturating_add(span).saturating_sub(padded[i]);
                let less = total / 2;
                if mode == "SAME_UPPER" { [less, total - less] } else { [total - less, less] }
            };
            let ([top, bottom], [left, right]) = (same(0), same(1));
            [top, left, bottom, right]
        }
        other => {
            return Err(Error::new(Kind::Format, "unknown auto_pad").found(format!("`{other}`")));
        }
    };
    let padding = std::array::from_fn(|i| own[i].saturating_add(pending[i]));
    if padding.iter().any(|&p| p > 2 * MAX_EXTENT as usize) {
        return Err(Error::new(Kind::Limit, "padding is too large").found(format!("{padding:?}")));
    }
    Ok(Window { stride, padding, dilation })
}

/// Whether rounding the output size up adds a window along this axis.
fn ceil_matters(size: usize, kernel: usize, stride: usize, pads: usize) -> bool {
    (size + pads).checked_sub(kernel).is_some_and(|room| !room.is_multiple_of(stride))
}

struct PoolSpec {
    node: usize,
    pending: Sides,
    pool: Pool,
    own: Sides,
}

/// What average and maximum pools share.
fn pool(b: &mut Builder, call: &mut Call<'_>, kind: PoolKind) -> Result<PoolSpec> {
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let (node, pending) = b.padded_image(&call.label, view)?;
    let Some(kernel) = call.ints("kernel_shape")? else {
        return Err(Error::new(Kind::Format, "pool lacks its kernel_shape"));
    };
    let kernel: [usize; 2] = extents("kernel_shape of a pool", Some(kernel), 1)?;
    let [_, h, w] = b.shape(node);
    let Window { stride, padding, dilation } = window(call, kernel, [h, w], pending)?;
    if dilation != [1, 1] {
        return Err(call.unsupported("dilated pools are not converted"));
    }
    let own: Sides = std::array::from_fn(|i| padding[i] - pending[i]);
    let [top, left, bottom, right] = padding;
    let ceil = call.flag("ceil_mode")?
        && (ceil_matters(h, kernel[0], stride[0], top + bottom)
            || ceil_matters(w, kernel[1], stride[1], left + right));
    if ceil && pending != [0; 4] {
        return Err(call.unsupported("a padded value in front of a pool with ceil_mode is not converted"));
    }
    Ok(PoolSpec { node, pending, pool: Pool { kind, kernel, stride, padding, ceil }, own })
}

pub(super) fn average(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let counted = call.flag("count_include_pad")?;
    let mut spec = pool(b, call, PoolKind::Average { count_padding: counted })?;
    if spec.pending != [0; 4] {
        // Zeros of a node of their own are pixels like any other; the pool's own are only where it says so.
        if spec.own != [0; 4] && !counted {
            return Err(
                call.unsupported("a padded value in front of a pool that pads by itself is not converted")
            );
        }
        spec.pool.kind = PoolKind::Average { count_padding: true };
    }
    Ok(Value::Image(b.push(&call.label, Op::Pool(spec.pool), spec.node)?))
}

pub(super) fn max(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let spec = pool(b, call, PoolKind::Max)?;
    let activated = b.network.nodes.get(spec.node).is_some_and(|n| matches!(n.op, Op::Activation(_)));
    if spec.pending != [0; 4] && !activated {
        // After a ReLU no zero exceeds what the window holds; elsewhere it may.
        return Err(call.unsupported("zero padding before a max pool is converted only after an activation"));
    }
    if spec.pool.kernel == [1, 1] && spec.pool.padding == [0; 4] && !spec.pool.ceil {
        let mut view = b.view(spec.node);
        view.maker = call.label.as_str().into();
        view.shortcut.stride = spec.pool.stride;
        let [c, h, w] = b.shape(spec.node);
        view.dims = vec![c, h.div_ceil(spec.pool.stride[0]), w.div_ceil(spec.pool.stride[1])];
        return Ok(Value::Image(view));
    }
    Ok(Value::Image(b.push(&call.label, Op::Pool(spec.pool), spec.node)?))
}

pub(super) fn global_max(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let node = b.image(&call.label, view)?;
    let [_, h, w] = b.shape(node);
    let pool = Pool { kind: PoolKind::Max, kernel: [h, w], stride: [1, 1], padding: [0; 4], ceil: false };
    Ok(Value::Image(b.push(&call.label, Op::Pool(pool), node)?))
}

pub(super) fn global_average(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let view = b.plain(&call.label, view)?;
    let all: Vec<usize> = (1..view.dims.len()).collect();
    mean(b, call, view, &all, true).map(Value::Image)
}

pub(super) fn reduce_mean(b: &mut Builder, call: &mut Call<'_>) -> Result<Value> {
    let axes = call.ints_or_input("axes", 1)?.unwrap_or_default();
    let keep = call.int("keepdims")?.unwrap_or(1) != 0;
    let value = call.take(0)?;
    let view = b.image_value(&call.label, value)?;
    let view = b.plain(&call.label, view)?;
    if axes.is_empty() {
        if call.flag("noop_with_empty_axes")? {
            return Ok(Value::Image(view));
        }
        return Err(call.unsupported("a mean over the whole batch is not converted"));
    }
    let mut own = Vec::new();
    for a in axes {
        let a = axis(a, view.dims.len() + 1)?.checked_sub(1);
        own.push(a.ok_or_else(|| call.unsupported("a mean over the batch is not converted"))?);
    }
    mean(b, call, view, &own, keep).map(Value::Image)
}

/// The mean over these axes (the batch not counted) of a view with nothing pending.
fn mean(b: &mut Builder, call: &Call<'_>, view: View, axes: &[usize], keep: bool) -> Result<View> {
    let left: Vec<usize> = view
        .dims
        .iter()
        .enumerate()
        .filter(|(i, _)| keep || !axes.contains(i))
        .map(|(i, &d)| if axes.contains(&i) { 1 } else { d })
        .collect();
    let [c, h, w] = b.shape(view.node);
    let real: Vec<usize> =
        axes.iter().copied().filter(|&a| view.dims.get(a).is_some_and(|&d| d != 1)).collect();
    let done = |made: View| View { dims: left.clone(), ..made };
    if real.is_empty() {
        return Ok(done(view));
    }
    let positions = view.dims.iter().enumerate().skip(1).all(|(i, &d)| d == 1 || real.contains(&i));
    if view.dims.first() == Some(&c) && positions && !real.contains(&0) {
        return b.push(&call.label, Op::GlobalAverage, view.node).map(done);
    }
    let kernel = match real.as_slice() {
        [1] => [h, 1],
        [2] => [1, w],
        _ => [0, 0],
    };
    if view.dims == [c, h, w] && kernel != [0, 0] {
        let kind = PoolKind::Average { count_padding: true };
        let pool = Pool { kind, kernel, stride: [1, 1], padding: [0; 4], ceil: false };
        return b.push(&call.label, Op::Pool(pool), view.node).map(done);
    }
    Err(call
        .unsupported("only means over positions are converted")
        .found(format!("axes {axes:?} after the batch")))
}
