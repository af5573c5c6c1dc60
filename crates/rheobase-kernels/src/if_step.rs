//! The integrate-and-fire step, the one definition of "fires" and "resets".
//! In: potential, current, threshold. Out: spike and the potential after the reset.

use crate::lanes::Lane;

/// m = v + I; fires where m >= θ; v = m - θ there, m elsewhere. Returns (m, fired, v).
#[inline(always)]
pub fn if_step<L: Lane>(potential: L, current: L, threshold: L) -> (L, L::Mask, L) {
    let m = potential.add(current);
    let fired = m.ge(threshold);
    (m, fired, m.sub(threshold).or_else(fired, m))
}
