//! The backward pass: steps in reverse.
//! In: the gradient of the logits after a forward pass in training mode. Out: `Param::gradient` of every parameter.

use super::buffers::BufferId;
use super::conv::{Geometry, Scratch, Upstream};
use super::plan::{Curve, ParamId, Step, Term, ValueId};
use super::{Net, function, linear, pool};
use rayon::prelude::*;
use rheobase_kernels::pointwise::{self, Sums};

/// Partial weight gradients of one layer may take this many numbers.
const PARTIALS: usize = 8 << 20;
/// The most groups of images that a batch is split into.
const GROUPS: usize = 16;

/// The gradient of a value.
enum Gradient {
    /// A buffer `[n, h, w, c]`.
    Plain(BufferId),
    /// `g · a + z · b + c` per channel, z being the value itself: what a BatchNorm passes on, not yet computed.
    Normed(BufferId, [Vec<f32>; 3]),
}

/// What one image adds to the sums of a fused step.
struct Part {
    gradient: Vec<f64>,
    products: [Vec<f64>; 2],
    top: Vec<f64>,
}

impl Net {
    /// Gradients of every parameter from that of the logits `[n, classes]`.
    ///
    /// # Panics
    /// If the gradient is not that of the last forward pass's logits.
    pub fn backward(&mut self, logits: &[f32]) {
        assert_eq!(logits.len(), self.n * self.classes(), "one gradient per logit");
        let mut gradients: Vec<Option<Gradient>> = self.plan.shapes.iter().map(|_| None).collect();
        let buffer = self.buffers.take(logits.len());
        self.buffers.get_mut(buffer).copy_from_slice(logits);
        gradients[self.plan.output] = Some(Gradient::Plain(buffer));
        for index in (0..self.plan.steps.len()).rev() {
            let step = self.plan.steps[index].clone();
            self.back(index, &step, &mut gradients);
        }
        for gradient in gradients.into_iter().flatten() {
            match gradient {
                Gradient::Plain(id) | Gradient::Normed(id, _) => self.buffers.release(id),
            }
        }
    }

    fn size(&self, value: ValueId) -> usize {
        self.plan.shapes[value].iter().product()
    }

    fn back(&mut self, index: usize, step: &Step, gradients: &mut [Option<Gradient>]) {
        match step {
            Step::Conv { geometry, x, out, weight, bias } => {
                let Some(upstream) = gradients[*out].take() else { return };
                self.conv(index, geometry, [*x, *out], *weight, *bias, &upstream, gradients);
                match upstream {
                    Gradient::Plain(id) | Gradient::Normed(id, _) => self.buffers.release(id),
                }
            }
            Step::Linear { x, out, weight, bias } => {
                let Some(id) = self.plain(*out, gradients) else { return };
                let target = self.target(*x, gradients);
                let mut dx = target.map(|(id, add)| (id, self.buffers.lend(id), add));
                let mut dw = std::mem::take(&mut self.plan.params[*weight].gradient);
                let mut db = match bias {
                    Some(b) => std::mem::take(&mut self.plan.params[*b].gradient),
                    None => vec![0.0; self.size(*out)],
                };
                linear::backward(
                    &self.values[*x],
                    &self.plan.params[*weight].data,
                    self.buffers.get(id),
                    self.n,
                    [&mut dw, &mut db],
                    dx.as_mut().map(|(_, d, add)| (d.as_mut_slice(), *add)),
                );
                self.plan.params[*weight].gradient = dw;
                if let Some(b) = bias {
                    self.plan.params[*b].gradient = db;
                }
                if let Some((id, numbers, _)) = dx {
                    self.buffers.put(id, numbers);
                }
                self.buffers.release(id);
            }
            Step::Point { terms, curve, out } => {
                let Some(id) = self.plain(*out, gradients) else { return };
                let id = self.own(id);
                self.point(terms, curve.as_ref(), *out, id, gradients);
                self.buffers.release(id);
            }
            Step::Pool { pool, x, out } => {
                let (from, to) = (self.plan.shapes[*x], self.plan.shapes[*out]);
                self.spread(*x, *out, gradients, |x, dy, dx| pool::backward(pool, x, dy, from, to, dx));
            }
            Step::GlobalAverage { x, out } => {
                let from = self.plan.shapes[*x];
                self.spread(*x, *out, gradients, |_, dy, dx| pool::global_backward(dy, from, dx));
            }
            Step::Flatten { x, out } => {
                let [c, h, w] = self.plan.shapes[*x];
                self.spread(*x, *out, gradients, |_, dy, dx| {
                    dy.iter().enumerate().for_each(|(i, g)| dx[i % (h * w) * c + i / (h * w)] += g);
                });
            }
            Step::Shortcut { shortcut, x, out } => {
                let (from, to) = (self.plan.shapes[*x], self.plan.shapes[*out]);
                self.spread(*x, *out, gradients, |_, dy, dx| {
                    pool::shortcut_backward(shortcut, dy, from, to, dx);
                });
            }
            Step::Concat { xs, out } => {
                let Some(id) = self.plain(*out, gradients) else { return };
                let mut first = 0;
                for &x in xs {
                    let (c, all) = (self.plan.shapes[x][0], self.plan.shapes[*out][0]);
                    self.spread_from(x, id, self.size(*out), gradients, |_, dy, dx| {
                        for (d, g) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(all)) {
                            d.iter_mut().zip(&g[first..first + c]).for_each(|(d, g)| *d += g);
                        }
                    });
                    first += c;
                }
                self.buffers.release(id);
            }
        }
    }

    /// A fused step: `id` holds the gradient of its result and then that of the pre-activation.
    fn point(
        &mut self,
        terms: &[Term],
        curve: Option<&Curve>,
        out: ValueId,
        id: BufferId,
        gradients: &mut [Option<Gradient>],
    ) {
        let (size, channels) = (self.size(out), self.plan.shapes[out][0]);
        if curve.is_some() || terms.iter().any(|t| t.norm.is_some()) {
            let mut g = self.buffers.lend(id);
            let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
            let top = self.top(curve, channels);
            let centre = |t: &Term| t.norm.map_or(zeros.as_slice(), |n| &self.applied[n].mean);
            let centres = [centre(&terms[0]), centre(&terms[terms.len() - 1])];
            let parts: Vec<Part> = g
                .par_chunks_exact_mut(size)
                .enumerate()
                .map(|(i, g)| {
                    let zero = || vec![0.0; channels];
                    let mut part = Part { gradient: zero(), products: [zero(), zero()], top: zero() };
                    let (summands, count) = self.terms(terms, i, size, &ones, &zeros);
                    let [a, b] = &mut part.products;
                    let sums = Sums { gradient: &mut part.gradient, products: [a, b], top: &mut part.top };
                    let f = function(curve, &top);
                    pointwise::backward(self.isa, &summands[..count], centres, f, channels, g, sums);
                    part
                })
                .collect();
            self.buffers.put(id, g);
            let sum = |of: &dyn Fn(&Part) -> &[f64]| {
                (0..channels).map(|c| parts.iter().map(|p| of(p)[c]).sum::<f64>()).collect::<Vec<f64>>()
            };
            if let Some(Curve::Qcfs(_, threshold)) = curve {
                let top = sum(&|p| &p.top);
                let gradient = &mut self.plan.params[*threshold].gradient;
                match gradient.len() == channels && channels > 1 {
                    true => gradient.iter_mut().zip(top).for_each(|(g, t)| *g = t as f32),
                    false => gradient[0] = top.iter().sum::<f64>() as f32,
                }
            }
            let ones_sum = sum(&|p| &p.gradient);
            let count = (parts.len() * size / channels) as f64;
            for (i, term) in terms.iter().enumerate() {
                if term.norm.is_some() {
                    let products = sum(&|p| &p.products[i]);
                    let coefficients = self.norm(term, &ones_sum, &products, count);
                    self.buffers.hold(id);
                    self.add(term.value, Gradient::Normed(id, coefficients), gradients);
                }
            }
        }
        for term in terms.iter().filter(|t| t.norm.is_none()) {
            self.buffers.hold(id);
            self.add(term.value, Gradient::Plain(id), gradients);
        }
    }

    /// Gradients of γ and β, and what is passed on: `dx = γ/σ · (g - mean(g) - x̂ · mean(g·x̂))`.
    fn norm(&mut self, term: &Term, sum: &[f64], products: &[f64], count: f64) -> [Vec<f32>; 3] {
        let Some(id) = term.norm else { return [vec![], vec![], vec![]] };
        let (norm, applied) = (&self.plan.norms[id], &self.applied[id]);
        let mut k: [Vec<f32>; 3] = std::array::from_fn(|_| Vec::with_capacity(sum.len()));
        let (scale, shift) = (norm.scale, norm.shift);
        for c in 0..sum.len() {
            let inverse = f64::from(applied.inverse[c]);
            let normed = products[c] * inverse; // Σ g·x̂
            let a = f64::from(self.plan.params[scale].data[c]) * inverse;
            let b = -a * normed * inverse / count;
            self.plan.params[scale].gradient[c] = normed as f32;
            self.plan.params[shift].gradient[c] = sum[c] as f32;
            k[0].push(a as f32);
            k[1].push(b as f32);
            k[2].push((-a * sum[c] / count - b * f64::from(applied.mean[c])) as f32);
        }
        k
    }

    #[allow(clippy::too_many_arguments)]
    fn conv(
        &mut self,
        index: usize,
        geometry: &Geometry,
        [x, out]: [ValueId; 2],
        weight: ParamId,
        bias: Option<ParamId>,
        upstream: &Gradient,
        gradients: &mut [Option<Gradient>],
    ) {
        let (n, isa) = (self.n, self.isa);
        let (size_x, size_y, channels) = (self.size(x), self.size(out), self.plan.shapes[out][0]);
        let target = self.target(x, gradients);
        let mut dx = target.map(|(id, add)| (id, self.buffers.lend(id), add));
        let groups = GROUPS.min(PARTIALS / geometry.partial().max(1)).clamp(1, n);
        let each = n.div_ceil(groups);
        let add = dx.as_ref().is_some_and(|(.., add)| *add);
        let mut nothing = vec![];
        let dx_groups: Vec<Option<&mut [f32]>> = match &mut dx {
            Some((_, numbers, _)) => numbers.chunks_mut(each * size_x).map(Some).collect(),
            None => {
                nothing.resize_with(n.div_ceil(each), || None);
                nothing
            }
        };
        let (values, packed, buffers) = (&self.values, &self.packed[index], &self.buffers);
        let parts: Vec<(Vec<f32>, Vec<f64>)> = dx_groups
            .into_par_iter()
            .enumerate()
            .map_init(Scratch::default, |scratch, (group, mut dx)| {
                let mut partial = vec![0.0; geometry.partial()];
                let mut sums = vec![0.0; if bias.is_some() { channels } else { 0 }];
                for i in group * each..((group + 1) * each).min(n) {
                    let within = i - group * each;
                    let range = i * size_y..(i + 1) * size_y;
                    let upstream = match upstream {
                        Gradient::Plain(id) => Upstream::Plain(&buffers.get(*id)[range]),
                        Gradient::Normed(id, [a, b, c]) => {
                            Upstream::Normed(&buffers.get(*id)[range.clone()], &values[out][range], [a, b, c])
                        }
                    };
                    geometry.backward(
                        isa,
                        &values[x][i * size_x..(i + 1) * size_x],
                        upstream,
                        packed,
                        &mut partial,
                        bias.is_some().then_some(sums.as_mut_slice()),
                        dx.as_mut().map(|d| (&mut d[within * size_x..(within + 1) * size_x], add)),
                        scratch,
                    );
                }
                (partial, sums)
            })
            .collect();
        if let Some((id, numbers, _)) = dx {
            self.buffers.put(id, numbers);
        }
        if let Some(b) = bias {
            let gradient = &mut self.plan.params[b].gradient;
            for (c, g) in gradient.iter_mut().enumerate() {
                *g = parts.iter().map(|(_, sums)| sums[c]).sum::<f64>() as f32;
            }
        }
        let partials: Vec<Vec<f32>> = parts.into_iter().map(|(p, _)| p).collect();
        let gradient = &mut self.plan.params[weight].gradient;
        gradient.fill(0.0);
        geometry.merge(&partials, gradient);
    }

    /// Takes the gradient of a value as a buffer of its own numbers; the caller releases it.
    fn plain(&mut self, value: ValueId, gradients: &mut [Option<Gradient>]) -> Option<BufferId> {
        match gradients[value].take()? {
            Gradient::Plain(id) => Some(id),
            Gradient::Normed(id, coefficients) => {
                let id = self.own(id);
                let mut g = self.buffers.lend(id);
                let (isa, size, z) = (self.isa, self.size(value), &self.values[value]);
                let [a, b, c] = &coefficients;
                g.par_chunks_exact_mut(size).zip(z.par_chunks_exact(size)).for_each(|(g, z)| {
                    let from = g.to_vec();
                    pointwise::affine(isa, &from, z, [a, b, c], g);
                });
                self.buffers.put(id, g);
                Some(id)
            }
        }
    }

    /// The same numbers in a buffer that nobody else holds.
    fn own(&mut self, id: BufferId) -> BufferId {
        if !self.buffers.shared(id) {
            return id;
        }
        let copy = self.buffers.take(self.buffers.get(id).len());
        let mut to = self.buffers.lend(copy);
        to.copy_from_slice(self.buffers.get(id));
        self.buffers.put(copy, to);
        self.buffers.release(id);
        copy
    }

    /// Adds a gradient to a value's; takes over its holder.
    fn add(&mut self, value: ValueId, gradient: Gradient, gradients: &mut [Option<Gradient>]) {
        if value == 0 {
            match gradient {
                Gradient::Plain(id) | Gradient::Normed(id, _) => self.buffers.release(id),
            }
            return;
        }
        let Some(there) = self.plain_if_any(value, gradients) else {
            gradients[value] = Some(gradient);
            return;
        };
        let there = self.own(there);
        gradients[value] = Some(gradient);
        if let Some(more) = self.plain(value, gradients) {
            let mut to = self.buffers.lend(there);
            let size = self.size(value);
            to.par_chunks_exact_mut(size)
                .zip(self.buffers.get(more).par_chunks_exact(size))
                .for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(t, f)| *t += f));
            self.buffers.put(there, to);
            self.buffers.release(more);
        }
        gradients[value] = Some(Gradient::Plain(there));
    }

    fn plain_if_any(&mut self, value: ValueId, gradients: &mut [Option<Gradient>]) -> Option<BufferId> {
        if gradients[value].is_some() { self.plain(value, gradients) } else { None }
    }

    /// The buffer that a value's gradient is to be written to, or added to (`true`); none for the image.
    fn target(&mut self, value: ValueId, gradients: &mut [Option<Gradient>]) -> Option<(BufferId, bool)> {
        if value == 0 {
            return None;
        }
        let (id, add) = match self.plain_if_any(value, gradients) {
            Some(id) => (self.own(id), true),
            None => (self.buffers.take(self.n * self.size(value)), false),
        };
        gradients[value] = Some(Gradient::Plain(id));
        Some((id, add))
    }

    /// Adds to the gradient of `x` what `image` makes of each image's x and gradient of `out`.
    fn spread(
        &mut self,
        x: ValueId,
        out: ValueId,
        gradients: &mut [Option<Gradient>],
        image: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
    ) {
        if let Some(id) = self.plain(out, gradients) {
            self.spread_from(x, id, self.size(out), gradients, image);
            self.buffers.release(id);
        }
    }

    fn spread_from(
        &mut self,
        x: ValueId,
        from: BufferId,
        size_y: usize,
        gradients: &mut [Option<Gradient>],
        image: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
    ) {
        let Some((id, add)) = self.target(x, gradients) else { return };
        let size_x = self.size(x);
        let mut dx = self.buffers.lend(id);
        dx.par_chunks_exact_mut(size_x)
            .zip(self.values[x].par_chunks_exact(size_x))
            .zip(self.buffers.get(from).par_chunks_exact(size_y))
            .for_each(|((dx, x), dy)| {
                if !add {
                    dx.fill(0.0);
                }
                image(x, dy, dx);
            });
        self.buffers.put(id, dx);
    }
}
