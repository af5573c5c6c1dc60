//! The spike engine: an integer network on images, layer by layer, all steps of an image at once.
//! In: an [`IntegerNetwork`](crate::integer::IntegerNetwork), a neuron rule, normalised images. Out: an [`Outcome`](crate::outcome::Outcome).
//!
//! A layer goes row by row: the currents of all steps of one row of positions are summed while they are in the cache, the
//! rule turns them into spikes at once, and only packed spikes are kept. Where sums of a few inputs can be looked up in a register, lanes
//! are positions instead of channels and a layer goes block by block of positions. Groups of images are
//! the unit of work of the threads, or parts of an image where there are few.

mod across;
mod chain;
mod image;
mod limit;
mod live;
mod plan;
mod run;
mod spread;
mod trial;

pub use limit::additions_per_second;
pub use plan::Plan;
pub use run::Run;
pub use spread::Spreading;
pub use trial::images_to_try;

#[cfg(test)]
mod tests;
