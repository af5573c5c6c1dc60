//! Constants of an ONNX graph: weights, shapes and the numbers that feed them.
//! In: decoded tensors and the results of folding. Out: typed, shaped numbers that say where they come from.

use std::rc::Rc;

use rheobase_core::{Error, Kind, Result};

/// A whole number of a shape computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Int {
    /// A number.
    Known(i64),
    /// The symbolic batch size.
    Batch,
    /// Something computed from the batch size.
    Unknown,
}

/// The numbers of an [`Array`]; booleans are integers 0 and 1.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Floating point, as f32.
    Floats(Rc<Vec<f32>>),
    /// Integers.
    Ints(Rc<Vec<Int>>),
}

/// A constant tensor.
#[derive(Debug, Clone)]
pub(super) struct Array {
    /// The value's name in the file, for errors.
    pub name: Rc<str>,
    /// Size of each dimension, outermost first.
    pub shape: Vec<usize>,
    /// The numbers, as many as the shape says.
    pub data: Data,
}

impl Array {
    /// Floating-point numbers.
    pub fn floats(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Array { name: "".into(), shape, data: Data::Floats(Rc::new(data)) }
    }

    /// Integers.
    pub fn ints(shape: Vec<usize>, data: Vec<Int>) -> Self {
        Array { name: "".into(), shape, data: Data::Ints(Rc::new(data)) }
    }

    /// The same under a name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Floats(x) => x.len(),
            Data::Ints(x) => x.len(),
        }
    }

    /// Every number as f32; integers are rounded to the nearest.
    pub fn to_floats(&self) -> Result<Rc<Vec<f32>>> {
        match &self.data {
            Data::Floats(x) => Ok(x.clone()),
            Data::Ints(_) => Ok(Rc::new(self.to_ints()?.into_iter().map(|i| i as f32).collect())),
        }
    }

    /// Every number as f32, none of them NaN or infinite.
    pub fn to_weights(&self) -> Result<Rc<Vec<f32>>> {
        let floats = self.to_floats()?;
        match floats.iter().position(|x| !x.is_finite()) {
            None => Ok(floats),
            Some(i) => Err(Error::new(Kind::Value, "weights must be finite")
                .found(format!("{} at index {i}", floats.get(i).copied().unwrap_or(f32::NAN)))
                .tensor(&*self.name)),
        }
    }

    /// Every number as an integer that is known.
    pub fn to_ints(&self) -> Result<Vec<i64>> {
        self.integers()?
            .iter()
            .map(|i| match i {
                Int::Known(i) => Ok(*i),
                Int::Batch | Int::Unknown => {
                    Err(Error::new(Kind::Unsupported, "a size depends on the batch size")
                        .found(format!("value `{}`", self.name))
                        .hint("export with a fixed batch size, or with sizes that do not depend on it"))
                }
            })
            .collect()
    }

    /// The integers, known or not.
    pub fn integers(&self) -> Result<Rc<Vec<Int>>> {
        match &self.data {
            Data::Ints(x) => Ok(x.clone()),
            Data::Floats(_) => {
                Err(Error::new(Kind::Format, "integers expected where the file has floats")
                    .tensor(&*self.name))
            }
        }
    }

    /// The only number, as f32.
    pub fn scalar(&self) -> Result<f32> {
        match self.to_floats()?.as_slice() {
            [x] => Ok(*x),
            other => Err(Error::new(Kind::Format, "one number expected")
                .found(format!("{} numbers", other.len()))
                .tensor(&*self.name)),
        }
    }
}

/// The product of sizes, if it fits.
pub(super) fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Steps between neighbours along each dimension of a dense row-major array.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut step = 1usize;
    let mut out = vec![0; shape.len()];
    for (s, &d) in out.iter_mut().zip(shape).rev() {
        *s = step;
        step = step.saturating_mul(d);
    }
    out
}

/// An axis counted from either end, as an index below `rank`.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let wide = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_start = if axis < 0 { axis.saturating_add(wide) } else { axis };
    usize::try_from(from_start).ok().filter(|&a| a < rank).ok_or_else(|| {
        Error::new(Kind::Format, "axis outside the value")
            .expected(format!("-{rank} to below {rank}"))
            .found(axis.to_string())
    })
}
