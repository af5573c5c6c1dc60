//! What the machine's nearest cache allows: the measure that layers are held against.

use crate::timing::Timing;
use rheobase_kernels::aligned::Aligned;
use rheobase_kernels::lanes::Element;
use rheobase_kernels::{Isa, limit};

/// Bytes that lie in any machine's nearest cache.
const BYTES: usize = 16 * 1024;

/// Additions a second of one core whose numbers come from the nearest cache, of 16 bits and of 32: the best of a few tries.
pub fn additions_per_second(isa: Isa) -> [f64; 2] {
    [measure::<i16>(isa), measure::<i32>(isa)]
}

fn measure<E: Element>(isa: Isa) -> f64 {
    let numbers = Aligned::<E>::zeros(BYTES / size_of::<E>());
    let one = |_| {
        let mut time = Timing::default();
        let (added, sum) = time.measure(|| limit::additions(isa, &numbers, 5_000));
        std::hint::black_box(sum);
        added as f64 / time.seconds().max(1e-9)
    };
    (0..5).map(one).fold(0.0, f64::max)
}
