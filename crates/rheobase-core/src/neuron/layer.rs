//! A rule on a tile of a layer: the bridge from one neuron's pure function to packed spikes.
//! In: currents `[steps, positions, cols]`, thresholds and v(0) per channel. Out: spike bits, counts, offsets.

use super::{Cell, Lane, Mask, Qcfs, Rule, Run, Threshold, count, desired};
use rheobase_kernels::cpu::{Isa, Job, Vectors};
use rheobase_kernels::flat::GROUP;
use rheobase_kernels::lanes::{Bits, Element, Grid, IntLane, ShortLane, Twice};
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

    /// The numbers of two channels, each in every lane of a register.
    #[inline(always)]
    fn both<S: ShortLane>(&self, [a, b]: [usize; 2]) -> (Threshold<Twice<S>>, Twice<S>) {
        // one by one: a closure would not be compiled for the instruction set
        let theta = Twice(S::splat(self.theta[a]), S::splat(self.theta[b]));
        let half = Twice(S::splat(self.half[a]), S::splat(self.half[b]));
        let thousandth = Twice(S::splat(self.thousandth[a]), S::splat(self.thousandth[b]));
        let start = Twice(S::splat(self.start[a]), S::splat(self.start[b]));
        (Threshold { theta, half, thousandth }, start)
    }

    /// Whether those of so many channels that are not held never fire within so many steps.
    fn suit(&self, channels: Range<usize>, span: usize) -> bool {
        let groups = channels.start / GROUP..channels.end.div_ceil(GROUP).min(self.least.len());
        self.least[groups].iter().all(|&least| is_silent(least, 0, SHORT.into(), span))
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

    /// Counts so many neurons that fire as often as desired, never.
    pub fn add_silent(&mut self, many: usize) {
        for counts in [&mut self.before, &mut self.after] {
            let middle = counts.len() / 2;
            counts[middle] += many as u64;
        }
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
    /// Whether neurons stay silent that can never reach θ.
    fn keeps_silent(&self) -> bool;
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

    fn keeps_silent(&self) -> bool {
        Rule::keeps_silent(self)
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
        let (zero, none) = (V::I16::splat(0), V::I16::mask(0));
        let neurons = Whole {
            currents: &mut [E::potentials::<L>(&[E::default(); 16]); N],
            spikes: &mut [L::mask(0); N],
            shorts: &mut [Twice(zero, zero); N],
            fired: &mut [Twice(none, none); N],
        };
        self.run::<L, V::I16, E, _, false>(&rule, numbers, neurons, &mut [0; N], &mut [zero; N]);
    }

    /// Any number of steps, some at a time.
    #[inline(always)]
    fn some<V: Vectors, L: IntLane, E: Element>(self, numbers: &[E]) {
        let (rule, span, presim) = (self.rule, self.block.span, self.rule.presim());
        let zero = V::I16::splat(0);
        let mut rooms = (
            Room::<_, FIRST>::new(E::potentials::<L>(&[E::default(); 16])),
            Room::<_, FIRST>::new(Twice(zero, zero)),
        );
        let mut part = Room::<_, ALL>::new(0);
        let neurons = Early { currents: rooms.0.of(presim), shorts: rooms.1.of(presim), part: part.of(span) };
        let (mut masks, mut marks) = (Room::<_, ALL>::new(0), Room::<_, ALL>::new(zero));
        self.run::<L, V::I16, E, _, false>(rule, numbers, neurons, masks.of(span), marks.of(span));
    }

    /// As [`Stepped::many`].
    #[inline(always)]
    fn many<V: Vectors, L: IntLane, E: Element>(self, numbers: &[E]) {
        let (rule, span) = (self.rule, self.block.span);
        let mut rooms =
            (Room::<_, ALL>::new(E::potentials::<L>(&[E::default(); 16])), Room::<_, ALL>::new(L::mask(0)));
        let (currents, spikes) = (rooms.0.of(span), rooms.1.of(span));
        let neurons = Whole::<L, Twice<V::I16>> { currents, spikes, shorts: &mut [], fired: &mut [] };
        let (mut masks, mut marks) = (Room::<_, ALL>::new(0), Room::<_, ALL>::new(V::I16::splat(0)));
        self.run::<L, V::I16, E, _, true>(rule, numbers, neurons, masks.of(span), marks.of(span));
    }

    /// `masks` has room for each step's spikes of a channel, `marks` for those of a group of channels.
    #[inline(always)]
    fn run<L: IntLane, S: ShortLane, E: Element, N: InWide<L> + InShort<Twice<S>>, const NOTE: bool>(
        self,
        rule: &R,
        numbers: &[E],
        mut neurons: N,
        masks: &mut [u64],
        marks: &mut [S],
    ) {
        let RunAcross { block, out, .. } = self;
        let (span, lanes, channels) = (masks.len(), block.lanes, block.theta.len());
        let (vectors, groups) = (block.positions.div_ceil(lanes), channels.div_ceil(GROUP));
        let (row, zero) = (span * lanes, S::splat(0));
        assert!(lanes <= S::LANES && S::LANES <= 32 && lanes.is_multiple_of(L::LANES), "whole vectors");
        assert!(numbers.len() >= channels * vectors * row, "currents of every neuron");
        // 16 bits nearly always hold a few steps; where they do not, they are not tried for long
        let shorts = if NOTE || !rule.is_watched() { None } else { E::shorts(numbers).zip(block.shorts) };
        let (mut tried, mut lost) = (0, 0);
        for v in 0..vectors {
            let real = (block.positions - v * lanes).min(lanes);
            let real_lanes = S::mask(u32::MAX >> (32 - real));
            for g in 0..groups {
                marks.fill(zero);
                let of_group = g * GROUP;
                let of_channel = |i: usize| {
                    let at = ((of_group + i) * vectors + v) * row;
                    at..at + row
                };
                // channels that are left
                let mut left = u32::from(u16::MAX) >> (GROUP - (channels - of_group).min(GROUP));
                if const { !NOTE && E::IS_SHORT }
                    && let Some((shorts, held)) = shorts
                {
                    let mut short = left & u32::from(held.held[g]);
                    if lost > 4 && 3 * lost > tried {
                        short = 0;
                    }
                    while short != 0 {
                        let a = take_bit(&mut short);
                        // the last one may be alone
                        let b = if short != 0 { take_bit(&mut short) } else { a };
                        // two at once: what one waits for, the other uses
                        let (threshold, start) = held.both([of_group + a, of_group + b]);
                        let numbers =
                            [ShortSteps(&shorts[of_channel(a)]), ShortSteps(&shorts[of_channel(b)])];
                        let seen = neurons.short(rule, threshold, start, &numbers);
                        let is_held = [S::held(seen.0, real_lanes), S::held(seen.1, real_lanes)];
                        tried += 2;
                        if is_held == [true; 2] {
                            left &= !(1 << a | 1 << b);
                            let bits = (S::splat((1u16 << a) as i16), S::splat((1u16 << b) as i16));
                            for (t, marks) in marks.iter_mut().enumerate() {
                                let fired = neurons.fired(t);
                                *marks = marks.mark(fired.0, bits.0).mark(fired.1, bits.1);
                            }
                        } else {
                            lost += usize::from(!is_held[0]) + usize::from(!is_held[1]);
                        }
                    }
                }
                while left != 0 {
                    let i = take_bit(&mut left);
                    let (theta, start) = (block.theta[of_group + i], block.start[of_group + i]);
                    if const { !NOTE && E::IS_SHORT }
                        && shorts.is_some_and(|(_, held)| !held.holds(of_group + i))
                        && is_silent(theta, start, SHORT.into(), span)
                    {
                        continue;
                    }
                    masks.fill(0);
                    for first in (0..lanes).step_by(L::LANES) {
                        let numbers = &numbers[of_channel(i)];
                        let numbers = Steps { numbers, lanes, first, theta, start };
                        let offsets = if NOTE { out.offsets.as_deref_mut() } else { None };
                        let offsets = offsets.map(|to| (to, real.saturating_sub(first).min(L::LANES)));
                        let (theta, start) = (L::splat(theta), L::splat(start));
                        neurons.wide(rule, theta, start, &numbers, first, masks, offsets);
                    }
                    let bit = S::splat((1u16 << i) as i16);
                    for (marks, &fired) in marks.iter_mut().zip(masks.iter()) {
                        *marks = marks.mark(S::mask(fired as u32), bit);
                    }
                }
                let to = out.numbers[(v * groups + g) * span * 32..].chunks_exact_mut(32);
                for (marks, to) in marks.iter().zip(to) {
                    marks.or_else(real_lanes, zero).store_bits(to);
                }
            }
        }
    }
}

/// The place of the lowest bit, which is taken away.
#[inline(always)]
fn take_bit(bits: &mut u32) -> usize {
    let place = bits.trailing_zeros();
    *bits &= *bits - 1;
    place as usize
}

/// Runs neurons through all their steps in lanes of 16 bits.
trait InShort<S: Lane> {
    /// What was seen.
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &impl Numbers<S>,
    ) -> S::Seen;

    /// The spikes of a step then.
    fn fired(&self, step: usize) -> S::Mask;

    /// Those of all steps as bits, for which there is room in `masks`.
    fn bits<'a>(&'a self, masks: &'a mut [u64]) -> &'a [u64];
}

/// Runs neurons through all their steps in lanes that hold all numbers.
trait InWide<L: IntLane> {
    /// Spikes are added to the masks, all 0 at first, from bit `first` on. Counts the offsets of so many neurons.
    #[allow(clippy::too_many_arguments)] // a neuron, its numbers and where things go
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Ints,
        first: usize,
        masks: &mut [u64],
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

impl<L: Lane, S: Lane> InShort<S> for Whole<'_, L, S> {
    #[inline(always)]
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &impl Numbers<S>,
    ) -> S::Seen {
        for (t, current) in self.shorts.iter_mut().enumerate() {
            *current = numbers.at(t);
        }
        let cell = Cell::with(threshold, start, self.shorts);
        rule.run(&cell, self.fired);
        cell.seen()
    }

    #[inline(always)]
    fn fired(&self, step: usize) -> S::Mask {
        self.fired[step]
    }

    #[inline(always)]
    fn bits<'b>(&'b self, masks: &'b mut [u64]) -> &'b [u64] {
        for (mask, fired) in masks.iter_mut().zip(self.fired.iter()) {
            *mask = fired.bits();
        }
        masks
    }
}

impl<L: IntLane, S: Lane> InWide<L> for Whole<'_, L, S> {
    #[inline(always)]
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Ints,
        first: usize,
        masks: &mut [u64],
        offsets: Option<(&mut Offsets, usize)>,
    ) {
        for (t, current) in self.currents.iter_mut().enumerate() {
            *current = numbers.at(t, 0);
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
    part: &'a mut [u64],
}

impl<L, S: Lane> InShort<S> for Early<'_, L, S> {
    #[inline(always)]
    fn short<R: Rule>(
        &mut self,
        rule: &R,
        threshold: Threshold<S>,
        start: S,
        numbers: &impl Numbers<S>,
    ) -> S::Seen {
        simulate(rule, threshold, start, numbers, self.shorts, self.part)
    }

    #[inline(always)]
    fn fired(&self, step: usize) -> S::Mask {
        S::Mask::from_bits(self.part[step])
    }

    #[inline(always)]
    fn bits<'b>(&'b self, _: &'b mut [u64]) -> &'b [u64] {
        self.part
    }
}

impl<L: IntLane, S> InWide<L> for Early<'_, L, S> {
    #[inline(always)]
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Ints,
        first: usize,
        masks: &mut [u64],
        _: Option<(&mut Offsets, usize)>,
    ) {
        let (threshold, numbers) = (Threshold::new(theta), From(numbers, 0));
        if first == 0 {
            simulate(rule, threshold, start, &numbers, self.currents, masks);
            return;
        }
        simulate(rule, threshold, start, &numbers, self.currents, self.part);
        for (mask, part) in masks.iter_mut().zip(self.part.iter()) {
            *mask |= part << first;
        }
    }
}

/// The same in lanes of 32 bits where the currents of so many neurons are small enough for them, in wider ones elsewhere.
struct Mixed<'a, L, W> {
    narrow: &'a mut [L],
    wide: &'a mut [W],
    part: &'a mut [u64],
    span: usize,
    /// Numbers are compared in 2^`shift`, rounded up.
    shift: u32,
    /// How many times the largest of the neuron's numbers come on top of the sum of its currents.
    reach: L,
    /// What both may be together.
    most: L,
}

impl<'a, L: IntLane, W> Mixed<'a, L, W> {
    /// For a rule that is asked for `span` steps of currents, none of which, nor θ or v(0), is further from 0 than `most`.
    ///
    /// Numbers of ρ steps stay within `reach` of the largest current, θ or v(0), and every further step adds no more than its current.
    #[inline(always)]
    fn new<R: Rule>(
        rule: &R,
        span: usize,
        most: i64,
        (narrow, wide, part): (&'a mut [L], &'a mut [W], &'a mut [u64]),
    ) -> Self {
        let reach = rule.reach(rule.presim()) as i64;
        let all = (reach + span as i64 + 2).saturating_mul(most);
        let shift = (64 - all.leading_zeros()).saturating_sub(30);
        let most = i64::from(i32::MAX >> shift) - 1 - span as i64 - reach;
        let (reach, most) = (L::splat(reach as i32), L::splat(Ord::max(most, 0) as i32));
        Mixed { narrow, wide, part, span, shift, reach, most }
    }

    /// How far a number is from 0.
    #[inline(always)]
    fn far(&self, x: L) -> L {
        let mut x = x.max(x.zero().sub(x));
        for _ in 0..self.shift {
            x = x.half();
        }
        x
    }
}

impl<L: IntLane, W: IntLane> InWide<L> for Mixed<'_, L, W> {
    #[inline(always)]
    fn wide<R: Rule>(
        &mut self,
        rule: &R,
        theta: L,
        start: L,
        numbers: &impl Ints,
        first: usize,
        masks: &mut [u64],
        _: Option<(&mut Offsets, usize)>,
    ) {
        assert!(first == 0, "vectors of a row");
        let zero = theta.zero();
        let (mut sum, mut largest) = (zero, self.far(theta.max(start.max(zero.sub(start)))));
        for t in 0..self.span {
            let current = self.far(numbers.at(t, 0));
            (sum, largest) = (sum.add(current), largest.max(current));
        }
        let fits = self.most.ge(sum.add(largest.mul(self.reach)));
        if fits.bits() == L::mask(u32::MAX).bits() {
            simulate(rule, Threshold::new(theta), start, &From(numbers, 0), self.narrow, masks);
            return;
        }
        for lane in (0..L::LANES).step_by(W::LANES) {
            let (theta, start) = numbers.neurons::<W>(lane);
            simulate(rule, Threshold::new(theta), start, &From(numbers, lane), self.wide, self.part);
            for (mask, part) in masks.iter_mut().zip(self.part.iter()) {
                *mask |= part << lane;
            }
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
    masks: &mut [u64],
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
    masks: &mut [u64; N],
) {
    let first = numbers.at(t);
    let (mut currents, mut fired) = ([first; N], [first.ge(first); N]);
    for (i, current) in currents.iter_mut().enumerate() {
        *current = numbers.at(t + i);
    }
    run.fire(&currents, &mut fired);
    for (mask, fired) in masks.iter_mut().zip(fired) {
        *mask = fired.bits();
    }
}

/// Where the currents of some neurons are read.
trait Numbers<L> {
    /// Those of step `t`.
    fn at(&self, t: usize) -> L;
}

impl<S, N: Numbers<S>> Numbers<Twice<S>> for [N; 2] {
    #[inline(always)]
    fn at(&self, t: usize) -> Twice<S> {
        Twice(self[0].at(t), self[1].at(t))
    }
}

/// The same in any wide lanes, from lane `first` of the usual ones on.
trait Ints {
    /// Those of step `t`.
    fn at<L: IntLane>(&self, t: usize, first: usize) -> L;
    /// θ and v(0).
    fn neurons<L: IntLane>(&self, first: usize) -> (L, L);
}

/// From some lane on.
struct From<'a, I>(&'a I, usize);

impl<L: IntLane, I: Ints> Numbers<L> for From<'_, I> {
    #[inline(always)]
    fn at(&self, t: usize) -> L {
        self.0.at(t, self.1)
    }
}

/// `[steps, lanes]`, from one lane on, of neurons that share θ and v(0).
struct Steps<'a, E> {
    numbers: &'a [E],
    lanes: usize,
    first: usize,
    theta: i32,
    start: i32,
}

impl<E: Element> Ints for Steps<'_, E> {
    #[inline(always)]
    fn at<L: IntLane>(&self, t: usize, first: usize) -> L {
        E::potentials(&self.numbers[t * self.lanes + self.first + first..][..L::LANES])
    }
    #[inline(always)]
    fn neurons<L: IntLane>(&self, _: usize) -> (L, L) {
        (L::splat(self.theta), L::splat(self.start))
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
    tile: &'a Tile<'a>,
    p: usize,
    c: usize,
}

impl<E: Element> Ints for Place<'_, E> {
    #[inline(always)]
    fn at<L: IntLane>(&self, t: usize, first: usize) -> L {
        self.row.load(t, self.p, self.c + first)
    }
    #[inline(always)]
    fn neurons<L: IntLane>(&self, first: usize) -> (L, L) {
        let (tile, c) = (self.tile, self.c + first);
        let start = c + if tile.per_neuron { self.p * tile.cols } else { 0 };
        (L::load(&tile.theta[c..]), L::load(&tile.start[start..]))
    }
}

/// The same in lanes of 16 bits.
struct ShortPlace<'a> {
    row: &'a Grid<'a, i16>,
    p: usize,
    c: usize,
}

impl<S: ShortLane> Numbers<S> for ShortPlace<'_> {
    #[inline(always)]
    fn at(&self, t: usize) -> S {
        self.row.short(t, self.p, self.c)
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

/// Any number of steps, in lanes of 32 bits where they do.
#[inline(always)]
fn mixed<L: IntLane, W: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, numbers: &[E]) {
    let RunTile { rule, tile, out } = job;
    let (presim, steps) = (rule.presim(), out.steps);
    let mut rooms = (
        Room::<_, FIRST>::new(E::potentials::<L>(&[E::default(); 16])),
        Room::<_, FIRST>::new(E::potentials::<W>(&[E::default(); 16])),
        Room::<_, ALL>::new(0),
    );
    let rooms = (rooms.0.of(presim), rooms.1.of(presim), rooms.2.of(steps));
    let neurons = Mixed::new(rule, tile.span, tile.most, rooms);
    run::<L, R, E, _, false>(rule, tile, out, numbers, neurons, Room::<_, ALL>::new(0).of(steps));
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
        fired: &mut [S::mask(0); N],
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
fn run_tile<S: ShortLane, L: IntLane, R: Rule, E: Element, N: InWide<L> + InShort<S>>(
    rule: &R,
    job: RunTile<'_, '_, '_, R>,
    numbers: &[E],
    neurons: N,
    masks: &mut [u64],
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
        run::<L, R, E, _, false>(rule, tile, out, numbers, neurons, masks);
    }
}

/// In lanes of 16 bits, and again in wider ones where those did not hold. Where a position has half as many channels as
/// there are lanes, they hold two positions.
#[allow(clippy::too_many_arguments)] // a tile, its numbers twice, and where things go
#[inline(always)]
fn short<S: ShortLane, L: IntLane, R: Rule, E: Element, N: InWide<L> + InShort<S>>(
    rule: &R,
    tile: &Tile<'_>,
    out: &mut TileOut<'_>,
    held: &Shorts,
    shorts: &[i16],
    numbers: &[E],
    mut neurons: N,
    masks: &mut [u64],
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
                let place = ShortPlace { row: &short_row, p, c };
                let seen = neurons.short(rule, threshold, start, &place);
                if S::held(seen, alive_lanes) {
                    for (t, &fired) in neurons.bits(masks).iter().enumerate() {
                        let fired = fired as u32 & alive;
                        if pace == 2 {
                            bits.set_some::<true, 2>(t, p, c, [fired & 0xffff, fired >> 16]);
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
                    let place = Place { row: &row, tile, p, c };
                    let (theta, start) = place.neurons::<L>(0);
                    masks.fill(0);
                    neurons.wide(rule, theta, start, &place, 0, masks, None);
                    for (t, &fired) in masks.iter().enumerate() {
                        if c.is_multiple_of(64) {
                            bits.set::<true>(t, p, c, fired as u32);
                        } else {
                            bits.set::<false>(t, p, c, fired as u32);
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

/// Whether a neuron whose currents are at most `largest` never fires in so many steps, from its v(0) or a shifted one.
#[inline(always)]
pub(crate) fn is_silent(theta: i32, start: i32, largest: i64, span: usize) -> bool {
    // in 64 bits: a run may have many steps
    start <= theta / 2 && largest.saturating_mul(span as i64) < i64::from(theta / 2) - 1
}

/// As [`Stepped::many`].
#[inline(always)]
fn many<S: ShortLane, L: IntLane, R: Rule, E: Element>(job: RunTile<'_, '_, '_, R>, numbers: &[E]) {
    let (span, steps) = (job.tile.span, job.out.steps);
    let mut rooms =
        (Room::<_, ALL>::new(E::potentials::<L>(&[E::default(); 16])), Room::<_, ALL>::new(L::mask(0)));
    let (currents, spikes) = (rooms.0.of(span), rooms.1.of(steps));
    let neurons = Whole::<L, S> { currents, spikes, shorts: &mut [], fired: &mut [] };
    run::<L, R, E, _, true>(job.rule, job.tile, job.out, numbers, neurons, Room::<_, ALL>::new(0).of(steps));
}

/// Channels outside, positions inside: what belongs to a channel is loaded once; NOTE where offsets may be counted.
#[inline(always)]
fn run<L: IntLane, R: Rule, E: Element, N: InWide<L>, const NOTE: bool>(
    rule: &R,
    tile: &Tile<'_>,
    out: &mut TileOut<'_>,
    numbers: &[E],
    mut neurons: N,
    masks: &mut [u64],
) {
    let (cols, words) = (tile.cols, tile.channels.div_ceil(64));
    let row = Grid::new(numbers, tile.span, tile.positions, cols, tile.steady);
    let mut bits = Bits::new(out.bits, masks.len(), out.stride, tile.positions, words);
    for c in (0..tile.channels).step_by(L::LANES) {
        let offsets = if NOTE { out.offsets.as_deref_mut() } else { None };
        if c.is_multiple_of(64) {
            channels::<L, R, E, N, true>(rule, tile, &row, c, &mut neurons, masks, &mut bits, offsets);
        } else {
            channels::<L, R, E, N, false>(rule, tile, &row, c, &mut neurons, masks, &mut bits, offsets);
        }
    }
    for (t, count) in out.spikes.iter_mut().enumerate().take(masks.len()) {
        *count += bits.count(t);
    }
}

/// Channels `c ..` of all positions; FIRST where they are the first of their word.
#[allow(clippy::too_many_arguments)] // a tile, some of its channels, and where things go
#[inline(always)]
fn channels<L: IntLane, R: Rule, E: Element, N: InWide<L>, const FIRST: bool>(
    rule: &R,
    tile: &Tile<'_>,
    row: &Grid<'_, E>,
    c: usize,
    neurons: &mut N,
    masks: &mut [u64],
    bits: &mut Bits<'_>,
    mut offsets: Option<&mut Offsets>,
) {
    let (theta, mut start) = Place { row, tile, p: 0, c }.neurons::<L>(0);
    for p in 0..tile.positions {
        let place = Place { row, tile, p, c };
        if tile.per_neuron {
            start = place.neurons(0).1;
        }
        let offsets = offsets.as_deref_mut().map(|to| (to, (tile.channels - c).min(L::LANES)));
        masks.fill(0);
        neurons.wide(rule, theta, start, &place, 0, masks, offsets);
        for (t, &fired) in masks.iter().enumerate() {
            bits.set::<FIRST>(t, p, c, fired as u32);
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
