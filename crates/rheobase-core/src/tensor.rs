//! A dense f32 tensor: weights as they are stored.
//! In: shape and numbers. Out: the same, checked to belong together.

use crate::error::{Error, Kind, Result};

/// A dense row-major f32 tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensor {
    /// Size of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, the last dimension varying fastest.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor whose number of elements must be the product of its shape.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(data.len()) {
            return Err(Error::new(Kind::Shape, "tensor's shape and numbers do not belong together")
                .expected(format!("{shape:?}"))
                .found(format!("{} numbers", data.len())));
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let n = shape.iter().product();
        Tensor { shape, data: vec![0.0; n] }
    }
}
