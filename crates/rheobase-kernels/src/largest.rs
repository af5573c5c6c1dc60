//! How large numbers get.

use crate::cpu::{Isa, Job, Vectors};
use crate::lanes::Element;

/// The largest distance from 0; 0 of none.
pub fn largest<E: Element>(isa: Isa, numbers: &[E]) -> u32 {
    isa.run(Largest(numbers))
}

struct Largest<'a, E>(&'a [E]);

impl<E: Element> Job for Largest<'_, E> {
    type Out = u32;
    #[inline(always)]
    fn run<V: Vectors>(self) -> u32 {
        let mut most = 0;
        for number in self.0 {
            most = Ord::max(most, number.wide().unsigned_abs());
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        for isa in Isa::available() {
            assert_eq!(largest::<i32>(isa, &[]), 0);
            assert_eq!(largest(isa, &[3, i32::MIN, 7]), 1 << 31);
            for at in 0..70 {
                let mut numbers = [-2i16; 70];
                numbers[at] = if at % 2 == 0 { 5 } else { -6 };
                assert_eq!(largest(isa, &numbers), 5 + at as u32 % 2, "{} {at}", isa.name());
            }
        }
    }
}
