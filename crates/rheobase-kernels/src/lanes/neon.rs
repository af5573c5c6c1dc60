//! 8 lanes of i32 or f32, or 16 of i16, in two NEON registers: as many as AVX2 has in one.
//! Values of these types are made only inside `Isa::run`, which has seen the features; that makes every block sound.

use super::sums::sealed::Sealed;
use super::{FloatLane, IntLane, Lane, Mask, ShortLane, SumLane};
use std::arch::aarch64::*;

// SAFETY (every block of this file): NEON is there, see the module; loads and stores check their slice first, or their caller
// promises.

/// An instruction on numbers for each of the two registers.
macro_rules! both {
    ($f:ident $(::<$n:literal>)?, $($x:expr),+) => {
        unsafe { [$f $(::<$n>)? ($($x[0]),+), $f $(::<$n>)? ($($x[1]),+)] }
    };
}

/// 8 numbers.
#[derive(Clone, Copy)]
pub struct I32x8([int32x4_t; 2]);

/// All ones or all zeros per lane.
#[derive(Clone, Copy)]
pub struct Mask8([uint32x4_t; 2]);

impl Mask8 {
    /// The bit of every lane.
    #[inline(always)]
    fn places() -> [uint32x4_t; 2] {
        let (low, high) = ([1, 2, 4, 8], [16, 32, 64, 128]);
        unsafe { [vld1q_u32(low.as_ptr()), vld1q_u32(high.as_ptr())] }
    }
    /// Lanes that have one of these bits.
    #[inline(always)]
    fn of(numbers: [uint32x4_t; 2], bits: [uint32x4_t; 2]) -> Self {
        Mask8(both!(vtstq_u32, numbers, bits))
    }
}

impl Mask for Mask8 {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Mask8(both!(vandq_u32, self.0, other.0))
    }
    #[inline(always)]
    fn not(self) -> Self {
        Mask8(both!(vmvnq_u32, self.0))
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        let [low, high] = both!(vandq_u32, self.0, Self::places());
        unsafe { vaddvq_u32(vorrq_u32(low, high)).into() }
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Self::of(unsafe { [vdupq_n_u32(bits as u32); 2] }, Self::places())
    }
}

#[inline(always)]
fn splat(x: i32) -> I32x8 {
    I32x8(unsafe { [vdupq_n_s32(x); 2] })
}

impl I32x8 {
    #[inline(always)]
    fn unsigned(self) -> [uint32x4_t; 2] {
        both!(vreinterpretq_u32_s32, self.0)
    }
    #[inline(always)]
    fn signed(x: [uint32x4_t; 2]) -> Self {
        I32x8(both!(vreinterpretq_s32_u32, x))
    }
}

impl Lane for I32x8 {
    type Mask = Mask8;
    const EXACT: bool = true;
    sees_nothing!();
    #[inline(always)]
    fn zero(self) -> Self {
        splat(0)
    }
    #[inline(always)]
    fn one(self) -> Self {
        splat(1)
    }
    #[inline(always)]
    fn highest(self) -> Self {
        splat(i32::MAX)
    }
    #[inline(always)]
    fn lowest(self) -> Self {
        splat(i32::MIN)
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        I32x8(both!(vaddq_s32, self.0, other.0))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        I32x8(both!(vsubq_s32, self.0, other.0))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        I32x8(both!(vminq_s32, self.0, other.0))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        I32x8(both!(vmaxq_s32, self.0, other.0))
    }
    #[inline(always)]
    fn ge(self, other: Self) -> Mask8 {
        Mask8(both!(vcgeq_s32, self.0, other.0))
    }
    #[inline(always)]
    fn or_else(self, mask: Mask8, other: Self) -> Self {
        I32x8(both!(vbslq_s32, mask.0, self.0, other.0))
    }
    #[inline(always)]
    fn half(self) -> Self {
        I32x8(both!(vshrq_n_s32::<1>, self.0))
    }
    // As one lane: excesses are compared without their sign.
    #[inline(always)]
    fn no_spike(self) -> Self {
        splat(-1)
    }
    #[inline(always)]
    fn no_silence(self) -> Self {
        splat(0)
    }
    #[inline(always)]
    fn lower(self, excess: Self, _: Mask8) -> Self {
        Self::signed(both!(vminq_u32, self.unsigned(), excess.unsigned()))
    }
    #[inline(always)]
    fn raise(self, excess: Self, _: Mask8) -> Self {
        Self::signed(both!(vmaxq_u32, self.unsigned(), excess.unsigned()))
    }
    #[inline(always)]
    fn any_spike(self) -> Mask8 {
        Mask8(both!(vcgezq_s32, self.0))
    }
    #[inline(always)]
    fn any_silence(self) -> Mask8 {
        Mask8(both!(vcltzq_s32, self.0))
    }
    #[inline(always)]
    fn thousandth(self) -> Self {
        // (θ + 500) / 1000 as a product, exact for 32 bits without sign; a θ is at least 1
        let rounded = self.add(splat(500)).unsigned().map(|x| unsafe {
            let m = vdupq_n_u32(0x1062_4DD3);
            let (low, high) = (vmull_u32(vget_low_u32(x), vget_low_u32(m)), vmull_high_u32(x, m));
            vshrq_n_u32::<6>(vshrn_high_n_u64::<32>(vshrn_n_u64::<32>(low), high))
        });
        Self::signed(rounded).max(self.one())
    }
}

impl IntLane for I32x8 {
    type Element = i32;
    const LANES: usize = 8;
    #[inline(always)]
    fn splat(x: i32) -> Self {
        splat(x)
    }
    #[inline(always)]
    fn load(from: &[i32]) -> Self {
        let from = from[..8].as_ptr();
        I32x8(unsafe { [vld1q_s32(from), vld1q_s32(from.add(4))] })
    }
    #[inline(always)]
    fn load_short(from: &[i16]) -> Self {
        let from = from[..8].as_ptr();
        I32x8(unsafe {
            let short = vld1q_s16(from);
            [vmovl_s16(vget_low_s16(short)), vmovl_high_s16(short)]
        })
    }
    #[inline(always)]
    fn store(self, to: &mut [i32]) {
        let to = to[..8].as_mut_ptr();
        unsafe {
            vst1q_s32(to, self.0[0]);
            vst1q_s32(to.add(4), self.0[1]);
        }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        I32x8(both!(vmulq_s32, self.0, other.0))
    }
    #[inline(always)]
    fn scaled(self, factor: Self, bits: u32) -> Self {
        I32x8([0, 1].map(|i| unsafe {
            let (x, y, down) = (self.0[i], factor.0[i], vdupq_n_s64(-i64::from(bits)));
            let low = vshlq_s64(vmull_s32(vget_low_s32(x), vget_low_s32(y)), down);
            vmovn_high_s64(vmovn_s64(low), vshlq_s64(vmull_high_s32(x, y), down))
        }))
    }
}

/// 16 short numbers, whose sums and differences saturate.
#[derive(Clone, Copy)]
pub struct I16x16([int16x8_t; 2]);

/// All ones or all zeros per lane.
#[derive(Clone, Copy)]
pub struct Mask16([uint16x8_t; 2]);

impl Mask16 {
    /// The bit of every lane.
    #[inline(always)]
    fn places() -> [uint16x8_t; 2] {
        let (low, high) = ([1, 2, 4, 8, 16, 32, 64, 128], [256, 512, 1024, 2048, 4096, 8192, 16384, 32768]);
        unsafe { [vld1q_u16(low.as_ptr()), vld1q_u16(high.as_ptr())] }
    }
    /// Lanes that have one of these bits.
    #[inline(always)]
    fn of(numbers: [uint16x8_t; 2], bits: [uint16x8_t; 2]) -> Self {
        Mask16(both!(vtstq_u16, numbers, bits))
    }
}

impl Mask for Mask16 {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Mask16(both!(vandq_u16, self.0, other.0))
    }
    #[inline(always)]
    fn not(self) -> Self {
        Mask16(both!(vmvnq_u16, self.0))
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        let [low, high] = both!(vandq_u16, self.0, Self::places());
        unsafe { vaddvq_u16(vorrq_u16(low, high)).into() }
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Self::of(unsafe { [vdupq_n_u16(bits as u16); 2] }, Self::places())
    }
}

impl I16x16 {
    #[inline(always)]
    fn all(x: i16) -> Self {
        I16x16(unsafe { [vdupq_n_s16(x); 2] })
    }
    #[inline(always)]
    fn unsigned(self) -> [uint16x8_t; 2] {
        both!(vreinterpretq_u16_s16, self.0)
    }
    #[inline(always)]
    fn signed(x: [uint16x8_t; 2]) -> Self {
        I16x16(both!(vreinterpretq_s16_u16, x))
    }
}

impl Lane for I16x16 {
    type Mask = Mask16;
    const EXACT: bool = true;
    sees_its_range!();
    #[inline(always)]
    fn zero(self) -> Self {
        Self::all(0)
    }
    #[inline(always)]
    fn one(self) -> Self {
        Self::all(1)
    }
    #[inline(always)]
    fn highest(self) -> Self {
        Self::all(i16::MAX)
    }
    #[inline(always)]
    fn lowest(self) -> Self {
        Self::all(i16::MIN)
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        I16x16(both!(vqaddq_s16, self.0, other.0))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        I16x16(both!(vqsubq_s16, self.0, other.0))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        I16x16(both!(vminq_s16, self.0, other.0))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        I16x16(both!(vmaxq_s16, self.0, other.0))
    }
    #[inline(always)]
    fn ge(self, other: Self) -> Mask16 {
        Mask16(both!(vcgeq_s16, self.0, other.0))
    }
    #[inline(always)]
    fn or_else(self, mask: Mask16, other: Self) -> Self {
        I16x16(both!(vbslq_s16, mask.0, self.0, other.0))
    }
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, Mask16, Self) {
        let (excess, fired) = (I16x16(both!(vsubq_s16, self.0, theta.0)), self.ge(theta));
        (excess, fired, excess.or_else(fired, self))
    }
    #[inline(always)]
    fn half(self) -> Self {
        I16x16(both!(vshrq_n_s16::<1>, self.0))
    }
    #[inline(always)]
    fn no_spike(self) -> Self {
        Self::all(-1)
    }
    #[inline(always)]
    fn no_silence(self) -> Self {
        Self::all(0)
    }
    #[inline(always)]
    fn lower(self, excess: Self, _: Mask16) -> Self {
        Self::signed(both!(vminq_u16, self.unsigned(), excess.unsigned()))
    }
    #[inline(always)]
    fn raise(self, excess: Self, _: Mask16) -> Self {
        Self::signed(both!(vmaxq_u16, self.unsigned(), excess.unsigned()))
    }
    #[inline(always)]
    fn any_spike(self) -> Mask16 {
        Mask16(both!(vcgezq_s16, self.0))
    }
    #[inline(always)]
    fn any_silence(self) -> Mask16 {
        Mask16(both!(vcltzq_s16, self.0))
    }
    #[inline(always)]
    fn thousandth(self) -> Self {
        // (θ + 500) / 1000 = ((θ + 500) / 8) / 125 as a product, exact for 16 bits without sign
        let rounded = self.unsigned().map(|x| unsafe {
            let (x, m) = (vshrq_n_u16::<3>(vaddq_u16(x, vdupq_n_u16(500))), vdupq_n_u16(8389));
            let (low, high) = (vmull_u16(vget_low_u16(x), vget_low_u16(m)), vmull_high_u16(x, m));
            vshrq_n_u16::<4>(vshrn_high_n_u32::<16>(vshrn_n_u32::<16>(low), high))
        });
        Self::signed(rounded).max(self.one())
    }
}

impl ShortLane for I16x16 {
    const LANES: usize = 16;
    #[inline(always)]
    fn splat(x: i16) -> Self {
        Self::all(x)
    }
    #[inline(always)]
    fn load(from: &[i16]) -> Self {
        let from = from[..16].as_ptr();
        I16x16(unsafe { [vld1q_s16(from), vld1q_s16(from.add(8))] })
    }
    #[inline(always)]
    fn store_bits(self, to: &mut [u16]) {
        let to = to[..16].as_mut_ptr().cast();
        unsafe {
            vst1q_s16(to, self.0[0]);
            vst1q_s16(to.add(8), self.0[1]);
        }
    }
    #[inline(always)]
    fn mark(self, mask: Mask16, bit: Self) -> Self {
        let marked = both!(vandq_u16, mask.0, bit.unsigned());
        Self::signed(both!(vorrq_u16, self.unsigned(), marked))
    }
    #[inline(always)]
    fn held([low, high]: [I16x16; 2], lanes: Mask16) -> bool {
        let low = both!(vceqq_s16, low.0, Self::all(i16::MIN).0);
        let high = both!(vceqq_s16, high.0, Self::all(i16::MAX).0);
        let [a, b] = lanes.and(Mask16(both!(vorrq_u16, low, high))).0;
        unsafe { vmaxvq_u16(vorrq_u16(a, b)) == 0 }
    }
}

/// 8 f32.
#[derive(Clone, Copy)]
pub struct F32x8([float32x4_t; 2]);

impl FloatLane for F32x8 {
    type Mask = Mask8;
    const LANES: usize = 8;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        F32x8(unsafe { [vdupq_n_f32(x); 2] })
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..8];
        unsafe { Self::read(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..8];
        unsafe { self.write(to.as_mut_ptr()) }
    }
    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        F32x8(unsafe { [vld1q_f32(at), vld1q_f32(at.add(4))] })
    }
    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        unsafe {
            vst1q_f32(at, self.0[0]);
            vst1q_f32(at.add(4), self.0[1]);
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        F32x8(both!(vaddq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        F32x8(both!(vsubq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        F32x8(both!(vmulq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        F32x8(both!(vfmaq_f32, term.0, self.0, factor.0))
    }
    // As one lane: NEON's own min and max differ where a number is NaN and between 0 and -0.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.or_else(other.gt(self), other)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.or_else(self.gt(other), other)
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x8(both!(vrndmq_f32, self.0))
    }
    #[inline(always)]
    fn gt(self, other: Self) -> Mask8 {
        Mask8(both!(vcgtq_f32, self.0, other.0))
    }
    #[inline(always)]
    fn or_else(self, mask: Mask8, other: Self) -> Self {
        F32x8(both!(vbslq_f32, mask.0, self.0, other.0))
    }
}

// Sums wrap, so they are kept without their sign.
macro_rules! sums {
    ($name:ident, $doc:literal, $inner:ty, $element:ty, $unsigned:ty, $n:literal, $mask:ident, $splat:ident, $load:ident, $store:ident, $add:ident, |$from:ident| $widen:expr, $all:ident, $shift:ident, $or:ident, $and:ident, $times:ident, $bytes:ident, $back:ident, $each:literal, $first:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        pub struct $name([$inner; 2]);
        impl Sealed for $name {}
        impl SumLane for $name {
            type Element = $element;
            const LANES: usize = $n;
            #[inline(always)]
            fn splat(x: $element) -> Self {
                $name(unsafe { [$splat(x as $unsigned); 2] })
            }
            #[inline(always)]
            fn load(from: &[$element]) -> Self {
                let from = from[..$n].as_ptr();
                unsafe { Self::read(from) }
            }
            #[inline(always)]
            fn store(self, to: &mut [$element]) {
                let to = to[..$n].as_mut_ptr();
                unsafe { self.write(to) }
            }
            #[inline(always)]
            unsafe fn read(at: *const $element) -> Self {
                $name(unsafe { [$load(at.cast()), $load(at.add($n / 2).cast())] })
            }
            #[inline(always)]
            unsafe fn write(self, at: *mut $element) {
                unsafe {
                    $store(at.cast(), self.0[0]);
                    $store(at.add($n / 2).cast(), self.0[1]);
                }
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                $name(both!($add, self.0, other.0))
            }
            #[inline(always)]
            fn keep(self, bits: u32) -> Self {
                $name(both!($and, self.0, $mask::from_bits(bits.into()).0))
            }
            #[inline(always)]
            fn bits(from: &[u16]) -> Self {
                let from = from[..$n].as_ptr();
                unsafe { Self::read_bits(from) }
            }
            #[inline(always)]
            unsafe fn read_bits($from: *const u16) -> Self {
                $name(unsafe { $widen })
            }
            #[inline(always)]
            fn down(self, by: u32) -> Self {
                let by = unsafe { [$all(-(by as $element)); 2] };
                $name(both!($shift, self.0, by))
            }
            #[inline(always)]
            fn or(self, other: Self, mask: u16) -> Self {
                let mask = unsafe { [$splat(mask.into()); 2] };
                let other = both!($and, other.0, mask);
                $name(both!($or, self.0, other))
            }
            #[inline(always)]
            fn has(self, bit: u32) -> u32 {
                $mask::of(self.0, unsafe { [$splat(1 << bit); 2] }).bits() as u32
            }
            #[inline(always)]
            fn look(table: [Self; 2], index: Self) -> Self {
                // four registers of bytes: the places of a number's follow from its first one's
                let [[a, b], [c, d]] = table.map(|t| both!($bytes, t.0));
                let table = uint8x16x4_t(a, b, c, d);
                $name(index.0.map(|index| unsafe {
                    let places = $times($splat($first), $and(index, $splat(2 * $n - 1)), $splat($each));
                    $back(vqtbl4q_u8(table, $bytes(places)))
                }))
            }
        }
    };
}
sums!(
    Sum32x8,
    "8 i32 in two NEON registers.",
    uint32x4_t,
    i32,
    u32,
    8,
    Mask8,
    vdupq_n_u32,
    vld1q_u32,
    vst1q_u32,
    vaddq_u32,
    |from| {
        let short = vld1q_u16(from);
        [vmovl_u16(vget_low_u16(short)), vmovl_high_u16(short)]
    },
    vdupq_n_s32,
    vshlq_u32,
    vorrq_u32,
    vandq_u32,
    vmlaq_u32,
    vreinterpretq_u8_u32,
    vreinterpretq_u32_u8,
    0x0404_0404,
    0x0302_0100
);
sums!(
    Sum16x16,
    "16 i16 in two NEON registers.",
    uint16x8_t,
    i16,
    u16,
    16,
    Mask16,
    vdupq_n_u16,
    vld1q_u16,
    vst1q_u16,
    vaddq_u16,
    |from| [vld1q_u16(from), vld1q_u16(from.add(8))],
    vdupq_n_s16,
    vshlq_u16,
    vorrq_u16,
    vandq_u16,
    vmlaq_u16,
    vreinterpretq_u8_u16,
    vreinterpretq_u16_u8,
    0x0202,
    0x0100
);

impl Sum32x8 {
    /// Of two numbers of 16 bits a lane the products, added.
    #[inline(always)]
    pub fn products(self, other: Self) -> Self {
        let (a, b) = (both!(vreinterpretq_s16_u32, self.0), both!(vreinterpretq_s16_u32, other.0));
        let low = |a, b| unsafe { vmull_s16(vget_low_s16(a), vget_low_s16(b)) };
        let high = |a, b| unsafe { vmull_high_s16(a, b) };
        let pairs = |a, b| unsafe { vreinterpretq_u32_s32(vpaddq_s32(low(a, b), high(a, b))) };
        Sum32x8([pairs(a[0], b[0]), pairs(a[1], b[1])])
    }
}
