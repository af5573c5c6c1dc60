//! Networks, conversion, calibration and the integer spike engine of Rheobase.
#![forbid(unsafe_code)]

pub mod ann;
pub mod convert;
pub mod engine;
pub mod env;
pub mod error;
pub mod evaluate;
pub mod integer;
pub mod network;
pub mod neuron;
pub mod outcome;
pub mod prepared;
pub mod progress;
pub mod random;
pub mod samples;
pub mod tensor;
pub mod timing;

pub use error::{Error, Kind, Result};
pub use network::Network;
pub use rheobase_kernels::{Isa, Kernels};
pub use tensor::Tensor;
