//! Native files: what is written comes back, what is damaged is refused.

mod refusals;
mod round_trip;
