//! A state dict, wherever it comes from.
//! In: bytes of a tensor of some type. Out: f32.

use rheobase_core::samples::Normalisation;
use rheobase_core::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Named tensors, and what the checkpoint around them says.
pub(super) trait StateDict {
    /// Shape of every tensor by its full key (`state_dict.module.conv1.weight`).
    fn shapes(&self) -> &BTreeMap<String, Vec<usize>>;

    /// A tensor's numbers as f32, in row-major order. The caller has checked its shape.
    fn read(&mut self, key: &str) -> Result<Vec<f32>>;

    /// What stands beside the tensors.
    fn extras(&self) -> Extras;
}

/// What a checkpoint may say beside its tensors.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// L of its QCFS activations.
    pub levels: Option<u32>,
    /// Class names.
    pub classes: Vec<String>,
    /// Mean and standard deviation per channel.
    pub normalisation: Option<Normalisation>,
}

/// Types of numbers in state dicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
}

impl Number {
    /// Little-endian bytes as f32; what f32 cannot hold is rounded, or infinite and refused later.
    pub fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|&b| f(b)).collect()
        }
        match self {
            Number::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Number::F32 => each(bytes, f32::from_le_bytes),
            Number::F16 => each(bytes, |b| half(u16::from_le_bytes(b))),
            Number::BF16 => each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Number::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            Number::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            Number::I16 => each(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Number::I8 => each(bytes, |b| f32::from(i8::from_le_bytes(b))),
            Number::U8 => each(bytes, |[b]| f32::from(b)),
        }
    }
}

/// IEEE half precision: 1 sign, 5 exponent, 10 fraction bits.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The error of a type that weights are not stored in.
pub(super) fn unknown_type(key: &str, found: impl std::fmt::Debug) -> Error {
    Error::new(Kind::Unsupported, "tensor has a type that is not converted")
        .expected("f32, f64, f16, bf16 or an integer type")
        .found(format!("{found:?}"))
        .tensor(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_exact() {
        // Bits and values from IEEE 754-2008's binary16.
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(Number::BF16.to_f32(&[0x80, 0x3f, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(Number::F64.to_f32(&1e300f64.to_le_bytes()), [f32::INFINITY]);
        assert_eq!(Number::I64.to_f32(&(-3i64).to_le_bytes()), [-3.0]);
    }
}
