//! How long work tells its caller how far it is, and asks whether to go on.
//! In: ticks. Out: a yes or no.

/// Watches long work.
pub trait Progress: Sync {
    /// `done` of `total` units of `what` (such as `images`) are done.
    fn tick(&self, what: &str, done: usize, total: usize);
    /// Asked now and then: should the work stop?
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn tick(&self, _: &str, _: usize, _: usize) {}
}
