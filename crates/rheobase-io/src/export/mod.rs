//! Writers of networks.

pub mod native;
