//! Which way each stage goes, by trying: no table of costs knows the machine and the spikes as they do.
//! In: a plan and a few images. Out: a plan that is as fast or faster; results are the same.

use super::plan::Plan;
use super::run::Run;
use crate::timing::{Laps, Timing};
use rheobase_kernels::lookup;

/// How often every way is tried; its best time counts.
const ROUNDS: usize = 2;

/// How much longer a plan of the best stages may seem to take as a whole, which is measured less well than its stages.
const DOUBT: f64 = 1.02;

/// Images of a run for one of a trial, which runs it twelve times.
const EACH: usize = 256;

/// Images per thread that are enough.
const ENOUGH: usize = 8;

/// Images to try with before so many are run; none if it is not worth it.
pub fn images_to_try(images: usize) -> usize {
    let many = (images / EACH).min(ENOUGH * rayon::current_num_threads());
    if many < ENOUGH / 2 { 0 } else { many }
}

impl<'a> Plan<'a> {
    /// The plan with what lanes hold chosen for each stage by how long these images take, `[images, height, width, channels]`,
    /// unless its kernels say it. Runs the images a few times.
    ///
    /// # Panics
    /// As [`run`](Plan::run).
    #[must_use]
    pub fn tried(self, run: &Run<'_>, images: &[f32]) -> Self {
        let kernels = self.kernels();
        // where looking up is no instruction, there is nothing to try
        if kernels.lanes.is_some() || !lookup::is_fast::<i16>(kernels.isa) {
            return self;
        }
        let other = Plan::with(self.whole, kernels, |s| Some(self.stages[s].lanes().other()));
        if self.stages.iter().zip(&other.stages).all(|(a, b)| a.lanes() == b.lanes()) {
            return self;
        }
        let [ours, theirs] = times([&self, &other], run, images);
        let best = |s: usize| {
            let plan = if ours.stages[s] <= theirs.stages[s] { &self } else { &other };
            plan.stages[s].lanes()
        };
        let mixed = Plan::with(self.whole, kernels, |s| Some(best(s)));
        // What a stage takes depends on the ones before it, so that the whole has to be seen as well.
        let [whole] = times([&mixed], run, images);
        if whole.all <= DOUBT * ours.all.min(theirs.all) {
            mixed
        } else if ours.all <= theirs.all {
            self
        } else {
            other
        }
    }
}

/// Least seconds of every stage, and of all.
struct Times {
    stages: Vec<f64>,
    all: f64,
}

/// Those of plans of one network, in turns.
fn times<const N: usize>(plans: [&Plan<'_>; N], run: &Run<'_>, images: &[f32]) -> [Times; N] {
    let stages = plans.first().map_or(0, |plan| plan.stages.len());
    let mut least = plans.map(|_| Times { stages: vec![f64::INFINITY; stages], all: f64::INFINITY });
    for _ in 0..ROUNDS {
        for (plan, least) in plans.iter().zip(&mut least) {
            plan.run(run, images); // buffers grow, caches fill with its tables
            let laps = Laps::new(stages);
            let mut time = Timing::default();
            time.measure(|| plan.run(&Run { laps: Some(&laps), ..*run }, images));
            least.all = least.all.min(time.seconds());
            for (s, least) in least.stages.iter_mut().enumerate() {
                *least = least.min(laps.seconds(s));
            }
        }
    }
    least
}
