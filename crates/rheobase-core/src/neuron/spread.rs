//! Spread: where inside its exact interval each neuron of the last spiking layer starts, so that the spikes that the read-out
//! sees in T < ρ steps are close to their share of the ρ steps (method.md, "Better at T < ρ").
//! In: that layer's currents of one image. Out: v(0) of every neuron, each firing exactly its desired count over ρ steps.
//!
//! d is the desired count, N(t) the spikes up to step t, [lo, hi) the exact interval. Everything is an integer.
//! - *aligned*: v(0) = ⌊φθ⌋ + d·⌊(ρ+1)/(2ρ)·θ⌋ - Σ_i ⌊(ρ-i+1)/ρ·I(i)⌋ moved into [lo, hi - 1]: φθ and the mean of t·d·θ/ρ - S_t over
//!   t <= ρ, fractions in 2^-30. φ = frac(B(y mod 8, x mod 8) + c/golden ratio), B the Bayer matrix.
//! - *diffusion*: of 8 candidates lo + ⌊(2k+1)(hi-lo)/16⌋ the first that minimises Σ_t (E_t + ρN(t) - td)²; E_t, 0 at the first position
//!   of a channel, then takes up ρN(t) - td. Positions in raster order, channels side by side.
//! - *weights*: the same candidates, E_t a vector over classes and ρN(t) - td times the neuron's outgoing weights, less their
//!   mean; positions in raster order, the channels of each in order.
//!
//! Steps count up to P = min(T, ρ - 1): N(ρ) = d whichever v(0) is taken. From N(t) <= min(t, d) and d - N(t) <= ρ - t follows
//! |ρN(t) - td| <= t(ρ - t), from which all bounds here are made.

mod weights;

pub use weights::Outgoing;

use super::cos::{Interval, interval};
use crate::error::{Error, Kind};
use rheobase_kernels::cpu::{Isa, Job, Vectors};
use rheobase_kernels::if_step::{Step, if_step};
use rheobase_kernels::lanes::IntLane;

/// How the last spiking layer's spikes are spread inside its exact intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// The middle of the interval, as in every other layer.
    #[default]
    None,
    /// By the neuron's place alone.
    Aligned,
    /// What one position fires too early or too late, the next ones of its channel make good.
    Diffusion,
    /// What one neuron adds to the classes too early or too late, the next ones make good.
    Weights,
}

const NAMES: [(Spread, &str); 4] = [
    (Spread::None, "none"),
    (Spread::Aligned, "aligned"),
    (Spread::Diffusion, "diffusion"),
    (Spread::Weights, "weights"),
];

impl std::str::FromStr for Spread {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        NAMES.iter().find(|n| n.1 == text).map(|n| n.0).ok_or_else(|| {
            Error::new(Kind::Usage, format!("unknown spread: `{text}`"))
                .hint(format!("known: {}", NAMES.map(|n| n.1).join(", ")))
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAMES.iter().find(|n| n.0 == *self).map_or("", |n| n.1))
    }
}

/// The last spiking layer of one image.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Steps of current there are: ρ or more.
    pub span: usize,
    /// ρ, 1 or more.
    pub presim: usize,
    /// T.
    pub steps: usize,
    /// Rows of positions.
    pub height: usize,
    /// Positions in a row.
    pub width: usize,
    /// Channels that exist.
    pub channels: usize,
    /// Channels, padded to a multiple of 16.
    pub cols: usize,
    /// `[span, height, width, cols]`.
    pub currents: &'a [i32],
    /// θ, `[cols]`; the padding's must be out of reach of its currents.
    pub theta: &'a [i32],
    /// Whether potentials need 64 bits.
    pub wide: bool,
    /// What the neurons' spikes weigh, `[height, width, channels]` neurons; only [`Spread::Weights`] asks for it.
    pub outgoing: Option<&'a Outgoing>,
}

/// Whether every v(0) of a layer fits 32 bits, `bound` being the largest current or threshold there can be: v(0) lies within
/// ±(ρ+1) times that.
pub fn fits(presim: usize, bound: i64) -> bool {
    (presim as i128 + 1) * i128::from(bound) < 1 << 31
}

/// Writes v(0) of every neuron, `[height, width, cols]`. The layer must be one that [`fits`]; the padding gets one that never fires.
///
/// Panics where the layer's sizes contradict each other, or where [`Spread::Weights`] is not given what it needs.
pub fn starts(isa: Isa, spread: Spread, layer: &Layer<'_>, out: &mut Vec<i32>) {
    let numbers = layer.positions() * layer.cols;
    assert!((1..=layer.span).contains(&layer.presim), "pre-simulated steps have currents");
    assert!(layer.cols.is_multiple_of(16) && layer.channels <= layer.cols, "channels are padded to 16");
    assert!(layer.currents.len() >= layer.span * numbers && layer.theta.len() >= layer.cols, "all are there");
    if spread == Spread::Weights {
        assert!(layer.outgoing.is_some_and(|o| o.suits(layer)), "every neuron has outgoing weights");
    }
    out.clear();
    out.resize(numbers, 0);
    isa.run(Starts { spread, layer, out });
}

impl Layer<'_> {
    fn positions(&self) -> usize {
        self.height * self.width
    }

    /// P: steps whose counts v(0) decides.
    fn seen(&self) -> usize {
        self.steps.min(self.presim - 1)
    }

    /// Whether the costs of diffusion need 64 bits. With n positions and F = ρN(t) <= ρt a term is F(F + 2(E_t - td)), where
    /// |E_t| <= n·t(ρ - t) and |F - 2td| <= 2ρt: together Σ_t 2ρt²(n(ρ - t) + ρ) at most.
    fn costs_are_wide(&self) -> bool {
        let (n, presim) = (self.positions() as u128, self.presim as u128);
        let most: u128 =
            (1..=self.seen() as u128).map(|t| 2 * presim * t * t * (n * (presim - t) + presim)).sum();
        assert!(most < 1 << 63, "no layer that fits has so many steps");
        most >= 1 << 31
    }
}

struct Starts<'a, 'b> {
    spread: Spread,
    layer: &'a Layer<'b>,
    out: &'a mut [i32],
}

impl Job for Starts<'_, '_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let costs = self.spread == Spread::Diffusion && self.layer.costs_are_wide();
        if self.layer.wide || costs { run::<V::I64>(self) } else { run::<V::I32>(self) }
    }
}

#[inline(always)]
fn run<L: IntLane>(job: Starts<'_, '_>) {
    let Starts { spread, layer, out } = job;
    // The usual few steps stay on the stack.
    let mut few = [L::splat(0); 32];
    let mut many = Vec::new();
    let all = if 4 * layer.presim <= few.len() {
        &mut few[..4 * layer.presim]
    } else {
        many.resize(4 * layer.presim, L::splat(0));
        &mut many[..]
    };
    let (inputs, more) = all.split_at_mut(2 * layer.presim);
    let mut inputs = Inputs { layer, lanes: inputs };
    match spread {
        Spread::None => middle(&mut inputs, out),
        Spread::Aligned => align(&mut inputs, more, out),
        Spread::Diffusion => diffuse(&mut inputs, more, out),
        Spread::Weights => weights::weigh(&mut inputs, more, out),
    }
}

/// Reads the currents of a block of neurons, `lanes` being room for two numbers a step.
struct Inputs<'a, 'b, L> {
    layer: &'a Layer<'b>,
    lanes: &'a mut [L],
}

impl<L: IntLane> Inputs<'_, '_, L> {
    /// The exact interval and the currents I(1..ρ) of `LANES` neurons from channel `c` on at position `p`.
    #[inline(always)]
    fn read(&mut self, p: usize, c: usize, theta: L) -> (Interval<L>, &[L]) {
        let (layer, positions) = (self.layer, self.layer.positions());
        let (currents, breakpoints) = self.lanes.split_at_mut(layer.presim);
        for t in 0..layer.presim {
            currents[t] = L::load(&layer.currents[(t * positions + p) * layer.cols + c..]);
            breakpoints[t] = theta.highest();
        }
        (interval(theta, currents, breakpoints), currents)
    }
}

#[inline(always)]
fn middle<L: IntLane>(inputs: &mut Inputs<'_, '_, L>, out: &mut [i32]) {
    let layer = inputs.layer;
    for p in 0..layer.positions() {
        for c in (0..layer.cols).step_by(L::LANES) {
            let (exact, _) = inputs.read(p, c, L::load(&layer.theta[c..]));
            exact.middle().store(&mut out[p * layer.cols + c..]);
        }
    }
}

/// Fractions of [`align`] are in 2^-30.
const BITS: u32 = 30;
/// 1/golden ratio in 2^-32.
const GOLDEN: u32 = 0x9E37_79B9;

/// The Bayer matrix times 64: the bits of x^y and y, the lowest of them leading.
fn bayer(y: usize, x: usize) -> i32 {
    (0..3).fold(0, |b, i| b << 2 | (((x ^ y) >> i & 1) << 1 | y >> i & 1) as i32)
}

/// With |I| and θ at most B: φθ < B, and d times its share of θ and the sum of the shares of I(i) are each within (ρ+1)/2·B and a
/// rounding, so all of it stays within (2ρ+2)B.
#[inline(always)]
fn align<L: IntLane>(inputs: &mut Inputs<'_, '_, L>, room: &mut [L], out: &mut [i32]) {
    let layer = inputs.layer;
    let presim = layer.presim as u64;
    let shares = &mut room[..layer.presim];
    for (i, share) in shares.iter_mut().enumerate() {
        *share = L::splat((((presim - i as u64) << BITS) / presim) as i32);
    }
    let (one, whole) = (L::splat(1), L::splat(1 << BITS));
    let mean = L::splat((((presim + 1) << BITS) / (2 * presim)) as i32);
    let mut tiles = [[0; 8]; 8];
    for (y, row) in tiles.iter_mut().enumerate() {
        for (x, tile) in row.iter_mut().enumerate() {
            *tile = bayer(y, x) << (BITS - 6);
        }
    }
    for c in (0..layer.cols).step_by(L::LANES) {
        let mut phases = [0; 16];
        for (i, phase) in phases.iter_mut().enumerate() {
            *phase = (GOLDEN.wrapping_mul((c + i) as u32) >> (32 - BITS)) as i32;
        }
        let (phases, theta) = (L::load(&phases), L::load(&layer.theta[c..]));
        let step = theta.scaled(mean, BITS);
        for y in 0..layer.height {
            for x in 0..layer.width {
                let p = y * layer.width + x;
                let (exact, currents) = inputs.read(p, c, theta);
                let phase = phases.add(L::splat(tiles[y % 8][x % 8])); // below 2
                let phase = phase.sub(whole).or_else(phase.ge(whole), phase);
                let mut v = theta.scaled(phase, BITS).add(step.mul(exact.desired));
                for (&current, &share) in currents.iter().zip(shares.iter()) {
                    v = v.sub(current.scaled(share, BITS));
                }
                let v = v.max(exact.low).min(exact.high.sub(one));
                v.store(&mut out[p * layer.cols + c..]);
            }
        }
    }
}

/// K: how many v(0) are tried.
const CANDIDATES: usize = 8;

/// lo + ⌊(2k+1)/16·(hi - lo)⌋, all below hi. hi - lo is at most (2ρ+1) times the largest current or threshold.
#[inline(always)]
fn candidates<L: IntLane>(exact: &Interval<L>) -> [L; CANDIDATES] {
    let size = exact.high.sub(exact.low);
    let mut v = [exact.low; CANDIDATES];
    for (k, v) in v.iter_mut().enumerate() {
        *v = v.add(size.scaled(L::splat(2 * k as i32 + 1), 4));
    }
    v
}

/// Σ (E + F - td)² over t, F = ρN(t), is least where Σ F·(F + 2(E - td)) is: the rest is the same for every candidate.
#[inline(always)]
fn diffuse<L: IntLane>(inputs: &mut Inputs<'_, '_, L>, room: &mut [L], out: &mut [i32]) {
    let layer = inputs.layer;
    let seen = layer.seen();
    let (errors, bases) = room.split_at_mut(layer.presim);
    let (errors, bases) = (&mut errors[..seen], &mut bases[..seen]);
    let (zero, presim) = (L::splat(0), L::splat(layer.presim as i32));
    for c in (0..layer.cols).step_by(L::LANES) {
        let theta = L::load(&layer.theta[c..]);
        for error in errors.iter_mut() {
            *error = zero;
        }
        for p in 0..layer.positions() {
            let (exact, currents) = inputs.read(p, c, theta);
            let mut aim = zero; // td
            for (base, error) in bases.iter_mut().zip(errors.iter_mut()) {
                aim = aim.add(exact.desired);
                *error = error.sub(aim);
                *base = error.add(*error);
            }
            let starts = candidates(&exact);
            let (mut v, mut fired, mut cost) = (starts, [zero; CANDIDATES], [zero; CANDIDATES]);
            for (&current, &base) in currents.iter().zip(bases.iter()) {
                for k in 0..CANDIDATES {
                    let Step { fired: spike, after, .. } = if_step(v[k], current, theta);
                    v[k] = after;
                    fired[k] = fired[k].add(presim.or_else(spike, zero));
                    cost[k] = cost[k].add(fired[k].mul(fired[k].add(base)));
                }
            }
            let (mut best, mut least) = (starts[0], cost[0]);
            for k in 1..CANDIDATES {
                best = best.or_else(cost[k].ge(least), starts[k]);
                least = least.min(cost[k]);
            }
            let (mut v, mut fired) = (best, zero);
            for (&current, error) in currents.iter().zip(errors.iter_mut()) {
                let Step { fired: spike, after, .. } = if_step(v, current, theta);
                v = after;
                fired = fired.add(presim.or_else(spike, zero));
                *error = error.add(fired);
            }
            best.store(&mut out[p * layer.cols + c..]);
        }
    }
}

#[cfg(test)]
mod tests;
