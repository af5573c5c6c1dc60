//! The rules against the golden vectors, and the theorems as properties.

use super::*;
use proptest::prelude::*;
use rheobase_kernels::lanes::ShortLane;
use serde_json::Value;

fn cell<L: Lane>(theta: L, start: L, currents: &[L]) -> Cell<'_, L> {
    Cell::new(theta, start, currents)
}

/// ψ over the first ρ steps from `start`.
fn psi(c: &Cell<'_, i64>, start: i64, presim: usize) -> i64 {
    count(c, start, presim) - desired(c, presim)
}

/// What can be asked of golden numbers in any lane type.
trait Number: Lane<Mask = bool> + std::fmt::Debug + PartialEq {
    fn number(x: f64) -> Self;
    fn close(self, x: f64, theta: f64) -> bool;
}
impl Number for f64 {
    fn number(x: f64) -> Self {
        x
    }
    fn close(self, x: f64, _: f64) -> bool {
        (self - x).abs() <= 1e-9
    }
}
impl Number for f32 {
    fn number(x: f64) -> Self {
        x as f32
    }
    fn close(self, x: f64, _: f64) -> bool {
        (f64::from(self) - x).abs() <= 1e-4
    }
}
/// In units of 2^-20: theta, currents and unshifted v(0) are exact; shifted ones carry ε = round(θ/1000).
impl Number for i64 {
    fn number(x: f64) -> Self {
        (x * 1_048_576.0).round() as i64
    }
    fn close(self, x: f64, theta: f64) -> bool {
        (self as f64 / 1_048_576.0 - x).abs() <= 1e-5 * theta.max(1.0)
    }
}

fn numbers<N: Number>(v: &Value) -> Vec<N> {
    v.as_array().unwrap().iter().map(|x| N::number(x.as_f64().unwrap())).collect()
}

fn spikes(v: &Value) -> Vec<bool> {
    v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() == 1).collect()
}

fn check_case<N: Number>(case: &Value) {
    let name = case["name"].as_str().unwrap();
    let number = |v: &Value| v.as_f64().unwrap();
    let theta = number(&case["theta"]);
    let (presim, steps) =
        (case["presim"].as_u64().unwrap() as usize, case["steps"].as_u64().unwrap() as usize);
    let currents: Vec<N> = numbers(&case["currents"]);
    let c = cell(N::number(theta), N::number(number(&case["v0"])), &currents);
    let mut fired = vec![false; steps];

    assert_eq!(
        desired(&c, presim),
        (0..case["desired"].as_u64().unwrap()).fold(c.theta.zero(), |n, _| n.add(n.one()))
    );
    assert_eq!(Qcfs.run(&c, &mut fired), c.start, "{name}");
    assert_eq!(fired, spikes(&case["qcfs"]["spikes"]), "qcfs {name}");
    let mut v = c.start;
    for (i, want) in case["qcfs"]["potentials"].as_array().unwrap().iter().enumerate() {
        v = if_step(v, currents[i], c.theta).after;
        assert!(v.close(number(want), theta), "potential {i} {name}: {v:?} {want}");
    }

    let mut start = c.start;
    for round in case["rounds"].as_array().unwrap() {
        assert!(start.close(number(&round["start"]), theta), "round {name}: {start:?} {round}");
        let shift = cos::shift(&c, start, presim);
        assert_eq!(shift.any(), round["offset"].as_i64().unwrap() != 0, "{name}");
        start = shift.to;
    }
    for (rounds, want) in case["cos"].as_object().unwrap() {
        let iterations = Iterations::Times(rounds.parse().unwrap_or(presim + 1));
        let from = Cos { presim, iterations }.run(&c, &mut fired);
        assert!(from.close(number(&want["start"]), theta), "cos {rounds} {name}: {from:?} {want}");
        assert_eq!(fired, spikes(&want["spikes"]), "cos {rounds} {name}");
    }

    let mut b = vec![c.theta.highest(); presim];
    breakpoints(c.theta, &currents[..presim], &mut b);
    for (b, want) in b.iter().zip(case["breakpoints"].as_array().unwrap()) {
        assert!(b.close(number(want), theta), "breakpoint {name}: {b:?} {want}");
    }
    let exact = Cos { presim, iterations: Iterations::Exact }.run(&c, &mut fired);
    assert_eq!(count(&c, exact, presim), desired(&c, presim), "exact {name}");
    if let Some(low) = case["interval"][0].as_f64() {
        assert!(exact.ge(N::number(low)), "{name}");
    }
    if let Some(high) = case["interval"][1].as_f64() {
        assert!(!exact.ge(N::number(high)), "{name}");
    }

    Srp { presim }.run(&c, &mut fired);
    assert_eq!(fired, spikes(&case["srp"]["spikes"]), "srp {name}");
}

/// Every case of a file of golden vectors: ours, and one more that `RHEOBASE_VECTORS` may name.
#[test]
fn golden_vectors_hold_in_f64_f32_and_integers() {
    check_file(include_str!("../../tests/golden/neuron.json"));
    match std::env::var("RHEOBASE_VECTORS") {
        Ok(path) => check_file(&std::fs::read_to_string(path).unwrap()),
        Err(_) => println!("skipped: no further golden vectors (RHEOBASE_VECTORS is not set)"),
    }
}

fn check_file(text: &str) {
    let file: Value = serde_json::from_str(text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        check_case::<f64>(case);
        check_case::<f32>(case);
        check_case::<i64>(case);
    }
}

/// θ, ρ and currents with a drift and a jitter, so that all counts and signs of ψ come up.
fn neuron() -> impl Strategy<Value = (i64, usize, Vec<i64>)> {
    (1i64..5_000_000, 1usize..12).prop_flat_map(|(theta, presim)| {
        let mean = -theta / 3..theta + theta / 3 + 1;
        let jitter = prop::collection::vec(-2 * theta..=2 * theta, presim);
        (Just(theta), Just(presim), mean, jitter).prop_map(|(theta, presim, mean, jitter)| {
            (theta, presim, jitter.iter().map(|j| j + mean).collect())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The paper's sign lemma: the residual potential says the sign of ψ.
    #[test]
    fn the_residual_says_the_sign((theta, presim, currents) in neuron()) {
        let c = cell(theta, theta / 2, &currents);
        let (n, psi) = (count(&c, c.start, presim), psi(&c, c.start, presim));
        let v = currents.iter().fold(c.start, |v, &i| if_step(v, i, theta).after);
        prop_assert_eq!(v < 0 && n >= 1, psi > 0);
        prop_assert_eq!(v >= theta && n < presim as i64, psi < 0);
    }

    #[test]
    fn one_shift_changes_the_count_by_exactly_one((theta, presim, currents) in neuron()) {
        let c = cell(theta, theta / 2, &currents);
        let before = psi(&c, c.start, presim);
        let shift = cos::shift(&c, c.start, presim);
        prop_assert_eq!(shift.any(), before != 0);
        prop_assert_eq!(shift.by(), (shift.to - c.start).abs());
        prop_assert_eq!(psi(&c, shift.to, presim), before - before.signum());
    }

    #[test]
    fn iteration_reaches_zero_within_presim_rounds((theta, presim, currents) in neuron()) {
        let c = cell(theta, theta / 2, &currents);
        let start = Cos { presim, iterations: Iterations::Times(presim) }.run(&c, &mut []);
        prop_assert_eq!(psi(&c, start, presim), 0);
    }

    #[test]
    fn breakpoints_give_the_count_for_every_start((theta, presim, currents) in neuron(), shift in -4.0f64..4.0) {
        let c = cell(theta, theta / 2, &currents);
        let mut b = vec![i64::MAX; presim];
        breakpoints(theta, &currents, &mut b);
        prop_assert!(b.windows(2).all(|w| w[1] - w[0] >= theta));
        let drawn = (shift * theta as f64) as i64;
        for start in b.iter().flat_map(|b| [b - 1, *b]).chain([drawn, theta / 2]) {
            prop_assert_eq!(count(&c, start, presim), b.iter().filter(|b| **b <= start).count() as i64);
        }
    }

    #[test]
    fn exact_is_exact_with_room_on_both_sides((theta, presim, currents) in neuron()) {
        let c = cell(theta, theta / 2, &currents);
        let start = Cos { presim, iterations: Iterations::Exact }.run(&c, &mut []);
        prop_assert_eq!(psi(&c, start, presim), 0);
        for room in [-theta / 2 + 1, theta / 2 - 1] {
            prop_assert_eq!(psi(&c, start + room, presim), 0);
        }
    }

    /// The same in f32, away from ties: currents are multiples of 2^-11 θ and sums are exact.
    #[test]
    fn floats_agree_with_integers((presim, currents) in (1usize..12).prop_flat_map(|n| (Just(n), prop::collection::vec(-4000i64..6000, n)))) {
        let theta = 2048i64;
        let ints = cell(theta, theta / 2, &currents);
        let scaled: Vec<f32> = currents.iter().map(|&i| i as f32 / 2048.0).collect();
        let floats = cell(1.0f32, 0.5, &scaled);
        prop_assert_eq!(desired(&floats, presim) as i64, desired(&ints, presim));
        prop_assert_eq!(count(&floats, 0.5, presim) as i64, count(&ints, theta / 2, presim));
        let exact = Cos { presim, iterations: Iterations::Exact }.run(&floats, &mut []);
        prop_assert_eq!(count(&floats, exact, presim), desired(&floats, presim));
        let mut b = vec![f32::INFINITY; presim];
        breakpoints(1.0, &scaled, &mut b);
        for start in b.iter().flat_map(|b| [b - 1.0 / 2048.0, *b]).chain([0.5]) {
            prop_assert_eq!(count(&floats, start, presim) as usize, b.iter().filter(|b| **b <= start).count());
        }
        let (n, v) = (count(&floats, 0.5, presim), scaled.iter().fold(0.5f32, |v, &i| if_step(v, i, 1.0).after));
        prop_assert_eq!(v < 0.0 && n >= 1.0, n > desired(&floats, presim));
        let shift = cos::shift(&floats, 0.5, presim);
        if shift.any() {
            prop_assert_eq!((count(&floats, shift.to, presim) - n).abs(), 1.0);
        }
        let rounds = Cos { presim, iterations: Iterations::Times(presim) }.run(&floats, &mut []);
        prop_assert_eq!(count(&floats, rounds, presim), desired(&floats, presim));
    }

    /// What lanes of 16 bits do not own up to having lost is what 64 bits have.
    #[test]
    fn short_lanes_know_what_they_hold(theta in 1i16.., currents in prop::collection::vec(prop_oneof![any::<i16>(), -9000i16..12000], 9), presim in 1usize..9, steps in 1usize..9, part in 0.0f64..2.0) {
        let start = (part * f64::from(theta)).min(32767.0) as i16;
        let wide: Vec<i64> = currents.iter().map(|&i| i.into()).collect();
        for rounds in 1..4 {
            let rule = Cos { presim, iterations: Iterations::Times(rounds) };
            let (short, long) = (Cell::new(theta, start, &currents), Cell::new(theta.into(), start.into(), &wide));
            let (mut of_short, mut of_long) = (vec![false; steps], vec![false; steps]);
            let (from, start) = (rule.run(&short, &mut of_short), rule.run(&long, &mut of_long));
            if i16::held(short.seen(), true) {
                prop_assert_eq!((&of_short, i64::from(from)), (&of_long, start), "{} rounds", rounds);
            } else {
                // ... and it does not give up where numbers are small
                let largest = currents.iter().map(|&i| i64::from(i).abs()).fold(theta.into(), Ord::max);
                prop_assert!((2 * presim.max(steps) as i64 + 3) * largest * rounds as i64 > 32767);
            }
        }
    }

    /// Every rule stays within its reach: lanes of 32 bits fire what those of 64 do.
    #[test]
    fn numbers_stay_within_reach(presim in 1usize..7, more in 0usize..20, rounds in 1usize..5, draws in prop::collection::vec((-1.0f64..=1.0, any::<bool>()), 26), part in 0.0f64..=1.0, of_theta in 0.01f64..=1.0) {
        let span = presim + more;
        for entry in RULES {
            for iterations in [Iterations::Times(rounds), Iterations::Exact] {
                let rule = (entry.build)(&Params { presim, iterations });
                let largest = (((1i64 << 31) - 1) / rule.reach(span) as i64) as f64;
                // half of the currents are as large as may be
                let current = |(draw, is_largest): &(f64, bool)| (if *is_largest { draw.signum() } else { *draw } * largest) as i32;
                let currents: Vec<i32> = draws[..span].iter().map(current).flat_map(|i| [i; 16]).collect();
                let (theta, start) = ([(of_theta * largest).max(1.0) as i32; 16], [(part * largest) as i32; 16]);
                let outcomes = [false, true].map(|wide| {
                    let tile = Tile { span, positions: 1, cols: 16, channels: 16, currents: Currents::Int(&currents), steady: false, shorts: None, theta: &theta, start: &start, per_neuron: false, wide, most: largest as i64 };
                    let (mut bits, mut spikes) = (vec![0; span], vec![0; span]);
                    rule.run_tile(rheobase_kernels::Isa::best(), &tile, &mut TileOut { steps: span, bits: &mut bits, stride: 1, spikes: &mut spikes, offsets: None });
                    bits
                });
                prop_assert_eq!(&outcomes[0], &outcomes[1], "{} {}", entry.name, iterations);
            }
        }
    }

    /// Currents up to 2^29 in some places and small ones in others: what fits 32 bits is run in them, and fires what 64 do.
    #[test]
    fn lanes_of_both_widths_fire_the_same(seed in any::<u64>(), channels in 1usize..40, presim in 1usize..20, more in 0usize..50, per_neuron in any::<bool>()) {
        let (span, positions, cols) = (presim + more, 9, channels.next_multiple_of(16));
        let mut state = seed | 1;
        let mut draw = |n: i64| { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); ((state >> 33) as i64 % n) as i32 };
        let theta: Vec<i32> = (0..cols).map(|_| { let n = 1 << [29, 24, 12][draw(3) as usize]; 1 + draw(n) }).collect();
        let start: Vec<i32> = (0..if per_neuron { positions * cols } else { cols }).map(|i| draw(i64::from(theta[i % cols]) + 1)).collect();
        let sizes: Vec<i64> = (0..positions).map(|_| 1 << [29, 26, 25, 24, 12][draw(5) as usize]).collect();
        let currents: Vec<i32> = (0..span * positions * cols).map(|i| { let n = sizes[i / cols % positions]; draw(n) - (n / 3) as i32 }).collect();
        for entry in RULES {
            for iterations in [Iterations::Times(1), Iterations::Times(3), Iterations::Exact] {
                let rule = (entry.build)(&Params { presim, iterations });
                let words = channels.div_ceil(64);
                for isa in rheobase_kernels::Isa::available() {
                    let outcomes = [false, true].map(|count| {
                        let tile = Tile { span, positions, cols, channels, currents: Currents::Int(&currents), steady: false, shorts: None, theta: &theta, start: &start, per_neuron, wide: true, most: 1 << 29 };
                        let (mut bits, mut spikes) = (vec![!0; span * positions * words], vec![0; span]);
                        let mut offsets = Offsets::new(span);
                        // all steps at hand in 64 bits, where offsets are counted
                        let offsets = count.then_some(&mut offsets);
                        rule.run_tile(isa, &tile, &mut TileOut { steps: span, bits: &mut bits, stride: positions * words, spikes: &mut spikes, offsets });
                        // bits of padding say nothing
                        bits.iter_mut().for_each(|b| *b &= u64::MAX >> (64 - channels));
                        bits
                    });
                    prop_assert_eq!(&outcomes[0], &outcomes[1], "{} {} {}", entry.name, iterations, isa.name());
                }
            }
        }
    }

    /// Equal currents need no calibration from θ/2, and not all steps at hand.
    #[test]
    fn steady_currents_fire_the_same(theta in 1i32..5000, currents in prop::collection::vec(-6000i32..9000, 32), presim in 1usize..7, steps in 1usize..12, at_half in any::<bool>()) {
        let theta = vec![theta; 16];
        let start: Vec<i32> = theta.iter().map(|t| if at_half { t / 2 } else { t / 3 }).collect();
        let span = steps.max(presim);
        let all: Vec<i32> = (0..span).flat_map(|_| currents.iter().copied()).collect();
        for entry in RULES {
            for iterations in [Iterations::Times(2), Iterations::Exact] {
                let rule = (entry.build)(&Params { presim, iterations });
                let outcomes = [false, true].map(|steady| {
                    let numbers = if steady { &currents } else { &all };
                    let tile = Tile { span, positions: 2, cols: 16, channels: 16, currents: Currents::Int(numbers), steady, shorts: None, theta: &theta, start: &start, per_neuron: false, wide: false, most: 0 };
                    let (mut bits, mut spikes) = (vec![!0; steps * 2], vec![0; steps]);
                    rule.run_tile(rheobase_kernels::Isa::best(), &tile, &mut TileOut { steps, bits: &mut bits, stride: 2, spikes: &mut spikes, offsets: None });
                    (bits, spikes)
                });
                prop_assert_eq!(&outcomes[0], &outcomes[1], "{} {}", entry.name, iterations);
            }
        }
    }

    /// The same spikes from lanes of 16 bits and from wider ones, along channels and across positions, on every instruction set.
    #[test]
    fn short_vectors_fire_what_wide_ones_do(seed in any::<u64>(), channels in prop_oneof![1usize..40, Just(16usize), Just(64)], plan in 0usize..8, large in 3000u64..40000) {
        let (span, presim) = [(4, 4), (4, 0), (8, 4), (16, 4), (7, 0), (21, 3), (5, 5), (70, 4)][plan];
        let (positions, cols) = (70, channels.next_multiple_of(16));
        let mut state = seed | 1;
        let mut draw = |n: u64| { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); (state >> 33) % n };
        let theta: Vec<i32> = (0..cols).map(|c| if c < channels { [500, 3000, 20000, 1 << 16, 1 << 27][draw(5) as usize] + draw(5000) as i32 } else { 1 << 27 }).collect();
        let start: Vec<i32> = theta.iter().map(|t| t / 2).collect();
        let mut current = || (draw(large) as i32 - large as i32 / 3).clamp(-32767, 32767) as i16;
        let rule: Box<dyn NeuronRule> = if presim == 0 { Box::new(Qcfs) } else { Box::new(Cos { presim, iterations: Iterations::Times(1) }) };
        let held = Shorts::new(&theta, &start);
        prop_assert!(held.is_some());
        for isa in rheobase_kernels::Isa::available() {
            let words = channels.div_ceil(64);
            let along: Vec<i16> = (0..span * positions * cols).map(|_| current()).collect();
            let outcomes = [None, held.as_ref()].map(|shorts| {
                let tile = Tile { span, positions, cols, channels, currents: Currents::Short(&along), steady: false, shorts, theta: &theta, start: &start, per_neuron: false, wide: false, most: 0 };
                let (mut bits, mut spikes) = (vec![!0; span * positions * words], vec![0; span]);
                rule.run_tile(isa, &tile, &mut TileOut { steps: span, bits: &mut bits, stride: positions * words, spikes: &mut spikes, offsets: None });
                (bits, spikes)
            });
            prop_assert_eq!(&outcomes[0], &outcomes[1], "{}", isa.name());
            let lanes = rheobase_kernels::lookup::Block::lanes::<i16>(isa);
            let vectors = positions.div_ceil(lanes);
            let across: Vec<i16> = (0..channels * vectors * span * lanes).map(|_| current()).collect();
            let outcomes = [None, held.as_ref()].map(|shorts| {
                let block = Across { span, lanes, positions, currents: Currents::Short(&across), theta: &theta[..channels], start: &start[..channels], shorts, wide: false };
                let mut numbers = vec![!0; vectors * channels.div_ceil(16) * span * 32];
                rule.run_across(isa, &block, &mut AcrossOut { numbers: &mut numbers, offsets: None });
                numbers.chunks_exact(32).map(|n| n[..lanes].to_vec()).collect::<Vec<_>>()
            });
            prop_assert_eq!(&outcomes[0], &outcomes[1], "{}", isa.name());
        }
    }

    /// Every instruction set, narrow and wide, fires the same spikes as one lane.
    #[test]
    fn tiles_agree_with_single_neurons(seed in any::<u64>(), channels in 1usize..40, steps in 1usize..7, presim in 1usize..7) {
        let span = steps.max(presim);
        let (positions, cols) = (3, channels.next_multiple_of(16));
        let mut state = seed | 1;
        let mut draw = |n: i64| { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); ((state >> 33) as i64 % n) as i32 };
        let theta: Vec<i32> = (0..cols).map(|c| if c < channels { 1000 + draw(5000) } else { 1 << 26 }).collect();
        let start: Vec<i32> = theta.iter().enumerate().map(|(c, t)| if c < channels { t / 2 } else { 0 }).collect();
        let mut currents = vec![0; span * positions * cols];
        for (i, x) in currents.iter_mut().enumerate() { if i % cols < channels { *x = draw(9000) - 3000 } }
        for entry in RULES {
            for iterations in [Iterations::Times(1), Iterations::Times(3), Iterations::Exact] {
                let rule = (entry.build)(&Params { presim, iterations });
                let mut seen = None;
                for isa in rheobase_kernels::Isa::available() { for wide in [false, true] {
                    let tile = Tile { span, positions, cols, channels, currents: Currents::Int(&currents), steady: false, shorts: None, theta: &theta, start: &start, per_neuron: false, wide, most: 9000 };
                    let (mut bits, mut spikes) = (vec![!0; steps * positions], vec![0; steps]);
                    let mut offsets = Offsets::new(presim.max(steps));
                    rule.run_tile(isa, &tile, &mut TileOut { steps, bits: &mut bits, stride: positions, spikes: &mut spikes, offsets: Some(&mut offsets) });
                    prop_assert_eq!(bits.iter().map(|b| u64::from(b.count_ones())).sum::<u64>(), spikes.iter().sum::<u64>());
                    prop_assert_eq!(offsets.before.iter().sum::<u64>(), (positions * channels) as u64);
                    let outcome = (bits, spikes, offsets);
                    prop_assert_eq!(seen.get_or_insert(outcome.clone()), &outcome);
                }}
            }
        }
    }
}
