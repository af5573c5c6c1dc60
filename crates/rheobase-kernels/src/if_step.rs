//! The integrate-and-fire step, the one definition of "fires" and "resets".
//! In: potential, current, threshold. Out: spike and the potential after the reset.

use crate::lanes::Lane;

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub struct Step<L: Lane> {
    /// m = v + I.
    pub potential: L,
    /// m - θ.
    pub excess: L,
    /// m >= θ.
    pub fired: L::Mask,
    /// v: m - θ where it fires, m elsewhere.
    pub after: L,
}

/// m = v + I; fires where m >= θ; v = m - θ there, m elsewhere.
#[inline(always)]
pub fn if_step<L: Lane>(potential: L, current: L, threshold: L) -> Step<L> {
    let potential = potential.add(current);
    let (excess, fired, after) = potential.reset(threshold);
    Step { potential, excess, fired, after }
}

/// The same of a potential that may have been cut to the low end of its range: potential, spike and the potential after the reset.
#[inline(always)]
pub fn if_fire<L: Lane>(potential: L, current: L, threshold: L) -> (L, L::Mask, L) {
    let potential = potential.add(current);
    let (fired, after) = potential.fire(threshold);
    (potential, fired, after)
}
