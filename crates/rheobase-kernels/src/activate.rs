//! Activations of the dense reading, number by number, in place.
//! In: pre-activations. Out: activations. Compiled for each instruction set, since rounding down is a library call without SSE4.1.

use crate::cpu::{Isa, Job, Vectors};

/// What to do to each number.
#[derive(Debug, Clone, Copy)]
pub enum Activate<'a> {
    /// max(0, x).
    Relu,
    /// min(max(0, x), ceiling).
    Clip(f32),
    /// λ/L · clip(floor(x·L/λ + ½), 0, L): L, and λ for all or for each channel in turn.
    Qcfs(f32, &'a [f32]),
}

/// Applies it to `[positions, channels]`.
pub fn activate(isa: Isa, what: Activate<'_>, numbers: &mut [f32]) {
    isa.run(Apply { what, numbers });
}

struct Apply<'a> {
    what: Activate<'a>,
    numbers: &'a mut [f32],
}

impl Job for Apply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<V: Vectors>(self) {
        let qcfs = |x: f32, l: f32, lambda: f32| (x / lambda * l + 0.5).floor().clamp(0.0, l) / l * lambda;
        match self.what {
            Activate::Relu => self.numbers.iter_mut().for_each(|x| *x = x.max(0.0)),
            Activate::Clip(c) => self.numbers.iter_mut().for_each(|x| *x = x.clamp(0.0, c)),
            Activate::Qcfs(l, &[lambda]) => self.numbers.iter_mut().for_each(|x| *x = qcfs(*x, l, lambda)),
            Activate::Qcfs(l, lambdas) => {
                for position in self.numbers.chunks_exact_mut(lambdas.len().max(1)) {
                    position.iter_mut().zip(lambdas).for_each(|(x, &lambda)| *x = qcfs(*x, l, lambda));
                }
            }
        }
    }
}
