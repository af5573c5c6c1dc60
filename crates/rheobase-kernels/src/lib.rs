//! The inner loops of Rheobase: slices and numbers, no networks.
//! Every kernel is one definition over lanes, compiled for each instruction set that [`cpu::Isa`] knows, behind a safe function
//! that checks its slices.
//! The only crate of the workspace with `unsafe`.

pub mod activate;
pub mod aligned;
pub mod chain;
pub mod choice;
pub mod cpu;
pub mod depthwise;
pub mod events;
pub mod fill;
pub mod first;
pub mod flat;
pub mod gather;
pub mod if_step;
pub mod lanes;
pub mod largest;
pub mod limit;
pub mod lookup;
pub mod matmul;
pub mod outer;
pub mod packed;
pub mod pointwise;
pub mod product;
pub mod sweep;
pub mod table;
pub mod team;

pub use choice::Kernels;
pub use cpu::Isa;
