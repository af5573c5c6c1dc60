//! Trained convolutional networks become spiking networks that are accurate within a few time-steps, and run fast.
//!
//! The method is *Calibrating Offset Spikes* (Hao et al., ICLR 2023): each activation becomes a layer of integrate-and-fire
//! neurons, ρ steps are pre-simulated, the spikes that a neuron fired too many or too few are measured, its initial potential
//! is shifted by the proven optimum, and the network runs again.
//!
//! ```no_run
//! use rheobase::{jobs, options::EvalOptions, core::progress::Silent};
//!
//! let options = EvalOptions {
//!     steps: 4,
//!     ..EvalOptions::new("resnet20.onnx", "cifar10:data/cifar-10-batches-bin")
//! };
//! let report = jobs::eval(&options, &Silent)?;
//! println!("ANN {:?}", report.evaluation.ann.map(|a| a.correct));
//! println!("SNN {:?}", report.evaluation.snn[0].correct);
//! # Ok::<(), rheobase::Error>(())
//! ```

pub use rheobase_core as core;
pub use rheobase_io as io;
pub use rheobase_io::files;

pub use rheobase_core::{Error, Kind, Network, Result};

pub mod jobs;
pub mod json;
pub mod options;
pub mod plot;
