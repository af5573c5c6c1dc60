//! Lanes of sums: integers of 16 or 32 bits that are only added, as many as a register holds.
//! In and out: slices of [`Element`]s; [`Grid`] and [`Bits`] are whole rows of currents and spikes. Sums wrap, so partial sums may leave the range as long as the whole one is inside.

use super::{IntLane, ShortLane};
use crate::cpu::Vectors;

/// Kernels rely on how these types lie in memory: nobody else's can be among them.
pub(super) mod sealed {
    pub trait Sealed {}
    impl Sealed for i16 {}
    impl Sealed for i32 {}
}

/// An integer that currents are made of.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
    /// Whether it has 16 bits.
    const IS_SHORT: bool = size_of::<Self>() == size_of::<i16>();
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
    /// Numbers of 16 bits as what they are.
    fn shorts(numbers: &[Self]) -> Option<&[i16]>;
}

/// Currents of a row of a layer, `[steps, positions, cols]`, or `[positions, cols]` for every step, with their bounds checked once.
#[derive(Clone, Copy)]
pub struct Grid<'a, E> {
    numbers: &'a [E],
    steps: usize,
    /// Distance of two steps.
    pace: usize,
    positions: usize,
    cols: usize,
}

impl<'a, E: Element> Grid<'a, E> {
    /// `steady` where all steps are the same.
    ///
    /// # Panics
    /// If there are fewer numbers than the shape says.
    #[inline(always)]
    pub fn new(numbers: &'a [E], steps: usize, positions: usize, cols: usize, steady: bool) -> Self {
        let step = positions.checked_mul(cols);
        let all = step.and_then(|n| n.checked_mul(if steady { 1 } else { steps }));
        assert!(all.is_some_and(|n| n <= numbers.len()), "currents of every neuron");
        let pace = if steady { 0 } else { step.unwrap_or_default() };
        Grid { numbers, steps, pace, positions, cols }
    }

    /// `N` numbers from channel `c` of position `p` on at step `t`.
    ///
    /// # Panics
    /// If they are not there.
    #[inline(always)]
    fn numbers(&self, t: usize, p: usize, c: usize, n: usize) -> &'a [E] {
        // of this position, or of those after it
        let left = (self.positions - p) * self.cols;
        assert!(t < self.steps && p < self.positions && c < self.cols && c + n <= left);
        let at = t * self.pace + p * self.cols + c;
        // SAFETY: inside, by the assertions here and in `new`.
        unsafe { self.numbers.get_unchecked(at..at + n) }
    }

    /// Channels `c ..` of position `p` at step `t` as lanes of potentials.
    ///
    /// # Panics
    /// If they are not there.
    #[inline(always)]
    pub fn load<L: IntLane>(&self, t: usize, p: usize, c: usize) -> L {
        E::potentials(self.numbers(t, p, c, L::LANES))
    }
}

impl Grid<'_, i16> {
    /// The same in lanes of 16 bits, which may reach into the next position.
    ///
    /// # Panics
    /// If they are not there.
    #[inline(always)]
    pub fn short<S: ShortLane>(&self, t: usize, p: usize, c: usize) -> S {
        S::load(self.numbers(t, p, c, S::LANES))
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
        self.set_some::<FIRST, 1>(t, p, c, [fired]);
    }

    /// The same of positions `p ..`.
    ///
    /// # Panics
    /// If they are not there.
    #[inline(always)]
    pub fn set_some<const FIRST: bool, const N: usize>(
        &mut self,
        t: usize,
        p: usize,
        c: usize,
        fired: [u32; N],
    ) {
        assert!(t < self.steps && p < self.positions && N <= self.positions - p && c / 64 < self.words);
        let at = t * self.stride + p * self.words + c / 64;
        for (i, fired) in fired.into_iter().enumerate() {
            // SAFETY: inside, by the assertions here and in `new`.
            let word = unsafe { self.bits.get_unchecked_mut(at + i * self.words) };
            *word = if FIRST { fired.into() } else { *word | u64::from(fired) << (c % 64) };
        }
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
    /// Bits of an index into the numbers of two registers.
    const INPUTS: usize = (2 * Self::LANES).trailing_zeros() as usize;
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
    /// Writes to a pointer.
    ///
    /// # Safety
    /// `LANES` numbers can be written there.
    unsafe fn write(self, at: *mut Self::Element);
    /// self + other, wrapping.
    fn plus(self, other: Self) -> Self;
    /// Lane i where bit i is set, 0 elsewhere.
    fn keep(self, bits: u32) -> Self;
    /// The first `LANES` numbers, as bits.
    fn bits(from: &[u16]) -> Self;
    /// The numbers at a pointer, as bits.
    ///
    /// # Safety
    /// `LANES` numbers can be read there.
    unsafe fn read_bits(at: *const u16) -> Self;
    /// Bits moved down, by fewer than 16.
    fn down(self, by: u32) -> Self;
    /// The bits of this, and those of another that `mask` has.
    fn or(self, other: Self, mask: u16) -> Self;
    /// Lane i says bit i: whether it has this bit.
    fn has(self, bit: u32) -> u32;
    /// In every lane the number of `table` that the low `INPUTS` bits of `index` say.
    fn look(table: [Self; 2], index: Self) -> Self;
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
    #[inline(always)]
    fn shorts(_: &[Self]) -> Option<&[i16]> {
        None
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
    #[inline(always)]
    fn shorts(numbers: &[Self]) -> Option<&[i16]> {
        Some(numbers)
    }
}

macro_rules! scalar {
    ($t:ty, $unsigned:ty) => {
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
            unsafe fn write(self, at: *mut $t) {
                // SAFETY: the caller's promise.
                unsafe { *at = self }
            }
            #[inline(always)]
            fn keep(self, bits: u32) -> Self {
                if bits & 1 == 1 { self } else { 0 }
            }
            #[inline(always)]
            fn bits(from: &[u16]) -> Self {
                from[0] as $t
            }
            #[inline(always)]
            unsafe fn read_bits(at: *const u16) -> Self {
                // SAFETY: the caller's promise.
                unsafe { *at as $t }
            }
            #[inline(always)]
            fn down(self, by: u32) -> Self {
                (self as $unsigned >> by) as $t
            }
            #[inline(always)]
            fn or(self, other: Self, mask: u16) -> Self {
                self | other & mask as $t
            }
            #[inline(always)]
            fn has(self, bit: u32) -> u32 {
                (self >> bit & 1) as u32
            }
            #[inline(always)]
            fn look(table: [Self; 2], index: Self) -> Self {
                table[(index & 1) as usize]
            }
        }
    };
}
scalar!(i32, u32);
scalar!(i16, u16);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::SumLane;
    use std::arch::x86_64::*;

    /// Where there is no instruction that looks up: number by number.
    macro_rules! by_hand {
        ($name:ident, $element:ty, $n:literal, $table:expr, $index:expr) => {{
            let (mut sums, mut index, mut found) = ([0 as $element; 2 * $n], [0 as $element; $n], [0; $n]);
            $table[0].store(&mut sums);
            $table[1].store(&mut sums[$n..]);
            $index.store(&mut index);
            for (to, at) in found.iter_mut().zip(index) {
                *to = sums[at as usize % (2 * $n)];
            }
            $name::load(&found)
        }};
    }

    /// Likewise.
    macro_rules! bit_by_hand {
        ($element:ty, $n:literal, $x:expr, $bit:expr) => {{
            let mut numbers = [0 as $element; $n];
            $x.store(&mut numbers);
            numbers.iter().enumerate().fold(0, |all, (i, x)| all | ((*x >> $bit) as u32 & 1) << i)
        }};
    }

    // SAFETY (every block): values are made only inside `Isa::run`, which has seen the features; loads and stores check
    // their slice first, or their caller promises.
    macro_rules! register {
        ($name:ident, $doc:literal, $inner:ty, $element:ty, $n:literal, $splat:ident, $load:ident, $store:ident, $add:ident, |$x:ident, $bits:ident| $keep:expr, |$from:ident| $widen:expr, $shift:ident, $or:ident, $and:ident, |$b:ident, $bit:ident| $has:expr, |$table:ident, $index:ident| $look:expr) => {
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
                unsafe fn write(self, at: *mut $element) {
                    unsafe { $store(at.cast(), self.0) }
                }
                #[inline(always)]
                fn plus(self, other: Self) -> Self {
                    $name(unsafe { $add(self.0, other.0) })
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
                    $name(unsafe { $shift(self.0, _mm_cvtsi32_si128(by as i32)) })
                }
                #[inline(always)]
                fn or(self, other: Self, mask: u16) -> Self {
                    let mask = Self::splat(mask as $element).0;
                    $name(unsafe { $or(self.0, $and(other.0, mask)) })
                }
                #[inline(always)]
                fn has(self, $bit: u32) -> u32 {
                    let $b = self;
                    $has
                }
                #[inline(always)]
                fn look($table: [Self; 2], $index: Self) -> Self {
                    $look
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
        },
        |from| _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())),
        _mm256_srl_epi32,
        _mm256_or_si256,
        _mm256_and_si256,
        |x, bit| bit_by_hand!(i32, 8, x, bit),
        |table, index| by_hand!(Sum32x8, i32, 8, table, index)
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
        },
        |from| _mm256_loadu_si256(from.cast()),
        _mm256_srl_epi16,
        _mm256_or_si256,
        _mm256_and_si256,
        |x, bit| bit_by_hand!(i16, 16, x, bit),
        |table, index| by_hand!(Sum16x16, i16, 16, table, index)
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
        |x, bits| _mm512_maskz_mov_epi32(bits as u16, x),
        |from| _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())),
        _mm512_srl_epi32,
        _mm512_or_si512,
        _mm512_and_si512,
        |x, bit| u32::from(unsafe { _mm512_test_epi32_mask(x.0, _mm512_set1_epi32(1 << bit)) }),
        |table, index| Sum32x16(unsafe { _mm512_permutex2var_epi32(table[0].0, index.0, table[1].0) })
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
        |x, bits| _mm512_maskz_mov_epi16(bits, x),
        |from| _mm512_loadu_si512(from.cast()),
        _mm512_srl_epi16,
        _mm512_or_si512,
        _mm512_and_si512,
        |x, bit| unsafe { _mm512_test_epi16_mask(x.0, _mm512_set1_epi16((1u16 << bit) as i16)) },
        |table, index| Sum16x32(unsafe { _mm512_permutex2var_epi16(table[0].0, index.0, table[1].0) })
    );

    impl Sum32x8 {
        /// Of two numbers of 16 bits a lane the products, added.
        #[inline(always)]
        pub fn products(self, other: Self) -> Self {
            Sum32x8(unsafe { _mm256_madd_epi16(self.0, other.0) })
        }
    }

    impl Sum32x16 {
        /// Of two numbers of 16 bits a lane the products, added.
        #[inline(always)]
        pub fn products(self, other: Self) -> Self {
            Sum32x16(unsafe { _mm512_madd_epi16(self.0, other.0) })
        }
        /// The same, added to what is there; where the machine has AVX512-VNNI.
        #[inline(always)]
        pub(crate) fn plus_products(self, a: Self, b: Self) -> Self {
            Sum32x16(unsafe { _mm512_dpwssd_epi32(self.0, a.0, b.0) })
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::{Sum16x16, Sum16x32, Sum32x8, Sum32x16};
