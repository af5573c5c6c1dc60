//! Native files: what is written comes back, what is damaged is refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod refusals;
mod round_trip;
