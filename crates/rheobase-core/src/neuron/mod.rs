//! Neuron rules: how currents become spikes.
//! In: one neuron's threshold, v(0) and currents I(1..n). Out: its spikes over T steps and the v(0) it ran from.
//! A rule is written once, over lanes: the engine runs it on vectors of integers, tests and users on f32, f64 or one integer.

mod cos;
mod layer;
mod qcfs;
pub mod spread;
mod srp;

pub use cos::{Cos, Iterations, breakpoints};
pub(crate) use layer::is_silent;
pub use layer::{Across, AcrossOut, Currents, NeuronRule, Offsets, Shorts, Tile, TileOut};
pub use qcfs::Qcfs;
pub use spread::Spread;
pub use srp::Srp;

use crate::error::{Error, Kind, Result};
pub use rheobase_kernels::if_step::Step;
use rheobase_kernels::if_step::{if_fire, if_step};
pub use rheobase_kernels::lanes::{Lane, Mask};

/// θ, and what calibration makes of it.
#[derive(Debug, Clone, Copy)]
pub struct Threshold<L> {
    /// θ.
    pub theta: L,
    /// θ/2, rounded down for integers.
    pub half: L,
    /// θ/1000, from which ε is made.
    pub thousandth: L,
}

impl<L: Lane> Threshold<L> {
    /// Of θ.
    #[inline(always)]
    pub fn new(theta: L) -> Self {
        Threshold { theta, half: theta.half(), thousandth: theta.thousandth() }
    }

    /// ε of the shifting theorem, for numbers as large as `scale`.
    #[inline(always)]
    pub fn epsilon(&self, scale: L) -> L {
        self.thousandth.epsilon(scale)
    }
}

/// One neuron (or as many as there are lanes) with its input.
#[derive(Debug, Clone)]
pub struct Cell<'a, L: Lane> {
    /// θ.
    pub theta: L,
    /// The same with what belongs to it.
    pub threshold: Threshold<L>,
    /// v(0) before calibration, θ/2 unless the network says otherwise.
    pub start: L,
    /// I(1), I(2), ...: at least as many as steps are run and pre-simulated.
    pub currents: &'a [L],
    seen: std::cell::Cell<L::Seen>,
}

impl<'a, L: Lane> Cell<'a, L> {
    /// A neuron and its input.
    #[inline(always)]
    pub fn new(theta: L, start: L, currents: &'a [L]) -> Self {
        Cell::with(Threshold::new(theta), start, currents)
    }

    /// The same with a threshold that is made already.
    #[inline(always)]
    pub fn with(threshold: Threshold<L>, start: L, currents: &'a [L]) -> Self {
        Cell { theta: threshold.theta, threshold, start, currents, seen: std::cell::Cell::new(start.seen()) }
    }

    /// One step from potential `v`: whether it fires, and the potential after.
    #[inline(always)]
    pub fn fire(&self, v: L, current: L) -> (L::Mask, L) {
        let (potential, fired, after) = if_fire(v, current, self.theta);
        self.see(potential);
        (fired, after)
    }

    /// One step from potential `v`.
    #[inline(always)]
    pub fn step(&self, v: L, current: L) -> Step<L> {
        let step = if_step(v, current, self.theta);
        self.see(step.potential);
        step
    }

    /// Says that a rule computes with numbers that differ from those shown by at most `by`.
    #[inline(always)]
    pub fn widen(&self, by: L) {
        self.seen.set(L::widen(self.seen.get(), by));
    }

    /// Says that a rule computes with a number, for lanes that do not hold every one.
    #[inline(always)]
    pub fn see(&self, number: L) {
        self.seen.set(number.see(self.seen.get()));
    }

    /// Says that a rule computes with a number that may be as low as it likes.
    #[inline(always)]
    pub fn see_high(&self, number: L) {
        self.seen.set(number.see_high(self.seen.get()));
    }

    /// What was seen, and the excesses over θ that come of it.
    #[inline(always)]
    pub fn seen(&self) -> L::Seen {
        L::sink(self.seen.get(), self.theta)
    }
}

/// A neuron rule: a pure function from one neuron's currents to its spikes.
///
/// Implementors get `dyn` [`NeuronRule`] for free, compiled for every instruction set. The engine clones a rule for every row.
pub trait Rule: Clone + Send + Sync {
    /// ρ (or τ): the steps of current that it looks at before the first step it reads out; 0 for none.
    fn presim(&self) -> usize;

    /// Whether every neuron fires exactly its desired count over the pre-simulated steps; then the last layer's spikes can be
    /// spread over them.
    fn is_exact(&self) -> bool {
        false
    }

    /// Whether neurons stay silent whose currents can never carry them from v(0), θ/2 or less, to θ, neither those it looks at nor those
    /// that follow. Then they need not be run.
    fn keeps_silent(&self) -> bool {
        false
    }

    /// Whether it [keeps silent neurons silent](Rule::keeps_silent), and all its potentials come from [`Cell::step`] and [`Cell::fire`] or are
    /// shown to [`Cell::see`]. Then it may be run on lanes of 16 bits, and again on wider ones where these did not hold a
    /// potential or its excess.
    fn is_watched(&self) -> bool {
        false
    }

    /// Whether a neuron from θ/2 that gets the same current at every step fires as under [`Qcfs`]. From there plain
    /// integrate-and-fire has the desired count after any number of equal currents, and ends below 0 only where it never fires, so
    /// a rule that mends wrong counts says yes.
    fn leaves_steady(&self) -> bool {
        false
    }

    /// How far its numbers may be from 0 in a run of so many steps, ρ or more, in largest currents, thresholds or stored v(0).
    /// Breakpoints reach as far as this is by default.
    fn reach(&self, span: usize) -> usize {
        2 * span + 3
    }

    /// Whether [`Rule::run`] is what it is by default. Then many steps go through registers a few at a time.
    const PLACES: bool = false;

    /// Whether ρ is ever more than 0.
    const CALIBRATES: bool = true;

    /// Chooses v(0) from the first ρ currents, which are all that `cell` needs to have. What chooses nothing keeps the stored one.
    ///
    /// Mark it and [`Rule::run`] `#[inline(always)]`, so that they are compiled for the instruction set of their caller.
    #[inline(always)]
    fn place<L: Lane>(&self, cell: &Cell<'_, L>) -> Placed<L> {
        Placed::at(cell.start)
    }

    /// Writes the spikes of steps 1..=T, T being `spikes.len()`, and returns the v(0) that they start from: integrate-and-fire from
    /// what [`Rule::place`] chooses, unless the rule's neurons are of another kind.
    #[inline(always)]
    fn run<L: Lane>(&self, cell: &Cell<'_, L>, spikes: &mut [L::Mask]) -> L {
        let placed = self.place(cell);
        placed.fire(cell, spikes);
        placed.start
    }
}

/// Where a neuron starts, and what is known of its run from there.
#[derive(Debug, Clone, Copy)]
pub struct Placed<L: Lane> {
    /// v(0).
    pub start: L,
    /// So many steps have potentials within what the cell was shown.
    pub bounded: usize,
    /// Lanes that may fire, if not all.
    pub awake: Option<L::Mask>,
}

impl<L: Lane> Placed<L> {
    /// Nothing is known.
    #[inline(always)]
    pub fn at(start: L) -> Self {
        Placed { start, bounded: 0, awake: None }
    }

    /// After a run over the first `watched` steps from a v(0) that is `away` from this one, 0 or at least θ.
    ///
    /// Two runs with the same currents stay as close: what is between their potentials changes only when one of them fires alone, by θ
    /// towards and at most θ beyond 0. So the range that was watched says what range these steps need.
    #[inline(always)]
    pub fn after_watching(cell: &Cell<'_, L>, start: L, away: L, watched: usize) -> Self {
        cell.widen(away);
        Placed { start, bounded: watched, awake: None }
    }

    /// Writes the spikes of steps from the start on.
    #[inline(always)]
    pub fn fire(&self, cell: &Cell<'_, L>, spikes: &mut [L::Mask]) {
        let mut v = self.start;
        for (t, (&current, spike)) in cell.currents.iter().zip(spikes).enumerate() {
            let step = if t < self.bounded { if_step(v, current, cell.theta) } else { cell.step(v, current) };
            (*spike, v) = (self.awake(step.fired), step.after);
        }
    }

    /// Those that may fire.
    #[inline(always)]
    fn awake(&self, fired: L::Mask) -> L::Mask {
        match self.awake {
            Some(awake) => fired.and(awake),
            None => fired,
        }
    }
}

/// A placed neuron on its way, some steps at a time.
#[derive(Clone, Copy)]
pub struct Run<'a, 'b, L: Lane> {
    cell: &'a Cell<'b, L>,
    placed: Placed<L>,
    v: L,
    done: usize,
    least: L,
}

impl<'a, 'b, L: Lane> Run<'a, 'b, L> {
    /// Before the first step.
    #[inline(always)]
    pub fn new(cell: &'a Cell<'b, L>, placed: Placed<L>) -> Self {
        Run { cell, placed, v: placed.start, done: 0, least: placed.start.highest() }
    }

    /// Writes the spikes of the next steps.
    ///
    /// A potential that is cut to the low end of its lane is higher than the true one from there on: where it never makes a
    /// spike, neither does that. So what is below counts only if a spike follows.
    #[inline(always)]
    pub fn fire(&mut self, currents: &[L], spikes: &mut [L::Mask]) {
        let Run { cell, placed, .. } = *self;
        let is_bounded = self.done + currents.len() <= placed.bounded;
        let mut silent = self.v.ge(self.v);
        for (&current, spike) in currents.iter().zip(spikes) {
            let (potential, fired, after) = if_fire(self.v, current, cell.theta);
            if !is_bounded {
                cell.see_high(potential);
                self.least = self.least.min(potential);
                silent = silent.and(fired.not());
            }
            (*spike, self.v) = (placed.awake(fired), after);
        }
        if !is_bounded {
            cell.see(self.v.zero().or_else(silent, self.least.min(self.v.zero())));
        }
        self.done += currents.len();
    }
}

/// Runs the neuron from `start` and writes its spikes.
#[inline(always)]
pub fn fire<L: Lane>(cell: &Cell<'_, L>, start: L, spikes: &mut [L::Mask]) {
    Placed::at(start).fire(cell, spikes);
}

/// How many spikes the neuron fires over the first `steps` steps from `start`.
#[inline(always)]
pub fn count<L: Lane>(cell: &Cell<'_, L>, start: L, steps: usize) -> L {
    let (mut v, mut n) = (start, start.zero());
    for &current in &cell.currents[..steps] {
        let step = if_step(v, current, cell.theta);
        n = n.add(v.one().or_else(step.fired, v.zero()));
        v = step.after;
    }
    n
}

/// How many spikes the ANN's neuron asks for over `steps` steps: clip(floor(ΣI/θ + ½), 0, steps), computed without a
/// division as #{ k in 1..=steps : ΣI >= k·θ - θ/2 }.
#[inline(always)]
pub fn desired<L: Lane>(cell: &Cell<'_, L>, steps: usize) -> L {
    let zero = cell.theta.zero();
    let total = cell.currents[..steps].iter().fold(zero, |s, &i| s.add(i));
    let (mut n, mut bar) = (zero, cell.theta.sub(cell.theta.half()));
    for _ in 0..steps {
        n = n.add(zero.one().or_else(total.ge(bar), zero));
        bar = bar.add(cell.theta);
    }
    n
}

/// The parameters that rules are made from, as a command line has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// ρ or τ.
    pub presim: usize,
    /// Rounds of calibration.
    pub iterations: Iterations,
}

impl Default for Params {
    fn default() -> Self {
        Params { presim: 4, iterations: Iterations::Times(1) }
    }
}

/// A rule by name.
pub struct Entry {
    /// As `--method` takes it.
    pub name: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// Whether `--presim` means something to it.
    pub calibrates: bool,
    /// Makes it.
    pub build: fn(&Params) -> Box<dyn NeuronRule>,
}

/// All rules. To add one: its file and a line here.
pub static RULES: &[Entry] = &[qcfs::ENTRY, cos::ENTRY, srp::ENTRY];

/// The rule of this name.
pub fn rule(name: &str, params: &Params) -> Result<Box<dyn NeuronRule>> {
    let entry = RULES.iter().find(|e| e.name == name).ok_or_else(|| {
        let known: Vec<_> = RULES.iter().map(|e| e.name).collect();
        Error::new(Kind::Usage, format!("unknown method: `{name}`"))
            .hint(format!("known: {}", known.join(", ")))
    })?;
    if entry.calibrates && params.presim == 0 {
        return Err(Error::new(Kind::Usage, format!("`{name}` needs 1 or more pre-simulation steps"))
            .hint("set `--presim`, or take `--method qcfs`, which uses none"));
    }
    if params.iterations == Iterations::Times(0) {
        return Err(Error::new(Kind::Usage, "calibration needs 1 or more iterations")
            .hint("`--iterations 1`, or `--iterations exact`"));
    }
    Ok((entry.build)(params))
}

#[cfg(test)]
mod tests;
