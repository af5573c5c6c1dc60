//! Two registers of neurons at once: what one waits for, the other uses.

use super::{Lane, Mask};

/// Lanes of two registers, or the masks of two.
#[derive(Clone, Copy)]
pub struct Twice<T>(pub T, pub T);

impl<M: Mask> Mask for Twice<M> {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Twice(self.0.and(other.0), self.1.and(other.1))
    }
    #[inline(always)]
    fn not(self) -> Self {
        Twice(self.0.not(), self.1.not())
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        self.0.both_bits(self.1)
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Twice(M::from_bits(bits), M::from_bits(bits >> 32))
    }
}

macro_rules! each {
    ($($name:ident($($arg:ident),*);)*) => {
        $(
            #[inline(always)]
            fn $name(self $(, $arg: Self)*) -> Self {
                Twice(self.0.$name($($arg.0),*), self.1.$name($($arg.1),*))
            }
        )*
    };
}

// `fire` is what it is by default: in vectors, where one register may go through its masks.
impl<L: Lane> Lane for Twice<L> {
    type Mask = Twice<L::Mask>;
    const EXACT: bool = L::EXACT;
    type Seen = Twice<L::Seen>;
    #[inline(always)]
    fn seen(self) -> Self::Seen {
        Twice(self.0.seen(), self.1.seen())
    }
    #[inline(always)]
    fn see(self, seen: Self::Seen) -> Self::Seen {
        Twice(self.0.see(seen.0), self.1.see(seen.1))
    }
    #[inline(always)]
    fn see_high(self, seen: Self::Seen) -> Self::Seen {
        Twice(self.0.see_high(seen.0), self.1.see_high(seen.1))
    }
    #[inline(always)]
    fn widen(seen: Self::Seen, by: Self) -> Self::Seen {
        Twice(L::widen(seen.0, by.0), L::widen(seen.1, by.1))
    }
    #[inline(always)]
    fn sink(seen: Self::Seen, by: Self) -> Self::Seen {
        Twice(L::sink(seen.0, by.0), L::sink(seen.1, by.1))
    }
    each! {
        zero(); one(); highest(); lowest(); add(other); sub(other); min(other); max(other); half(); no_spike(); no_silence();
        thousandth(); epsilon(scale);
    }
    #[inline(always)]
    fn ge(self, other: Self) -> Self::Mask {
        Twice(self.0.ge(other.0), self.1.ge(other.1))
    }
    #[inline(always)]
    fn or_else(self, mask: Self::Mask, other: Self) -> Self {
        Twice(self.0.or_else(mask.0, other.0), self.1.or_else(mask.1, other.1))
    }
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, Self::Mask, Self) {
        let (a, b) = (self.0.reset(theta.0), self.1.reset(theta.1));
        (Twice(a.0, b.0), Twice(a.1, b.1), Twice(a.2, b.2))
    }
    #[inline(always)]
    fn lower(self, excess: Self, fired: Self::Mask) -> Self {
        Twice(self.0.lower(excess.0, fired.0), self.1.lower(excess.1, fired.1))
    }
    #[inline(always)]
    fn raise(self, excess: Self, fired: Self::Mask) -> Self {
        Twice(self.0.raise(excess.0, fired.0), self.1.raise(excess.1, fired.1))
    }
    #[inline(always)]
    fn any_spike(self) -> Self::Mask {
        Twice(self.0.any_spike(), self.1.any_spike())
    }
    #[inline(always)]
    fn any_silence(self) -> Self::Mask {
        Twice(self.0.any_silence(), self.1.any_silence())
    }
}
