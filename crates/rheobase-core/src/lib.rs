//! Networks, conversion, calibration and the integer spike engine of Rheobase.
#![forbid(unsafe_code)]

pub mod ann;
pub mod error;
pub mod network;
pub mod neuron;
pub mod progress;
pub mod samples;
pub mod tensor;

pub use error::{Error, Kind, Result};
pub use network::Network;
pub use tensor::Tensor;
