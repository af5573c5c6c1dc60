//! A rule on a tile of a layer: the bridge from one neuron's pure function to packed spikes.
//! In: currents `[steps, positions, cols]`, thresholds and v(0) per channel. Out: spike bits, counts, offsets.

use super::{Cell, Lane, Mask, Qcfs, Rule, Threshold, count, desired};
use rheobase_kernels::cpu::{Isa, Job, Vectors};
use rheobase_kernels::flat::{GROUP, spikes};
use rheobase_kernels::lanes::{Bits, Element, Grid, IntLane, ShortLane, SumLane};

/// Thresholds and initial potentials, `[cols]`, for lanes of 16 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shorts {
    theta: Vec<i16>,
    half: Vec<i16>,
    thousandth: Vec<i16>,
    start: Vec<i16>,
    /// Of every 16 channels those whose θ is held; the others must be out of reach.
    held: Vec<u16>,
    /// The least θ that is not.
    least: i32,
}

impl Shorts {
    /// `None` where a v(0) is not held.
    pub fn new(theta: &[i32], start: &[i32]) -> Option<Self> {
        let is_held = |theta: i32| theta <= SHORT;
        let fits = |(&theta, &start): (&i32, &i32)| {
            if is_held(theta) { (0..=SHORT).contains(&start) } else { start <= theta / 2 }
        };
        let group = |g: &[i32]| g.iter().enumerate().map(|(i, &t)| u16::from(is_held(t)) << i).sum();
        let short = |numbers: &[i32]| numbers.iter().map(|&n| i16::try_from(n).unwrap_or(i16::MAX)).collect();
        (start.len() == theta.len() && theta.iter().zip(start).all(fits)).then(|| {
            let thresholds: Vec<i16> = short(theta);
            Shorts {
                half: thresholds.iter().map(|t| t.half()).collect(),
                thousandth: thresholds.iter().map(|t| t.thousandth()).collect(),
                theta: thresholds,
                start: short(start),
                held: theta.chunks(GROUP).map(group).collect(),
                least: theta.iter().copied().filter(|t| !is_held(*t)).min().unwrap_or(i32::MAX),
            }
        })
    }

    /// Whether a channel is held.
    #[inline(always)]
    fn holds(&self, channel: usize) -> bool {
        self.held[channel / GROUP] >> (channel % GROUP) & 1 == 1
    }

    /// A channel's numbers in every lane.
    #[inline(always)]
    fn splat<S: ShortLane>(&self, channel: usize) -> (Threshold<S>, S) {
        // one by one: a closure would not be compiled for the instruction set
        let (theta, start) = (S::splat(self.theta[channel]), S::splat(self.start[channel]));
        let (half, thousandth) = (S::splat(self.half[channel]), S::splat(self.thousandth[channel]));
        (Threshold { theta, half, thousandth }, start)
    }

    /// Whether what is not held never fires within so many steps.
    fn suit(&self, span: usize) -> bool {
        is_silent(self.least, 0, span)
    }
}

/// Currents of one row of a layer.
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
    /// `[span, positions, cols]`, or `[positions, cols]` where `steady`.
    pub currents: Currents<'a>,
    /// Whether every step has the same current.
    pub steady: bool,
    /// θ, `[cols]`; the padding's must be out of reach of its currents.
    pub theta: &'a [i32],
    /// v(0), `[cols]`, or `[positions, cols]` where `per_neuron`.
    pub start: &'a [i32],
    /// Whether v(0) is stored per neuron.
    pub per_neuron: bool,
    /// θ and v(0) once more, if lanes of 16 bits hold them.
    pub shorts: Option<&'a Shorts>,
    /// Whether potentials need 64 bits.
    pub wide: bool,
}

impl Tile<'_> {
    /// Whether every neuron starts from θ/2.
    fn is_at_half(&self) -> bool {
        let starts = self.start.chunks_exact(self.cols);
        let mut neurons = starts.flat_map(|start| start.iter().zip(self.theta).take(self.channels));
        neurons.all(|(&start, &theta)| start == theta / 2)
    }
}

/// Some positions of one layer of one sample, side by side in lanes.
#[derive(Debug, Clone, Copy)]
pub struct Across<'a> {
    /// Steps of current there are: max(T, ρ).
    pub span: usize,
    /// Positions of a vector: 32 or fewer.
    pub lanes: usize,
    /// How many positions; the last vector may have more lanes.
    pub positions: usize,
    /// `[channels, vectors, span, lanes]`.
    pub currents: Currents<'a>,
    /// θ of every channel.
    pub theta: &'a [i32],
    /// v(0) of every channel.
    pub start: &'a [i32],
    /// θ and v(0) once more, if lanes of 16 bits hold them.
    pub shorts: Option<&'a Shorts>,
    /// Whether potentials need 64 bits.
    pub wide: bool,
}

/// What a rule makes of them.
pub struct AcrossOut<'a> {
    /// `[vectors, groups, span, 32]`, channel c of a position in bit c % 16 of the number of group c / 16; beyond the last position 0.
    pub numbers: &'a mut [u16],
    /// Spikes of each step, added to.
    pub spikes: &'a mut [u64],
    /// Offset spikes, counted where asked for.
    pub offsets: Option<&'a mut Offsets>,
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
    /// Runs it on positions side by side, all steps.
    fn run_across(&self, isa: Isa, block: &Across<'_>, out: &mut AcrossOut<'_>);
}

impl<R: Rule> NeuronRule for R {
    fn presim(&self) -> usize {
        Rule::presim(self)
    }

    fn is_exact(&self) -> bool {
        Rule::is_exact(self)
    }

    fn run_tile(&self, isa: Isa, tile: &Tile<'_>, out: &mut TileOut<'_>) {
        let steady = tile.steady && Rule::leaves_steady(self) && out.offsets.is_none();
        if steady && tile.is_at_half() {
            isa.run(RunTile { rule: &Qcfs, tile: &Tile { span: out.steps, ..*tile }, out });
        } else {
            isa.run(RunTile { rule: self, tile, out });
        }
    }

    fn run_across(&self, isa: Isa, block: &Across<'_>, out: &mut AcrossOut<'_>) {
        isa.run(RunAcross { rule: self, block, out });
    }
}

struct RunAcross<'a, 'b, 'c, R> {
    rule: &'a R,
    block: &'a Across<'b>,
    out: &'a mut AcrossOut<'c>,
}

impl<R: Rule> Job for RunAcross<'_, '_, '_, R> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        match (self.block.currents, self.block.wide) {
            (Currents::Int(x), false) => self.steps::<V, V::I32, i32>(x),
            (Currents::Short(x), false) => self.steps::<V, V::I32, i16>(x),
            (Currents::Int(x), true) => self.many::<V, V::I64, i32, true>(x),
            (Currents::Short(x), true) => self.many::<V, V::I64, i16, true>(x),
        }
    }
}

impl<R: Rule> RunAcross<'_, '_, '_, R> {
    /// As `steps` of a tile.
    #[inline(always)]
    fn steps<V: Vectors, L: IntLane, E: Element>(self, currents: &[E]) {
        match (self.out.offsets.is_some(), self.block.span, self.rule.presim()) {
            (false, 4, 0) => self.few::<V, L, E, 4, 0>(currents),
            (false, 4, 4) => self.few::<V, L, E, 4, 4>(currents),
            (false, 8, 4) => self.few::<V, L, E, 8, 4>(currents),
            (false, ..) => self.many::<V, L, E, false>(currents),
            (true, ..) => self.many::<V, L, E, true>(currents),
        }
    }

    /// N steps, P of them pre-simulated.
    #[inline(always)]
    fn few<V: Vectors, L: IntLane, E: Element, const N: usize, const P: usize>(self, numbers: &[E]) {
        // as for a tile
        let rule = self.rule.clone();
        assert!(rule.presim() == P);
        let vector = Vector {
            currents: &mut [E::potentials::<L>(&[E::default(); 16]); N],
            spikes: &mut [L::mask(0); N],
            shorts: &mut [V::I16::splat(0); N],
            fired: &mut [V::I16::splat(0).any_silence(); N],
        };
        let numbers_of = &mut [E::Halves::<V>::splat(0); N];
        self.run::<L, V::I16, E::Halves<V>, E, false>(&rule, numbers, vector, &mut [0; N], numbers_of);
    }

    /// Any number of steps; NOTE where offsets are counted.
    #[inline(always)]
    fn many<V: Vectors, L: IntLane, E: Element, const NOTE: bool>(self, numbers: &[E]) {
        let (rule, span) = (self.rule, self.block.span);
        let (current, number) = (E::potentials::<L>(&[E::default(); 16]), E::Halves::<V>::splat(0));
        let (short, fired) = (V::I16::splat(0), V::I16::splat(0).any_silence());
        if span <= STACK {
            let vector = Vector {
                currents: &mut [current; STACK][..span],
                spikes: &mut [L::mask(0); STACK][..span],
                shorts: &mut [short; STACK][..span],
                fired: &mut [fired; STACK][..span],
            };
            let (masks, numbers_of) = (&mut [0; STACK][..span], &mut [number; STACK][..span]);
            self.run::<L, V::I16, E::Halves<V>, E, NOTE>(rule, numbers, vector, masks, numbers_of);
        } else {
            let vector = Vector {
                currents: &mut vec![current; span],
                spikes: &mut vec![L::mask(0); span],
                shorts: &mut vec![short; span],
                fired: &mut vec![fired; span],
            };
            let (masks, numbers_of) = (&mut vec![0; span], &mut vec![number; span]);
            self.run::<L, V::I16, E::Halves<V>, E, NOTE>(rule, numbers, vector, masks, numbers_of);
        }
    }

    /// `masks` has room for each step's spikes of a channel, `numbers_of` of a group of channels.
    #[inline(always)]
    fn run<L: IntLane, S: ShortLane, H: SumLane<Element = i16>, E: Element, const NOTE: bool>(
        self,
        rule: &R,
        numbers: &[E],
        mut vector: Vector<'_, L, S>,
        masks: &mut [u32],
        numbers_of: &mut [H],
    ) {
        let RunAcross { block, out, .. } = self;
        let (span, lanes, channels) = (masks.len(), block.lanes, block.theta.len());
        let (vectors, groups) = (block.positions.div_ceil(lanes), channels.div_ceil(GROUP));
        let row = span * lanes;
        assert!(lanes <= H::LANES && H::LANES <= 32 && lanes.is_multiple_of(L::LANES), "whole vectors");
        assert!(numbers.len() >= channels * vectors * row, "currents of every neuron");
        // 16 bits nearly always hold a few steps; where they do not, they are not tried for long
        let shorts = if NOTE || !rule.is_watched() { None } else { E::shorts(numbers).zip(block.shorts) };
        let (mut tried, mut lost) = (0, 0);
        for v in 0..vectors {
            let real = (block.positions - v * lanes).min(lanes);
            let mask = u32::MAX >> (32 - real);
            for g in 0..groups {
                for numbers_of in numbers_of.iter_mut() {
                    *numbers_of = H::splat(0);
                }
                for c in g * GROUP..channels.min((g + 1) * GROUP) {
                    let (at, mut is_done) = ((c * vectors + v) * row, false);
                    if let Some((shorts, held)) = shorts {
                        if !held.holds(c) {
                            if is_silent(block.theta[c], block.start[c], span) {
                                continue;
                            }
                        } else if lost <= 4 || 3 * lost <= tried {
                            tried += 1;
                            let (threshold, start) = held.splat(c);
                            let left = vector.short(rule, threshold, start, &shorts[at..at + row], masks);
                            is_done = left & mask == 0;
                            lost += usize::from(!is_done);
                        }
                    }
                    if !is_done {
                        let (theta, start) = (block.theta[c], block.start[c]);
                        let offsets = if NOTE { out.offsets.as_deref_mut() } else { None };
                        vector.wide(rule, theta, start, &numbers[at..at + row], real, masks, offsets);
                    }
                    let bit = H::splat((1u16 << (c % GROUP)) as i16);
                    for (numbers_of, mask) in numbers_of.iter_mut().zip(masks.iter()) {
                        *numbers_of = numbers_of.plus(bit.keep(*mask));
                    }
                }
                let to = out.numbers[(v * groups + g) * span * 32..].chunks_exact_mut(32);
                for ((numbers_of, to), count) in numbers_of.iter().zip(to).zip(out.spikes.iter_mut()) {
                    numbers_of.keep(mask).store_bits(to);
                    *count += spikes(&to[..lanes], u16::MAX);
                }
            }
        }
    }
}

/// Room for the numbers of one channel at the positions of a vector, every step.
struct Vector<'a, L: Lane, S: Lane> {
    currents: &'a mut [L],
    spikes: &'a mut [L::Mask],
    shorts: &'a mut [S],
    fired: &'a mut [S::Mask],
}

impl<L: IntLane, S: ShortLane> Vector<'_, L, S> {
    /// In lanes of 16 bits; which of them did not hold all numbers.
    #[inline(always)]
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &[i16],
        to: &mut [u32],
    ) -> u32 {
        for (t, current) in self.shorts.iter_mut().enumerate() {
            *current = S::load(&numbers[t * S::LANES..]);
        }
        let cell = Cell::with(threshold, start, self.shorts);
        rule.run(&cell, self.fired);
        for (to, fired) in to.iter_mut().zip(self.fired.iter()) {
            *to = fired.bits();
        }
        S::left(cell.seen())
    }

    /// In lanes that hold all numbers; counts the offsets of so many neurons.
    #[allow(clippy::too_many_arguments)] // a neuron, its numbers and where things go
    #[inline(always)]
    fn wide<R: Rule, E: Element>(
        &mut self,
        rule: &R,
        theta: i32,
        start: i32,
        numbers: &[E],
        real: usize,
        to: &mut [u32],
        mut offsets: Option<&mut Offsets>,
    ) {
        let lanes = numbers.len() / to.len();
        for to in to.iter_mut() {
            *to = 0;
        }
        for i in (0..lanes).step_by(L::LANES) {
            for (t, current) in self.currents.iter_mut().enumerate() {
                *current = E::potentials(&numbers[t * lanes + i..][..L::LANES]);
            }
            let cell = Cell::new(L::splat(theta), L::splat(start), self.currents);
            let from = rule.run(&cell, self.spikes);
            for (to, spike) in to.iter_mut().zip(self.spikes.iter()) {
                *to |= spike.bits() << i;
            }
            if let Some(offsets) = &mut offsets {
                note(&cell, from, self.spikes, rule.presim(), real.saturating_sub(i).min(L::LANES), offsets);
            }
        }
    }
}

/// The largest θ and v(0) of lanes of 16 bits.
const SHORT: i32 = i16::MAX as i32;

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
            (Currents::Int(x), false) => steps::<V, V::I32, R, i32>(self, x),
            (Currents::Short(x), false) => steps::<V, V::I32, R, i16>(self, x),
            (Currents::Int(x), true) => many::<V::I64, R, i32>(self, x),
            (Currents::Short(x), true) => many::<V::I64, R, i16>(self, x),
        }
    }
}

/// The usual few steps in registers: with their number known, a rule's loops unroll.
#[inline(always)]
fn steps<V: Vectors, L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, currents: &[E]) {
    if job.out.steps != job.tile.span || job.out.offsets.is_some() {
        return many::<L, R, E>(job, currents);
    }
    match (job.tile.span, job.rule.presim()) {
        (4, 0) => few::<V, L, R, E, 4, 0>(job, currents),
        (4, 4) => few::<V, L, R, E, 4, 4>(job, currents),
        (8, 4) => few::<V, L, R, E, 8, 4>(job, currents),
        _ => many::<L, R, E>(job, currents),
    }
}

/// N steps, P of them pre-simulated.
#[inline(always)]
fn few<V: Vectors, L: IntLane, R: Rule, E: Element, const N: usize, const P: usize>(
    job: RunTile<'_, '_, '_, R>,
    currents: &[E],
) {
    // A rule of one's own, which nothing else can change, so that what is asserted of it stays known.
    let rule = job.rule.clone();
    assert!(rule.presim() == P && job.out.steps == N);
    let zero = E::potentials::<L>(&[E::default(); 16]);
    let (mut lanes, mut spikes) = ([zero; N], [L::mask(0); N]);
    let held = job.tile.shorts.filter(|shorts| rule.is_watched() && !job.tile.steady && shorts.suit(N));
    match E::shorts(currents).zip(held) {
        Some((shorts, held)) => {
            short::<V::I16, L, R, E, N>(
                &rule,
                job.tile,
                job.out,
                held,
                shorts,
                currents,
                &mut lanes,
                &mut spikes,
            );
        }
        None => run::<L, R, E, false>(&rule, job.tile, job.out, currents, &mut lanes, &mut spikes),
    }
}

/// The same in lanes of 16 bits, and again in wider ones where those did not hold. Where a position has half as many channels as
/// there are lanes, they hold two positions.
#[allow(clippy::too_many_arguments)] // a tile, its numbers twice, and where things go
#[inline(always)]
fn short<S: ShortLane, L: IntLane, R: Rule, E: Element, const N: usize>(
    rule: &R,
    tile: &Tile<'_>,
    out: &mut TileOut<'_>,
    held: &Shorts,
    shorts: &[i16],
    numbers: &[E],
    lanes: &mut [L],
    spikes: &mut [L::Mask],
) {
    let (cols, words) = (tile.cols, tile.channels.div_ceil(64));
    let row = Row { numbers: Grid::new(numbers, N, tile.positions, cols, false), rule, tile };
    let grid = Grid::new(shorts, N, tile.positions, cols, false);
    let mut bits = Bits::new(out.bits, N, out.stride, tile.positions, words);
    let pace = if 2 * cols == S::LANES { 2 } else { 1 };
    for c in (0..tile.channels).step_by(S::LANES) {
        let (mut theta, mut start, mut alive) = ([0; 32], [0; 32], 0);
        for i in 0..S::LANES / GROUP.min(S::LANES) {
            // from the first channel on again for a second position
            let n = GROUP.min(S::LANES);
            let from = (c + i * n) % cols;
            theta[i * n..][..n].copy_from_slice(&held.theta[from..][..n]);
            start[i * n..][..n].copy_from_slice(&held.start[from..][..n]);
            alive |= u32::from(held.held[from / GROUP] >> (from % GROUP)) << (i * n);
        }
        let (theta, start) = (S::load(&theta), S::load(&start));
        let whole = pace == 2 || cols - c >= S::LANES;
        let (mut p, mut lost) = (0, 0);
        while p < tile.positions {
            // where currents are large, 16 bits are not tried for long
            if whole && p + pace <= tile.positions && (lost <= 8 || 4 * lost <= p) {
                let mut currents = [S::splat(0); N];
                for (t, current) in currents.iter_mut().enumerate() {
                    *current = grid.short(t, p, c);
                }
                let cell = Cell::new(theta, start, &currents);
                let mut fired = [currents[0].any_silence(); N];
                rule.run(&cell, &mut fired);
                if S::left(cell.seen()).bits() & alive == 0 {
                    for (t, fired) in fired.iter().enumerate() {
                        let fired = fired.bits() & alive;
                        if pace == 2 {
                            bits.set::<true>(t, p, c, fired & 0xffff);
                            bits.set::<true>(t, p + 1, c, fired >> 16);
                        } else if c.is_multiple_of(64) {
                            bits.set::<true>(t, p, c, fired);
                        } else {
                            bits.set::<false>(t, p, c, fired);
                        }
                    }
                    p += pace;
                    continue;
                }
                lost += pace;
            }
            for p in p..(p + pace).min(tile.positions) {
                for c in (c..(c + S::LANES).min(tile.channels)).step_by(L::LANES) {
                    row.position::<L>(c, p, lanes, spikes, &mut bits);
                }
            }
            p += pace;
        }
    }
    for (t, count) in out.spikes.iter_mut().enumerate().take(N) {
        *count += bits.count(t);
    }
}

/// Whether a neuron with currents of 16 bits never fires, whatever they are, from its v(0) or a shifted one.
#[inline(always)]
fn is_silent(theta: i32, start: i32, span: usize) -> bool {
    // in 64 bits: a run may have many steps
    i64::from(theta / 2) > i64::from(SHORT) * span as i64 && start <= theta / 2
}

/// Any number of steps.
#[inline(always)]
fn many<L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, currents: &[E]) {
    let (span, steps) = (job.tile.span, job.out.steps);
    let zero = E::potentials::<L>(&[E::default(); 16]);
    if span <= STACK && steps <= STACK {
        let (lanes, spikes) = (&mut [zero; STACK][..span], &mut [L::mask(0); STACK][..steps]);
        run::<L, R, E, true>(job.rule, job.tile, job.out, currents, lanes, spikes);
    } else {
        let (lanes, spikes) = (&mut vec![zero; span], &mut vec![L::mask(0); steps]);
        run::<L, R, E, true>(job.rule, job.tile, job.out, currents, lanes, spikes);
    }
}

/// As many steps need no memory of their own.
const STACK: usize = 64;

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
    let row =
        Row { numbers: Grid::new(numbers, currents.len(), tile.positions, cols, tile.steady), rule, tile };
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
    /// Channels `c ..` of one position.
    #[inline(always)]
    fn position<L: IntLane>(
        &self,
        c: usize,
        p: usize,
        currents: &mut [L],
        spikes: &mut [L::Mask],
        bits: &mut Bits<'_>,
    ) {
        for (t, current) in currents.iter_mut().enumerate() {
            *current = self.numbers.load(t, p, c);
        }
        let cell = Cell::new(L::load(&self.tile.theta[c..]), L::load(&self.tile.start[c..]), currents);
        self.rule.run(&cell, spikes);
        for (t, spike) in spikes.iter().enumerate() {
            if c.is_multiple_of(64) {
                bits.set::<true>(t, p, c, spike.bits());
            } else {
                bits.set::<false>(t, p, c, spike.bits());
            }
        }
    }

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
            let cell = Cell::new(theta, start, currents);
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
