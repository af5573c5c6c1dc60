//! A rule on a tile of a layer: the bridge from one neuron's pure function to packed spikes.
//! In: currents `[steps, positions, cols]`, thresholds and v(0) per channel. Out: spike bits, counts, offsets.

use super::{Cell, Lane, Mask, Qcfs, Rule, Run, Threshold, count, desired};
use rheobase_kernels::cpu::{Isa, Job, Vectors};
use rheobase_kernels::flat::{GROUP, spikes};
use rheobase_kernels::lanes::{Bits, Element, Grid, IntLane, ShortLane, SumLane};
use std::marker::PhantomData;
use std::ops::Range;

/// Thresholds and initial potentials, `[cols]`, for lanes of 16 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shorts {
    theta: Vec<i16>,
    half: Vec<i16>,
    thousandth: Vec<i16>,
    start: Vec<i16>,
    /// Of every 16 channels those whose θ is held; the others must be out of reach.
    held: Vec<u16>,
    /// The least θ of each that is not.
    least: Vec<i32>,
}

impl Shorts {
    /// `None` where a v(0) is not held.
    pub fn new(theta: &[i32], start: &[i32]) -> Option<Self> {
        let is_held = |theta: i32| theta <= SHORT;
        let fits = |(&theta, &start): (&i32, &i32)| {
            if is_held(theta) { (0..=SHORT).contains(&start) } else { start <= theta / 2 }
        };
        let group = |g: &[i32]| g.iter().enumerate().map(|(i, &t)| u16::from(is_held(t)) << i).sum();
        let least = |g: &[i32]| g.iter().copied().filter(|t| !is_held(*t)).min().unwrap_or(i32::MAX);
        let short = |numbers: &[i32]| numbers.iter().map(|&n| i16::try_from(n).unwrap_or(i16::MAX)).collect();
        (start.len() == theta.len() && theta.iter().zip(start).all(fits)).then(|| {
            let thresholds: Vec<i16> = short(theta);
            Shorts {
                half: thresholds.iter().map(|t| t.half()).collect(),
                thousandth: thresholds.iter().map(|t| t.thousandth()).collect(),
                theta: thresholds,
                start: short(start),
                held: theta.chunks(GROUP).map(group).collect(),
                least: theta.chunks(GROUP).map(least).collect(),
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

    /// Whether those of so many channels that are not held never fire within so many steps.
    fn suit(&self, channels: Range<usize>, span: usize) -> bool {
        let groups = channels.start / GROUP..channels.end.div_ceil(GROUP).min(self.least.len());
        self.least[groups].iter().all(|&least| is_silent(least, 0, span))
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
    /// Whether potentials may need 64 bits.
    pub wide: bool,
    /// No current, θ or v(0) is further from 0.
    pub most: i64,
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
    /// How far its numbers may be from 0 in a run of so many steps, in largest currents or thresholds.
    fn reach(&self, span: usize) -> usize;
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

    fn reach(&self, span: usize) -> usize {
        Rule::reach(self, span)
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
        let (wide, presim, steps) = (self.block.wide, self.rule.presim(), self.block.span);
        let ways = Ways { steps, presim, all: wide || self.out.offsets.is_some() };
        match self.block.currents {
            Currents::Int(x) if wide => self.many::<V, V::I64, i32>(x),
            Currents::Short(x) if wide => self.many::<V, V::I64, i16>(x),
            Currents::Int(x) => ways.choose::<V::I32, R, _>(OfLanes::<V, _, _>(self, x, PhantomData)),
            Currents::Short(x) => ways.choose::<V::I32, R, _>(OfLanes::<V, _, _>(self, x, PhantomData)),
        }
    }
}

/// Some neurons, their currents and the instruction set whose lanes they are run in.
struct OfLanes<'a, V, J, E>(J, &'a [E], PhantomData<V>);

impl<V: Vectors, R: Rule, E: Element> Stepped for OfLanes<'_, V, RunAcross<'_, '_, '_, R>, E> {
    #[inline(always)]
    fn few<const N: usize, const P: usize>(self) {
        self.0.few::<V, V::I32, E, N, P>(self.1);
    }
    #[inline(always)]
    fn some(self) {
        self.0.some::<V, V::I32, E>(self.1);
    }
    #[inline(always)]
    fn many(self) {
        self.0.many::<V, V::I32, E>(self.1);
    }
}

/// Neurons that can be run in several ways.
trait Stepped {
    /// N steps in registers, P of them pre-simulated: with their number known, loops unroll.
    fn few<const N: usize, const P: usize>(self);
    /// Any number of steps, some at a time.
    fn some(self);
    /// Any number of steps, all at hand, for rules of another kind, to count offsets and for lanes that are seldom needed.
    fn many(self);
}

/// What there is to choose by.
struct Ways {
    steps: usize,
    presim: usize,
    /// Whether all steps are wanted at hand.
    all: bool,
}

impl Ways {
    /// The usual few steps in registers. What a rule or one lane never asks for is not compiled.
    #[inline(always)]
    fn choose<L: IntLane, R: Rule, J: Stepped>(&self, job: J) {
        if const { !R::PLACES } {
            return job.many();
        }
        if self.all {
            return job.many();
        }
        if const { L::LANES == 1 } {
            return job.some();
        }
        if const { !R::CALIBRATES } {
            return if self.steps == 4 { job.few::<4, 0>() } else { job.some() };
        }
        match (self.steps, self.presim) {
            (4, 4) => job.few::<4, 4>(),
            (8, 4) => job.few::<8, 4>(),
            _ => job.some(),
        }
    }
}

impl<R: Rule> RunAcross<'_, '_, '_, R> {
    /// N steps, P of them pre-simulated.
    #[inline(always)]
    fn few<V: Vectors, L: IntLane, E: Element, const N: usize, const P: usize>(self, numbers: &[E]) {
        // as for a tile
        let rule = self.rule.clone();
        assert!(rule.presim() == P);
        let neurons = Whole {
            currents: &mut [E::potentials::<L>(&[E::default(); 16]); N],
            spikes: &mut [L::mask(0); N],
            shorts: &mut [V::I16::splat(0); N],
            fired: &mut [V::I16::splat(0).any_silence(); N],
        };
        let numbers_of = &mut [E::Halves::<V>::splat(0); N];
        self.run::<L, V::I16, E::Halves<V>, E, _, false>(&rule, numbers, neurons, &mut [0; N], numbers_of);
    }

    /// Any number of steps, some at a time.
    #[inline(always)]
    fn some<V: Vectors, L: IntLane, E: Element>(self, numbers: &[E]) {
        let (rule, span, presim) = (self.rule, self.block.span, self.rule.presim());
        let mut rooms = (
            Room::<_, FIRST>::new(E::potentials::<L>(&[E::default(); 16])),
            Room::<_, FIRST>::new(V::I16::splat(0)),
        );
        let mut part = Room::<_, ALL>::new(0);
        let neurons = Early { currents: rooms.0.of(presim), shorts: rooms.1.of(presim), part: part.of(span) };
        let (mut masks, mut numbers_of) =
            (Room::<_, ALL>::new(0), Room::<_, ALL>::new(E::Halves::<V>::splat(0)));
        let (masks, numbers_of) = (masks.of(span), numbers_of.of(span));
        self.run::<L, V::I16, E::Halves<V>, E, _, false>(rule, numbers, neurons, masks, numbers_of);
    }

    /// As [`Stepped::many`].
    #[inline(always)]
    fn many<V: Vectors, L: IntLane, E: Element>(self, numbers: &[E]) {
        let (rule, span) = (self.rule, self.block.span);
        let mut rooms =
            (Room::<_, ALL>::new(E::potentials::<L>(&[E::default(); 16])), Room::<_, ALL>::new(L::mask(0)));
        let (currents, spikes) = (rooms.0.of(span), rooms.1.of(span));
        let neurons = Whole::<L, V::I16> { currents, spikes, shorts: &mut [], fired: &mut [] };
        let (mut masks, mut numbers_of) =
            (Room::<_, ALL>::new(0), Room::<_, ALL>::new(E::Halves::<V>::splat(0)));
        let (masks, numbers_of) = (masks.of(span), numbers_of.of(span));
        self.run::<L, V::I16, E::Halves<V>, E, _, true>(rule, numbers, neurons, masks, numbers_of);
    }

    /// `masks` has room for each step's spikes of a channel, `numbers_of` of a group of channels.
    #[inline(always)]
    fn run<
        L: IntLane,
        S: ShortLane,
        H: SumLane<Element = i16>,
        E: Element,
        N: Neurons<L, S>,
        const NOTE: bool,
    >(
        self,
        rule: &R,
        numbers: &[E],
        mut neurons: N,
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
            let real_lanes = S::mask(mask);
            for g in 0..groups {
                for numbers_of in numbers_of.iter_mut() {
                    *numbers_of = H::splat(0);
                }
                for c in g * GROUP..channels.min((g + 1) * GROUP) {
                    let (at, mut is_done) = ((c * vectors + v) * row, false);
                    if const { !NOTE && E::IS_SHORT }
                        && let Some((shorts, held)) = shorts
                    {
                        if !held.holds(c) {
                            if is_silent(block.theta[c], block.start[c], span) {
                                continue;
                            }
                        } else if lost <= 4 || 3 * lost <= tried {
                            tried += 1;
                            let (threshold, start) = held.splat(c);
                            let numbers = ShortSteps(&shorts[at..at + row]);
                            let seen = neurons.short(rule, threshold, start, &numbers, masks);
                            is_done = S::held(seen, real_lanes);
                            lost += usize::from(!is_done);
                        }
                    }
                    if !is_done {
                        masks.fill(0);
                        for first in (0..lanes).step_by(L::LANES) {
                            let numbers = Steps { numbers: &numbers[at..at + row], lanes, first };
                            let offsets = if NOTE { out.offsets.as_deref_mut() } else { None };
                            let offsets = offsets.map(|to| (to, real.saturating_sub(first).min(L::LANES)));
                            let (theta, start) = (L::splat(block.theta[c]), L::splat(block.start[c]));
                            neurons.wide(rule, theta, start, &numbers, first, masks, offsets);
                        }
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

/// Runs some neurons through all their steps.
trait Neurons<L: IntLane, S: ShortLane> {
    /// In lanes of 16 bits; what was seen. The spikes of each step are the bits of its mask.
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &impl Numbers<S>,
        masks: &mut [u32],
    ) -> S::Seen;

    /// In lanes that hold all numbers; spikes are added to the masks, from bit `first` on. Counts the offsets of so many neurons.
    #[allow(clippy::too_many_arguments)] // a neuron, its numbers and where things go
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Numbers<L>,
        first: usize,
        masks: &mut [u32],
        offsets: Option<(&mut Offsets, usize)>,
    );
}

/// Room for the currents of all steps and their spikes, in wide lanes and perhaps in those of 16 bits.
struct Whole<'a, L: Lane, S: Lane> {
    currents: &'a mut [L],
    spikes: &'a mut [L::Mask],
    shorts: &'a mut [S],
    fired: &'a mut [S::Mask],
}

impl<L: IntLane, S: ShortLane> Neurons<L, S> for Whole<'_, L, S> {
    #[inline(always)]
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &impl Numbers<S>,
        masks: &mut [u32],
    ) -> S::Seen {
        for (t, current) in self.shorts.iter_mut().enumerate() {
            *current = numbers.at(t);
        }
        let cell = Cell::with(threshold, start, self.shorts);
        rule.run(&cell, self.fired);
        S::Mask::all_bits(self.fired, masks);
        cell.seen()
    }

    #[inline(always)]
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Numbers<L>,
        first: usize,
        masks: &mut [u32],
        offsets: Option<(&mut Offsets, usize)>,
    ) {
        for (t, current) in self.currents.iter_mut().enumerate() {
            *current = numbers.at(t);
        }
        let cell = Cell::new(theta, start, self.currents);
        let from = rule.run(&cell, self.spikes);
        for (mask, spike) in masks.iter_mut().zip(self.spikes.iter()) {
            *mask |= spike.bits() << first;
        }
        if let Some((offsets, real)) = offsets {
            note(&cell, from, self.spikes, rule.presim(), real, offsets);
        }
    }
}

/// Room for the currents of the pre-simulated steps: those after them go through registers a few at a time.
struct Early<'a, L, S> {
    currents: &'a mut [L],
    shorts: &'a mut [S],
    /// Spikes of some lanes at every step.
    part: &'a mut [u32],
}

impl<L: IntLane, S: ShortLane> Neurons<L, S> for Early<'_, L, S> {
    #[inline(always)]
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &impl Numbers<S>,
        masks: &mut [u32],
    ) -> S::Seen {
        simulate(rule, threshold, start, numbers, self.shorts, masks)
    }

    #[inline(always)]
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Numbers<L>,
        first: usize,
        masks: &mut [u32],
        _: Option<(&mut Offsets, usize)>,
    ) {
        simulate(rule, Threshold::new(theta), start, numbers, self.currents, self.part);
        for (mask, part) in masks.iter_mut().zip(self.part.iter()) {
            *mask |= part << first;
        }
    }
}

/// Places v(0) by the `early` currents and runs all steps, whose spikes become their masks; what was seen.
#[inline(always)]
fn simulate<L: Lane, R: Rule>(
    rule: &R,
    threshold: Threshold<L>,
    start: L,
    numbers: &impl Numbers<L>,
    early: &mut [L],
    masks: &mut [u32],
) -> L::Seen {
    for (t, current) in early.iter_mut().enumerate() {
        *current = numbers.at(t);
    }
    let cell = Cell::with(threshold, start, early);
    let mut run = Run::new(&cell, rule.place(&cell));
    let (some, left) = masks.as_chunks_mut();
    for (i, masks) in some.iter_mut().enumerate() {
        steps_of::<L, CHUNK>(&mut run, numbers, i * CHUNK, masks);
    }
    for (i, mask) in left.iter_mut().enumerate() {
        steps_of::<L, 1>(&mut run, numbers, some.len() * CHUNK + i, std::array::from_mut(mask));
    }
    cell.seen()
}

/// Steps that go through registers together.
const CHUNK: usize = 4;

/// The spikes of N steps from `t` on.
#[inline(always)]
fn steps_of<L: Lane, const N: usize>(
    run: &mut Run<'_, '_, L>,
    numbers: &impl Numbers<L>,
    t: usize,
    masks: &mut [u32; N],
) {
    let first = numbers.at(t);
    let (mut currents, mut fired) = ([first; N], [first.ge(first); N]);
    for (i, current) in currents.iter_mut().enumerate() {
        *current = numbers.at(t + i);
    }
    run.fire(&currents, &mut fired);
    L::Mask::all_bits(&fired, masks);
}

/// Where the currents of some neurons are read.
trait Numbers<L> {
    /// Those of step `t`.
    fn at(&self, t: usize) -> L;
}

/// `[steps, lanes]`, from one lane on.
struct Steps<'a, E> {
    numbers: &'a [E],
    lanes: usize,
    first: usize,
}

impl<L: IntLane, E: Element> Numbers<L> for Steps<'_, E> {
    #[inline(always)]
    fn at(&self, t: usize) -> L {
        E::potentials(&self.numbers[t * self.lanes + self.first..][..L::LANES])
    }
}

/// `[steps, lanes]`, lanes of 16 bits.
struct ShortSteps<'a>(&'a [i16]);

impl<S: ShortLane> Numbers<S> for ShortSteps<'_> {
    #[inline(always)]
    fn at(&self, t: usize) -> S {
        S::load(&self.0[t * S::LANES..])
    }
}

/// Channels `c ..` of position `p` of a row.
struct Place<'a, E> {
    row: &'a Grid<'a, E>,
    p: usize,
    c: usize,
}

impl<L: IntLane, E: Element> Numbers<L> for Place<'_, E> {
    #[inline(always)]
    fn at(&self, t: usize) -> L {
        self.row.load(t, self.p, self.c)
    }
}

/// The same in lanes of 16 bits.
struct ShortPlace<'a>(Place<'a, i16>);

impl<S: ShortLane> Numbers<S> for ShortPlace<'_> {
    #[inline(always)]
    fn at(&self, t: usize) -> S {
        self.0.row.short(t, self.0.p, self.0.c)
    }
}

/// Room for something of every step; the usual few, N, need no memory of their own.
struct Room<T, const N: usize> {
    stack: [T; N],
    heap: Vec<T>,
}

/// All steps.
const ALL: usize = 64;
/// Steps that are pre-simulated.
const FIRST: usize = 8;

impl<T: Copy, const N: usize> Room<T, N> {
    #[inline(always)]
    fn new(x: T) -> Self {
        Room { stack: [x; N], heap: Vec::new() }
    }

    /// For so many steps.
    #[inline(always)]
    fn of(&mut self, steps: usize) -> &mut [T] {
        if steps <= N {
            return &mut self.stack[..steps];
        }
        self.heap.resize(steps, self.stack[0]);
        &mut self.heap
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
        let (wide, presim, steps) = (self.tile.wide, self.rule.presim(), self.out.steps);
        let ways = Ways { steps, presim, all: wide || self.out.offsets.is_some() };
        let is_mixed = const { R::PLACES } && wide && self.out.offsets.is_none();
        match self.tile.currents {
            Currents::Int(x) if is_mixed => mixed::<V::I32, V::I64, R, i32>(self, x),
            Currents::Short(x) if is_mixed => mixed::<V::I32, V::I64, R, i16>(self, x),
            Currents::Int(x) if wide => many::<V::I16, V::I64, R, i32>(self, x),
            Currents::Short(x) if wide => many::<V::I16, V::I64, R, i16>(self, x),
            Currents::Int(x) => ways.choose::<V::I32, R, _>(OfLanes::<V, _, _>(self, x, PhantomData)),
            Currents::Short(x) => ways.choose::<V::I32, R, _>(OfLanes::<V, _, _>(self, x, PhantomData)),
        }
    }
}

/// Any number of steps, in lanes of 32 bits where the currents of so many neurons are small enough for them, in wider ones elsewhere.
#[inline(always)]
fn mixed<L: IntLane, W: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, numbers: &[E]) {
    let RunTile { rule, tile, out } = job;
    let (presim, steps) = (rule.presim(), out.steps);
    let mut rooms = (
        Room::<_, FIRST>::new(E::potentials::<L>(&[E::default(); 16])),
        Room::<_, FIRST>::new(E::potentials::<W>(&[E::default(); 16])),
        Room::<_, ALL>::new(0),
        Room::<_, ALL>::new(0),
    );
    let (narrow, wide) = (rooms.0.of(presim), rooms.1.of(presim));
    let (masks, part) = (rooms.2.of(steps), rooms.3.of(steps));
    let row = Grid::new(numbers, tile.span, tile.positions, tile.cols, tile.steady);
    let mut bits = Bits::new(out.bits, steps, out.stride, tile.positions, tile.channels.div_ceil(64));
    // Numbers of ρ steps stay within `reach` of the largest current, θ or v(0), and every further step adds no more than its
    // current. All of it is counted in 2^`shift`, rounded up.
    let (reach, span) = (rule.reach(presim) as i64, tile.span as i64);
    let all = (reach + span + 2).saturating_mul(tile.most);
    let shift = (64 - all.leading_zeros()).saturating_sub(30);
    let most = i64::from(i32::MAX >> shift) - 1 - span - reach;
    let (reach, most) = (L::splat(reach as i32), L::splat(Ord::max(most, 0) as i32));
    for c in (0..tile.channels).step_by(L::LANES) {
        for p in 0..tile.positions {
            let from = c + if tile.per_neuron { p * tile.cols } else { 0 };
            let (theta, start) = (L::load(&tile.theta[c..]), L::load(&tile.start[from..]));
            let zero = theta.zero();
            let far = |x: L| {
                let mut x = x.max(zero.sub(x));
                for _ in 0..shift {
                    x = x.half();
                }
                x
            };
            let (mut sum, mut largest) = (zero, far(theta.max(start.max(zero.sub(start)))));
            for t in 0..tile.span {
                let current = far(row.load::<L>(t, p, c));
                (sum, largest) = (sum.add(current), largest.max(current));
            }
            let fits = most.ge(sum.add(largest.mul(reach)));
            if fits.bits() == L::mask(u32::MAX).bits() {
                simulate(rule, Threshold::new(theta), start, &Place { row: &row, p, c }, narrow, masks);
            } else {
                masks.fill(0);
                for first in (0..L::LANES).step_by(W::LANES) {
                    let (theta, start) =
                        (W::load(&tile.theta[c + first..]), W::load(&tile.start[from + first..]));
                    let place = Place { row: &row, p, c: c + first };
                    simulate(rule, Threshold::new(theta), start, &place, wide, part);
                    for (mask, part) in masks.iter_mut().zip(part.iter()) {
                        *mask |= part << first;
                    }
                }
            }
            for (t, &fired) in masks.iter().enumerate() {
                if c.is_multiple_of(64) {
                    bits.set::<true>(t, p, c, fired);
                } else {
                    bits.set::<false>(t, p, c, fired);
                }
            }
        }
    }
    for (t, count) in out.spikes.iter_mut().enumerate().take(steps) {
        *count += bits.count(t);
    }
}

impl<V: Vectors, R: Rule, E: Element> Stepped for OfLanes<'_, V, RunTile<'_, '_, '_, R>, E> {
    #[inline(always)]
    fn few<const N: usize, const P: usize>(self) {
        few::<V::I16, V::I32, R, E, N, P>(self.0, self.1);
    }
    #[inline(always)]
    fn some(self) {
        some::<V::I16, V::I32, R, E>(self.0, self.1);
    }
    #[inline(always)]
    fn many(self) {
        many::<V::I16, V::I32, R, E>(self.0, self.1);
    }
}

/// N steps, P of them pre-simulated.
#[inline(always)]
fn few<S: ShortLane, L: IntLane, R: Rule, E: Element, const N: usize, const P: usize>(
    job: RunTile<'_, '_, '_, R>,
    numbers: &[E],
) {
    // A rule of one's own, which nothing else can change, so that what is asserted of it stays known.
    let rule = job.rule.clone();
    assert!(rule.presim() == P && job.out.steps == N);
    let neurons = Whole {
        currents: &mut [E::potentials::<L>(&[E::default(); 16]); N],
        spikes: &mut [L::mask(0); N],
        shorts: &mut [S::splat(0); N],
        fired: &mut [S::splat(0).any_silence(); N],
    };
    run_tile::<S, L, R, E, _>(&rule, job, numbers, neurons, &mut [0; N]);
}

/// Any number of steps, some at a time.
#[inline(always)]
fn some<S: ShortLane, L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, numbers: &[E]) {
    let presim = job.rule.presim();
    let mut rooms =
        (Room::<_, FIRST>::new(E::potentials::<L>(&[E::default(); 16])), Room::<_, FIRST>::new(S::splat(0)));
    let (rule, steps, mut part) = (job.rule, job.out.steps, Room::<_, ALL>::new(0));
    let neurons = Early { currents: rooms.0.of(presim), shorts: rooms.1.of(presim), part: part.of(steps) };
    run_tile::<S, L, R, E, _>(rule, job, numbers, neurons, Room::<_, ALL>::new(0).of(steps));
}

/// In lanes of 16 bits where they may do.
#[inline(always)]
fn run_tile<S: ShortLane, L: IntLane, R: Rule, E: Element, N: Neurons<L, S>>(
    rule: &R,
    job: RunTile<'_, '_, '_, R>,
    numbers: &[E],
    neurons: N,
    masks: &mut [u32],
) {
    let RunTile { tile, out, .. } = job;
    let is_tried = rule.is_watched() && !tile.steady;
    let held = tile.shorts.filter(|_| is_tried);
    // what only currents of 16 bits ask for is compiled for no others
    if const { E::IS_SHORT }
        && let Some((shorts, held)) = E::shorts(numbers).zip(held)
    {
        short::<S, L, R, E, N>(rule, tile, out, held, shorts, numbers, neurons, masks);
    } else {
        run::<L, S, R, E, _, false>(rule, tile, out, numbers, neurons, masks);
    }
}

/// In lanes of 16 bits, and again in wider ones where those did not hold. Where a position has half as many channels as
/// there are lanes, they hold two positions.
#[allow(clippy::too_many_arguments)] // a tile, its numbers twice, and where things go
#[inline(always)]
fn short<S: ShortLane, L: IntLane, R: Rule, E: Element, N: Neurons<L, S>>(
    rule: &R,
    tile: &Tile<'_>,
    out: &mut TileOut<'_>,
    held: &Shorts,
    shorts: &[i16],
    numbers: &[E],
    mut neurons: N,
    masks: &mut [u32],
) {
    let (cols, words) = (tile.cols, tile.channels.div_ceil(64));
    let row = Grid::new(numbers, tile.span, tile.positions, cols, false);
    // as many steps as are read, which those who know them leave unchecked
    let short_row = Grid::new(shorts, masks.len().max(rule.presim()), tile.positions, cols, false);
    let mut bits = Bits::new(out.bits, masks.len(), out.stride, tile.positions, words);
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
        let (threshold, start) = (Threshold::new(S::load(&theta)), S::load(&start));
        let (alive_lanes, is_first) = (S::mask(alive), c.is_multiple_of(64));
        // where all lanes are neurons, and where currents are large, 16 bits are not tried for long
        let whole = pace == 2 || cols - c >= S::LANES;
        let until = if whole && held.suit(c..c + S::LANES, tile.span) {
            (tile.positions + 1).saturating_sub(pace)
        } else {
            0
        };
        let (mut p, mut lost, mut tried_from) = (0, 0, 0);
        while p < tile.positions {
            if p < until && p >= tried_from {
                let place = ShortPlace(Place { row: &short_row, p, c });
                let seen = neurons.short(rule, threshold, start, &place, masks);
                if S::held(seen, alive_lanes) {
                    for (t, &fired) in masks.iter().enumerate() {
                        let fired = fired & alive;
                        if pace == 2 {
                            bits.set::<true>(t, p, c, fired & 0xffff);
                            bits.set::<true>(t, p + 1, c, fired >> 16);
                        } else if is_first {
                            bits.set::<true>(t, p, c, fired);
                        } else {
                            bits.set::<false>(t, p, c, fired);
                        }
                    }
                    p += pace;
                    continue;
                }
                lost += pace;
                tried_from = if lost > 8 { 4 * lost } else { 0 };
            }
            for p in p..(p + pace).min(tile.positions) {
                for c in (c..(c + S::LANES).min(tile.channels)).step_by(L::LANES) {
                    let (theta, start) = (L::load(&tile.theta[c..]), L::load(&tile.start[c..]));
                    masks.fill(0);
                    neurons.wide(rule, theta, start, &Place { row: &row, p, c }, 0, masks, None);
                    for (t, &fired) in masks.iter().enumerate() {
                        if c.is_multiple_of(64) {
                            bits.set::<true>(t, p, c, fired);
                        } else {
                            bits.set::<false>(t, p, c, fired);
                        }
                    }
                }
            }
            p += pace;
        }
    }
    for (t, count) in out.spikes.iter_mut().enumerate().take(masks.len()) {
        *count += bits.count(t);
    }
}

/// Whether a neuron with currents of 16 bits never fires, whatever they are, from its v(0) or a shifted one.
#[inline(always)]
fn is_silent(theta: i32, start: i32, span: usize) -> bool {
    // in 64 bits: a run may have many steps
    i64::from(theta / 2) > i64::from(SHORT) * span as i64 && start <= theta / 2
}

/// As [`Stepped::many`].
#[inline(always)]
fn many<S: ShortLane, L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, numbers: &[E]) {
    let (span, steps) = (job.tile.span, job.out.steps);
    let mut rooms =
        (Room::<_, ALL>::new(E::potentials::<L>(&[E::default(); 16])), Room::<_, ALL>::new(L::mask(0)));
    let (currents, spikes) = (rooms.0.of(span), rooms.1.of(steps));
    let neurons = Whole::<L, S> { currents, spikes, shorts: &mut [], fired: &mut [] };
    run::<L, S, R, E, _, true>(
        job.rule,
        job.tile,
        job.out,
        numbers,
        neurons,
        Room::<_, ALL>::new(0).of(steps),
    );
}

/// Channels outside, positions inside: what belongs to a channel is loaded once; NOTE where offsets may be counted.
#[inline(always)]
fn run<L: IntLane, S: ShortLane, R: Rule, E: Element, N: Neurons<L, S>, const NOTE: bool>(
    rule: &R,
    tile: &Tile<'_>,
    out: &mut TileOut<'_>,
    numbers: &[E],
    mut neurons: N,
    masks: &mut [u32],
) {
    let (cols, words) = (tile.cols, tile.channels.div_ceil(64));
    let row = Grid::new(numbers, tile.span, tile.positions, cols, tile.steady);
    let mut bits = Bits::new(out.bits, masks.len(), out.stride, tile.positions, words);
    for c in (0..tile.channels).step_by(L::LANES) {
        let offsets = if NOTE { out.offsets.as_deref_mut() } else { None };
        if c.is_multiple_of(64) {
            channels::<L, S, R, E, N, true>(rule, tile, &row, c, &mut neurons, masks, &mut bits, offsets);
        } else {
            channels::<L, S, R, E, N, false>(rule, tile, &row, c, &mut neurons, masks, &mut bits, offsets);
        }
    }
    for (t, count) in out.spikes.iter_mut().enumerate().take(masks.len()) {
        *count += bits.count(t);
    }
}

/// Channels `c ..` of all positions; FIRST where they are the first of their word.
#[allow(clippy::too_many_arguments)] // a tile, some of its channels, and where things go
#[inline(always)]
fn channels<L: IntLane, S: ShortLane, R: Rule, E: Element, N: Neurons<L, S>, const FIRST: bool>(
    rule: &R,
    tile: &Tile<'_>,
    row: &Grid<'_, E>,
    c: usize,
    neurons: &mut N,
    masks: &mut [u32],
    bits: &mut Bits<'_>,
    mut offsets: Option<&mut Offsets>,
) {
    let theta = L::load(&tile.theta[c..]);
    let mut start = L::load(&tile.start[c..]);
    for p in 0..tile.positions {
        if tile.per_neuron {
            start = L::load(&tile.start[p * tile.cols + c..]);
        }
        let offsets = offsets.as_deref_mut().map(|to| (to, (tile.channels - c).min(L::LANES)));
        masks.fill(0);
        neurons.wide(rule, theta, start, &Place { row, p, c }, 0, masks, offsets);
        for (t, &fired) in masks.iter().enumerate() {
            bits.set::<FIRST>(t, p, c, fired);
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
