//! Spread by outgoing weights: a head in which every neuron weighs differently.
//! In: the last spiking layer's currents and the outgoing weights of its neurons. Out: v(0) of every neuron.

use super::{CANDIDATES, Inputs, Layer, candidates};
use rheobase_kernels::if_step::{Step, if_step};
use rheobase_kernels::lanes::IntLane;

/// Outgoing weights of every neuron to every class, less their mean over the classes.
///
/// Row w_j of neuron j is the number of classes times its weights minus their sum, divided by 2^`shift` towards zero: the
/// smallest shift with which the sums of [`Spread::Weights`](super::Spread::Weights) over ρ steps fit their integers. With
/// D = ⌊ρ/2⌋·⌈ρ/2⌉ >= |ρN(t) - td|, A the largest Σ_j |w_j| of a class and M the largest Σ_c |w_j| of a neuron, an error |E| <= DA fits
/// i32; a cost is Σ_t δ(2⟨E_t, w_j⟩ + δ|w_j|²), |δ| <= D, so within 3ρ·D²·A·M, and fits i64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    classes: usize,
    presim: usize,
    shift: u32,
    rows: Vec<i32>,
    squares: Vec<i64>,
}

impl Outgoing {
    /// From integer weights `[neurons, classes]`, for runs of ρ = `presim` or less.
    pub fn new(weights: &[i64], classes: usize, presim: usize) -> Outgoing {
        let classes = classes.max(1);
        let centred = |row: &[i64], weight: i64| {
            i128::from(weight) * classes as i128 - row.iter().map(|&w| i128::from(w)).sum::<i128>()
        };
        let (mut of_class, mut of_neuron) = (vec![0i128; classes], 0i128);
        for row in weights.chunks_exact(classes) {
            let mut all = 0;
            for (&w, sum) in row.iter().zip(&mut of_class) {
                let size = centred(row, w).abs();
                (*sum, all) = (*sum + size, all + size);
            }
            of_neuron = of_neuron.max(all);
        }
        let of_class = of_class.into_iter().max().unwrap_or(0);
        let most = ((presim / 2) * presim.div_ceil(2)).max(1) as i128;
        let fits = |shift: u32| {
            let (a, m) = (of_class >> shift, of_neuron >> shift);
            let product = (3 * presim as i128 * most * most).checked_mul(a).and_then(|x| x.checked_mul(m));
            a * most < 1 << 31 && product.is_some_and(|x| x < 1 << 63)
        };
        let shift = (0..126).find(|&s| fits(s)).unwrap_or(126);
        let mut rows = Vec::with_capacity(weights.len());
        let mut squares = Vec::with_capacity(weights.len() / classes);
        for row in weights.chunks_exact(classes) {
            let first = rows.len();
            rows.extend(row.iter().map(|&w| (centred(row, w) / (1 << shift)) as i32));
            squares.push(rows[first..].iter().map(|&w| i64::from(w) * i64::from(w)).sum());
        }
        Outgoing { classes, presim, shift, rows, squares }
    }

    /// Bits that were cut from the weights.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    pub(super) fn suits(&self, layer: &Layer<'_>) -> bool {
        layer.presim <= self.presim && self.squares.len() == layer.positions() * layer.channels
    }
}

/// `room` is for one number a step. Potentials run in lanes; the choice is made neuron by neuron.
#[inline(always)]
pub(super) fn weigh<L: IntLane>(inputs: &mut Inputs<'_, '_, L>, room: &mut [L], out: &mut [i32]) {
    let layer = inputs.layer;
    let Some(outgoing) = layer.outgoing else { return };
    let (classes, seen) = (outgoing.classes, layer.seen());
    let (zero, presim) = (L::splat(0), L::splat(layer.presim as i32));
    let aims = &mut room[..seen]; // td
    let mut errors = vec![0i32; seen * classes];
    let mut early = vec![[[0i32; 16]; CANDIDATES]; seen]; // ρN(t) - td
    let mut from = [[0i32; 16]; CANDIDATES];
    for p in 0..layer.positions() {
        for c in (0..layer.cols).step_by(L::LANES) {
            let theta = L::load(&layer.theta[c..]);
            let (exact, currents) = inputs.read(p, c, theta);
            let mut aim = zero;
            for to in aims.iter_mut() {
                aim = aim.add(exact.desired);
                *to = aim;
            }
            let starts = candidates(&exact);
            for k in 0..CANDIDATES {
                starts[k].store(&mut from[k]);
                let (mut v, mut fired) = (starts[k], zero);
                for t in 0..seen {
                    let Step { fired: spike, after, .. } = if_step(v, currents[t], theta);
                    v = after;
                    fired = fired.add(presim.or_else(spike, zero));
                    fired.sub(aims[t]).store(&mut early[t][k]);
                }
            }
            let at = p * layer.cols + c;
            out[at..at + L::LANES].copy_from_slice(&from[0][..L::LANES]);
            for lane in 0..layer.channels.saturating_sub(c).min(L::LANES) {
                let neuron = p * layer.channels + c + lane;
                let row = &outgoing.rows[neuron * classes..][..classes];
                let best = choose(row, outgoing.squares[neuron], &errors, &early, lane);
                out[at + lane] = from[best][lane];
                for (early, errors) in early.iter().zip(errors.chunks_exact_mut(classes)) {
                    settle(row, early[best][lane], errors);
                }
            }
        }
    }
}

/// The first candidate of least cost.
#[inline(always)]
fn choose(row: &[i32], square: i64, errors: &[i32], early: &[[[i32; 16]; CANDIDATES]], lane: usize) -> usize {
    let mut cost = [0i64; CANDIDATES];
    for (early, errors) in early.iter().zip(errors.chunks_exact(row.len())) {
        let first = early[0][lane];
        let mut differ = false;
        for of in early {
            differ |= of[lane] != first;
        }
        // A step at which every candidate has fired as often decides nothing.
        if differ {
            let twice = 2 * dot(row, errors);
            for k in 0..CANDIDATES {
                let early = i64::from(early[k][lane]);
                cost[k] += early * (twice + early * square);
            }
        }
    }
    let mut best = 0;
    for k in 1..CANDIDATES {
        if cost[k] < cost[best] {
            best = k;
        }
    }
    best
}

#[inline(always)]
fn dot(a: &[i32], b: &[i32]) -> i64 {
    let mut sum = 0;
    for (&a, &b) in a.iter().zip(b) {
        sum += i64::from(a) * i64::from(b);
    }
    sum
}

#[inline(always)]
fn settle(row: &[i32], early: i32, errors: &mut [i32]) {
    if early != 0 {
        for (error, &w) in errors.iter_mut().zip(row) {
            *error += w * early;
        }
    }
}
