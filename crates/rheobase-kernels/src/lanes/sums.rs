//! Lanes of sums: integers of 16 or 32 bits that are only added, as many as a register holds.
//! In and out: slices of [`Element`]s; [`Grid`] and [`Bits`] are whole rows of currents and spikes. Sums wrap, so partial sums may leave the range as long as the whole one is inside.

use super::IntLane;
use crate::cpu::Vectors;

/// Kernels rely on how these types lie in memory: nobody else's can be among them.
mod sealed {
    pub trait Sealed {}
    impl Sealed for i16 {}
    impl Sealed for i32 {}
}

/// An integer that currents are made of.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
    /// A register full.
    type Wide<V: Vectors>: SumLane<Element = Self>;
    /// At most 16 lanes.
    type Narrow<V: Vectors>: SumLane<Element = Self>;
    /// The number, cut to so many bits.
    fn cut(x: i32) -> Self;
    /// The number in 32 bits.
    fn wide(self) -> i32;
    /// The first numbers as lanes of potentials.
    fn potentials<L: IntLane>(from: &[Self]) -> L;
    /// Numbers of 32 bits as what they are.
    fn ints(numbers: &mut [Self]) -> Option<&mut [i32]>;
}

/// Currents of a row of a layer, `[steps, positions, cols]`, with their bounds checked once.
#[derive(Clone, Copy)]
pub struct Grid<'a, E> {
    numbers: &'a [E],
    steps: usize,
    positions: usize,
    cols: usize,
}

impl<'a, E: Element> Grid<'a, E> {
    /// # Panics
    /// If there are fewer numbers than the shape says.
    #[inline(always)]
    pub fn new(numbers: &'a [E], steps: usize, positions: usize, cols: usize) -> Self {
        let all = steps.checked_mul(positions).and_then(|n| n.checked_mul(cols));
        assert!(all.is_some_and(|n| n <= numbers.len()), "currents of every neuron");
        Grid { numbers, steps, positions, cols }
    }

    /// Channels `c ..` of position `p` at step `t` as lanes of potentials.
    ///
    /// # Panics
    /// If they are not there.
    #[inline(always)]
    pub fn load<L: IntLane>(&self, t: usize, p: usize, c: usize) -> L {
        assert!(t < self.steps && p < self.positions && c < self.cols && L::LANES <= self.cols - c);
        let at = (t * self.positions + p) * self.cols + c;
        // SAFETY: inside, by the assertions here and in `new`.
        E::potentials(unsafe { self.numbers.get_unchecked(at..at + L::LANES) })
    }
}

/// Spikes of a row of a layer, `[steps, positions, words]`, each step `stride` words after the one before, likewise.
pub struct Bits<'a> {
    bits: &'a mut [u64],
    steps: usize,
    stride: usize,
    positions: usize,
    words: usize,
}

impl<'a> Bits<'a> {
    /// # Panics
    /// If there are fewer words than the shape says.
    #[inline(always)]
    pub fn new(bits: &'a mut [u64], steps: usize, stride: usize, positions: usize, words: usize) -> Self {
        let row = positions.checked_mul(words).filter(|&n| n <= stride || steps <= 1);
        let all = row.and_then(|n| steps.saturating_sub(1).checked_mul(stride)?.checked_add(n));
        assert!(all.is_some_and(|n| n <= bits.len() || steps == 0), "words of every position");
        Bits { bits, steps, stride, positions, words }
    }

    /// Sets the word of channels `c ..`, or adds to what the channels before have set where these are not the FIRST.
    ///
    /// # Panics
    /// If it is not there.
    #[inline(always)]
    pub fn set<const FIRST: bool>(&mut self, t: usize, p: usize, c: usize, fired: u32) {
        assert!(t < self.steps && p < self.positions && c / 64 < self.words);
        // SAFETY: inside, by the assertions here and in `new`.
        let word = unsafe { self.bits.get_unchecked_mut(t * self.stride + p * self.words + c / 64) };
        *word = if FIRST { fired.into() } else { *word | u64::from(fired) << (c % 64) };
    }

    /// Spikes of a step.
    #[inline(always)]
    pub fn count(&self, t: usize) -> u64 {
        let words = &self.bits[t * self.stride..][..self.positions * self.words];
        words.iter().map(|w| u64::from(w.count_ones())).sum()
    }
}

/// Integers side by side.
pub trait SumLane: sealed::Sealed + Copy {
    /// The number in one lane.
    type Element: Element;
    /// How many; a power of two, at most 32.
    const LANES: usize;
    /// The number in every lane.
    fn splat(x: Self::Element) -> Self;
    /// The first `LANES` numbers.
    fn load(from: &[Self::Element]) -> Self;
    /// Writes the lanes.
    fn store(self, to: &mut [Self::Element]);
    /// The numbers at a pointer.
    ///
    /// # Safety
    /// `LANES` numbers can be read there.
    unsafe fn read(at: *const Self::Element) -> Self;
    /// self + other, wrapping.
    fn plus(self, other: Self) -> Self;
    /// Lane i where bit i is set, 0 elsewhere.
    fn keep(self, bits: u32) -> Self;
}

impl Element for i32 {
    type Wide<V: Vectors> = V::Sum32;
    type Narrow<V: Vectors> = V::Sum32;
    #[inline(always)]
    fn cut(x: i32) -> Self {
        x
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        self
    }
    #[inline(always)]
    fn potentials<L: IntLane>(from: &[Self]) -> L {
        L::load(from)
    }
    fn ints(numbers: &mut [Self]) -> Option<&mut [i32]> {
        Some(numbers)
    }
}

impl Element for i16 {
    type Wide<V: Vectors> = V::Sum16;
    type Narrow<V: Vectors> = V::Half16;
    #[inline(always)]
    fn cut(x: i32) -> Self {
        x as i16
    }
    #[inline(always)]
    fn wide(self) -> i32 {
        self.into()
    }
    #[inline(always)]
    fn potentials<L: IntLane>(from: &[Self]) -> L {
        L::load_short(from)
    }
    fn ints(_: &mut [Self]) -> Option<&mut [i32]> {
        None
    }
}

macro_rules! scalar {
    ($t:ty) => {
        impl SumLane for $t {
            type Element = $t;
            const LANES: usize = 1;
            #[inline(always)]
            fn splat(x: $t) -> Self {
                x
            }
            #[inline(always)]
            fn load(from: &[$t]) -> Self {
                from[0]
            }
            #[inline(always)]
            fn store(self, to: &mut [$t]) {
                to[0] = self;
            }
            #[inline(always)]
            unsafe fn read(at: *const $t) -> Self {
                // SAFETY: the caller's promise.
                unsafe { *at }
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn keep(self, bits: u32) -> Self {
                if bits & 1 == 1 { self } else { 0 }
            }
        }
    };
}
scalar!(i32);
scalar!(i16);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::SumLane;
    use std::arch::x86_64::*;

    // SAFETY (every block): values are made only inside `Isa::run`, which has seen the features; loads and stores check
    // their slice first, or their caller promises.
    macro_rules! register {
        ($name:ident, $doc:literal, $inner:ty, $element:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $add:ident, |$x:ident, $bits:ident| $keep:expr) => {
            #[doc = $doc]
            #[derive(Clone, Copy)]
            pub struct $name($inner);
            impl super::sealed::Sealed for $name {}
            impl SumLane for $name {
                type Element = $element;
                const LANES: usize = $n;
                #[inline(always)]
                fn splat(x: $element) -> Self {
                    $name(unsafe { $splat(x) })
                }
                #[inline(always)]
                fn load(from: &[$element]) -> Self {
                    let from = &from[..$n];
                    $name(unsafe { $load(from.as_ptr().cast()) })
                }
                #[inline(always)]
                fn store(self, to: &mut [$element]) {
                    let to = &mut to[..$n];
                    unsafe { $store(to.as_mut_ptr().cast(), self.0) }
                }
                #[inline(always)]
                unsafe fn read(at: *const $element) -> Self {
                    $name(unsafe { $load(at.cast()) })
                }
                #[inline(always)]
                fn plus(self, other: Self) -> Self {
                    $name(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                fn keep(self, $bits: u32) -> Self {
                    let $x = self.0;
                    $name(unsafe { $keep })
                }
            }
        };
    }
    register!(
        Sum32x8,
        "8 i32 in an AVX2 register.",
        __m256i,
        i32,
        8,
        _mm256_set1_epi32,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        _mm256_add_epi32,
        |x, bits| {
            let place = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(bits as i32), place);
            _mm256_and_si256(x, _mm256_cmpeq_epi32(set, place))
        }
    );
    register!(
        Sum16x16,
        "16 i16 in an AVX2 register.",
        __m256i,
        i16,
        16,
        _mm256_set1_epi16,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        _mm256_add_epi16,
        |x, bits| {
            let place = _mm256_setr_epi16(
                1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768,
            );
            let set = _mm256_and_si256(_mm256_set1_epi16(bits as i16), place);
            _mm256_and_si256(x, _mm256_cmpeq_epi16(set, place))
        }
    );
    register!(
        Sum32x16,
        "16 i32 in an AVX-512 register.",
        __m512i,
        i32,
        16,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_add_epi32,
        |x, bits| _mm512_maskz_mov_epi32(bits as u16, x)
    );
    register!(
        Sum16x32,
        "32 i16 in an AVX-512 register.",
        __m512i,
        i16,
        32,
        _mm512_set1_epi16,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_add_epi16,
        |x, bits| _mm512_maskz_mov_epi16(bits, x)
    );
}
#[cfg(target_arch = "x86_64")]
pub use x86::{Sum16x16, Sum16x32, Sum32x8, Sum32x16};
