//! Rheobase.

pub use rheobase_core as core;
pub use rheobase_io as io;
