//! The lanes of a register do what one lane does.

use super::*;
use crate::cpu::{Isa, Job, Vectors};

/// Numbers of any size, some of them the ends.
struct Draws(u64);
impl Draws {
    fn next(&mut self) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 as i64 >> (self.0 >> 33 & 31) >> 16
    }
    fn ints(&mut self, limit: i64) -> [i32; 16] {
        [0; 16].map(|_| match self.next() {
            x if x % 11 == 0 => (x.signum() * limit) as i32,
            x => x.clamp(-limit, limit) as i32,
        })
    }
    fn shorts(&mut self) -> [i16; 32] {
        let ends = [i16::MIN, i16::MAX, 0, -1];
        [0; 32].map(|_| match self.next() {
            x if x % 7 == 0 => ends[x as usize / 7 % 4],
            x => x as i16,
        })
    }
    fn floats(&mut self) -> [f32; 16] {
        let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40, f32::MAX, -0.5];
        [0.0; 16].map(|_| match self.next() {
            x if x % 3 == 0 => ends[x as usize / 3 % 8],
            x => x as f32 / 128.0,
        })
    }
}

/// What integers do, `n` lanes of them, none of which leaves its range.
fn lanes<L: Lane, E: Lane<Mask = bool>>(n: usize, load: impl Fn(&[E]) -> L, a: &[E], b: &[E], theta: &[E]) {
    let (x, y, t) = (load(a), load(b), load(theta));
    let says = |what: &str, got: L::Mask, want: &dyn Fn(usize) -> bool| {
        let want = (0..n).fold(0, |all, i| all | u64::from(want(i)) << i);
        assert_eq!(got.bits(), want, "{what}");
    };
    let same = |what: &str, got: L, want: &dyn Fn(usize) -> E| {
        let want = load(&(0..n).map(want).collect::<Vec<_>>());
        says(what, got.ge(want).and(want.ge(got)), &|_| true);
    };
    let ge = x.ge(y);
    says("ge", ge, &|i| a[i].ge(b[i]));
    says("not", ge.not(), &|i| !a[i].ge(b[i]));
    same("zero", x.zero(), &|i| a[i].zero());
    same("one", x.one(), &|i| a[i].one());
    same("highest", x.highest(), &|i| a[i].highest());
    same("lowest", x.lowest(), &|i| a[i].lowest());
    same("add", x.add(y), &|i| a[i].add(b[i]));
    same("sub", x.sub(y), &|i| a[i].sub(b[i]));
    same("min", x.min(y), &|i| a[i].min(b[i]));
    same("max", x.max(y), &|i| a[i].max(b[i]));
    same("or_else", x.or_else(ge.not(), y), &|i| a[i].or_else(!a[i].ge(b[i]), b[i]));
    // whose excess is within range
    let held = |i: usize| a[i].max(a[i].lowest().add(theta[i]));
    let (excess, fired, after) = x.max(x.lowest().add(t)).reset(t);
    same("excess", excess, &|i| held(i).reset(theta[i]).0);
    says("fired", fired, &|i| held(i).reset(theta[i]).1);
    same("after", after, &|i| held(i).reset(theta[i]).2);
    same("half", x.half(), &|i| a[i].half());
    same("no spike", x.no_spike().lower(x, fired), &|i| a[i].no_spike().lower(a[i], a[i].ge(b[i])));
    same("no silence", x.no_silence().raise(x, fired), &|i| a[i].no_silence().raise(a[i], a[i].ge(b[i])));
    same("lower", x.lower(y, fired), &|i| a[i].lower(b[i], a[i].ge(b[i])));
    same("raise", x.raise(y, fired), &|i| a[i].raise(b[i], a[i].ge(b[i])));
    says("any spike", x.any_spike(), &|i| a[i].any_spike());
    says("any silence", x.any_silence(), &|i| a[i].any_silence());
    same("thousandth", t.thousandth(), &|i| theta[i].thousandth());
}

fn ints<L: IntLane<Element = i32>>(draws: &mut Draws) {
    let n = L::LANES;
    let (a, b, bits) = (draws.ints(1 << 30), draws.ints((1 << 30) - 1), draws.next() as u32);
    let theta = draws.ints(i64::from(i32::MAX - 500)).map(|x| Ord::max(x, 1));
    lanes(n, L::load, &a, &b, &theta);
    let stored = |lanes: L| {
        let mut to = [0; 16];
        lanes.store(&mut to);
        to[..n].to_vec()
    };
    let (c, d) = (draws.ints(46_340), draws.ints(46_340));
    assert_eq!(stored(L::load(&c).mul(L::load(&d))), (0..n).map(|i| c[i] * d[i]).collect::<Vec<_>>());
    let short = draws.shorts();
    assert_eq!(stored(L::load_short(&short)), (0..n).map(|i| short[i].into()).collect::<Vec<_>>());
    assert_eq!(L::mask(bits).bits(), u64::from(bits) & ((1 << n) - 1));
    assert_eq!(stored(L::splat(b[0])), vec![b[0]; n]);
    for shift in [0, 1, 15, 31, 32] {
        let factor = a.map(|x| x >> 31u32.saturating_sub(shift));
        let want: Vec<_> = (0..n).map(|i| b[i].scaled(factor[i], shift)).collect();
        assert_eq!(stored(L::load(&b).scaled(L::load(&factor), shift)), want, "{shift}");
    }
}

fn shorts<L: ShortLane>(draws: &mut Draws) {
    let (a, b) = (draws.shorts(), draws.shorts());
    let theta = draws.shorts().map(|x| Ord::max(x & i16::MAX, 1));
    lanes(L::LANES, L::load, &a, &b, &theta);
    let seen = L::widen(L::load(&b).see_high(L::load(&a).see(L::load(&b).seen())), L::load(&theta));
    let want = (0..L::LANES).fold(0, |all, i| {
        let seen = <i16 as Lane>::widen(b[i].see_high(a[i].see(b[i].seen())), theta[i]);
        all | u32::from(!<i16 as ShortLane>::held(seen, true)) << i
    });
    for i in 0..L::LANES {
        assert_eq!(L::held(seen, L::mask(1 << i)), want >> i & 1 == 0);
    }
    assert!(L::held(seen, L::mask(!want)));
    let lanes = u64::from(u32::MAX >> (32 - L::LANES));
    assert_eq!(L::mask(want).bits(), want.into());
    assert_eq!(L::splat(a[0]).ge(L::load(&[a[0]; 32])).bits(), lanes);
    let both = Twice(L::load(&a).ge(L::load(&b)), L::mask(want));
    assert_eq!(both.bits(), both.0.bits() | u64::from(want) << 32);
    assert_eq!(Twice::<L::Mask>::from_bits(both.bits()).bits(), both.bits());
    assert_eq!(both.not().bits(), (lanes | lanes << 32) & !both.bits());
    // a potential that has been cut, too
    let (fired, after) = L::load(&a).fire(L::load(&theta));
    let marked = after.mark(fired, L::load(&b));
    let mut bits = [0; 32];
    marked.store_bits(&mut bits);
    for i in 0..L::LANES {
        let (fires, after) = a[i].fire(theta[i]);
        assert_eq!(fired.bits() >> i & 1 == 1, fires);
        assert_eq!(bits[i], (if fires { after | b[i] } else { after }) as u16);
    }
}

fn floats<L: FloatLane>(draws: &mut Draws) {
    let (a, b, c) = (draws.floats(), draws.floats(), draws.floats());
    let (x, y, z) = (L::load(&a), L::load(&b), L::load(&c));
    let same = |what: &str, got: L, want: &dyn Fn(usize) -> f32| {
        let mut to = [0.0; 16];
        got.store(&mut to);
        for (i, got) in to[..L::LANES].iter().enumerate() {
            let want = want(i);
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{what} {got} {want}");
        }
    };
    let gt = x.gt(y);
    assert_eq!(gt.bits(), (0..L::LANES).fold(0, |all, i| all | u64::from(a[i] > b[i]) << i));
    same("splat", L::splat(a[0]), &|_| a[0]);
    same("add", x.add(y), &|i| a[i] + b[i]);
    same("sub", x.sub(y), &|i| a[i] - b[i]);
    same("mul", x.mul(y), &|i| a[i] * b[i]);
    same("mul_add", x.mul_add(y, z), &|i| a[i].mul_add(b[i], c[i]));
    same("min", x.min(y), &|i| FloatLane::min(a[i], b[i]));
    same("max", x.max(y), &|i| FloatLane::max(a[i], b[i]));
    same("floor", x.floor(), &|i| a[i].floor());
    same("or_else", x.or_else(gt, y), &|i| if a[i] > b[i] { a[i] } else { b[i] });
}

fn sums<L: SumLane>(draws: &mut Draws) {
    let n = L::LANES;
    let mut numbers = || (0..2 * n).map(|_| L::Element::cut(draws.next() as i32)).collect::<Vec<_>>();
    let (a, b) = (numbers(), numbers());
    let wide = |x: &[L::Element], i: usize| x[i].wide();
    let (bits, mask, by) = (draws.next() as u32, draws.next() as u16, draws.next() as u32 % 16);
    let same = |what: &str, got: L, want: &dyn Fn(usize) -> i32| {
        let mut to = vec![L::Element::default(); n];
        got.store(&mut to);
        assert_eq!(to, (0..n).map(|i| L::Element::cut(want(i))).collect::<Vec<_>>(), "{what}");
    };
    let (x, y) = (L::load(&a), L::load(&b));
    same("splat", L::splat(b[0]), &|_| wide(&b, 0));
    same("plus", x.plus(y), &|i| wide(&a, i).wrapping_add(wide(&b, i)));
    same("keep", x.keep(bits), &|i| if bits >> i & 1 == 1 { wide(&a, i) } else { 0 });
    let unsigned: Vec<_> = a.iter().map(|x| x.wide() as u16).collect();
    same("bits", L::bits(&unsigned), &|i| unsigned[i].into());
    same("down", L::bits(&unsigned).down(by), &|i| (unsigned[i] >> by).into());
    let masked = L::bits(&unsigned).or(L::bits(&unsigned).down(by), mask);
    same("or", masked, &|i| (unsigned[i] | unsigned[i] >> by & mask).into());
    assert_eq!(x.has(by), (0..n).fold(0, |all, i| all | (wide(&a, i) as u32 >> by & 1) << i));
    let found = L::look([x, L::load(&a[n..])], y);
    same("look", found, &|i| wide(&a, wide(&b, i) as usize & ((1 << L::INPUTS) - 1)));
}

fn places<V: Vectors>(draws: &mut Draws) {
    let (bits, base) = (draws.next() as u32, draws.next() as u16);
    let of = |bits: u32| (0..32).filter(move |i| bits >> i & 1 == 1).map(|i| u32::from(base) + i);
    let (few, many) = (of(bits & 0xffff).collect::<Vec<_>>(), of(bits).map(|x| x as u16).collect::<Vec<_>>());
    let (mut wide, mut short) = ([0u32; 16], [0u16; 32]);
    // SAFETY: as many numbers as bits.
    unsafe {
        V::places(bits as u16, base.into(), wide.as_mut_ptr());
        assert_eq!(wide[..few.len()], few);
        V::places_short(bits as u16, base, short.as_mut_ptr());
        assert_eq!(short[..few.len()], many[..few.len()]);
        V::places_wide(bits, base, short.as_mut_ptr());
        assert_eq!(short[..many.len()], many);
    }
}

struct Battery;
impl Job for Battery {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let draws = &mut Draws(1);
        for _ in 0..2_000 {
            ints::<V::I32>(draws);
            shorts::<V::I16>(draws);
            floats::<V::F32>(draws);
            sums::<V::Sum32>(draws);
            sums::<V::Sum16>(draws);
            sums::<V::Half16>(draws);
            places::<V>(draws);
        }
    }
}

#[test]
fn every_lane_does_what_one_lane_does() {
    for isa in Isa::available() {
        isa.run(Battery);
        isa.run_newer(Battery);
    }
}
