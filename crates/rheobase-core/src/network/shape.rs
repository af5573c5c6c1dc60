//! Shape inference and the checks that go with it.
//! In: a network. Out: the shape (channels, height, width) of every node's value, or an error that names the node.

use super::op::{
    Activation, ActivationKind, BatchNorm, Conv2d, Linear, Op, Pool, Shortcut, Start, Threshold,
};
use super::{Network, Node};
use crate::error::{Error, Kind, Result};

/// Channels, height, width.
pub type Shape = [usize; 3];

/// The largest value (in numbers) that a network may have: 2^31.
pub const MAX_VALUE: usize = 1 << 31;

/// Shape of every node's value, in node order; every node's inputs, parameters and numbers are checked on the way.
pub fn infer(network: &Network) -> Result<Vec<Shape>> {
    let mut shapes: Vec<Shape> = Vec::with_capacity(network.nodes.len());
    if network.nodes.is_empty() {
        return Err(Error::new(Kind::Format, "the network has no nodes"));
    }
    for (index, node) in network.nodes.iter().enumerate() {
        let inputs = inputs_of(index, node, &shapes).map_err(|e| e.node(&node.name))?;
        let shape = output(node, &inputs).map_err(|e| e.node(&node.name))?;
        let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if size == 0 || size > MAX_VALUE {
            return Err(Error::new(Kind::Limit, "value is empty or too large")
                .expected(format!("1 to {MAX_VALUE} numbers"))
                .found(text(shape))
                .node(&node.name));
        }
        shapes.push(shape);
    }
    let Some(&[classes, h, w]) = shapes.get(network.output) else {
        return Err(Error::new(Kind::Format, "the network's output is not one of its nodes"));
    };
    if (h, w) != (1, 1) {
        return Err(Error::new(Kind::Shape, "the network's output is not one number per class")
            .expected("a flat vector")
            .found(text([classes, h, w]))
            .node(&network.nodes[network.output].name)
            .hint("Rheobase converts classifiers; end the network in a global pool or Flatten and a Linear layer"));
    }
    if !network.classes.is_empty() && network.classes.len() != classes {
        return Err(Error::new(Kind::Shape, "class names do not match the network's output")
            .expected(format!("{classes} names"))
            .found(network.classes.len().to_string()));
    }
    if let Some(n) = &network.normalisation
        && n.mean.len() != shapes[0][0]
    {
        return Err(Error::new(Kind::Shape, "normalisation does not match the image's channels")
            .expected(format!("{} channels", shapes[0][0]))
            .found(n.mean.len().to_string()));
    }
    Ok(shapes)
}

/// `3x32x32`, as errors and tables show a shape.
pub fn text(shape: Shape) -> String {
    let [c, h, w] = shape;
    format!("{c}x{h}x{w}")
}

fn inputs_of(index: usize, node: &Node, shapes: &[Shape]) -> Result<Vec<Shape>> {
    let wanted = match node.op {
        Op::Input { .. } => 0..=0,
        Op::Add | Op::Concat => 2..=usize::MAX,
        Op::Conv2d(_)
        | Op::Linear(_)
        | Op::BatchNorm(_)
        | Op::Activation(_)
        | Op::Pool(_)
        | Op::GlobalAverage
        | Op::Flatten
        | Op::Shortcut(_)
        | Op::Identity => 1..=1,
    };
    if (index == 0) != matches!(node.op, Op::Input { .. }) {
        return Err(Error::new(Kind::Format, "a network starts with its one input"));
    }
    if !wanted.contains(&node.inputs.len()) {
        return Err(Error::new(Kind::Shape, format!("{} has the wrong number of inputs", node.op.name()))
            .expected(format!("at least {}", wanted.start()))
            .found(node.inputs.len().to_string()));
    }
    node.inputs
        .iter()
        .map(|&i| {
            shapes.get(i).copied().ok_or_else(|| {
                Error::new(Kind::Format, format!("reads node {i}, which does not come before it"))
            })
        })
        .collect()
}

fn output(node: &Node, inputs: &[Shape]) -> Result<Shape> {
    match &node.op {
        Op::Input { shape } => Ok(*shape),
        Op::Conv2d(conv) => conv2d(conv, inputs[0]),
        Op::Linear(linear) => self::linear(linear, inputs[0]),
        Op::BatchNorm(bn) => batch_norm(bn, inputs[0]),
        Op::Activation(a) => activation(a, inputs[0]),
        Op::Pool(pool) => self::pool(pool, inputs[0]),
        Op::GlobalAverage => Ok([inputs[0][0], 1, 1]),
        Op::Add => {
            for other in &inputs[1..] {
                if *other != inputs[0] {
                    return Err(Error::new(Kind::Shape, "summands differ in shape")
                        .expected(text(inputs[0]))
                        .found(text(*other)));
                }
            }
            Ok(inputs[0])
        }
        Op::Concat => {
            let mut channels = inputs[0][0];
            for other in &inputs[1..] {
                if other[1..] != inputs[0][1..] {
                    return Err(Error::new(Kind::Shape, "values to concatenate differ in height or width")
                        .expected(text(inputs[0]))
                        .found(text(*other)));
                }
                channels += other[0];
            }
            Ok([channels, inputs[0][1], inputs[0][2]])
        }
        Op::Flatten => {
            let n = inputs[0].iter().product();
            Ok([n, 1, 1])
        }
        Op::Shortcut(s) => shortcut(s, inputs[0]),
        Op::Identity => Ok(inputs[0]),
    }
}

fn conv2d(conv: &Conv2d, [c, h, w]: Shape) -> Result<Shape> {
    let &[out, per_group, kh, kw] = conv.weight.shape.as_slice() else {
        return Err(Error::new(Kind::Shape, "convolution weights need four dimensions")
            .expected("[out, in / groups, height, width]")
            .found(format!("{:?}", conv.weight.shape)));
    };
    let g = conv.groups;
    if g == 0 || out == 0 || out % g != 0 || c % g != 0 {
        return Err(Error::new(Kind::Shape, "groups do not divide the channels")
            .expected(format!("a divisor of {c} and {out}"))
            .found(format!("{g} groups")));
    }
    if per_group != c / g {
        return Err(Error::new(Kind::Shape, "input does not fit the weights")
            .expected(format!("{} channels", per_group * g))
            .found(text([c, h, w])));
    }
    bias(conv.bias.as_deref(), out)?;
    finite("weights", &conv.weight.data)?;
    let [top, left, bottom, right] = conv.padding;
    Ok([
        out,
        extent(h, kh, conv.stride[0], top + bottom, conv.dilation[0], None)?,
        extent(w, kw, conv.stride[1], left + right, conv.dilation[1], None)?,
    ])
}

/// Output size along one axis; `ceil` carries the padding before for the partial-window rule of PyTorch.
fn extent(
    size: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    dilation: usize,
    ceil: Option<usize>,
) -> Result<usize> {
    const LIMIT: usize = 1 << 20;
    if kernel == 0
        || stride == 0
        || dilation == 0
        || [kernel, stride, pad, dilation].iter().any(|&x| x > LIMIT)
    {
        return Err(Error::new(Kind::Shape, "kernel, stride or dilation makes no sense")
            .found(format!("kernel {kernel}, stride {stride}, padding {pad}, dilation {dilation}")));
    }
    let span = dilation * (kernel - 1) + 1;
    let Some(room) = (size + pad).checked_sub(span) else {
        return Err(Error::new(Kind::Shape, "the window is larger than its padded input")
            .expected(format!("at most {}", size + pad))
            .found(span.to_string()));
    };
    Ok(match ceil {
        None => room / stride + 1,
        Some(before) => {
            let mut out = room.div_ceil(stride) + 1;
            if (out - 1) * stride >= size + before {
                out -= 1; // a window that would start beyond the input does not count
            }
            out
        }
    })
}

fn linear(linear: &Linear, input: Shape) -> Result<Shape> {
    let &[out, n] = linear.weight.shape.as_slice() else {
        return Err(Error::new(Kind::Shape, "linear weights need two dimensions")
            .expected("[out, in]")
            .found(format!("{:?}", linear.weight.shape)));
    };
    if input != [n, 1, 1] {
        return Err(Error::new(Kind::Shape, "input does not fit the weights")
            .expected(text([n, 1, 1]))
            .found(text(input)));
    }
    bias(linear.bias.as_deref(), out)?;
    finite("weights", &linear.weight.data)?;
    Ok([out, 1, 1])
}

fn batch_norm(bn: &BatchNorm, input: Shape) -> Result<Shape> {
    let c = input[0];
    for (what, v) in [("scale", &bn.scale), ("shift", &bn.shift), ("mean", &bn.mean), ("var", &bn.var)] {
        per_channel(what, v.len(), c)?;
        finite(what, v)?;
    }
    if !(bn.eps.is_finite() && bn.var.iter().all(|v| v + bn.eps > 0.0)) {
        return Err(Error::new(Kind::Value, "batch normalisation needs var + eps above 0"));
    }
    Ok(input)
}

fn activation(a: &Activation, input: Shape) -> Result<Shape> {
    match a.kind {
        ActivationKind::Relu => {}
        ActivationKind::Clip { ceiling } => {
            if !(ceiling.is_finite() && ceiling > 0.0) {
                return Err(Error::new(Kind::Value, "the clip's upper bound must be above 0")
                    .found(ceiling.to_string()));
            }
        }
        ActivationKind::Qcfs { levels } => {
            if !(1..=1 << 20).contains(&levels) {
                return Err(Error::new(Kind::Value, "QCFS needs 1 to 2^20 levels").found(levels.to_string()));
            }
            if a.threshold.is_none() {
                return Err(Error::new(Kind::Value, "QCFS needs its threshold λ"));
            }
        }
    }
    let thresholds = match &a.threshold {
        None => &[][..],
        Some(Threshold::Layer(t)) => std::slice::from_ref(t),
        Some(Threshold::Channel(t)) => {
            per_channel("thresholds", t.len(), input[0])?;
            t
        }
    };
    if let Some(t) = thresholds.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
        return Err(
            Error::new(Kind::Value, "a threshold must be a finite number above 0").found(t.to_string())
        );
    }
    if let Start::Neuron(v) = &a.start {
        let n: usize = input.iter().product();
        if v.len() != n {
            return Err(Error::new(Kind::Shape, "initial potentials do not match the neurons")
                .expected(n.to_string())
                .found(v.len().to_string()));
        }
        finite("initial potentials", v)?;
        if v.iter().any(|x| x.abs() > 1e3) {
            return Err(Error::new(Kind::Value, "initial potentials must stay within 1000 thresholds"));
        }
    }
    Ok(input)
}

fn pool(pool: &Pool, [c, h, w]: Shape) -> Result<Shape> {
    let [top, left, bottom, right] = pool.padding;
    let [kh, kw] = pool.kernel;
    // PyTorch's own bound; it keeps every window on at least one pixel.
    if top.max(bottom) >= kh.max(1) || left.max(right) >= kw.max(1) {
        return Err(Error::new(Kind::Shape, "pooling must be padded by less than its kernel")
            .expected(format!("less than {kh}x{kw}"))
            .found(format!("{:?}", pool.padding)));
    }
    Ok([
        c,
        extent(h, kh, pool.stride[0], top + bottom, 1, pool.ceil.then_some(top))?,
        extent(w, kw, pool.stride[1], left + right, 1, pool.ceil.then_some(left))?,
    ])
}

fn shortcut(s: &Shortcut, [c, h, w]: Shape) -> Result<Shape> {
    if s.stride.contains(&0) || s.before > MAX_VALUE || s.after > MAX_VALUE {
        return Err(Error::new(Kind::Shape, "shortcut makes no sense").found(format!("{s:?}")));
    }
    Ok([s.before + c + s.after, h.div_ceil(s.stride[0]), w.div_ceil(s.stride[1])])
}

fn bias(bias: Option<&[f32]>, out: usize) -> Result<()> {
    if let Some(b) = bias {
        per_channel("biases", b.len(), out)?;
        finite("biases", b)?;
    }
    Ok(())
}

fn per_channel(what: &str, found: usize, channels: usize) -> Result<()> {
    if found != channels {
        return Err(Error::new(Kind::Shape, format!("{what} do not match the channels"))
            .expected(channels.to_string())
            .found(found.to_string()));
    }
    Ok(())
}

fn finite(what: &str, numbers: &[f32]) -> Result<()> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::new(Kind::Value, format!("{what} must be finite"))
            .found(format!("{} at index {i}", numbers[i]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::PoolKind;
    use crate::tensor::Tensor;

    fn conv(out: usize, input: usize, k: usize, stride: usize, pad: usize) -> Op {
        Op::Conv2d(Conv2d {
            weight: Tensor::zeros([out, input, k, k]),
            bias: None,
            stride: [stride; 2],
            padding: [pad; 4],
            dilation: [1; 2],
            groups: 1,
        })
    }

    #[test]
    fn shapes_follow_pytorchs_rules() {
        let mut n = Network::new("t", [3, 32, 30]);
        let a = n.push("conv", conv(8, 3, 3, 2, 1), &[0]);
        let pool = |ceil| {
            Op::Pool(Pool {
                kind: PoolKind::Average { count_padding: true },
                kernel: [3, 3],
                stride: [2, 2],
                padding: [1; 4],
                ceil,
            })
        };
        n.push("floor", pool(false), &[a]);
        n.push("ceil", pool(true), &[a]);
        n.push("short", Op::Shortcut(Shortcut { stride: [2, 2], before: 2, after: 3 }), &[a]);
        n.push("gap", Op::GlobalAverage, &[a]);
        let shapes = infer(&n).unwrap();
        assert_eq!(shapes[1..], [[8, 16, 15], [8, 8, 8], [8, 9, 8], [13, 8, 8], [8, 1, 1]]);
    }

    #[test]
    fn a_misfit_names_its_node() {
        let mut n = Network::new("t", [3, 32, 32]);
        n.push("wrong", conv(8, 4, 3, 1, 1), &[0]);
        n.push("gap", Op::GlobalAverage, &[1]);
        assert_eq!(
            infer(&n).unwrap_err().to_string(),
            "node `wrong`: input does not fit the weights: expected 4 channels, found 3x32x32"
        );
    }
}
