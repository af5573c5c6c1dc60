//! Neuron rules: how currents become spikes.
//! In: one neuron's threshold, v(0) and currents I(1..n). Out: its spikes over T steps and the v(0) it ran from.
//! A rule is written once, over lanes: the engine runs it on vectors of integers, tests and users on f32, f64 or one integer.

mod cos;
mod layer;
mod qcfs;
pub mod spread;
mod srp;

pub use cos::{Cos, Iterations, breakpoints};
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

    /// What was seen.
    #[inline(always)]
    pub fn seen(&self) -> L::Seen {
        self.seen.get()
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

    /// Whether all its potentials come from [`Cell::step`] and [`Cell::fire`] or are shown to [`Cell::see`], and neurons stay silent
    /// whose currents can never carry them from v(0), θ/2 or less, to θ. Then it may be run on lanes of 16 bits, and again on
    /// wider ones where these did not hold, and those neurons not at all. An excess below the range of the lanes is cut to its end.
    fn is_watched(&self) -> bool {
        false
    }

    /// Whether a neuron from θ/2 that gets the same current at every step, ρ steps or more, fires as under [`Qcfs`]. From there plain
    /// integrate-and-fire has the desired count after any number of equal currents and is never left with a potential below 0
    /// after a spike, so a rule that only mends a wrong count says yes.
    fn leaves_steady(&self) -> bool {
        false
    }

    /// Writes the spikes of steps 1..=T, T being `spikes.len()`, and returns the v(0) that they start from.
    ///
    /// Mark it `#[inline(always)]`, so that it is compiled for the instruction set of its caller.
    fn run<L: Lane>(&self, cell: &Cell<'_, L>, spikes: &mut [L::Mask]) -> L;
}

/// Runs the neuron from `start` and writes its spikes.
#[inline(always)]
pub fn fire<L: Lane>(cell: &Cell<'_, L>, start: L, spikes: &mut [L::Mask]) {
    run(cell, start, 0, spikes);
}

/// The same, where the first `watched` steps have just been run from a v(0) that is so far away, 0 or at least θ.
///
/// Two runs with the same currents stay as close: what is between their potentials changes only when one of them fires alone, by θ
/// towards and at most θ beyond 0. So the range that was watched says what range these steps need.
#[inline(always)]
pub fn fire_again<L: Lane>(cell: &Cell<'_, L>, start: L, away: L, watched: usize, spikes: &mut [L::Mask]) {
    cell.widen(away);
    run(cell, start, watched, spikes);
}

/// Writes the spikes from `start`; the first so many steps are not shown to the cell.
#[inline(always)]
fn run<L: Lane>(cell: &Cell<'_, L>, start: L, watched: usize, spikes: &mut [L::Mask]) {
    let mut v = start;
    for (t, (&current, spike)) in cell.currents.iter().zip(spikes).enumerate() {
        if t < watched {
            (_, *spike, v) = if_fire(v, current, cell.theta);
        } else {
            (*spike, v) = cell.fire(v, current);
        }
    }
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
