//! What happens to each number of a training step's activations: BatchNorm, sum and activation in one pass, forward and backward.
//! In: images `[positions, channels]` and numbers per channel. Out: activations; gradients and their sums per channel.
//!
//! 1. Channels are the lanes; a block of them walks down all positions with its constants in registers.
//! 2. Nothing between the convolution's output and the activation is kept: the backward pass computes it again.
//! 3. Sums are taken in f32 over at most 512 positions, then in f64: the same for every instruction set.

#![allow(clippy::needless_range_loop)] // registers are numbered; iterators over them hide the loops that must unroll

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::{FloatLane, Mask};

/// Positions whose sums are taken in f32.
const RUN: usize = 512;

/// One summand of a pre-activation: `x · scale + shift` per channel.
#[derive(Debug, Clone, Copy)]
pub struct Term<'a> {
    /// `[positions, channels]`.
    pub x: &'a [f32],
    /// Per channel.
    pub scale: &'a [f32],
    /// Per channel.
    pub shift: &'a [f32],
}

/// The activation of a pre-activation z.
#[derive(Debug, Clone, Copy)]
pub enum Function<'a> {
    /// z.
    None,
    /// max(0, z).
    Relu,
    /// min(max(0, z), ceiling), the ceiling per channel.
    Clip(&'a [f32]),
    /// λ/L · clip(floor(z·L/λ + ½), 0, L), λ per channel.
    Qcfs(f32, &'a [f32]),
}

impl Function<'_> {
    fn check(&self, channels: usize) {
        if let Function::Clip(c) | Function::Qcfs(_, c) = self {
            assert_eq!(c.len(), channels);
        }
    }
}

fn check(terms: &[Term<'_>], channels: usize, numbers: usize) {
    assert!(channels > 0 && numbers.is_multiple_of(channels));
    assert!(matches!(terms.len(), 1 | 2), "{} terms", terms.len());
    for t in terms {
        assert!(t.x.len() == numbers && t.scale.len() == channels && t.shift.len() == channels);
    }
}

/// `out = function(Σ terms)`; one or two terms.
///
/// # Panics
/// If a slice has another length than `channels` or `out` asks for.
pub fn forward(isa: Isa, terms: &[Term<'_>], function: Function<'_>, channels: usize, out: &mut [f32]) {
    check(terms, channels, out.len());
    function.check(channels);
    isa.run(Forward { terms, function, channels, out });
}

struct Forward<'a> {
    terms: &'a [Term<'a>],
    function: Function<'a>,
    channels: usize,
    out: &'a mut [f32],
}

impl Job for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        self.all::<V>();
    }
}

impl Blocks for Forward<'_> {
    fn channels(&self) -> usize {
        self.channels
    }
    #[inline(always)]
    fn block<V: FloatLane>(&mut self, c: usize) {
        let (terms, function) = (self.terms.len(), self.function);
        fused::<V, Self>(self, terms, function, c);
    }
}

impl Fused for Forward<'_> {
    #[inline(always)]
    fn walk<V: FloatLane, const N: usize, const F: u8>(&mut self, c: usize) {
        let terms = Terms::<V, N>::new(self.terms, c);
        let curve = Curve::<V>::new(self.function, c);
        let mut at = c;
        while at < self.out.len() {
            // SAFETY: `check`: every x is as long as out, a multiple of `channels`, and c + LANES <= channels.
            let z = unsafe { terms.sum(at) };
            let y = match F {
                NONE => z,
                RELU => z.max(V::splat(0.0)),
                CLIP => z.max(V::splat(0.0)).min(curve.top),
                _ => curve.count(z).mul(curve.step),
            };
            // SAFETY: as above.
            unsafe { y.write(self.out.as_mut_ptr().add(at)) };
            at += self.channels;
        }
    }
}

/// Work on a block of channels at a time: as many as a register has lanes, the last ones one by one.
trait Blocks: Sized {
    fn channels(&self) -> usize;
    /// All positions of the channels from `c` on.
    fn block<V: FloatLane>(&mut self, c: usize);
    #[inline(always)]
    fn all<V: Vectors>(mut self) {
        let channels = self.channels();
        let mut c = 0;
        while c + V::F32::LANES <= channels {
            self.block::<V::F32>(c);
            c += V::F32::LANES;
        }
        while c < channels {
            self.block::<f32>(c);
            c += 1;
        }
    }
}

/// Work that is compiled for the number of terms `N` and the function `F`.
trait Fused {
    fn walk<V: FloatLane, const N: usize, const F: u8>(&mut self, c: usize);
}

#[inline(always)]
fn fused<V: FloatLane, W: Fused>(work: &mut W, terms: usize, function: Function<'_>, c: usize) {
    match (terms == 2, function) {
        (false, Function::None) => work.walk::<V, 1, NONE>(c),
        (false, Function::Relu) => work.walk::<V, 1, RELU>(c),
        (false, Function::Clip(_)) => work.walk::<V, 1, CLIP>(c),
        (false, Function::Qcfs(..)) => work.walk::<V, 1, QCFS>(c),
        (true, Function::None) => work.walk::<V, 2, NONE>(c),
        (true, Function::Relu) => work.walk::<V, 2, RELU>(c),
        (true, Function::Clip(_)) => work.walk::<V, 2, CLIP>(c),
        (true, Function::Qcfs(..)) => work.walk::<V, 2, QCFS>(c),
    }
}

const NONE: u8 = 0;
const RELU: u8 = 1;
const CLIP: u8 = 2;
const QCFS: u8 = 3;

/// The terms' constants for a block of channels.
struct Terms<V, const N: usize> {
    x: [*const f32; N],
    scale: [V; N],
    shift: V,
}

impl<V: FloatLane, const N: usize> Terms<V, N> {
    #[inline(always)]
    fn new(terms: &[Term<'_>], c: usize) -> Self {
        let mut x = [terms[0].x.as_ptr(); N];
        let mut scale = [V::splat(0.0); N];
        let mut shift = V::splat(0.0);
        for i in 0..N {
            x[i] = terms[i].x.as_ptr();
            scale[i] = V::load(&terms[i].scale[c..]);
            shift = shift.add(V::load(&terms[i].shift[c..]));
        }
        Terms { x, scale, shift }
    }

    /// # Safety
    /// Every `x` has `LANES` numbers at `at`.
    #[inline(always)]
    unsafe fn sum(&self, at: usize) -> V {
        let mut z = self.shift;
        for i in 0..N {
            // SAFETY: the caller's promise.
            z = unsafe { V::read(self.x[i].add(at)) }.mul_add(self.scale[i], z);
        }
        z
    }
}

/// The activation's constants for a block of channels.
struct Curve<V> {
    /// λ or the ceiling.
    top: V,
    levels: V,
    /// L/λ.
    rate: V,
    /// λ/L.
    step: V,
    /// 1/λ.
    inverse: V,
}

impl<V: FloatLane> Curve<V> {
    #[inline(always)]
    fn new(function: Function<'_>, c: usize) -> Self {
        let (levels, tops): (f32, &[f32]) = match function {
            Function::None | Function::Relu => (1.0, &[1.0; 16]),
            Function::Clip(t) => (1.0, &t[c..]),
            Function::Qcfs(l, t) => (l, &t[c..]),
        };
        let mut numbers = [[1.0f32; 16]; 3];
        let mut i = 0;
        while i < V::LANES {
            numbers[0][i] = levels / tops[i];
            numbers[1][i] = tops[i] / levels;
            numbers[2][i] = 1.0 / tops[i];
            i += 1;
        }
        Curve {
            top: V::load(tops),
            levels: V::splat(levels),
            rate: V::load(&numbers[0]),
            step: V::load(&numbers[1]),
            inverse: V::load(&numbers[2]),
        }
    }

    /// clip(floor(z·L/λ + ½), 0, L).
    #[inline(always)]
    fn count(&self, z: V) -> V {
        z.mul_add(self.rate, V::splat(0.5)).floor().max(V::splat(0.0)).min(self.levels)
    }
}

/// Where the backward pass adds up, per channel.
#[derive(Debug)]
pub struct Sums<'a> {
    /// Σ g, g being the gradient of the pre-activation.
    pub gradient: &'a mut [f64],
    /// Σ g · (x - centre) of each term.
    pub products: [&'a mut [f64]; 2],
    /// Gradient of λ or of the ceiling.
    pub top: &'a mut [f64],
}

/// Turns the gradient of `forward`'s result into that of the pre-activation, in place, and adds up what BatchNorm and λ need.
/// `centres` are subtracted from each term's x in the products.
///
/// The floor counts as the identity (straight through), the clip as itself: g = gradient where 0 < z < λ. λ receives
/// count/L - z/λ inside and 1 above.
///
/// # Panics
/// If a slice has another length than `channels` or `gradient` asks for.
pub fn backward(
    isa: Isa,
    terms: &[Term<'_>],
    centres: [&[f32]; 2],
    function: Function<'_>,
    channels: usize,
    gradient: &mut [f32],
    sums: Sums<'_>,
) {
    check(terms, channels, gradient.len());
    function.check(channels);
    assert!(sums.gradient.len() == channels && sums.top.len() == channels);
    for i in 0..terms.len() {
        assert!(sums.products[i].len() == channels && centres[i].len() == channels);
    }
    isa.run(Backward { terms, centres, function, channels, gradient, sums });
}

struct Backward<'a> {
    terms: &'a [Term<'a>],
    centres: [&'a [f32]; 2],
    function: Function<'a>,
    channels: usize,
    gradient: &'a mut [f32],
    sums: Sums<'a>,
}

impl Job for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        self.all::<V>();
    }
}

impl Blocks for Backward<'_> {
    fn channels(&self) -> usize {
        self.channels
    }
    #[inline(always)]
    fn block<V: FloatLane>(&mut self, c: usize) {
        let (terms, function) = (self.terms.len(), self.function);
        fused::<V, Self>(self, terms, function, c);
    }
}

impl Fused for Backward<'_> {
    #[inline(always)]
    fn walk<V: FloatLane, const N: usize, const F: u8>(&mut self, c: usize) {
        let zero = V::splat(0.0);
        let terms = Terms::<V, N>::new(self.terms, c);
        let curve = Curve::<V>::new(self.function, c);
        let mut centre = [zero; N];
        for i in 0..N {
            centre[i] = V::load(&self.centres[i][c..]);
        }
        let gradient = self.gradient.as_mut_ptr();
        let end = self.gradient.len();
        let mut at = c;
        while at < end {
            let stop = end.min(at.saturating_add(RUN * self.channels));
            let (mut sum, mut top, mut products) = (zero, zero, [zero; N]);
            while at < stop {
                // SAFETY: `check`: every x is as long as the gradient, a multiple of `channels`, and c + LANES <= channels.
                let (mut g, z) = unsafe { (V::read(gradient.add(at)), terms.sum(at)) };
                match F {
                    NONE => {}
                    RELU => g = g.or_else(z.gt(zero), zero),
                    CLIP => {
                        let above = zero.or_else(curve.top.gt(z), g);
                        top = top.add(above);
                        g = g.or_else(z.gt(zero).and(curve.top.gt(z)), zero);
                    }
                    _ => {
                        // count/L - z/λ inside; above, count/L = 1 and the rest is 0
                        let inside = z.gt(zero).and(curve.top.gt(z));
                        let error = curve.count(z).mul(curve.step).sub(z).mul(curve.inverse);
                        let above = V::splat(1.0).or_else(z.gt(zero), zero);
                        top = g.mul_add(error.or_else(inside, above), top);
                        g = g.or_else(inside, zero);
                    }
                }
                sum = sum.add(g);
                for i in 0..N {
                    // SAFETY: as above.
                    let x = unsafe { V::read(terms.x[i].add(at)) };
                    products[i] = x.sub(centre[i]).mul_add(g, products[i]);
                }
                if F != NONE {
                    // SAFETY: as above.
                    unsafe { g.write(gradient.add(at)) };
                }
                at += self.channels;
            }
            flush(sum, &mut self.sums.gradient[c..]);
            flush(top, &mut self.sums.top[c..]);
            for i in 0..N {
                flush(products[i], &mut self.sums.products[i][c..]);
            }
        }
    }
}

/// Adds lanes to sums.
#[inline(always)]
fn flush<V: FloatLane>(lanes: V, sums: &mut [f64]) {
    let mut numbers = [0.0f32; 16];
    lanes.store(&mut numbers);
    let mut i = 0;
    while i < V::LANES {
        sums[i] += f64::from(numbers[i]);
        i += 1;
    }
}

/// Adds Σ (x - centre) and Σ (x - centre)² per channel to `sums`.
///
/// # Panics
/// If a slice has another length than `channels` asks for.
pub fn moments(isa: Isa, x: &[f32], centre: &[f32], sums: [&mut [f64]; 2]) {
    let channels = centre.len();
    assert!(channels > 0 && x.len().is_multiple_of(channels) && sums.iter().all(|s| s.len() == channels));
    isa.run(Moments { x, centre, sums });
}

struct Moments<'a> {
    x: &'a [f32],
    centre: &'a [f32],
    sums: [&'a mut [f64]; 2],
}

impl Job for Moments<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        self.all::<V>();
    }
}

impl Blocks for Moments<'_> {
    fn channels(&self) -> usize {
        self.centre.len()
    }
    #[inline(always)]
    fn block<V: FloatLane>(&mut self, c: usize) {
        let channels = self.centre.len();
        let centre = V::load(&self.centre[c..]);
        let mut at = c;
        while at < self.x.len() {
            let stop = self.x.len().min(at.saturating_add(RUN * channels));
            let (mut sum, mut square) = (V::splat(0.0), V::splat(0.0));
            while at < stop {
                // SAFETY: x is a multiple of `channels` long and c + LANES <= channels.
                let x = unsafe { V::read(self.x.as_ptr().add(at)) }.sub(centre);
                sum = sum.add(x);
                square = x.mul_add(x, square);
                at += channels;
            }
            flush(sum, &mut self.sums[0][c..]);
            flush(square, &mut self.sums[1][c..]);
        }
    }
}

/// `out = g · a + z · b + c`, all of them per channel but g and z: the gradient that BatchNorm passes on, of one row.
///
/// # Panics
/// If a slice has another length than the channels ask for.
pub fn affine(isa: Isa, g: &[f32], z: &[f32], [a, b, c]: [&[f32]; 3], out: &mut [f32]) {
    let channels = a.len();
    assert!(channels > 0 && b.len() == channels && c.len() == channels);
    assert!(g.len().is_multiple_of(channels) && z.len() == g.len() && out.len() == g.len());
    isa.run(Affine { g, z, coefficients: [a, b, c], out });
}

struct Affine<'a> {
    g: &'a [f32],
    z: &'a [f32],
    coefficients: [&'a [f32]; 3],
    out: &'a mut [f32],
}

impl Job for Affine<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        self.all::<V>();
    }
}

impl Blocks for Affine<'_> {
    fn channels(&self) -> usize {
        self.coefficients[0].len()
    }
    #[inline(always)]
    fn block<V: FloatLane>(&mut self, i: usize) {
        let channels = self.coefficients[0].len();
        let (a, b) = (V::load(&self.coefficients[0][i..]), V::load(&self.coefficients[1][i..]));
        let c = V::load(&self.coefficients[2][i..]);
        let mut at = i;
        while at < self.g.len() {
            // SAFETY: z and out are as long as g, a multiple of `channels`, and i + LANES <= channels.
            unsafe {
                let (g, z) = (V::read(self.g.as_ptr().add(at)), V::read(self.z.as_ptr().add(at)));
                g.mul_add(a, z.mul_add(b, c)).write(self.out.as_mut_ptr().add(at));
            }
            at += channels;
        }
    }
}

#[cfg(test)]
mod tests;
