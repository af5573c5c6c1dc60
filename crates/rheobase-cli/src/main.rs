//! The rheobase program.
fn main() {}
