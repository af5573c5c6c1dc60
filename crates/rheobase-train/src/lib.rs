//! Training: QCFS networks from scratch or from any network, with labels or from a ReLU network without them.
#![forbid(unsafe_code)]

pub mod augment;
pub mod checkpoint;
pub mod distill;
pub mod loader;
pub mod loss;
pub mod net;
pub mod optimiser;
pub mod quantize;
pub mod recipe;
pub mod start;
pub mod trainer;
