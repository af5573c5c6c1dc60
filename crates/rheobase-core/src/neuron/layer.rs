//! A rule on a tile of a layer: the bridge from one neuron's pure function to packed spikes.
//! In: currents `[steps, positions, cols]`, thresholds and v(0) per channel. Out: spike bits, counts, offsets.

use super::{Cell, Mask, Rule, count, desired};
use rheobase_kernels::cpu::{Isa, Job, Vectors};
use rheobase_kernels::lanes::IntLane;

/// Some positions of one layer of one sample.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Steps of current there are: max(T, ρ).
    pub span: usize,
    /// How many positions.
    pub positions: usize,
    /// Channels, padded to a multiple of 16.
    pub cols: usize,
    /// Channels that exist; offsets of the others are not counted.
    pub channels: usize,
    /// `[span, positions, cols]`.
    pub currents: &'a [i32],
    /// θ, `[cols]`; the padding's must be out of reach of its currents.
    pub theta: &'a [i32],
    /// v(0), `[cols]`, or `[positions, cols]` where `per_neuron`.
    pub start: &'a [i32],
    /// Whether v(0) is stored per neuron.
    pub per_neuron: bool,
    /// Whether potentials need 64 bits.
    pub wide: bool,
}

/// What a rule makes of a tile.
pub struct TileOut<'a> {
    /// T: steps read out.
    pub steps: usize,
    /// `[steps, positions, words]`, channel c in bit c % 64 of word c / 64; zeroed by the rule. Step t begins at
    /// `t * stride`.
    pub bits: &'a mut [u64],
    /// Distance of two steps in `bits`.
    pub stride: usize,
    /// Spikes of each step, added to.
    pub spikes: &'a mut [u64],
    /// Offset spikes, counted where asked for.
    pub offsets: Option<&'a mut Offsets>,
}

/// ψ = fired - desired over the pre-simulated steps (all T steps for a rule that has none), as a histogram.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offsets {
    /// `before[P + ψ]` neurons had ψ from their stored v(0).
    pub before: Vec<u64>,
    /// The same from the v(0) that the rule chose.
    pub after: Vec<u64>,
}

impl Offsets {
    /// Room for ψ in -window..=window.
    pub fn new(window: usize) -> Self {
        Offsets { before: vec![0; 2 * window + 1], after: vec![0; 2 * window + 1] }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Offsets) {
        for (a, b) in [(&mut self.before, &other.before), (&mut self.after, &other.after)] {
            a.resize(a.len().max(b.len()), 0);
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
    }
}

/// A rule behind a pointer; every [`Rule`] is one.
pub trait NeuronRule: Send + Sync {
    /// ρ.
    fn presim(&self) -> usize;
    /// Runs it on a tile.
    fn run_tile(&self, isa: Isa, tile: &Tile<'_>, out: &mut TileOut<'_>);
}

impl<R: Rule> NeuronRule for R {
    fn presim(&self) -> usize {
        Rule::presim(self)
    }

    fn run_tile(&self, isa: Isa, tile: &Tile<'_>, out: &mut TileOut<'_>) {
        isa.run(RunTile { rule: self, tile, out });
    }
}

struct RunTile<'a, 'b, 'c, R> {
    rule: &'a R,
    tile: &'a Tile<'b>,
    out: &'a mut TileOut<'c>,
}

impl<R: Rule> Job for RunTile<'_, '_, '_, R> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        if self.tile.wide { run::<V::I64, R>(self) } else { run::<V::I32, R>(self) }
    }
}

#[inline(always)]
fn run<L: IntLane, R: Rule>(job: RunTile<'_, '_, '_, R>) {
    let RunTile { rule, tile, out } = job;
    let (cols, words) = (tile.cols, tile.channels.div_ceil(64));
    let never = L::mask(0);
    // The usual few steps stay on the stack.
    let mut few = ([L::load(&[0; 16]); 16], [never; 16]);
    let mut many = (Vec::new(), Vec::new());
    let (currents, spikes) = if tile.span <= few.0.len() && out.steps <= few.1.len() {
        (&mut few.0[..tile.span], &mut few.1[..out.steps])
    } else {
        many.0.resize(tile.span, L::load(&[0; 16]));
        many.1.resize(out.steps, never);
        (&mut many.0[..], &mut many.1[..])
    };
    for step in out.bits.chunks_mut(out.stride).take(out.steps) {
        step[..tile.positions * words].fill(0);
    }
    for p in 0..tile.positions {
        for c in (0..cols).step_by(L::LANES) {
            for (t, current) in currents.iter_mut().enumerate() {
                *current = L::load(&tile.currents[(t * tile.positions + p) * cols + c..]);
            }
            let start = if tile.per_neuron { p * cols + c } else { c };
            let cell =
                Cell { theta: L::load(&tile.theta[c..]), start: L::load(&tile.start[start..]), currents };
            let from = rule.run(&cell, spikes);
            if c < tile.channels {
                for (t, spike) in spikes.iter().enumerate() {
                    let bits = spike.bits();
                    out.bits[t * out.stride + p * words + c / 64] |= u64::from(bits) << (c % 64);
                    out.spikes[t] += u64::from(bits.count_ones());
                }
            }
            if let Some(offsets) = &mut out.offsets {
                let real = tile.channels.saturating_sub(c).min(L::LANES);
                note(&cell, from, spikes, rule.presim(), real, offsets);
            }
        }
    }
}

/// Counts the offsets of one block of neurons; only where asked for, so plainly.
fn note<L: IntLane>(
    cell: &Cell<'_, L>,
    from: L,
    spikes: &[L::Mask],
    presim: usize,
    real: usize,
    to: &mut Offsets,
) {
    let window = if presim == 0 { spikes.len() } else { presim };
    let wanted = desired(cell, window);
    let after = if window <= spikes.len() {
        let zero = wanted.zero();
        spikes[..window].iter().fold(zero, |n, &s| n.add(zero.one().or_else(s, zero)))
    } else {
        count(cell, from, window)
    };
    for (fired, histogram) in [(count(cell, cell.start, window), &mut to.before), (after, &mut to.after)] {
        let mut psi = [0i32; 16];
        fired.sub(wanted).store(&mut psi);
        for psi in &psi[..real] {
            histogram[(window as i32 + psi) as usize] += 1;
        }
    }
}
