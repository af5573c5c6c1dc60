//! Lanes: several neurons side by side, one operation at a time.
//! One lane (i32, i64, f32, f64) is the definition; the vectors of an instruction set do the same to each of theirs.
//! Integers compare and add exactly; floats do it in IEEE arithmetic, without fused operations.

/// [`Lane::Seen`] of lanes whose caller sees to their range.
macro_rules! sees_nothing {
    () => {
        type Seen = ();
        #[inline(always)]
        fn seen(self) {}
        #[inline(always)]
        fn see(self, (): ()) {}
        #[inline(always)]
        fn see_high(self, (): ()) {}
        #[inline(always)]
        fn widen((): (), _: Self) {}
        #[inline(always)]
        fn sink((): (), _: Self) {}
    };
}

/// [`Lane::Seen`] of lanes that saturate: the least and the largest number.
macro_rules! sees_its_range {
    () => {
        type Seen = [Self; 2];
        #[inline(always)]
        fn seen(self) -> [Self; 2] {
            [self; 2]
        }
        #[inline(always)]
        fn see(self, [low, high]: [Self; 2]) -> [Self; 2] {
            [Lane::min(low, self), Lane::max(high, self)]
        }
        #[inline(always)]
        fn see_high(self, [low, high]: [Self; 2]) -> [Self; 2] {
            [low, Lane::max(high, self)]
        }
        #[inline(always)]
        fn widen([low, high]: [Self; 2], by: Self) -> [Self; 2] {
            [Lane::sub(low, by), Lane::add(high, by)]
        }
        #[inline(always)]
        fn sink([low, high]: [Self; 2], by: Self) -> [Self; 2] {
            [Lane::sub(low, by), high]
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod sums;
#[cfg(test)]
mod tests;
mod twice;

pub use sums::{Bits, Element, Grid, SumLane};
#[cfg(target_arch = "x86_64")]
pub(crate) use sums::{Sum16x16, Sum16x32, Sum32x8, Sum32x16};
pub use twice::Twice;

/// Numbers of several neurons, and what a neuron does to them.
pub trait Lane: Copy {
    /// A yes or no per lane.
    type Mask: Mask;
    /// Whether sums are exact, whatever their order.
    const EXACT: bool;
    /// What remembers numbers that must be within the range of the lanes; nothing where the caller sees to it.
    type Seen: Copy;
    /// Only this number.
    fn seen(self) -> Self::Seen;
    /// Remembers another.
    fn see(self, seen: Self::Seen) -> Self::Seen;
    /// Remembers another that may be as low as it likes.
    fn see_high(self, seen: Self::Seen) -> Self::Seen;
    /// As if every number seen had been lower and higher by as much as `by`.
    fn widen(seen: Self::Seen, by: Self) -> Self::Seen;
    /// As if every number seen had been lower by as much as `by`.
    fn sink(seen: Self::Seen, by: Self) -> Self::Seen;
    /// 0 in every lane.
    fn zero(self) -> Self;
    /// 1 in every lane.
    fn one(self) -> Self;
    /// The largest number there is (+inf for floats).
    fn highest(self) -> Self;
    /// The smallest number there is (-inf for floats).
    fn lowest(self) -> Self;
    /// self + other; the caller keeps within range.
    fn add(self, other: Self) -> Self;
    /// self - other; the caller keeps within range.
    fn sub(self, other: Self) -> Self;
    /// The smaller.
    fn min(self, other: Self) -> Self;
    /// The larger.
    fn max(self, other: Self) -> Self;
    /// self >= other.
    fn ge(self, other: Self) -> Self::Mask;
    /// `mask ? self : other`.
    fn or_else(self, mask: Self::Mask, other: Self) -> Self;
    /// A potential's excess over θ, whether it is 0 or more, and the potential after the reset: the excess there, `self` elsewhere.
    /// The caller keeps the excess within range.
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, Self::Mask, Self) {
        let (excess, fired) = (self.sub(theta), self.ge(theta));
        (excess, fired, excess.or_else(fired, self))
    }
    /// The last two of these, of a potential that may have been cut to the low end of the range, too.
    #[inline(always)]
    fn fire(self, theta: Self) -> (Self::Mask, Self) {
        let fired = self.ge(theta);
        (fired, self.sub(theta).or_else(fired, self))
    }
    /// self / 2, rounded down for integers.
    fn half(self) -> Self;
    /// Above every number that `lower` takes in: where a search for the least excess m - θ of a spike begins.
    fn no_spike(self) -> Self;
    /// Below every number that `raise` takes in: where a search for the largest excess (below 0) of a silent step begins.
    fn no_silence(self) -> Self;
    /// The less of this and of an excess, which counts where it is 0 or more, that is where `fired`.
    fn lower(self, excess: Self, fired: Self::Mask) -> Self;
    /// The larger of this and of an excess, which counts where it is below 0, that is where not `fired`.
    fn raise(self, excess: Self, fired: Self::Mask) -> Self;
    /// Whether `lower` has taken in a spike.
    fn any_spike(self) -> Self::Mask;
    /// Whether `raise` has taken in a silent step.
    fn any_silence(self) -> Self::Mask;
    /// θ/1000, for integers rounded and at least 1.
    fn thousandth(self) -> Self;
    /// ε of the shifting theorem for numbers as large as `scale`, `self` being θ/1000: for integers that, for floats max(θ/1000, 4 ulp
    /// of `scale`).
    #[inline(always)]
    fn epsilon(self, _scale: Self) -> Self {
        self
    }
}

/// A yes or no per lane.
pub trait Mask: Copy {
    /// Both.
    fn and(self, other: Self) -> Self;
    /// The other way round.
    fn not(self) -> Self;
    /// Lane i in bit i; of two registers the second's lanes from bit 32 on.
    fn bits(self) -> u64;
    /// Lane i says bit i, likewise.
    fn from_bits(bits: u64) -> Self;
    /// The bits of two.
    #[inline(always)]
    fn both_bits(self, second: Self) -> u64 {
        self.bits() | second.bits() << 32
    }
}

impl Mask for bool {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self & other
    }
    #[inline(always)]
    fn not(self) -> Self {
        !self
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        self.into()
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        bits & 1 == 1
    }
}

/// Integer lanes that are read from and written to memory.
pub trait IntLane: Lane {
    /// The number in one lane.
    type Element: Copy;
    /// How many lanes; a power of two, at most 16.
    const LANES: usize;
    /// The same number in every lane.
    fn splat(x: i32) -> Self;
    /// Reads the first `LANES` numbers, widened where the lane is wider.
    fn load(from: &[i32]) -> Self;
    /// The same for numbers of 16 bits.
    fn load_short(from: &[i16]) -> Self;
    /// Writes the lanes; a number beyond i32 (which no potential inside its bounds is) is cut.
    fn store(self, to: &mut [i32]);
    /// Lane i says bit i.
    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        Self::Mask::from_bits(bits.into())
    }
    /// self · other; the caller keeps within range.
    fn mul(self, other: Self) -> Self;
    /// self · factor / 2^bits, rounded down, for up to 32 bits; the product is exact in 64 bits, the result the caller's to keep
    /// within range.
    fn scaled(self, factor: Self, bits: u32) -> Self;
}

/// Lanes of 16 bits, whose sums and differences saturate, all but a potential's excess. What is seen, sunk by θ, tells whether all
/// was within ±32,766; then it is what wider lanes have.
pub trait ShortLane: Lane {
    /// How many lanes: as many as a register of sums of 16 bits has.
    const LANES: usize;
    /// The same number in every lane.
    fn splat(x: i16) -> Self;
    /// Reads the first `LANES` numbers.
    fn load(from: &[i16]) -> Self;
    /// Writes the lanes as bits.
    fn store_bits(self, to: &mut [u16]);
    /// Lane i says bit i.
    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        Self::Mask::from_bits(bits.into())
    }
    /// Sets a bit that is not set where the mask says yes.
    fn mark(self, mask: Self::Mask, bit: Self) -> Self;
    /// Whether none of these lanes has left its range.
    fn held(seen: Self::Seen, lanes: Self::Mask) -> bool;
}

impl Lane for i16 {
    type Mask = bool;
    const EXACT: bool = true;
    sees_its_range!();
    #[inline(always)]
    fn zero(self) -> Self {
        0
    }
    #[inline(always)]
    fn one(self) -> Self {
        1
    }
    #[inline(always)]
    fn highest(self) -> Self {
        i16::MAX
    }
    #[inline(always)]
    fn lowest(self) -> Self {
        i16::MIN
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Ord::min(self, other)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Ord::max(self, other)
    }
    #[inline(always)]
    fn ge(self, other: Self) -> bool {
        self >= other
    }
    #[inline(always)]
    fn or_else(self, mask: bool, other: Self) -> Self {
        if mask { self } else { other }
    }
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, bool, Self) {
        let (excess, fired) = (self.wrapping_sub(theta), self >= theta);
        (excess, fired, if fired { excess } else { self })
    }
    #[inline(always)]
    fn half(self) -> Self {
        self >> 1
    }
    #[inline(always)]
    fn no_spike(self) -> Self {
        -1
    }
    #[inline(always)]
    fn no_silence(self) -> Self {
        0
    }
    #[inline(always)]
    fn lower(self, excess: Self, _: bool) -> Self {
        Ord::min(self as u16, excess as u16) as i16
    }
    #[inline(always)]
    fn raise(self, excess: Self, _: bool) -> Self {
        Ord::max(self as u16, excess as u16) as i16
    }
    #[inline(always)]
    fn any_spike(self) -> bool {
        self >= 0
    }
    #[inline(always)]
    fn any_silence(self) -> bool {
        self < 0
    }
    #[inline(always)]
    fn thousandth(self) -> Self {
        Ord::max(1, (i32::from(self) + 500) / 1000) as i16
    }
}

impl ShortLane for i16 {
    const LANES: usize = 1;
    #[inline(always)]
    fn splat(x: i16) -> Self {
        x
    }
    #[inline(always)]
    fn load(from: &[i16]) -> Self {
        from[0]
    }
    #[inline(always)]
    fn store_bits(self, to: &mut [u16]) {
        to[0] = self as u16;
    }
    #[inline(always)]
    fn mark(self, mask: bool, bit: i16) -> Self {
        if mask { self | bit } else { self }
    }
    #[inline(always)]
    fn held([low, high]: [i16; 2], lane: bool) -> bool {
        !lane || low != i16::MIN && high != i16::MAX
    }
}

/// f32 lanes of training: fused multiplications, so that every instruction set rounds alike.
pub trait FloatLane: Copy {
    /// A yes or no per lane.
    type Mask: Mask;
    /// How many lanes; 1, 8 or 16.
    const LANES: usize;
    /// The same number in every lane.
    fn splat(x: f32) -> Self;
    /// The first `LANES` numbers.
    fn load(from: &[f32]) -> Self;
    /// Writes the lanes.
    fn store(self, to: &mut [f32]);
    /// The numbers at a pointer.
    ///
    /// # Safety
    /// `LANES` numbers can be read there.
    unsafe fn read(at: *const f32) -> Self;
    /// Writes to a pointer.
    ///
    /// # Safety
    /// `LANES` numbers can be written there.
    unsafe fn write(self, at: *mut f32);
    /// self + other.
    fn add(self, other: Self) -> Self;
    /// self - other.
    fn sub(self, other: Self) -> Self;
    /// self · other.
    fn mul(self, other: Self) -> Self;
    /// self · factor + term, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller.
    fn min(self, other: Self) -> Self;
    /// The larger.
    fn max(self, other: Self) -> Self;
    /// Rounded down.
    fn floor(self) -> Self;
    /// self > other; no where either is NaN.
    fn gt(self, other: Self) -> Self::Mask;
    /// `mask ? self : other`.
    fn or_else(self, mask: Self::Mask, other: Self) -> Self;
}

impl FloatLane for f32 {
    type Mask = bool;
    const LANES: usize = 1;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        from[0]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[0] = self;
    }
    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { *at }
    }
    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *at = self }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f32::mul_add(self, factor, term)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn floor(self) -> Self {
        f32::floor(self)
    }
    #[inline(always)]
    fn gt(self, other: Self) -> bool {
        self > other
    }
    #[inline(always)]
    fn or_else(self, mask: bool, other: Self) -> Self {
        if mask { self } else { other }
    }
}

macro_rules! scalar_integer {
    ($t:ty, $unsigned:ty) => {
        impl Lane for $t {
            type Mask = bool;
            const EXACT: bool = true;
            sees_nothing!();
            #[inline(always)]
            fn zero(self) -> Self {
                0
            }
            #[inline(always)]
            fn one(self) -> Self {
                1
            }
            #[inline(always)]
            fn highest(self) -> Self {
                <$t>::MAX
            }
            #[inline(always)]
            fn lowest(self) -> Self {
                <$t>::MIN
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Ord::min(self, other)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Ord::max(self, other)
            }
            #[inline(always)]
            fn ge(self, other: Self) -> bool {
                self >= other
            }
            #[inline(always)]
            fn or_else(self, mask: bool, other: Self) -> Self {
                if mask { self } else { other }
            }
            #[inline(always)]
            fn half(self) -> Self {
                self >> 1
            }
            // Read without their sign, excesses of spikes lie below those of silent steps, 0 first and -1 last.
            #[inline(always)]
            fn no_spike(self) -> Self {
                -1
            }
            #[inline(always)]
            fn no_silence(self) -> Self {
                0
            }
            #[inline(always)]
            fn lower(self, excess: Self, _: bool) -> Self {
                Ord::min(self as $unsigned, excess as $unsigned) as $t
            }
            #[inline(always)]
            fn raise(self, excess: Self, _: bool) -> Self {
                Ord::max(self as $unsigned, excess as $unsigned) as $t
            }
            #[inline(always)]
            fn any_spike(self) -> bool {
                self >= 0
            }
            #[inline(always)]
            fn any_silence(self) -> bool {
                self < 0
            }
            #[inline(always)]
            fn thousandth(self) -> Self {
                Ord::max(1, (self + 500) / 1000)
            }
        }
        impl IntLane for $t {
            type Element = $t;
            const LANES: usize = 1;
            #[inline(always)]
            fn splat(x: i32) -> Self {
                x.into()
            }
            #[inline(always)]
            fn load(from: &[i32]) -> Self {
                from[0].into()
            }
            #[inline(always)]
            fn load_short(from: &[i16]) -> Self {
                from[0].into()
            }
            #[inline(always)]
            fn store(self, to: &mut [i32]) {
                to[0] = self as i32;
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn scaled(self, factor: Self, bits: u32) -> Self {
                ((i64::from(self) * i64::from(factor)) >> bits) as $t
            }
        }
    };
}
scalar_integer!(i32, u32);
scalar_integer!(i64, u64);

macro_rules! scalar_float {
    ($t:ty) => {
        impl Lane for $t {
            type Mask = bool;
            const EXACT: bool = false;
            sees_nothing!();
            #[inline(always)]
            fn zero(self) -> Self {
                0.0
            }
            #[inline(always)]
            fn one(self) -> Self {
                1.0
            }
            #[inline(always)]
            fn highest(self) -> Self {
                <$t>::INFINITY
            }
            #[inline(always)]
            fn lowest(self) -> Self {
                <$t>::NEG_INFINITY
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn ge(self, other: Self) -> bool {
                self >= other
            }
            #[inline(always)]
            fn or_else(self, mask: bool, other: Self) -> Self {
                if mask { self } else { other }
            }
            #[inline(always)]
            fn half(self) -> Self {
                self * 0.5
            }
            #[inline(always)]
            fn no_spike(self) -> Self {
                <$t>::INFINITY
            }
            #[inline(always)]
            fn no_silence(self) -> Self {
                <$t>::NEG_INFINITY
            }
            #[inline(always)]
            fn lower(self, excess: Self, fired: bool) -> Self {
                if fired && excess < self { excess } else { self }
            }
            #[inline(always)]
            fn raise(self, excess: Self, fired: bool) -> Self {
                if !fired && excess > self { excess } else { self }
            }
            #[inline(always)]
            fn any_spike(self) -> bool {
                self < <$t>::INFINITY
            }
            #[inline(always)]
            fn any_silence(self) -> bool {
                self > <$t>::NEG_INFINITY
            }
            #[inline(always)]
            fn thousandth(self) -> Self {
                self * 1e-3
            }
            #[inline(always)]
            fn epsilon(self, scale: Self) -> Self {
                let ulp = 4.0 * scale.abs() * <$t>::EPSILON;
                if self > ulp { self } else { ulp }
            }
        }
    };
}
scalar_float!(f32);
scalar_float!(f64);
