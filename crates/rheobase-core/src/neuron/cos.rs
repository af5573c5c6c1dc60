//! COS, calibrating offset spikes (Hao et al., ICLR 2023), and its limit computed in one pass.
//! In: currents. Out: the spikes from a v(0) that is shifted until the first ρ steps hold the desired count.

use super::{Cell, Entry, Lane, Mask, Placed, Rule, Step};
use crate::error::{Error, Kind};

/// How often to measure and shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iterations {
    /// So many rounds; 1 is the paper's main setting. Ends early where ψ = 0.
    Times(usize),
    /// ψ = 0 for every neuron, by breakpoints, in one pass.
    Exact,
}

impl std::str::FromStr for Iterations {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match (text, text.parse()) {
            ("exact", _) => Ok(Iterations::Exact),
            (_, Ok(n)) if n > 0 => Ok(Iterations::Times(n)),
            _ => Err(Error::new(Kind::Usage, format!("iterations make no sense: `{text}`"))
                .expected("a number above 0, or `exact`")),
        }
    }
}

impl std::fmt::Display for Iterations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Iterations::Times(n) => n.fmt(f),
            Iterations::Exact => f.write_str("exact"),
        }
    }
}

/// Calibrated offset spikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cos {
    /// ρ.
    pub presim: usize,
    /// How often.
    pub iterations: Iterations,
}

pub(super) const ENTRY: Entry = Entry {
    name: "cos",
    help: "pre-simulates --presim steps and shifts v(0) by the offset spikes, --iterations times or exactly",
    source: "Hao et al., ICLR 2023",
    calibrates: true,
    build: |p| Box::new(Cos { presim: p.presim, iterations: p.iterations }),
};

impl Rule for Cos {
    fn presim(&self) -> usize {
        self.presim
    }

    fn is_exact(&self) -> bool {
        self.iterations == Iterations::Exact
    }

    /// Without a step to look at, every v(0) has the desired count.
    fn keeps_silent(&self) -> bool {
        self.presim > 0 || self.iterations != Iterations::Exact
    }

    fn is_watched(&self) -> bool {
        self.iterations != Iterations::Exact
    }

    fn leaves_steady(&self) -> bool {
        self.iterations != Iterations::Exact
    }

    /// With |I|, θ and the stored v(0) at most B, a run of n steps from v(0) stays within |v(0)| + (n + 1)B. A spike's potential is at
    /// most v(0) + ρB, so it takes v(0) to -(ρ + 1)B at least; a silent step's takes it to (ρ + 2)B at most; and a round that moves
    /// it by θ alone adds B to that.
    fn reach(&self, span: usize) -> usize {
        match self.iterations {
            Iterations::Times(rounds) => (self.presim + 3).saturating_add(rounds).saturating_add(span),
            Iterations::Exact => 2 * span + 3,
        }
    }

    const PLACES: bool = true;

    #[inline(always)]
    fn place<L: Lane>(&self, cell: &Cell<'_, L>) -> Placed<L> {
        match self.iterations {
            Iterations::Exact => Placed::at(exact(cell, self.presim)),
            Iterations::Times(rounds) => {
                let (mut start, mut left) = (cell.start, rounds);
                loop {
                    let shift = shift(cell, start, self.presim);
                    start = shift.to;
                    left = left.saturating_sub(1);
                    // in this order: with one round nothing depends on the neurons
                    if left == 0 || !shift.any() {
                        break Placed::after_watching(cell, start, shift.by(), self.presim);
                    }
                    cell.see(start);
                }
            }
        }
    }
}

/// A v(0) that was moved.
#[derive(Clone, Copy)]
pub(super) struct Shift<L> {
    /// Where to.
    pub to: L,
    down: L,
    up: L,
}

impl<L: Lane> Shift<L> {
    /// How far.
    #[inline(always)]
    pub fn by(&self) -> L {
        self.down.add(self.up)
    }

    /// Whether it was, in any lane.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.to.zero().ge(self.by()).not().bits() != 0
    }
}

/// One round of the shifting theorem: v(0) moved by the least amount that changes the count by one spike towards the
/// desired one. Where sums are exact the residual says which way (the sign lemma): v(ρ) - v(0) + θ/2
/// is below 0 where fewer spikes than fired are desired, and θ or more where more are. Floats compare ΣI with kθ - θ/2 as
/// `desired` does, for at a tie the residual's rounding would decide.
#[inline(always)]
pub(super) fn shift<L: Lane>(cell: &Cell<'_, L>, start: L, presim: usize) -> Shift<L> {
    let (theta, half) = (cell.theta, cell.threshold.half);
    let zero = theta.zero();
    let (mut v, mut total) = (start, zero);
    let mut bar = zero.sub(half); // kθ - θ/2 for as many spikes as have fired
    // excesses m - θ: the least of a spike, the largest of a silent step
    let (mut least, mut most) = (theta.no_spike(), theta.no_silence());
    for &current in &cell.currents[..presim] {
        let Step { excess, fired, after, .. } = cell.step(v, current);
        least = least.lower(excess, fired);
        most = most.raise(excess, fired);
        if !L::EXACT {
            bar = bar.add(theta).or_else(fired, bar);
            total = total.add(current);
        }
        v = after;
    }
    if L::EXACT {
        (total, bar) = (v.add(half.sub(start)), zero);
    }
    let too_many = total.ge(bar).not().and(least.any_spike());
    let too_few = total.ge(theta.add(bar)).and(most.any_silence());
    // Lanes that are not shifted may hold no excess: what is computed there is thrown away.
    let down = theta.max(least.add(cell.threshold.epsilon(least.add(theta)))).or_else(too_many, zero);
    let up = theta.max(cell.threshold.epsilon(most.add(theta)).sub(most)).or_else(too_few, zero);
    Shift { to: start.sub(down).add(up), down, up }
}

/// The middle of the exact interval over the first `presim` steps.
#[inline(always)]
fn exact<L: Lane>(cell: &Cell<'_, L>, presim: usize) -> L {
    let theta = cell.theta;
    let mut few = [theta.highest(); 8];
    let mut many = Vec::new();
    let b = if presim <= few.len() {
        &mut few[..presim]
    } else {
        many.resize(presim, theta.highest());
        &mut many[..]
    };
    interval(theta, &cell.currents[..presim], b).middle()
}

/// The v(0) with which a neuron fires exactly the desired count, not empty.
#[derive(Clone, Copy)]
pub(super) struct Interval<L> {
    /// The least.
    pub low: L,
    /// The first above them.
    pub high: L,
    /// The desired count.
    pub desired: L,
}

impl<L: Lane> Interval<L> {
    /// Neighbouring breakpoints are θ or more apart, so the halves add up to less than `high` and no less than `low`.
    #[inline(always)]
    pub fn middle(self) -> L {
        self.low.half().add(self.high.half())
    }
}

/// The exact interval over all of `currents`, ρ of them: [b_d, b_{d+1}), an open side closed one threshold away. `b` has ρ
/// numbers and comes in filled with `highest`.
///
/// With |I| and θ at most B it lies within [-ρB, (ρ+1)B]. Low end: b_d >= dθ - max S_t, and b_1 - θ where d = 0. High end: let the
/// last d+1 steps fire; S_ρ >= (d-½)θ, so S_t >= (d-½)θ - (ρ-t)B, and the j-th of them asks for jθ - S_t <= (j-d+½)θ + (d+1-j)B.
#[inline(always)]
pub(super) fn interval<L: Lane>(theta: L, currents: &[L], b: &mut [L]) -> Interval<L> {
    let total = breakpoints(theta, currents, b);
    let zero = theta.zero();
    let (mut low, mut high, mut desired) = (theta.lowest(), theta.highest(), zero);
    let mut bar = theta.sub(theta.half()); // kθ - θ/2
    let some = total.ge(bar); // desired >= 1: the interval has a lower end
    let mut all = some; // desired = presim: it has no upper end
    for &b in b.iter() {
        all = total.ge(bar); // k <= desired
        low = b.or_else(all, low);
        high = high.or_else(all, high.min(b));
        desired = desired.add(zero.one().or_else(all, zero));
        bar = bar.add(theta);
    }
    let (below, above) = (high.sub(theta), low.add(theta));
    Interval { low: low.or_else(some, below), high: above.or_else(all, high), desired }
}

/// Breakpoints: `b[k - 1]` becomes the smallest v(0) with at least k spikes over all of `currents`; returns ΣI.
///
/// b_k(t) = min(b_k(t-1), max(b_{k-1}(t-1), k·θ - S_t)), b_0 = -inf, b_k(0) = +inf, S_t the sum of the first t currents.
/// Only k <= `b.len()` are computed; `b` must come in filled with `highest`.
#[inline(always)]
pub fn breakpoints<L: Lane>(theta: L, currents: &[L], b: &mut [L]) -> L {
    let mut sum = theta.zero();
    for (t, &current) in currents.iter().enumerate() {
        sum = sum.add(current);
        // k descends in place; k > t + 1 spikes cannot have fired yet.
        let mut bar = theta.sub(sum);
        for _ in 0..t.min(b.len().saturating_sub(1)) {
            bar = bar.add(theta);
        }
        for k in (0..b.len().min(t + 1)).rev() {
            let before = if k == 0 { theta.lowest() } else { b[k - 1] };
            b[k] = b[k].min(before.max(bar));
            bar = bar.sub(theta);
        }
    }
    sum
}
