//! Which instruction sets this machine has.
//! In: nothing, or a name. Out: an [`Isa`], a token that exists only where the machine has that instruction set.

use crate::events::{Entry, TOGETHER, halves};
use crate::lanes::SumLane;

/// An instruction set that this machine has; holding one proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// Work to be compiled for an instruction set: `run` must be `#[inline(always)]`, so that it takes on the features of
/// the function that calls it.
pub trait Job {
    /// What it yields.
    type Out;
    /// Does it with the lanes of one instruction set.
    fn run<V: Vectors>(self) -> Self::Out;
}

/// The lane types of one instruction set.
pub trait Vectors: Sized {
    /// How many lanes of sums stay in registers.
    const REGISTERS: usize;
    /// As many i32 as a register holds.
    type I32: crate::lanes::IntLane<Element = i32>;
    /// As many i16 as a register holds.
    type I16: crate::lanes::ShortLane;
    /// i64 for long runs.
    type I64: crate::lanes::IntLane<Element = i64>;
    /// f32 for training.
    type F32: crate::lanes::FloatLane;
    /// i32 that are added.
    type Sum32: crate::lanes::SumLane<Element = i32>;
    /// i16 that are added.
    type Sum16: crate::lanes::SumLane<Element = i16>;
    /// The same, at most 16 of them.
    type Half16: crate::lanes::SumLane<Element = i16>;
    /// Sums and two products more each: the lanes of `a` and `b` are read as two numbers of 16 bits; wrapping.
    fn products(sums: Self::Sum32, a: Self::Sum32, b: Self::Sum32) -> Self::Sum32;
    /// Writes `base` plus the place of every bit that is set, in order, then anything.
    ///
    /// # Safety
    /// 16 numbers can be written.
    unsafe fn places(bits: u16, base: u32, to: *mut u32);
    /// The same in 16 bits, wrapping.
    ///
    /// # Safety
    /// 16 numbers can be written.
    #[inline(always)]
    unsafe fn places_short(bits: u16, base: u16, to: *mut u16) {
        let mut n = 0;
        for (byte, base) in bits.to_le_bytes().into_iter().zip([base, base.wrapping_add(8)]) {
            for place in PLACES[usize::from(byte)].iter().take(byte.count_ones() as usize) {
                // SAFETY: as many numbers as bits.
                unsafe { to.add(n).write(base.wrapping_add(u16::from(*place))) };
                n += 1;
            }
        }
    }
    /// Writes `(base + place) << TOGETHER | steps` for every bit that is set, in order, then anything; bit s of `steps` is that bit of `trains[s]`.
    ///
    /// # Safety
    /// 16 numbers can be written.
    #[inline(always)]
    unsafe fn trains<T: Entry>(bits: u16, trains: [u16; TOGETHER], base: u32, to: *mut T) {
        let (mut left, mut n) = (bits, 0);
        while left != 0 {
            let place = left.trailing_zeros();
            let mut entry = (base + place) << TOGETHER;
            for (s, bits) in trains.into_iter().enumerate() {
                entry |= u32::from(bits >> place & 1) << s;
            }
            // SAFETY: as many numbers as bits.
            unsafe { to.add(n).write(T::cut(entry)) };
            n += 1;
            left &= left - 1;
        }
    }
    /// As `places_short` for 32 bits.
    ///
    /// # Safety
    /// 32 numbers can be written.
    #[inline(always)]
    unsafe fn places_wide(bits: u32, base: u16, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { halves::<u16, Self>(bits, base.into(), to) }
    }
}

/// The places of the bits of every byte, in order; zeros behind them.
static PLACES: [[u8; 8]; 256] = places();

const fn places() -> [[u8; 8]; 256] {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut n, mut bit) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                all[byte][n] = bit as u8;
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    all
}

/// The places of the bits of the low and of the high byte, and how many the low one has.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn places_of(bits: u16) -> (&'static [u8; 8], &'static [u8; 8], usize) {
    let [low, high] = bits.to_le_bytes();
    (&PLACES[usize::from(low)], &PLACES[usize::from(high)], low.count_ones() as usize)
}

/// One lane: the definition.
pub struct Scalar;
impl Vectors for Scalar {
    // as if they did: the definition of what is listed and swept as trains
    const REGISTERS: usize = 32;
    type I32 = i32;
    type I16 = i16;
    type I64 = i64;
    type F32 = f32;
    type Sum32 = i32;
    type Sum16 = i16;
    type Half16 = i16;
    #[inline(always)]
    fn products(sum: i32, a: i32, b: i32) -> i32 {
        let low = i32::from(a as i16) * i32::from(b as i16);
        sum.wrapping_add(low).wrapping_add((a >> 16) * (b >> 16))
    }
    #[inline(always)]
    unsafe fn places(bits: u16, base: u32, to: *mut u32) {
        let mut n = 0;
        for (byte, base) in bits.to_le_bytes().into_iter().zip([base, base + 8]) {
            for place in PLACES[usize::from(byte)].iter().take(byte.count_ones() as usize) {
                // SAFETY: as many numbers as bits.
                unsafe { to.add(n).write(base + u32::from(*place)) };
                n += 1;
            }
        }
    }
}

/// 8 lanes.
#[cfg(target_arch = "x86_64")]
struct Avx2;
#[cfg(target_arch = "x86_64")]
impl Vectors for Avx2 {
    const REGISTERS: usize = 16;
    type I32 = crate::lanes::avx2::I32x8;
    type I16 = crate::lanes::avx2::I16x16;
    type I64 = i64;
    type F32 = crate::lanes::avx2::F32x8;
    type Sum32 = crate::lanes::Sum32x8;
    type Sum16 = crate::lanes::Sum16x16;
    type Half16 = crate::lanes::Sum16x16;
    #[inline(always)]
    fn products(sums: Self::Sum32, a: Self::Sum32, b: Self::Sum32) -> Self::Sum32 {
        sums.plus(a.products(b))
    }
    #[inline(always)]
    unsafe fn places(bits: u16, base: u32, to: *mut u32) {
        use std::arch::x86_64::*;
        let (low, high, begun) = places_of(bits);
        // SAFETY: AVX2 is there, see `Isa`; at most 8 numbers lie before the last 8.
        unsafe {
            let first = _mm256_cvtepu8_epi32(_mm_loadl_epi64(low.as_ptr().cast()));
            let second = _mm256_cvtepu8_epi32(_mm_loadl_epi64(high.as_ptr().cast()));
            let base = _mm256_set1_epi32(base as i32);
            _mm256_storeu_si256(to.cast(), _mm256_add_epi32(first, base));
            let base = _mm256_add_epi32(base, _mm256_set1_epi32(8));
            _mm256_storeu_si256(to.add(begun).cast(), _mm256_add_epi32(second, base));
        }
    }
    #[inline(always)]
    unsafe fn places_short(bits: u16, base: u16, to: *mut u16) {
        // SAFETY: the caller's promise; the features are there, see `Isa`.
        unsafe { places_by_eight(bits, base, to) }
    }
}

/// Places of the bits of both bytes, eight numbers of 16 bits at a time.
///
/// # Safety
/// AVX2 is there, and 16 numbers can be written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn places_by_eight(bits: u16, base: u16, to: *mut u16) {
    use std::arch::x86_64::*;
    let (low, high, begun) = places_of(bits);
    // SAFETY: at most 8 numbers lie before the last 8.
    unsafe {
        let first = _mm_cvtepu8_epi16(_mm_loadl_epi64(low.as_ptr().cast()));
        let second = _mm_cvtepu8_epi16(_mm_loadl_epi64(high.as_ptr().cast()));
        let base = _mm_set1_epi16(base as i16);
        _mm_storeu_si128(to.cast(), _mm_add_epi16(first, base));
        let base = _mm_add_epi16(base, _mm_set1_epi16(8));
        _mm_storeu_si128(to.add(begun).cast(), _mm_add_epi16(second, base));
    }
}

/// 16 lanes, with or without the NEWER instructions: those that compress numbers of 16 bits, and that add products of them.
#[cfg(target_arch = "x86_64")]
struct Avx512<const NEWER: bool>;
#[cfg(target_arch = "x86_64")]
impl<const NEWER: bool> Vectors for Avx512<NEWER> {
    const REGISTERS: usize = 32;
    type I32 = crate::lanes::avx512::I32x16;
    type I16 = crate::lanes::avx512::I16x32;
    type I64 = crate::lanes::avx512::I64x8;
    type F32 = crate::lanes::avx512::F32x16;
    type Sum32 = crate::lanes::Sum32x16;
    type Sum16 = crate::lanes::Sum16x32;
    type Half16 = crate::lanes::Sum16x16;
    #[inline(always)]
    fn products(sums: Self::Sum32, a: Self::Sum32, b: Self::Sum32) -> Self::Sum32 {
        if NEWER { sums.plus_products(a, b) } else { sums.plus(a.products(b)) }
    }
    #[inline(always)]
    unsafe fn places(bits: u16, base: u32, to: *mut u32) {
        use std::arch::x86_64::*;
        // SAFETY: AVX-512 is there, see `Isa`.
        unsafe {
            let all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let all = _mm512_add_epi32(all, _mm512_set1_epi32(base as i32));
            _mm512_storeu_si512(to.cast(), _mm512_maskz_compress_epi32(bits, all));
        }
    }
    #[inline(always)]
    unsafe fn places_short(bits: u16, base: u16, to: *mut u16) {
        use std::arch::x86_64::*;
        // SAFETY: the caller's promise; the features are there, see `Isa`.
        unsafe {
            if NEWER {
                let all = _mm256_loadu_si256(ALL.as_ptr().cast());
                let all = _mm256_add_epi16(all, _mm256_set1_epi16(base as i16));
                _mm256_storeu_si256(to.cast(), _mm256_maskz_compress_epi16(bits, all));
            } else {
                places_by_eight(bits, base, to);
            }
        }
    }
    #[inline(always)]
    unsafe fn trains<T: Entry>(bits: u16, trains: [u16; TOGETHER], base: u32, to: *mut T) {
        use std::arch::x86_64::*;
        // SAFETY: AVX-512 is there, see `Isa`; an entry has 16 or 32 bits.
        unsafe {
            let all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let all = _mm512_add_epi32(all, _mm512_set1_epi32(base as i32));
            let mut all = _mm512_slli_epi32::<{ TOGETHER as u32 }>(all);
            for (s, bits) in trains.into_iter().enumerate() {
                all = _mm512_mask_or_epi32(all, bits, all, _mm512_set1_epi32(1 << s));
            }
            let all = _mm512_maskz_compress_epi32(bits, all);
            if size_of::<T>() == size_of::<u16>() {
                _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(all));
            } else {
                _mm512_storeu_si512(to.cast(), all);
            }
        }
    }
    #[inline(always)]
    unsafe fn places_wide(bits: u32, base: u16, to: *mut u16) {
        use std::arch::x86_64::*;
        // SAFETY: as above.
        unsafe {
            if NEWER {
                let all = _mm512_loadu_si512(ALL.as_ptr().cast());
                let all = _mm512_add_epi16(all, _mm512_set1_epi16(base as i16));
                // not to memory at once, which some processors take very long for
                _mm512_storeu_si512(to.cast(), _mm512_maskz_compress_epi16(bits, all));
            } else {
                halves::<u16, Self>(bits, base.into(), to);
            }
        }
    }
}

/// 8 lanes, in pairs of registers.
#[cfg(target_arch = "aarch64")]
struct Neon;
#[cfg(target_arch = "aarch64")]
impl Vectors for Neon {
    const REGISTERS: usize = 16;
    type I32 = crate::lanes::neon::I32x8;
    type I16 = crate::lanes::neon::I16x16;
    type I64 = i64;
    type F32 = crate::lanes::neon::F32x8;
    type Sum32 = crate::lanes::neon::Sum32x8;
    type Sum16 = crate::lanes::neon::Sum16x16;
    type Half16 = crate::lanes::neon::Sum16x16;
    #[inline(always)]
    fn products(sums: Self::Sum32, a: Self::Sum32, b: Self::Sum32) -> Self::Sum32 {
        sums.plus(a.products(b))
    }
    #[inline(always)]
    unsafe fn places(bits: u16, base: u32, to: *mut u32) {
        use std::arch::aarch64::*;
        let (low, high, begun) = places_of(bits);
        // SAFETY: NEON is there, see `Isa`; at most 8 numbers lie before the last 8.
        unsafe {
            for (places, base, to) in [(low, base, to), (high, base + 8, to.add(begun))] {
                let (places, base) = (vmovl_u8(vld1_u8(places.as_ptr())), vdupq_n_u32(base));
                vst1q_u32(to, vaddw_u16(base, vget_low_u16(places)));
                vst1q_u32(to.add(4), vaddw_high_u16(base, places));
            }
        }
    }
    #[inline(always)]
    unsafe fn places_short(bits: u16, base: u16, to: *mut u16) {
        use std::arch::aarch64::*;
        let (low, high, begun) = places_of(bits);
        // SAFETY: as above.
        unsafe {
            let base = vdupq_n_u16(base);
            vst1q_u16(to, vaddw_u8(base, vld1_u8(low.as_ptr())));
            let base = vaddq_u16(base, vdupq_n_u16(8));
            vst1q_u16(to.add(begun), vaddw_u8(base, vld1_u8(high.as_ptr())));
        }
    }
}

/// 0, 1, 2, ...
#[cfg(target_arch = "x86_64")]
static ALL: [u16; 32] = {
    let (mut all, mut i) = ([0; 32], 0);
    while i < 32 {
        all[i] = i as u16;
        i += 1;
    }
    all
};

impl Isa {
    /// Every name there is, best first.
    pub const NAMES: [&'static str; 4] = ["avx512", "avx2", "neon", "scalar"];

    /// The best that this machine has.
    pub fn best() -> Isa {
        Self::NAMES.iter().find_map(|n| Isa::named(n)).unwrap_or(Isa::scalar())
    }

    /// One lane; every machine has it.
    pub fn scalar() -> Isa {
        Isa(Level::Scalar)
    }

    /// The instruction set of this name, if it is known and this machine has it.
    pub fn named(name: &str) -> Option<Isa> {
        match name {
            "scalar" => Some(Isa::scalar()),
            #[cfg(target_arch = "x86_64")]
            "avx2" => (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("lzcnt"))
            .then_some(Isa(Level::Avx2)),
            #[cfg(target_arch = "x86_64")]
            "avx512" => (Isa::named("avx2").is_some()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"))
            .then_some(Isa(Level::Avx512)),
            #[cfg(target_arch = "aarch64")]
            "neon" => std::arch::is_aarch64_feature_detected!("neon").then_some(Isa(Level::Neon)),
            _ => None,
        }
    }

    /// Every instruction set that this machine has, best first.
    pub fn available() -> Vec<Isa> {
        Self::NAMES.iter().filter_map(|n| Isa::named(n)).collect()
    }

    /// `avx512`, `avx2`, `neon` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
        }
    }

    /// Runs a job compiled for this instruction set. The result never depends on which one it is.
    pub fn run<J: Job>(self, job: J) -> J::Out {
        match self.0 {
            Level::Scalar => job.run::<Scalar>(),
            // every function is compiled for it
            #[cfg(target_arch = "aarch64")]
            Level::Neon => job.run::<Neon>(),
            // SAFETY: these levels exist only where `named` has seen the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(job) },
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(job) },
        }
    }

    /// The same with newer instructions, for numbers of 16 bits, where the machine has them.
    pub(crate) fn run_newer<J: Job>(self, job: J) -> J::Out {
        match self.0 {
            // SAFETY: the features are there.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512
                if is_x86_feature_detected!("avx512vbmi2") && is_x86_feature_detected!("avx512vnni") =>
            unsafe { run_avx512_newer(job) },
            _ => self.run(job),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx2<J: Job>(job: J) -> J::Out {
    job.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx512<J: Job>(job: J) -> J::Out {
    job.run::<Avx512<false>>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,avx512vnni,avx2,fma,bmi1,bmi2,popcnt,lzcnt"
)]
fn run_avx512_newer<J: Job>(job: J) -> J::Out {
    job.run::<Avx512<true>>()
}
