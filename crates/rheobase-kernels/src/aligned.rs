//! Numbers that begin at a cache line, so that no vector of them lies across two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A slice of numbers whose first lies at the beginning of a cache line.
#[derive(Debug, Default)]
pub struct Aligned<T> {
    data: Vec<T>,
    at: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let mut new = Aligned { data: vec![], at: 0, len: 0 };
        new.resize(len);
        new
    }

    /// Makes it so long; what it holds afterwards is anything.
    pub fn resize(&mut self, len: usize) {
        let room = len + LINE / size_of::<T>().clamp(1, LINE);
        if self.data.len() < room {
            self.data = vec![T::default(); room];
            self.at = self.data.as_ptr().align_offset(LINE).min(room - len);
        }
        self.len = len;
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.data[self.at..self.at + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.at..self.at + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_a_line() {
        let mut x = Aligned::<i16>::zeros(5);
        for len in [5, 1000, 3] {
            x.resize(len);
            assert_eq!((x.len(), x.as_ptr() as usize % LINE), (len, 0));
        }
    }
}
