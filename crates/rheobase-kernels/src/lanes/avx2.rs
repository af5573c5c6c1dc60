//! 8 lanes of i32 or f32 in an AVX2 register.
//! Values of these types are made only inside `Isa::run`, which has seen the features; that makes every block sound.

use super::{FloatLane, IntLane, Lane, Mask, ShortLane};
use std::arch::x86_64::*;

/// 8 numbers.
#[derive(Clone, Copy)]
pub struct I32x8(__m256i);

/// All ones or all zeros per lane.
#[derive(Clone, Copy)]
pub struct Mask8(__m256i);

// SAFETY (every block of this file): AVX2 is there, see the module; loads and stores check their slice first.
impl Mask for Mask8 {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Mask8(unsafe { _mm256_and_si256(self.0, other.0) })
    }
    #[inline(always)]
    fn not(self) -> Self {
        Mask8(unsafe { _mm256_xor_si256(self.0, _mm256_set1_epi32(-1)) })
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(self.0)) as u64 }
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Mask8(unsafe {
            let place = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), place), place)
        })
    }
}

#[inline(always)]
fn splat(x: i32) -> I32x8 {
    I32x8(unsafe { _mm256_set1_epi32(x) })
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
        I32x8(unsafe { _mm256_add_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        I32x8(unsafe { _mm256_sub_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        I32x8(unsafe { _mm256_min_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        I32x8(unsafe { _mm256_max_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn ge(self, other: Self) -> Mask8 {
        Mask8(unsafe { _mm256_cmpgt_epi32(other.0, self.0) }).not()
    }
    #[inline(always)]
    fn or_else(self, mask: Mask8, other: Self) -> Self {
        I32x8(unsafe { _mm256_blendv_epi8(other.0, self.0, mask.0) })
    }
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, Mask8, Self) {
        // by the sign, which needs no mask to be made first
        let excess = self.sub(theta);
        let after = unsafe {
            let (m, u) = (_mm256_castsi256_ps(self.0), _mm256_castsi256_ps(excess.0));
            _mm256_castps_si256(_mm256_blendv_ps(u, m, u))
        };
        (excess, Mask8(unsafe { _mm256_cmpgt_epi32(excess.0, _mm256_set1_epi32(-1)) }), I32x8(after))
    }
    #[inline(always)]
    fn fire(self, theta: Self) -> (Mask8, Self) {
        let (_, fired, after) = self.reset(theta);
        (fired, after)
    }
    #[inline(always)]
    fn half(self) -> Self {
        I32x8(unsafe { _mm256_srai_epi32::<1>(self.0) })
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
        I32x8(unsafe { _mm256_min_epu32(self.0, excess.0) })
    }
    #[inline(always)]
    fn raise(self, excess: Self, _: Mask8) -> Self {
        I32x8(unsafe { _mm256_max_epu32(self.0, excess.0) })
    }
    #[inline(always)]
    fn any_spike(self) -> Mask8 {
        Mask8(unsafe { _mm256_cmpgt_epi32(self.0, _mm256_set1_epi32(-1)) })
    }
    #[inline(always)]
    fn any_silence(self) -> Mask8 {
        Mask8(unsafe { _mm256_cmpgt_epi32(_mm256_setzero_si256(), self.0) })
    }
    #[inline(always)]
    fn thousandth(self) -> Self {
        // (θ + 500) / 1000 as a product, exact for 32 bits without sign; a θ is at least 1
        let rounded = unsafe {
            let (x, m) = (_mm256_add_epi32(self.0, _mm256_set1_epi32(500)), _mm256_set1_epi32(0x1062_4DD3));
            let even = _mm256_srli_epi64::<38>(_mm256_mul_epu32(x, m));
            let odd = _mm256_srli_epi64::<38>(_mm256_mul_epu32(_mm256_srli_epi64::<32>(x), m));
            _mm256_or_si256(even, _mm256_slli_epi64::<32>(odd))
        };
        I32x8(rounded).max(self.one())
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
        let from = &from[..8];
        I32x8(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_short(from: &[i16]) -> Self {
        let from = &from[..8];
        I32x8(unsafe { _mm256_cvtepi16_epi32(_mm_loadu_si128(from.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store(self, to: &mut [i32]) {
        let to = &mut to[..8];
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        I32x8(unsafe { _mm256_mullo_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn scaled(self, factor: Self, bits: u32) -> Self {
        // Products of the even and of the odd lanes; the low half of each, shifted, goes back to its lane.
        I32x8(unsafe {
            let even = _mm256_mul_epi32(self.0, factor.0);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(self.0), _mm256_srli_epi64::<32>(factor.0));
            let even = _mm256_srl_epi64(even, _mm_cvtsi32_si128(bits as i32));
            let odd = _mm256_sll_epi64(odd, _mm_cvtsi32_si128(32 - bits as i32));
            _mm256_blend_epi32::<0b1010_1010>(even, odd)
        })
    }
}

/// 16 short numbers, whose sums and differences saturate.
#[derive(Clone, Copy)]
pub struct I16x16(__m256i);

/// All zeros per lane that says yes, all ones elsewhere: comparisons are made that way round.
#[derive(Clone, Copy)]
pub struct Mask16(__m256i);

impl Mask for Mask16 {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Mask16(unsafe { _mm256_or_si256(self.0, other.0) })
    }
    #[inline(always)]
    fn not(self) -> Self {
        Mask16(unsafe { _mm256_xor_si256(self.0, _mm256_set1_epi32(-1)) })
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        unsafe {
            let (low, high) = (_mm256_castsi256_si128(self.0), _mm256_extracti128_si256::<1>(self.0));
            !_mm_movemask_epi8(_mm_packs_epi16(low, high)) as u64 & 0xffff
        }
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Mask16(unsafe {
            let place = _mm256_setr_epi16(
                1,
                2,
                4,
                8,
                16,
                32,
                64,
                128,
                256,
                512,
                1024,
                2048,
                4096,
                8192,
                16384,
                i16::MIN,
            );
            let set = _mm256_and_si256(_mm256_set1_epi16(bits as i16), place);
            _mm256_cmpeq_epi16(set, _mm256_setzero_si256())
        })
    }
    #[inline(always)]
    fn both_bits(self, second: Self) -> u64 {
        // eight lanes of one, eight of the other, and again
        let both = unsafe { !_mm256_movemask_epi8(_mm256_packs_epi16(self.0, second.0)) as u64 };
        both & 0xff | both >> 8 & 0xff00 | (both & 0xff00) << 24 | (both & 0xff00_0000) << 16
    }
}

impl I16x16 {
    #[inline(always)]
    fn all(x: i16) -> Self {
        I16x16(unsafe { _mm256_set1_epi16(x) })
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
        I16x16(unsafe { _mm256_adds_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        I16x16(unsafe { _mm256_subs_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        I16x16(unsafe { _mm256_min_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        I16x16(unsafe { _mm256_max_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn ge(self, other: Self) -> Mask16 {
        Mask16(unsafe { _mm256_cmpgt_epi16(other.0, self.0) })
    }
    #[inline(always)]
    fn or_else(self, mask: Mask16, other: Self) -> Self {
        I16x16(unsafe { _mm256_blendv_epi8(self.0, other.0, mask.0) })
    }
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, Mask16, Self) {
        let excess = I16x16(unsafe { _mm256_sub_epi16(self.0, theta.0) });
        let fired = self.ge(theta);
        (excess, fired, excess.or_else(fired, self))
    }
    #[inline(always)]
    fn half(self) -> Self {
        I16x16(unsafe { _mm256_srai_epi16::<1>(self.0) })
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
        I16x16(unsafe { _mm256_min_epu16(self.0, excess.0) })
    }
    #[inline(always)]
    fn raise(self, excess: Self, _: Mask16) -> Self {
        I16x16(unsafe { _mm256_max_epu16(self.0, excess.0) })
    }
    #[inline(always)]
    fn any_spike(self) -> Mask16 {
        Mask16(unsafe { _mm256_srai_epi16::<15>(self.0) })
    }
    #[inline(always)]
    fn any_silence(self) -> Mask16 {
        Mask16(unsafe { _mm256_srai_epi16::<15>(self.0) }).not()
    }
    #[inline(always)]
    fn thousandth(self) -> Self {
        // (θ + 500) / 1000 = ((θ + 500) / 8) / 125 as a product, exact for 16 bits without sign
        let rounded = unsafe {
            let x = _mm256_srli_epi16::<3>(_mm256_add_epi16(self.0, _mm256_set1_epi16(500)));
            _mm256_srli_epi16::<4>(_mm256_mulhi_epu16(x, _mm256_set1_epi16(8389)))
        };
        I16x16(rounded).max(self.one())
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
        let from = &from[..16];
        I16x16(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
    }
    #[inline(always)]
    fn store_bits(self, to: &mut [u16]) {
        let to = &mut to[..16];
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn mark(self, mask: Mask16, bit: Self) -> Self {
        I16x16(unsafe { _mm256_or_si256(self.0, _mm256_andnot_si256(mask.0, bit.0)) })
    }
    #[inline(always)]
    fn held([low, high]: [I16x16; 2], lanes: Mask16) -> bool {
        unsafe {
            let low = _mm256_cmpeq_epi16(low.0, _mm256_set1_epi16(i16::MIN));
            let left = _mm256_or_si256(low, _mm256_cmpeq_epi16(high.0, _mm256_set1_epi16(i16::MAX)));
            _mm256_testc_si256(lanes.0, left) == 1
        }
    }
}

/// 8 f32.
#[derive(Clone, Copy)]
pub struct F32x8(__m256);

impl FloatLane for F32x8 {
    type Mask = Mask8;
    const LANES: usize = 8;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        F32x8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..8];
        F32x8(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..8];
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        F32x8(unsafe { _mm256_loadu_ps(at) })
    }
    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        unsafe { _mm256_storeu_ps(at, self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        F32x8(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x8(unsafe { _mm256_floor_ps(self.0) })
    }
    #[inline(always)]
    fn gt(self, other: Self) -> Mask8 {
        Mask8(unsafe { _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)) })
    }
    #[inline(always)]
    fn or_else(self, mask: Mask8, other: Self) -> Self {
        F32x8(unsafe { _mm256_blendv_ps(other.0, self.0, _mm256_castsi256_ps(mask.0)) })
    }
}
