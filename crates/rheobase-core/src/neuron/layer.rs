//! A rule on a tile of a layer: the bridge from one neuron's pure function to packed spikes.
//! In: currents `[steps, positions, cols]`, thresholds and v(0) per channel. Out: spike bits, counts, offsets.

use super::{Cell, Mask, Rule, count, desired};
use rheobase_kernels::cpu::{Isa, Job, Vectors};
use rheobase_kernels::lanes::{Bits, Element, Grid, IntLane};

/// Currents of one row of a layer, `[span, positions, cols]`.
#[derive(Debug, Clone, Copy)]
pub enum Currents<'a> {
    /// Of 32 bits.
    Int(&'a [i32]),
    /// Of 16 bits.
    Short(&'a [i16]),
}

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
    pub currents: Currents<'a>,
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
    /// `[steps, positions, words]`, channel c in bit c % 64 of word c / 64; every word is written. Step t begins at
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
    /// Whether every neuron fires its desired count.
    fn is_exact(&self) -> bool;
    /// Runs it on a tile.
    fn run_tile(&self, isa: Isa, tile: &Tile<'_>, out: &mut TileOut<'_>);
}

impl<R: Rule> NeuronRule for R {
    fn presim(&self) -> usize {
        Rule::presim(self)
    }

    fn is_exact(&self) -> bool {
        Rule::is_exact(self)
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
        match (self.tile.currents, self.tile.wide) {
            (Currents::Int(x), false) => steps::<V::I32, R, i32>(self, x),
            (Currents::Short(x), false) => steps::<V::I32, R, i16>(self, x),
            (Currents::Int(x), true) => many::<V::I64, R, i32>(self, x),
            (Currents::Short(x), true) => many::<V::I64, R, i16>(self, x),
        }
    }
}

/// The usual few steps in registers: with their number known, a rule's loops unroll.
#[inline(always)]
fn steps<L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, currents: &[E]) {
    if job.out.steps != job.tile.span || job.out.offsets.is_some() {
        return many::<L, R, E>(job, currents);
    }
    match (job.tile.span, job.rule.presim()) {
        (4, 0) => few::<L, R, E, 4, 0>(job, currents),
        (4, 4) => few::<L, R, E, 4, 4>(job, currents),
        (8, 4) => few::<L, R, E, 8, 4>(job, currents),
        _ => many::<L, R, E>(job, currents),
    }
}

/// N steps, P of them pre-simulated.
#[inline(always)]
fn few<L: IntLane, R: Rule, E: Element, const N: usize, const P: usize>(
    job: RunTile<'_, '_, '_, R>,
    currents: &[E],
) {
    // A rule of one's own, which nothing else can change, so that what is asserted of it stays known.
    let rule = job.rule.clone();
    assert!(rule.presim() == P && job.out.steps == N);
    let zero = E::potentials::<L>(&[E::default(); 16]);
    let (mut lanes, mut spikes) = ([zero; N], [L::mask(0); N]);
    run::<L, R, E, false>(&rule, job.tile, job.out, currents, &mut lanes, &mut spikes);
}

/// Any number of steps.
#[inline(always)]
fn many<L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, currents: &[E]) {
    let (span, steps) = (job.tile.span, job.out.steps);
    let zero = E::potentials::<L>(&[E::default(); 16]);
    let mut stack = ([zero; 16], [L::mask(0); 16]);
    if span <= 16 && steps <= 16 {
        let (lanes, spikes) = &mut stack;
        let (lanes, spikes) = (&mut lanes[..span], &mut spikes[..steps]);
        run::<L, R, E, true>(job.rule, job.tile, job.out, currents, lanes, spikes);
    } else {
        let (mut lanes, mut spikes) = (vec![zero; span], vec![L::mask(0); steps]);
        run::<L, R, E, true>(job.rule, job.tile, job.out, currents, &mut lanes, &mut spikes);
    }
}

/// Channels outside, positions inside: what belongs to a channel is loaded once. Counting offsets looks at spikes and currents
/// in memory; without it (`NOTE` false) they stay in registers.
#[inline(always)]
fn run<L: IntLane, R: Rule, E: Element, const NOTE: bool>(
    rule: &R,
    tile: &Tile<'_>,
    out: &mut TileOut<'_>,
    numbers: &[E],
    currents: &mut [L],
    spikes: &mut [L::Mask],
) {
    let (cols, words) = (tile.cols, tile.channels.div_ceil(64));
    let row = Row { numbers: Grid::new(numbers, currents.len(), tile.positions, cols), rule, tile };
    let mut bits = Bits::new(out.bits, spikes.len(), out.stride, tile.positions, words);
    for c in (0..tile.channels).step_by(L::LANES) {
        let offsets = out.offsets.as_deref_mut();
        if c.is_multiple_of(64) {
            row.channels::<L, NOTE, true>(c, currents, spikes, &mut bits, offsets);
        } else {
            row.channels::<L, NOTE, false>(c, currents, spikes, &mut bits, offsets);
        }
    }
    for (t, count) in out.spikes.iter_mut().enumerate().take(spikes.len()) {
        *count += bits.count(t);
    }
}

/// A row of a layer under a rule.
struct Row<'a, E, R> {
    numbers: Grid<'a, E>,
    rule: &'a R,
    tile: &'a Tile<'a>,
}

impl<E: Element, R: Rule> Row<'_, E, R> {
    /// Channels `c ..` of all positions; FIRST where they are the first of their word.
    #[inline(always)]
    fn channels<L: IntLane, const NOTE: bool, const FIRST: bool>(
        &self,
        c: usize,
        currents: &mut [L],
        spikes: &mut [L::Mask],
        bits: &mut Bits<'_>,
        mut offsets: Option<&mut Offsets>,
    ) {
        let tile = self.tile;
        let theta = L::load(&tile.theta[c..]);
        let mut start = L::load(&tile.start[c..]);
        for p in 0..tile.positions {
            for (t, current) in currents.iter_mut().enumerate() {
                *current = self.numbers.load(t, p, c);
            }
            if tile.per_neuron {
                start = L::load(&tile.start[p * tile.cols + c..]);
            }
            let cell = Cell { theta, start, currents };
            let from = self.rule.run(&cell, spikes);
            for (t, spike) in spikes.iter().enumerate() {
                bits.set::<FIRST>(t, p, c, spike.bits());
            }
            if NOTE && let Some(offsets) = &mut offsets {
                let real = (tile.channels - c).min(L::LANES);
                note(&cell, from, spikes, self.rule.presim(), real, offsets);
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
