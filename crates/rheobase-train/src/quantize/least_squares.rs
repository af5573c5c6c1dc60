//! Weights of one layer by ridge regression: from the inputs it gets now to the outputs it should have.
//! In: a convolution or linear layer, its inputs and targets over all images. Out: new weights, sums in f64 and a fixed order.

use super::cholesky;
use super::lockstep::{Positions, Values};
use rayon::prelude::*;
use rheobase_core::network::shape::Shape;
use rheobase_core::network::{Conv2d, Op};
use rheobase_core::tensor::Tensor;
use rheobase_kernels::matmul::{self, Product};

/// The ridge, as a share of the mean variance of the inputs.
const RIDGE: f64 = 0.1;
/// Numbers of input patches that are held at once, and their rows at most.
const TILE: usize = 1 << 22;
const TILE_ROWS: usize = 2048;
/// Rows of a matrix product that one thread makes.
const BLOCK: usize = 64;
/// The largest system: 8,192 inputs, 512 MiB.
const LARGEST: usize = 8192;

/// What a layer's output should be: another network's value, plus what it says of the other summands that this network has
/// already got wrong.
pub struct Target<'a> {
    /// The other network's value of the layer.
    pub own: &'a Values,
    /// Of each other summand the value it should have and the value it has.
    pub others: Vec<(&'a Values, &'a Values)>,
}

impl Target<'_> {
    fn write(&self, image: usize, at: usize, out: &mut [f64]) {
        for (o, &own) in out.iter_mut().zip(&self.own[image][at..]) {
            *o = f64::from(own);
        }
        for (wanted, got) in &self.others {
            for ((o, &w), &g) in out.iter_mut().zip(&wanted[image][at..]).zip(&got[image][at..]) {
                *o += f64::from(w) - f64::from(g);
            }
        }
    }
}

/// Why a layer keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Its input has more numbers than there are samples, or than a system may have.
    TooLarge,
    /// Its input does not vary, or the system has no solution.
    Constant,
}

/// Fits the weights of a convolution or linear layer; its bias is left to the caller.
pub fn refit(
    op: &mut Op,
    (from, to): (Shape, Shape),
    input: &Values,
    target: &Target<'_>,
    positions: &Positions,
) -> Result<(), Kept> {
    let whole = |t: &Tensor| Conv2d {
        weight: Tensor { shape: vec![t.shape[0], t.shape[1], 1, 1], data: vec![] },
        bias: None,
        stride: [1; 2],
        padding: [0; 4],
        dilation: [1; 2],
        groups: 1,
    };
    let (geometry, weight) = match op {
        Op::Conv2d(c) => {
            let weight = Tensor { shape: c.weight.shape.clone(), data: vec![] };
            (Conv2d { weight, bias: None, ..*c }, &mut c.weight)
        }
        Op::Linear(l) => (whole(&l.weight), &mut l.weight),
        Op::Input { .. }
        | Op::BatchNorm(_)
        | Op::Activation(_)
        | Op::Pool(_)
        | Op::GlobalAverage
        | Op::Add
        | Op::Concat
        | Op::Flatten
        | Op::Shortcut(_)
        | Op::Identity => return Ok(()),
    };
    let (taps, per) = (geometry.weight.shape[2] * geometry.weight.shape[3], geometry.weight.shape[1]);
    let (k, out) = (taps * per, to[0] / geometry.groups);
    if k > LARGEST || input.len() * positions.taken < k {
        return Err(Kept::TooLarge);
    }
    let mut systems: Vec<System> = (0..geometry.groups).map(|_| System::new(k, out)).collect();
    let width = taps * from[0];
    let images = (TILE / width).clamp(1, TILE_ROWS).div_ceil(positions.taken);
    for first in (0..input.len()).step_by(images) {
        let last = (first + images).min(input.len());
        let rows = (last - first) * positions.taken;
        let (mut x, mut z) = (vec![0.0; rows * width], vec![0.0; rows * to[0]]);
        let (x_of, z_of) =
            (x.par_chunks_mut(positions.taken * width), z.par_chunks_mut(positions.taken * to[0]));
        (first..last).into_par_iter().zip(x_of).zip(z_of).for_each(|((image, x), z)| {
            let rows = x.chunks_exact_mut(width).zip(z.chunks_exact_mut(to[0]));
            for (place, (x, z)) in positions.of(image).zip(rows) {
                patch(&geometry, &input[image], from, (place / to[2], place % to[2]), x);
                target.write(image, place * to[0], z);
            }
        });
        if let [system] = &mut systems[..] {
            system.add(rows, &x, &z);
            continue;
        }
        systems.par_iter_mut().enumerate().for_each(|(g, system)| {
            let pixels = x.chunks_exact(from[0]); // a tap of a row each
            let x: Vec<f64> = pixels.flat_map(|p| &p[g * per..(g + 1) * per]).copied().collect();
            let z: Vec<f64> =
                z.chunks_exact(to[0]).flat_map(|z| &z[g * out..(g + 1) * out]).copied().collect();
            system.add(rows, &x, &z);
        });
    }
    // [out][per][taps], as a tensor holds a group's weights
    let size = k * out;
    let solved: Vec<Option<Vec<f32>>> = systems
        .into_par_iter()
        .zip(weight.data.par_chunks_exact(size))
        .map(|(system, weight)| {
            let place = |i: usize| (i % out * per + i / out % per) * taps + i / out / per;
            let old: Vec<f64> = (0..size).map(|i| f64::from(weight[place(i)])).collect();
            let new = system.solve(&old)?;
            let mut weight = vec![0.0; size];
            (0..size).for_each(|i| weight[place(i)] = new[i] as f32);
            Some(weight)
        })
        .collect();
    let mut changed = false;
    for (weight, solved) in weight.data.chunks_exact_mut(size).zip(solved) {
        if let Some(solved) = solved.filter(|s| s.iter().all(|w| w.is_finite())) {
            weight.copy_from_slice(&solved);
            changed = true;
        }
    }
    if changed { Ok(()) } else { Err(Kept::Constant) }
}

/// What the kernel covers at one output position: `[tap][channel]`, zeros where it lies beyond the image.
fn patch(conv: &Conv2d, image: &[f32], [c, h, w]: Shape, (oy, ox): (usize, usize), to: &mut [f64]) {
    let columns = conv.weight.shape[3];
    for (tap, to) in to.chunks_exact_mut(c).enumerate() {
        let y = (oy * conv.stride[0] + tap / columns * conv.dilation[0]).wrapping_sub(conv.padding[0]);
        let x = (ox * conv.stride[1] + tap % columns * conv.dilation[1]).wrapping_sub(conv.padding[1]);
        if y < h && x < w {
            let pixel = &image[(y * w + x) * c..][..c];
            to.iter_mut().zip(pixel).for_each(|(t, &p)| *t = f64::from(p));
        }
    }
}

/// The normal equations of one group of channels.
struct System {
    k: usize,
    out: usize,
    rows: usize,
    /// Σ x·xᵀ `[k, k]`, its lower half.
    gram: Vec<f64>,
    /// Σ x·zᵀ `[k, out]`.
    cross: Vec<f64>,
    x: Vec<f64>,
    z: Vec<f64>,
}

impl System {
    fn new(k: usize, out: usize) -> Self {
        let (gram, cross) = (vec![0.0; k * k], vec![0.0; k * out]);
        System { k, out, rows: 0, gram, cross, x: vec![0.0; k], z: vec![0.0; out] }
    }

    /// Takes rows of inputs and outputs in.
    fn add(&mut self, rows: usize, x: &[f64], z: &[f64]) {
        let (k, out) = (self.k, self.out);
        self.rows += rows;
        sum(&mut self.x, x);
        sum(&mut self.z, z);
        let mut turned = vec![0.0; k * rows];
        turned.par_chunks_mut(rows * BLOCK).enumerate().for_each(|(block, to)| {
            for (r, x) in x.chunks_exact(k).enumerate() {
                let part = &x[block * BLOCK..];
                to[r..].iter_mut().step_by(rows).zip(part).for_each(|(t, &x)| *t = x);
            }
        });
        let blocks = self.gram.par_chunks_mut(BLOCK * k).zip(self.cross.par_chunks_mut(BLOCK * out));
        blocks.zip(turned.par_chunks(BLOCK * rows)).enumerate().for_each(
            |(block, ((gram, cross), turned))| {
                let m = gram.len() / k;
                let n = block * BLOCK + m;
                let p = Product { m, k: rows, n, strides: [rows, k, k], add: true };
                matmul::f64(&p, turned, x, gram);
                let p = Product { m, k: rows, n: out, strides: [rows, out, out], add: true };
                matmul::f64(&p, turned, z, cross);
            },
        );
    }

    /// The weights `[k, out]` of least squared error plus ridge times the squared distance from `old`, both sides centred.
    fn solve(mut self, old: &[f64]) -> Option<Vec<f64>> {
        let (k, out, n) = (self.k, self.out, self.rows as f64);
        for i in 0..k {
            let x = self.x[i] / n;
            self.gram[i * k..=i * k + i].iter_mut().zip(&self.x).for_each(|(g, other)| *g -= x * other);
            self.cross[i * out..(i + 1) * out].iter_mut().zip(&self.z).for_each(|(c, z)| *c -= x * z);
        }
        let ridge = RIDGE * (0..k).map(|i| self.gram[i * k + i]).sum::<f64>() / k as f64;
        (0..k).for_each(|i| self.gram[i * k + i] += ridge);
        self.cross.iter_mut().zip(old).for_each(|(c, w)| *c += ridge * w);
        let solved = ridge > 0.0 && cholesky::solve(&mut self.gram, k, &mut self.cross, out);
        solved.then_some(self.cross)
    }
}

/// Adds up rows.
fn sum(total: &mut [f64], rows: &[f64]) {
    for row in rows.chunks_exact(total.len()) {
        total.iter_mut().zip(row).for_each(|(t, x)| *t += x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rheobase_core::ann;
    use rheobase_core::random::Stream;

    fn numbers(n: usize, random: &mut Stream) -> Vec<f32> {
        (0..n).map(|_| random.uniform() as f32 - 0.5).collect()
    }

    /// A layer with random weights learns those of another of its kind from what that one makes of the same images.
    fn recovers(mut one: Op, other: Op, from: Shape, to: Shape) {
        let mut random = Stream::new(5, 0);
        let input: Values = (0..60).map(|_| numbers(from.iter().product(), &mut random)).collect();
        let packed = ann::pack(&other);
        let apply = |x: &Vec<f32>| ann::apply(&other, &packed, &[x], &[from], to, &mut vec![]);
        let own: Values = input.iter().map(apply).collect();
        let positions = Positions::new(Stream::new(1, 0), 1 << 20, 60, to[1] * to[2]);
        let target = Target { own: &own, others: vec![] };
        let weights = |op: &Op| match op {
            Op::Conv2d(c) => c.weight.data.clone(),
            Op::Linear(l) => l.weight.data.clone(),
            _ => unreachable!(),
        };
        let distance = |op: &Op| -> f32 {
            let (a, b) = (weights(op), weights(&other));
            a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
        };
        // every round takes the ridge's part of what is left away: 0.1 / 1.1 for inputs of equal variance
        let before = distance(&one);
        for round in 1..=4 {
            refit(&mut one, (from, to), &input, &target, &positions).unwrap();
            assert!(distance(&one) < before * 0.2f32.powi(round), "{round}: {} of {before}", distance(&one));
        }
    }

    #[test]
    fn linear_relations_are_recovered() {
        let mut random = Stream::new(4, 0);
        let mut conv = |groups: usize, out: usize| {
            let weight = Tensor::new([out, 4 / groups, 3, 2], numbers(out * 4 / groups * 6, &mut random));
            let bias = Some(numbers(out, &mut random));
            let (stride, padding, dilation) = ([2, 1], [1, 0, 1, 1], [1, 2]);
            Op::Conv2d(Conv2d { weight: weight.unwrap(), bias, stride, padding, dilation, groups })
        };
        for (groups, out) in [(1, 5), (2, 6), (4, 4), (4, 8)] {
            let (one, other) = (conv(groups, out), conv(groups, out));
            recovers(one, other, [4, 7, 8], [out, 4, 7]);
        }
        let mut linear = || {
            let weight = Tensor::new([3, 10], numbers(30, &mut random)).unwrap();
            Op::Linear(rheobase_core::network::Linear { weight, bias: None })
        };
        recovers(linear(), linear(), [10, 1, 1], [3, 1, 1]);
    }

    #[test]
    fn layers_without_enough_samples_keep_their_weights() {
        let weight = Tensor::new([2, 100], vec![1.0; 200]).unwrap();
        let mut op = Op::Linear(rheobase_core::network::Linear { weight, bias: None });
        let (before, input, own) = (op.clone(), vec![vec![1.0; 100]; 60], vec![vec![3.0; 2]; 60]);
        let shapes = ([100, 1, 1], [2, 1, 1]);
        let target = Target { own: &own, others: vec![] };
        let positions = Positions::new(Stream::new(1, 0), 1000, 60, 1);
        assert_eq!(refit(&mut op, shapes, &input, &target, &positions), Err(Kept::TooLarge));
        let input = vec![vec![1.0; 100]; 100];
        let own = vec![vec![3.0; 2]; 100];
        let target = Target { own: &own, others: vec![] };
        assert_eq!(refit(&mut op, shapes, &input, &target, &positions), Err(Kept::Constant));
        assert_eq!(op, before);
    }
}
