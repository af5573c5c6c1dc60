//! Training: QCFS networks from scratch or from any network, with labels or from a ReLU network without them.
#![forbid(unsafe_code)]

pub mod quantize;
