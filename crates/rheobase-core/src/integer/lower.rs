//! From a graph of operations to stages of linear terms, still in real numbers.
//! In: a [`SpikingNetwork`]. Out: drafts of stages: neurons, linear maps that other linear maps read, and the read-out.
//!
//! A node's value has one of two forms. A *view* is something that exists as numbers (image, spikes, currents), perhaps several
//! side by side, perhaps counted over windows, perhaps flattened. A *sum* is a linear map of views that has not been given a place yet: an addition
//! joins sums, an activation or another linear map makes a stage of one.

use super::{Source, Window};
use crate::ann::pool::window as pool_window;
use crate::error::{Error, Kind, Result};
use crate::network::shape::Shape;
use crate::network::{
    Conv2d, Linear, NodeId, Op, Pool, PoolKind, Shortcut, SpikingNetwork, Start, Threshold,
};
use std::ops::Range;

/// A term whose weights are real numbers.
#[derive(Debug, Clone)]
pub struct DraftTerm {
    pub source: Source,
    pub channels: Range<usize>,
    pub pool: Option<Window>,
    pub from: Shape,
    pub window: Window,
    pub dilation: [usize; 2],
    pub depthwise: bool,
    pub to: usize,
    pub outs: usize,
    pub only: Option<Vec<bool>>,
    /// To be multiplied with `scale`.
    pub weights: Vec<f32>,
    /// 1, or the divisor of an average pool.
    pub scale: f64,
}

/// A stage whose numbers are real.
#[derive(Debug, Clone)]
pub struct Draft {
    pub name: String,
    pub node: NodeId,
    pub shape: Shape,
    pub role: DraftRole,
    pub bias: Vec<f64>,
    pub terms: Vec<DraftTerm>,
}

/// [`Role`] in real numbers.
#[derive(Debug, Clone)]
pub enum DraftRole {
    Spiking { threshold: Threshold, start: Start },
    Linear,
    Readout,
}

/// A part of a view: some channels of one source.
#[derive(Debug, Clone)]
struct Part {
    source: Source,
    channels: Range<usize>,
    pool: Option<Window>,
}

#[derive(Debug, Clone)]
struct Sum {
    bias: Vec<f64>,
    terms: Vec<DraftTerm>,
}

#[derive(Debug, Clone)]
enum Form {
    /// Parts side by side along the channels; `shape` is that before flattening.
    View {
        parts: Vec<Part>,
        shape: Shape,
    },
    Sum(Sum),
}

/// Drafts in order; the last is the read-out.
pub fn lower(network: &SpikingNetwork) -> Result<Vec<Draft>> {
    let mut lowering =
        Lowering { network, forms: vec![], drafts: vec![], readers: network.network().readers() };
    for (id, node) in network.network().nodes.iter().enumerate() {
        let form = lowering.node(id).map_err(|e| e.node(&node.name))?;
        lowering.forms.push(Some(form));
    }
    let output = network.network().output;
    let sum = lowering.sum(output)?;
    lowering.stage(output, DraftRole::Readout, sum);
    Ok(lowering.drafts)
}

struct Lowering<'a> {
    network: &'a SpikingNetwork,
    forms: Vec<Option<Form>>,
    drafts: Vec<Draft>,
    readers: Vec<usize>,
}

const ONE: Window = Window { kernel: [1, 1], stride: [1, 1], padding: [0, 0] };

impl Lowering<'_> {
    fn shape(&self, id: NodeId) -> Shape {
        self.network.shapes()[id]
    }

    fn node(&mut self, id: NodeId) -> Result<Form> {
        let node = &self.network.network().nodes[id];
        let input = node.inputs.first().copied().unwrap_or(0);
        let shape = self.shape(id);
        Ok(match &node.op {
            Op::Input { shape } => {
                let part = Part { source: Source::Image, channels: 0..shape[0], pool: None };
                Form::View { parts: vec![part], shape: *shape }
            }
            Op::Activation(a) => {
                let sum = self.sum(input)?;
                let threshold =
                    a.threshold.clone().ok_or_else(|| Error::new(Kind::Unsupported, "no threshold"))?;
                self.stage(id, DraftRole::Spiking { threshold, start: a.start.clone() }, sum)
            }
            Op::Conv2d(conv) => {
                let (parts, before) = self.view(input);
                if before != self.shape(input) {
                    return Err(Error::new(Kind::Unsupported, "a convolution cannot read a flattened image"));
                }
                let terms = self.conv(conv, parts, before)?;
                self.shared(id, Sum { bias: real(conv.bias.as_deref(), shape[0]), terms })
            }
            Op::Linear(linear) => {
                let (parts, before) = self.view(input);
                self.shared(
                    id,
                    Sum {
                        bias: real(linear.bias.as_deref(), shape[0]),
                        terms: fully_connected(linear, parts, before),
                    },
                )
            }
            Op::Pool(pool) => self.pool(id, input, pool)?,
            Op::GlobalAverage => {
                let [_, h, w] = self.shape(input);
                let kind = PoolKind::Average { count_padding: false };
                self.pool(
                    id,
                    input,
                    &Pool { kind, kernel: [h, w], stride: [1, 1], padding: [0; 4], ceil: false },
                )?
            }
            Op::Add => {
                let mut sum = self.sum(input)?;
                for &other in &node.inputs[1..] {
                    let other = self.sum(other)?;
                    sum.bias.iter_mut().zip(&other.bias).for_each(|(a, b)| *a += b);
                    sum.terms.extend(other.terms);
                }
                self.shared(id, sum)
            }
            Op::Concat => self.concat(id, &node.inputs.clone())?,
            Op::Flatten => {
                let (parts, before) = self.view(input);
                if before[1..] != self.shape(input)[1..] {
                    return Err(Error::new(Kind::Unsupported, "flattened twice"));
                }
                Form::View { parts, shape: before }
            }
            Op::Shortcut(s) => {
                let (parts, before) = self.view(input);
                let sum = Sum { bias: vec![0.0; shape[0]], terms: shortcut(s, parts, before) };
                self.shared(id, sum)
            }
            Op::BatchNorm(_) | Op::Identity => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("{} must be folded away first", node.op.name()),
                ));
            }
        })
    }

    /// A sum that several nodes read gets a place of its own, so that it is computed once.
    fn shared(&mut self, id: NodeId, sum: Sum) -> Form {
        if self.readers[id] > 1 { self.stage(id, DraftRole::Linear, sum) } else { Form::Sum(sum) }
    }

    fn stage(&mut self, node: NodeId, role: DraftRole, sum: Sum) -> Form {
        let (name, shape) = (self.network.network().nodes[node].name.clone(), self.shape(node));
        self.drafts.push(Draft { name, node, shape, role, bias: sum.bias, terms: sum.terms });
        let part = Part { source: Source::Stage(self.drafts.len() - 1), channels: 0..shape[0], pool: None };
        Form::View { parts: vec![part], shape }
    }

    /// A node's value as something that exists.
    fn view(&mut self, id: NodeId) -> (Vec<Part>, Shape) {
        let form = match self.forms[id].take() {
            Some(Form::Sum(sum)) => self.stage(id, DraftRole::Linear, sum),
            Some(view) => view,
            None => Form::View { parts: vec![], shape: self.shape(id) },
        };
        let Form::View { parts, shape } = form.clone() else { return (vec![], self.shape(id)) };
        self.forms[id] = Some(form);
        (parts, shape)
    }

    /// A node's value as a sum.
    fn sum(&mut self, id: NodeId) -> Result<Sum> {
        if let Some(Form::Sum(_)) = self.forms[id]
            && let Some(Form::Sum(sum)) = self.forms[id].take()
        {
            return Ok(sum); // it has this one reader, see `shared`
        }
        let (parts, shape) = self.view(id);
        if shape != self.shape(id) {
            return Err(Error::new(
                Kind::Unsupported,
                "a flattened image can only be read by a linear layer",
            )
            .hint("put the activation or addition before the Flatten"));
        }
        let mut to = 0;
        let terms = parts
            .into_iter()
            .map(|part| {
                let term = channelwise(&part, shape, ONE, to, vec![1.0; part.channels.len()]);
                to += part.channels.len();
                term
            })
            .collect();
        Ok(Sum { bias: vec![0.0; shape[0]], terms })
    }

    fn conv(&mut self, conv: &Conv2d, parts: Vec<Part>, from: Shape) -> Result<Vec<DraftTerm>> {
        let &[out, per, kh, kw] = conv.weight.shape.as_slice() else { return Ok(vec![]) };
        let window =
            Window { kernel: [kh, kw], stride: conv.stride, padding: [conv.padding[0], conv.padding[1]] };
        let (taps, cols) = (kh * kw, out / conv.groups);
        let weight = |o: usize, i: usize, tap: usize| conv.weight.data[(o * per + i) * taps + tap];
        let mut terms = vec![];
        let mut first = 0; // channel of the whole view at which the part begins
        for part in parts {
            let n = part.channels.len();
            if per == 1 && out == conv.groups {
                let w = (0..taps * n).map(|i| weight(first + i % n, 0, i / n)).collect();
                let part = self.unpooled(part, from);
                terms.push(DraftTerm {
                    dilation: conv.dilation,
                    ..channelwise(&part, from, window, first, w)
                });
            } else {
                for g in 0..conv.groups {
                    // channels of this group that lie in this part
                    let (begin, end) = ((g * per).max(first), ((g + 1) * per).min(first + n));
                    if begin >= end {
                        continue;
                    }
                    let ins = end - begin;
                    let mut weights = Vec::with_capacity(taps * ins * cols);
                    for tap in 0..taps {
                        for i in begin - g * per..end - g * per {
                            weights.extend((0..cols).map(|o| weight(g * cols + o, i, tap)));
                        }
                    }
                    terms.push(DraftTerm {
                        source: part.source,
                        channels: part.channels.start + begin - first..part.channels.start + end - first,
                        pool: part.pool,
                        from: [ins, from[1], from[2]],
                        window,
                        dilation: conv.dilation,
                        depthwise: false,
                        to: g * cols,
                        outs: cols,
                        only: None,
                        weights,
                        scale: 1.0,
                    });
                }
            }
            first += n;
        }
        Ok(terms.into_iter().map(divided).collect())
    }

    /// Channel-by-channel maps read single spikes; a pooled part gets a stage of its own before one.
    fn unpooled(&mut self, part: Part, shape: Shape) -> Part {
        if part.pool.is_none() {
            return part;
        }
        let n = part.channels.len();
        let term = channelwise(&part, [n, shape[1], shape[2]], ONE, 0, vec![1.0; n]);
        let draft = Draft {
            name: "pool".into(),
            node: 0,
            shape: [n, shape[1], shape[2]],
            role: DraftRole::Linear,
            bias: vec![0.0; n],
            terms: vec![term],
        };
        self.drafts.push(draft);
        Part { source: Source::Stage(self.drafts.len() - 1), channels: 0..n, pool: None }
    }

    fn pool(&mut self, id: NodeId, input: NodeId, pool: &Pool) -> Result<Form> {
        let (parts, from) = self.view(input);
        let to = self.shape(id);
        if from != self.shape(input) {
            return Err(Error::new(Kind::Unsupported, "a flattened image cannot be pooled"));
        }
        let [top, left, ..] = pool.padding;
        let window = Window { kernel: pool.kernel, stride: pool.stride, padding: [top, left] };
        let divisors = divisors(pool, from, to);
        let uniform = divisors.iter().all(|&d| d == pool.kernel[0] * pool.kernel[1]);
        let spikes = |p: &Part| match p.source {
            Source::Image => false,
            Source::Stage(s) => matches!(self.drafts[s].role, DraftRole::Spiking { .. }),
        };
        if uniform && parts.iter().all(|p| p.pool.is_none() && spikes(p)) {
            let parts = parts.into_iter().map(|p| Part { pool: Some(window), ..p }).collect();
            return Ok(Form::View { parts, shape: to });
        }
        let mut sizes = divisors.clone();
        sizes.sort_unstable();
        sizes.dedup();
        let (mut terms, mut first) = (vec![], 0);
        for part in parts {
            let part = self.unpooled(part, from);
            let n = part.channels.len();
            for &size in &sizes {
                let weights = vec![1.0; n * pool.kernel[0] * pool.kernel[1]];
                let scale = 1.0 / size as f64;
                let only = (sizes.len() > 1).then(|| divisors.iter().map(|&d| d == size).collect());
                terms.push(DraftTerm { only, scale, ..channelwise(&part, from, window, first, weights) });
            }
            first += n;
        }
        Ok(self.shared(id, Sum { bias: vec![0.0; to[0]], terms }))
    }

    fn concat(&mut self, id: NodeId, inputs: &[NodeId]) -> Result<Form> {
        let shape = self.shape(id);
        if inputs
            .iter()
            .all(|&i| matches!(&self.forms[i], Some(Form::View { shape, .. }) if *shape == self.shape(i)))
        {
            let parts = inputs.iter().flat_map(|&i| self.view(i).0).collect();
            return Ok(Form::View { parts, shape });
        }
        let mut sum = Sum { bias: vec![], terms: vec![] };
        for &i in inputs {
            let to = sum.bias.len();
            let part = self.sum(i)?;
            sum.bias.extend(part.bias);
            sum.terms.extend(part.terms.into_iter().map(|t| DraftTerm { to: t.to + to, ..t }));
        }
        Ok(self.shared(id, sum))
    }
}

/// What each output position of an average pool divides by.
fn divisors(pool: &Pool, from: Shape, to: Shape) -> Vec<usize> {
    let [top, left, bottom, right] = pool.padding;
    let counted = pool.kind == PoolKind::Average { count_padding: true };
    let along = |axis: usize, before: usize, after: usize| -> Vec<usize> {
        (0..to[1 + axis])
            .map(|o| {
                let (on, full) =
                    pool_window(o, pool.stride[axis], pool.kernel[axis], before, after, from[1 + axis]);
                if counted { full } else { on.len() }
            })
            .collect()
    };
    let (ys, xs) = (along(0, top, bottom), along(1, left, right));
    ys.iter().flat_map(|y| xs.iter().map(move |x| (y * x).max(1))).collect()
}

/// A channel-by-channel map of a part; a pooled part (1x1 maps only) is read through its own windows.
fn channelwise(part: &Part, from: Shape, window: Window, to: usize, weights: Vec<f32>) -> DraftTerm {
    let n = part.channels.len();
    let (window, weights, scale, from) = match part.pool {
        None => (window, weights, 1.0, [n, from[1], from[2]]),
        Some(pool) => {
            let size = pool.kernel[0] * pool.kernel[1];
            let spread = (0..size).flat_map(|_| weights.iter().copied()).collect();
            (pool, spread, 1.0 / size as f64, [n, 0, 0]) // height and width of the source are filled in with the units
        }
    };
    DraftTerm {
        source: part.source,
        channels: part.channels.clone(),
        pool: None,
        from,
        window,
        dilation: [1, 1],
        depthwise: true,
        to,
        outs: n,
        only: None,
        weights,
        scale,
    }
}

/// A dense map over counts: the pool's divisor goes into the weights.
fn divided(mut term: DraftTerm) -> DraftTerm {
    if let Some(pool) = term.pool {
        term.scale /= (pool.kernel[0] * pool.kernel[1]) as f64;
    }
    term
}

fn fully_connected(linear: &Linear, parts: Vec<Part>, [_, h, w]: Shape) -> Vec<DraftTerm> {
    let (out, columns) = (linear.weight.shape[0], linear.weight.shape[1]);
    let mut first = 0;
    parts
        .into_iter()
        .map(|part| {
            let n = part.channels.len();
            let mut weights = Vec::with_capacity(n * h * w * out);
            for tap in 0..h * w {
                for c in 0..n {
                    let column = (first + c) * h * w + tap;
                    weights.extend((0..out).map(|o| linear.weight.data[o * columns + column]));
                }
            }
            first += n;
            divided(DraftTerm {
                source: part.source,
                channels: part.channels,
                pool: part.pool,
                from: [n, h, w],
                window: Window { kernel: [h, w], stride: [1, 1], padding: [0, 0] },
                dilation: [1, 1],
                depthwise: false,
                to: 0,
                outs: out,
                only: None,
                weights,
                scale: 1.0,
            })
        })
        .collect()
}

fn shortcut(s: &Shortcut, parts: Vec<Part>, from: Shape) -> Vec<DraftTerm> {
    let mut to = s.before;
    parts
        .into_iter()
        .map(|part| {
            let n = part.channels.len();
            // A pooled part strided by a shortcut: windows further apart.
            let mut term = channelwise(&part, from, ONE, to, vec![1.0; n]);
            for axis in 0..2 {
                term.window.stride[axis] *= s.stride[axis];
            }
            to += n;
            term
        })
        .collect()
}

fn real(bias: Option<&[f32]>, n: usize) -> Vec<f64> {
    bias.map_or_else(|| vec![0.0; n], |b| b.iter().map(|&b| b.into()).collect())
}
