use super::*;

fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 7919 + salt * 104_729) % 1009) as f32 / 1009.0 - 0.4) * 3.0).collect()
}

const CHANNELS: usize = 37;
const POSITIONS: usize = 600;

struct Case {
    x: [Vec<f32>; 2],
    scale: [Vec<f32>; 2],
    shift: [Vec<f32>; 2],
    top: Vec<f32>,
}

impl Case {
    fn new() -> Self {
        let n = CHANNELS * POSITIONS;
        Case {
            x: [numbers(n, 1), numbers(n, 2)],
            scale: [numbers(CHANNELS, 3), vec![1.0; CHANNELS]],
            shift: [numbers(CHANNELS, 4), vec![0.0; CHANNELS]],
            top: numbers(CHANNELS, 5).iter().map(|t| t.abs() + 0.3).collect(),
        }
    }
    fn terms(&self, n: usize) -> Vec<Term<'_>> {
        (0..n).map(|i| Term { x: &self.x[i], scale: &self.scale[i], shift: &self.shift[i] }).collect()
    }
    fn functions(&self) -> [Function<'_>; 4] {
        [Function::None, Function::Relu, Function::Clip(&self.top), Function::Qcfs(4.0, &self.top)]
    }
}

/// z, activation, slope and gradient of the top, in f64.
fn naive(case: &Case, terms: usize, function: Function<'_>, i: usize) -> (f64, f64, f64, f64) {
    let c = i % CHANNELS;
    let z: f64 = (0..terms)
        .map(|t| f64::from(case.x[t][i]) * f64::from(case.scale[t][c]) + f64::from(case.shift[t][c]))
        .sum();
    let top = f64::from(case.top[c]);
    let inside = if z > 0.0 && z < top { 1.0 } else { 0.0 };
    match function {
        Function::None => (z, z, 1.0, 0.0),
        Function::Relu => (z, z.max(0.0), if z > 0.0 { 1.0 } else { 0.0 }, 0.0),
        Function::Clip(_) => (z, z.clamp(0.0, top), inside, if z >= top { 1.0 } else { 0.0 }),
        Function::Qcfs(l, _) => {
            let l = f64::from(l);
            let share = (z * l / top + 0.5).floor().clamp(0.0, l) / l;
            let slope = if inside > 0.0 { share - z / top } else { f64::from(u8::from(z > 0.0)) };
            (z, share * top, inside, slope)
        }
    }
}

#[test]
fn forward_and_backward_are_those_of_the_formulas_on_every_instruction_set() {
    let case = Case::new();
    let n = CHANNELS * POSITIONS;
    let upstream = numbers(n, 9);
    let centres = [numbers(CHANNELS, 6), vec![0.0; CHANNELS]];
    for terms in [1, 2] {
        for function in case.functions() {
            let mut first: Option<(Vec<f32>, Vec<f32>, Vec<f64>)> = None;
            for isa in Isa::available() {
                let mut out = vec![0.0; n];
                forward(isa, &case.terms(terms), function, CHANNELS, &mut out);
                let mut gradient = upstream.clone();
                let mut sums = vec![vec![0.0; CHANNELS]; 4];
                let [a, b, c, d] = sums.as_mut_slice() else { unreachable!() };
                let into = Sums { gradient: a, products: [b, c], top: d };
                let centres = [centres[0].as_slice(), &centres[1]];
                backward(isa, &case.terms(terms), centres, function, CHANNELS, &mut gradient, into);
                let sums = sums.concat();
                match &first {
                    None => first = Some((out, gradient, sums)),
                    Some((o, g, s)) => {
                        assert!(*o == out && *g == gradient && *s == sums, "{} {function:?}", isa.name());
                    }
                }
            }
            let (out, gradient, sums) = first.unwrap();
            let mut want = vec![0.0f64; 4 * CHANNELS];
            for i in 0..n {
                let (z, y, slope, top) = naive(&case, terms, function, i);
                let c = i % CHANNELS;
                // next to a step of the floor or an end of the clip, f32 may fall on the other side
                let grid = z / f64::from(case.top[c]) * 4.0;
                let near = ((grid + 0.5) - (grid + 0.5).round()).abs() < 1e-4
                    || grid.abs() < 1e-4
                    || (grid - 4.0).abs() < 1e-4;
                assert!(near || (f64::from(out[i]) - y).abs() < 1e-5, "{function:?} {z}: {} {y}", out[i]);
                let g = f64::from(upstream[i]) * slope;
                assert!(near || (f64::from(gradient[i]) - g).abs() < 1e-5);
                let g = f64::from(gradient[i]);
                want[c] += g;
                want[CHANNELS + c] += g * (f64::from(case.x[0][i]) - f64::from(centres[0][c]));
                if terms == 2 {
                    want[2 * CHANNELS + c] += g * f64::from(case.x[1][i]);
                }
                want[3 * CHANNELS + c] += f64::from(upstream[i]) * top;
            }
            for (i, (got, want)) in sums.iter().zip(&want).enumerate() {
                assert!((got - want).abs() < 2e-3 * (1.0 + want.abs()), "{function:?} sum {i}: {got} {want}");
            }
        }
    }
}

#[test]
fn moments_and_affine_are_those_of_the_formulas() {
    let x = numbers(CHANNELS * POSITIONS, 1);
    let z = numbers(CHANNELS * POSITIONS, 2);
    let k: Vec<Vec<f32>> = (3..6).map(|s| numbers(CHANNELS, s)).collect();
    let mut seen: Vec<(Vec<f64>, Vec<f32>)> = vec![];
    for isa in Isa::available() {
        let mut sums = vec![0.0; 2 * CHANNELS];
        let (a, b) = sums.split_at_mut(CHANNELS);
        moments(isa, &x, &k[0], [a, b]);
        let mut out = vec![0.0; x.len()];
        affine(isa, &x, &z, [&k[0], &k[1], &k[2]], &mut out);
        seen.push((sums, out));
    }
    assert!(seen.iter().all(|s| *s == seen[0]));
    for c in 0..CHANNELS {
        let column = || (0..POSITIONS).map(|p| f64::from(x[p * CHANNELS + c]) - f64::from(k[0][c]));
        let (sum, square) = (column().sum::<f64>(), column().map(|d| d * d).sum::<f64>());
        assert!((seen[0].0[c] - sum).abs() < 1e-3 && (seen[0].0[CHANNELS + c] - square).abs() < 1e-2);
    }
    for (i, y) in seen[0].1.iter().enumerate() {
        let c = i % CHANNELS;
        assert!((x[i] * k[0][c] + z[i] * k[1][c] + k[2][c] - y).abs() < 1e-5);
    }
}
