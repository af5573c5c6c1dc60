//! Optimisers: parameters and their gradients in, changed parameters out.

use crate::net::{Field, Net, Param};
use rayon::prelude::*;

/// The least that a λ may become: a threshold of zero has no meaning.
const MIN_THRESHOLD: f32 = 1e-4;
/// Numbers that one thread changes at a time.
const CHUNK: usize = 64 * 1024;

/// Stochastic gradient descent with momentum and weight decay, as PyTorch's: `v = momentum · v + g + decay · w; w -= rate · v`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// μ.
    pub momentum: f32,
    /// Weight decay, on every parameter.
    pub decay: f32,
    /// v of each parameter.
    pub velocity: Vec<Vec<f32>>,
}

impl Sgd {
    /// At rest.
    pub fn new(params: &[Param], momentum: f32, decay: f32) -> Self {
        Sgd { momentum, decay, velocity: params.iter().map(|p| vec![0.0; p.data.len()]).collect() }
    }

    /// One step at this learning rate.
    pub fn step(&mut self, params: &mut [Param], rate: f32) {
        let (momentum, decay) = (self.momentum, self.decay);
        for (param, velocity) in params.iter_mut().zip(&mut self.velocity) {
            param
                .data
                .par_chunks_mut(CHUNK)
                .zip(param.gradient.par_chunks(CHUNK))
                .zip(velocity.par_chunks_mut(CHUNK))
                .for_each(|((w, g), v)| {
                    for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
                        *v = momentum * *v + (g + decay * *w);
                        *w -= rate * *v;
                    }
                });
            positive(param);
        }
    }
}

/// Scales gradients down to this norm of all of them together, if it is larger (0: never).
pub fn clip(params: &mut [Param], most: f32) {
    let square: f64 = params.iter().flat_map(|p| &p.gradient).map(|g| f64::from(*g) * f64::from(*g)).sum();
    let norm = square.sqrt();
    if most > 0.0 && norm > f64::from(most) {
        let scale = (f64::from(most) / norm) as f32;
        params.iter_mut().flat_map(|p| &mut p.gradient).for_each(|g| *g *= scale);
    }
}

/// Adam (Kingma and Ba, 2015) with a rate of its own for each parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    betas: [f32; 2],
    steps: i32,
    first: Vec<Vec<f32>>,
    second: Vec<Vec<f32>>,
}

impl Adam {
    /// At rest.
    pub fn new(params: &[Param], betas: [f32; 2]) -> Self {
        let zeros = || params.iter().map(|p| vec![0.0; p.data.len()]).collect();
        Adam { betas, steps: 0, first: zeros(), second: zeros() }
    }

    /// One step; λ moves on a logarithmic scale. `rates` has one number per parameter.
    pub fn step(&mut self, params: &mut [Param], rates: &[f32]) {
        self.steps += 1;
        let [b1, b2] = self.betas;
        let (c1, c2) = (1.0 - b1.powi(self.steps), 1.0 - b2.powi(self.steps));
        for (i, param) in params.iter_mut().enumerate() {
            let logarithmic = param.field == Field::Threshold;
            let moments = self.first[i].par_chunks_mut(CHUNK).zip(self.second[i].par_chunks_mut(CHUNK));
            let numbers = param.data.par_chunks_mut(CHUNK).zip(param.gradient.par_chunks(CHUNK));
            numbers.zip(moments).for_each(|((w, g), (m, v))| {
                for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                    let g = if logarithmic { g * *w } else { *g };
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * g * g;
                    let step = rates[i] * (*m / c1) / ((*v / c2).sqrt() + 1e-8);
                    *w = if logarithmic { *w * (-step).exp() } else { *w - step };
                }
            });
            positive(param);
        }
    }
}

fn positive(param: &mut Param) {
    if param.field == Field::Threshold {
        param.data.iter_mut().for_each(|t| *t = t.max(MIN_THRESHOLD));
    }
}

/// The average of the weights and statistics over the steps (Polyak averaging with exponential weights).
#[derive(Debug, Clone, Default)]
pub struct Average {
    /// What it keeps of itself at a step; 0 where there is none.
    pub keep: f32,
    /// Steps so far.
    pub steps: u64,
    /// One per parameter, then two per BatchNorm.
    pub numbers: Vec<Vec<f32>>,
}

impl Average {
    /// Of a net's numbers as they are.
    pub fn new(net: &mut Net, keep: f32) -> Self {
        let mut average = Average { keep, ..Average::default() };
        if keep > 0.0 {
            each(net, |numbers| average.numbers.push(numbers.clone()));
        }
        average
    }

    /// Takes in the net's numbers; the first steps count for more, so that the start is soon forgotten.
    pub fn step(&mut self, net: &mut Net) {
        if self.keep == 0.0 {
            return;
        }
        self.steps += 1;
        let n = self.steps as f32;
        let keep = self.keep.min((1.0 + n) / (10.0 + n));
        let mut averages = self.numbers.iter_mut();
        each(net, |numbers| {
            if let Some(average) = averages.next() {
                average.iter_mut().zip(numbers).for_each(|(a, x)| *a += (*x - *a) * (1.0 - keep));
            }
        });
    }

    /// Exchanges the net's numbers for the average's; a second time changes them back.
    pub fn swap(&mut self, net: &mut Net) {
        let mut averages = self.numbers.iter_mut();
        each(net, |numbers| {
            if let Some(average) = averages.next() {
                std::mem::swap(average, numbers);
            }
        });
    }
}

/// Every parameter, then every mean and variance.
fn each(net: &mut Net, mut f: impl FnMut(&mut Vec<f32>)) {
    net.params_mut().iter_mut().for_each(|p| f(&mut p.data));
    net.statistics_mut().for_each(|(_, [mean, var])| {
        f(mean);
        f(var);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(field: Field, data: f32, gradient: f32) -> Param {
        Param { node: 1, field, data: vec![data], gradient: vec![gradient] }
    }

    #[test]
    fn two_steps_of_sgd_are_those_of_a_hand_calculation() {
        let mut params = [param(Field::Weight, 1.0, 0.5)];
        let mut sgd = Sgd::new(&params, 0.9, 0.1);
        sgd.step(&mut params, 0.1); // v = 0.6, w = 0.94
        sgd.step(&mut params, 0.1); // v = 0.54 + 0.5 + 0.094 = 1.134, w = 0.8266
        assert!((params[0].data[0] - 0.8266).abs() < 1e-6);
    }

    #[test]
    fn long_gradients_are_shortened() {
        let mut params = [param(Field::Weight, 0.0, 3.0), param(Field::Bias, 0.0, 4.0)];
        clip(&mut params, 0.0);
        clip(&mut params, 6.0);
        assert_eq!(params[1].gradient, [4.0]);
        clip(&mut params, 1.0);
        assert!((params[0].gradient[0] - 0.6).abs() < 1e-6 && (params[1].gradient[0] - 0.8).abs() < 1e-6);
    }

    #[test]
    fn the_first_step_of_adam_is_its_rate_and_thresholds_stay_positive() {
        let mut params = [param(Field::Weight, 1.0, -3.0), param(Field::Threshold, 2.0, 0.1)];
        Adam::new(&params, [0.9, 0.99]).step(&mut params, &[0.01, 0.5]);
        assert!((params[0].data[0] - 1.01).abs() < 1e-5);
        assert!((params[1].data[0] - 2.0 * (-0.5f32).exp()).abs() < 1e-4);
        let mut params = [param(Field::Threshold, 0.1, 100.0)];
        Sgd::new(&params, 0.9, 0.0).step(&mut params, 1.0);
        assert_eq!(params[0].data, [MIN_THRESHOLD]);
    }
}
