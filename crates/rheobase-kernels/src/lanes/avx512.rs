//! 16 lanes of i32 or f32, 32 of i16 or 8 of i64 in an AVX-512 register.
//! Masks are mask registers, those of 16-bit lanes vectors.
//! Values of these types are made only inside `Isa::run`, which has seen the features; that makes every block sound.

use super::{FloatLane, IntLane, Lane, Mask, ShortLane};
use std::arch::x86_64::*;

/// 16 numbers.
#[derive(Clone, Copy)]
pub struct I32x16(__m512i);

/// 8 wide numbers.
#[derive(Clone, Copy)]
pub struct I64x8(__m512i);

macro_rules! mask {
    ($bits:ty) => {
        impl Mask for $bits {
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
                bits as $bits
            }
        }
    };
}
mask!(u8);
mask!(u16);

/// Numbers below 0 say no, all others yes: so an excess is one. Other bits than the sign say nothing. What goes through a mask register
/// takes twice as long or longer, and two registers of neurons wait for it where one finds enough else to do.
#[derive(Clone, Copy)]
pub struct Mask32(__m512i);

impl Mask32 {
    /// All ones in lanes that say no.
    #[inline(always)]
    fn silent(self) -> __m512i {
        unsafe { _mm512_srai_epi16::<15>(self.0) }
    }
}

impl Mask for Mask32 {
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Mask32(unsafe { _mm512_or_si512(self.0, other.0) })
    }
    #[inline(always)]
    fn not(self) -> Self {
        Mask32(unsafe { _mm512_xor_si512(self.0, _mm512_set1_epi32(-1)) })
    }
    #[inline(always)]
    fn bits(self) -> u64 {
        unsafe { !_mm512_movepi16_mask(self.0) }.into()
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Mask32(unsafe { _mm512_movm_epi16(!(bits as u32)) })
    }
}

/// Bits of the second where the first is set, of the third elsewhere.
const SELECT: i32 = 0xca;

macro_rules! lanes {
    ($name:ident, $mask:ty, $element:ty, $n:expr, $set1:ident, $add:ident, $sub:ident, $less_theta:ident, $min:ident, $max:ident, $ge:ident, $blend:ident, $half:ident, $minu:ident, $maxu:ident, $less:ident, $sign:ident, |$x:ident| $epsilon:expr) => {
        // SAFETY (every block of this file): AVX-512 is there, see the module; loads and stores check their slice.
        impl Lane for $name {
            type Mask = $mask;
            const EXACT: bool = true;
            sees_nothing!();
            #[inline(always)]
            fn zero(self) -> Self {
                $name(unsafe { $set1(0) })
            }
            #[inline(always)]
            fn one(self) -> Self {
                $name(unsafe { $set1(1) })
            }
            #[inline(always)]
            fn highest(self) -> Self {
                $name(unsafe { $set1(<$element>::MAX) })
            }
            #[inline(always)]
            fn lowest(self) -> Self {
                $name(unsafe { $set1(<$element>::MIN) })
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                $name(unsafe { $add(self.0, other.0) })
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                $name(unsafe { $sub(self.0, other.0) })
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                $name(unsafe { $min(self.0, other.0) })
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $name(unsafe { $max(self.0, other.0) })
            }
            #[inline(always)]
            fn ge(self, other: Self) -> $mask {
                unsafe { $ge(self.0, other.0) }
            }
            #[inline(always)]
            fn or_else(self, mask: $mask, other: Self) -> Self {
                $name(unsafe { $blend(mask, other.0, self.0) })
            }
            #[inline(always)]
            fn reset(self, theta: Self) -> (Self, $mask, Self) {
                // In vectors: what goes through a mask register takes twice as long.
                unsafe {
                    let excess = $sub(self.0, theta.0);
                    let silent = $half::<{ <$element>::BITS - 1 }>(excess);
                    let after = _mm512_ternarylogic_epi64::<SELECT>(silent, self.0, excess);
                    ($name(excess), !$sign(excess), $name(after))
                }
            }
            #[inline(always)]
            fn fire(self, theta: Self) -> ($mask, Self) {
                // The mask is wanted here: fewer instructions, though they take longer.
                let fired = self.ge(theta);
                (fired, $name(unsafe { $less_theta(self.0, fired, self.0, theta.0) }))
            }
            #[inline(always)]
            fn half(self) -> Self {
                $name(unsafe { $half::<1>(self.0) })
            }
            // As one lane: excesses are compared without their sign.
            #[inline(always)]
            fn no_spike(self) -> Self {
                $name(unsafe { $set1(-1) })
            }
            #[inline(always)]
            fn no_silence(self) -> Self {
                $name(unsafe { $set1(0) })
            }
            #[inline(always)]
            fn lower(self, excess: Self, _: $mask) -> Self {
                $name(unsafe { $minu(self.0, excess.0) })
            }
            #[inline(always)]
            fn raise(self, excess: Self, _: $mask) -> Self {
                $name(unsafe { $maxu(self.0, excess.0) })
            }
            #[inline(always)]
            fn any_spike(self) -> $mask {
                unsafe { $ge(self.0, $set1(0)) }
            }
            #[inline(always)]
            fn any_silence(self) -> $mask {
                unsafe { $less(self.0, $set1(0)) }
            }
            #[inline(always)]
            fn thousandth(self) -> Self {
                // (θ + 500) / 1000 as a product, exact for 32 bits without sign; a θ is at least 1
                let $x = self.0;
                $name(unsafe { $epsilon }).max(self.one())
            }
        }
    };
}
lanes!(
    I32x16,
    u16,
    i32,
    16,
    _mm512_set1_epi32,
    _mm512_add_epi32,
    _mm512_sub_epi32,
    _mm512_mask_sub_epi32,
    _mm512_min_epi32,
    _mm512_max_epi32,
    _mm512_cmpge_epi32_mask,
    _mm512_mask_blend_epi32,
    _mm512_srai_epi32,
    _mm512_min_epu32,
    _mm512_max_epu32,
    _mm512_cmplt_epi32_mask,
    _mm512_movepi32_mask,
    |theta| {
        let (x, m) = (_mm512_add_epi32(theta, _mm512_set1_epi32(500)), _mm512_set1_epi32(0x1062_4DD3));
        let even = _mm512_srli_epi64::<38>(_mm512_mul_epu32(x, m));
        let odd = _mm512_srli_epi64::<38>(_mm512_mul_epu32(_mm512_srli_epi64::<32>(x), m));
        _mm512_or_si512(even, _mm512_slli_epi64::<32>(odd))
    }
);
lanes!(
    I64x8,
    u8,
    i64,
    8,
    _mm512_set1_epi64,
    _mm512_add_epi64,
    _mm512_sub_epi64,
    _mm512_mask_sub_epi64,
    _mm512_min_epi64,
    _mm512_max_epi64,
    _mm512_cmpge_epi64_mask,
    _mm512_mask_blend_epi64,
    _mm512_srai_epi64,
    _mm512_min_epu64,
    _mm512_max_epu64,
    _mm512_cmplt_epi64_mask,
    _mm512_movepi64_mask,
    |theta| {
        let x = _mm512_add_epi64(theta, _mm512_set1_epi64(500));
        _mm512_srli_epi64::<38>(_mm512_mul_epu32(x, _mm512_set1_epi64(0x1062_4DD3)))
    }
);

impl IntLane for I32x16 {
    type Element = i32;
    const LANES: usize = 16;
    #[inline(always)]
    fn splat(x: i32) -> Self {
        I32x16(unsafe { _mm512_set1_epi32(x) })
    }
    #[inline(always)]
    fn load(from: &[i32]) -> Self {
        let from = &from[..16];
        I32x16(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }
    #[inline(always)]
    fn load_short(from: &[i16]) -> Self {
        let from = &from[..16];
        I32x16(unsafe { _mm512_cvtepi16_epi32(_mm256_loadu_si256(from.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store(self, to: &mut [i32]) {
        let to = &mut to[..16];
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        I32x16(unsafe { _mm512_mullo_epi32(self.0, other.0) })
    }
    #[inline(always)]
    fn scaled(self, factor: Self, bits: u32) -> Self {
        // Products of the even and of the odd lanes; the low half of each, shifted, goes back to its lane.
        I32x16(unsafe {
            let even = _mm512_mul_epi32(self.0, factor.0);
            let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(self.0), _mm512_srli_epi64::<32>(factor.0));
            let even = _mm512_srl_epi64(even, _mm_cvtsi32_si128(bits as i32));
            let odd = _mm512_sll_epi64(odd, _mm_cvtsi32_si128(32 - bits as i32));
            _mm512_mask_blend_epi32(0b1010_1010_1010_1010, even, odd)
        })
    }
}

impl IntLane for I64x8 {
    type Element = i64;
    const LANES: usize = 8;
    #[inline(always)]
    fn splat(x: i32) -> Self {
        I64x8(unsafe { _mm512_set1_epi64(x.into()) })
    }
    #[inline(always)]
    fn load(from: &[i32]) -> Self {
        let from = &from[..8];
        I64x8(unsafe { _mm512_cvtepi32_epi64(_mm256_loadu_si256(from.as_ptr().cast())) })
    }
    #[inline(always)]
    fn load_short(from: &[i16]) -> Self {
        let from = &from[..8];
        I64x8(unsafe { _mm512_cvtepi16_epi64(_mm_loadu_si128(from.as_ptr().cast())) })
    }
    #[inline(always)]
    fn store(self, to: &mut [i32]) {
        let to = &mut to[..8];
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(self.0)) }
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        I64x8(unsafe { _mm512_mullo_epi64(self.0, other.0) })
    }
    #[inline(always)]
    fn scaled(self, factor: Self, bits: u32) -> Self {
        I64x8(unsafe {
            _mm512_sra_epi64(_mm512_mullo_epi64(self.0, factor.0), _mm_cvtsi32_si128(bits as i32))
        })
    }
}

/// 32 short numbers, whose sums and differences saturate.
#[derive(Clone, Copy)]
pub struct I16x32(__m512i);

impl I16x32 {
    #[inline(always)]
    fn all(x: i16) -> Self {
        I16x32(unsafe { _mm512_set1_epi16(x) })
    }
}

impl Lane for I16x32 {
    type Mask = Mask32;
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
        I16x32(unsafe { _mm512_adds_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        I16x32(unsafe { _mm512_subs_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        I16x32(unsafe { _mm512_min_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        I16x32(unsafe { _mm512_max_epi16(self.0, other.0) })
    }
    #[inline(always)]
    fn ge(self, other: Self) -> Mask32 {
        // a difference that saturates has the right sign
        self.sub(other).any_spike()
    }
    #[inline(always)]
    fn or_else(self, mask: Mask32, other: Self) -> Self {
        I16x32(unsafe { _mm512_ternarylogic_epi64::<SELECT>(mask.silent(), other.0, self.0) })
    }
    #[inline(always)]
    fn reset(self, theta: Self) -> (Self, Mask32, Self) {
        let excess = I16x32(unsafe { _mm512_sub_epi16(self.0, theta.0) });
        let fired = excess.any_spike();
        (excess, fired, excess.or_else(fired, self))
    }
    #[inline(always)]
    fn fire(self, theta: Self) -> (Mask32, Self) {
        // as above
        let fired = unsafe { _mm512_cmpge_epi16_mask(self.0, theta.0) };
        let after = unsafe { _mm512_mask_sub_epi16(self.0, fired, self.0, theta.0) };
        (Mask32::from_bits(fired.into()), I16x32(after))
    }
    #[inline(always)]
    fn half(self) -> Self {
        I16x32(unsafe { _mm512_srai_epi16::<1>(self.0) })
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
    fn lower(self, excess: Self, _: Mask32) -> Self {
        I16x32(unsafe { _mm512_min_epu16(self.0, excess.0) })
    }
    #[inline(always)]
    fn raise(self, excess: Self, _: Mask32) -> Self {
        I16x32(unsafe { _mm512_max_epu16(self.0, excess.0) })
    }
    #[inline(always)]
    fn any_spike(self) -> Mask32 {
        Mask32(self.0)
    }
    #[inline(always)]
    fn any_silence(self) -> Mask32 {
        self.any_spike().not()
    }
    #[inline(always)]
    fn thousandth(self) -> Self {
        // (θ + 500) / 1000 = ((θ + 500) / 8) / 125 as a product, exact for 16 bits without sign
        let rounded = unsafe {
            let x = _mm512_srli_epi16::<3>(_mm512_add_epi16(self.0, _mm512_set1_epi16(500)));
            _mm512_srli_epi16::<4>(_mm512_mulhi_epu16(x, _mm512_set1_epi16(8389)))
        };
        I16x32(rounded).max(self.one())
    }
}

impl ShortLane for I16x32 {
    const LANES: usize = 32;
    #[inline(always)]
    fn splat(x: i16) -> Self {
        Self::all(x)
    }
    #[inline(always)]
    fn load(from: &[i16]) -> Self {
        let from = &from[..32];
        I16x32(unsafe { _mm512_loadu_si512(from.as_ptr().cast()) })
    }
    #[inline(always)]
    fn store_bits(self, to: &mut [u16]) {
        let to = &mut to[..32];
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), self.0) }
    }
    #[inline(always)]
    fn mark(self, mask: Mask32, bit: Self) -> Self {
        // what is here, or the bit where the mask is not set
        I16x32(unsafe { _mm512_ternarylogic_epi64::<0xf4>(self.0, bit.0, mask.silent()) })
    }
    #[inline(always)]
    fn held([low, high]: [I16x32; 2], lanes: Mask32) -> bool {
        let left = unsafe {
            _mm512_cmpeq_epi16_mask(low.0, _mm512_set1_epi16(i16::MIN))
                | _mm512_cmpeq_epi16_mask(high.0, _mm512_set1_epi16(i16::MAX))
        };
        u64::from(left) & lanes.bits() == 0
    }
}

/// 16 f32.
#[derive(Clone, Copy)]
pub struct F32x16(__m512);

impl FloatLane for F32x16 {
    type Mask = u16;
    const LANES: usize = 16;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        F32x16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..16];
        F32x16(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..16];
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        F32x16(unsafe { _mm512_loadu_ps(at) })
    }
    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        unsafe { _mm512_storeu_ps(at, self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        F32x16(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x16(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn gt(self, other: Self) -> u16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn or_else(self, mask: u16, other: Self) -> Self {
        F32x16(unsafe { _mm512_mask_blend_ps(mask, other.0, self.0) })
    }
}
