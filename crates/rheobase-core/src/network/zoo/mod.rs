//! The paper's networks by name.
