//! Dense matrix products, through the `gemm` library, one thread.
//! In: row-major matrices with row strides. Out: `out = a · b` (`+ out` where asked for); the same bits on one machine each time,
//! and exact on every machine for f64 that hold integers whose sums stay below 2^53.

/// A product `[m, k] · [k, n]` of row-major matrices; a row of `a`, `b` and `out` begins every `strides` numbers.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of `a` and `out`.
    pub m: usize,
    /// Columns of `a`, rows of `b`.
    pub k: usize,
    /// Columns of `b` and `out`.
    pub n: usize,
    /// Row strides of a, b, out.
    pub strides: [usize; 3],
    /// Whether `out` is added to.
    pub add: bool,
}

impl Product {
    fn check(&self, a: usize, b: usize, out: usize) {
        let fits = |rows: usize, cols: usize, stride: usize, len: usize| {
            rows == 0
                || cols == 0
                || (stride >= cols && (rows - 1).checked_mul(stride).is_some_and(|x| x + cols <= len))
        };
        let [sa, sb, so] = self.strides;
        assert!(
            fits(self.m, self.k, sa, a) && fits(self.k, self.n, sb, b) && fits(self.m, self.n, so, out),
            "matrices and slices do not fit: {self:?}, {a}, {b}, {out}"
        );
        assert!([sa, sb, so].iter().all(|&s| isize::try_from(s).is_ok()));
    }
}

/// `out = a · b` or `out += a · b` of `[m, k] · [k, n]` f32 matrices whose rows and columns may lie in any order in memory: a
/// transposed matrix is one with its strides exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Strided {
    /// m, k, n.
    pub size: [usize; 3],
    /// Row and column stride of a.
    pub a: [usize; 2],
    /// Row and column stride of b.
    pub b: [usize; 2],
    /// Row stride of out; its columns are neighbours.
    pub out: usize,
    /// Whether `out` is added to.
    pub add: bool,
}

/// f32 product of strided matrices.
///
/// # Panics
/// If a slice is shorter than its matrix.
pub fn strided(p: &Strided, a: &[f32], b: &[f32], out: &mut [f32]) {
    let [m, k, n] = p.size;
    let fits = |rows: usize, cols: usize, strides: [usize; 2], len: usize| {
        let end = |n: usize, stride: usize| n.checked_sub(1).and_then(|n| n.checked_mul(stride));
        rows == 0
            || cols == 0
            || end(rows, strides[0])
                .zip(end(cols, strides[1]))
                .and_then(|(r, c)| r.checked_add(c))
                .is_some_and(|last| last < len)
    };
    assert!(
        fits(m, k, p.a, a.len()) && fits(k, n, p.b, b.len()) && fits(m, n, [p.out, 1], out.len()),
        "matrices and slices do not fit: {p:?}, {}, {}, {}",
        a.len(),
        b.len(),
        out.len()
    );
    assert!(m <= 1 || p.out >= n, "rows of out overlap");
    let strides = [p.a[0], p.a[1], p.b[0], p.b[1], p.out];
    assert!(strides.iter().all(|&s| isize::try_from(s).is_ok()));
    if m == 0 || n == 0 {
        return;
    }
    let [ar, ac, br, bc, or] = strides.map(|s| s as isize);
    // SAFETY: every element lies within its slice; out does not overlap, it is borrowed mutably.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            or,
            p.add,
            a.as_ptr(),
            ac,
            ar,
            b.as_ptr(),
            bc,
            br,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

macro_rules! product {
    ($name:ident, $t:ty, $doc:expr) => {
        #[doc = $doc]
        ///
        /// # Panics
        /// If a slice is shorter than its matrix.
        pub fn $name(p: &Product, a: &[$t], b: &[$t], out: &mut [$t]) {
            p.check(a.len(), b.len(), out.len());
            if p.m == 0 || p.n == 0 {
                return;
            }
            let [sa, sb, so] = p.strides.map(|s| s as isize);
            // SAFETY: `check` has seen that every row lies within its slice; out does not overlap, it is borrowed mutably.
            unsafe {
                gemm::gemm(
                    p.m,
                    p.n,
                    p.k,
                    out.as_mut_ptr(),
                    1,
                    so,
                    p.add,
                    a.as_ptr(),
                    1,
                    sa,
                    b.as_ptr(),
                    1,
                    sb,
                    1.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        }
    };
}
product!(f32, f32, "f32 product.");
product!(f64, f64, "f64 product.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_products_are_right() {
        let (m, k, n) = (4, 6, 5);
        let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i * i % 5) as f32).collect();
        // a as [k, m], b as [n, k]
        let mut out = vec![2.0; m * n];
        strided(&Strided { size: [m, k, n], a: [1, m], b: [1, k], out: n, add: true }, &a, &b, &mut out);
        for i in 0..m {
            for j in 0..n {
                let sum: f32 = (0..k).map(|x| a[x * m + i] * b[j * k + x]).sum();
                assert_eq!(out[i * n + j], 2.0 + sum);
            }
        }
    }

    #[test]
    fn products_are_right_with_strides_and_sums() {
        let (m, k, n) = (5, 7, 3);
        let a: Vec<f64> = (0..m * 9).map(|i| i as f64).collect();
        let b: Vec<f64> = (0..k * 4).map(|i| (i * i % 11) as f64).collect();
        let mut out = vec![1.0; m * 6];
        self::f64(&Product { m, k, n, strides: [9, 4, 6], add: true }, &a, &b, &mut out);
        for i in 0..m {
            for j in 0..6 {
                let sum: f64 = if j < n { (0..k).map(|x| a[i * 9 + x] * b[x * 4 + j]).sum() } else { 0.0 };
                assert_eq!(out[i * 6 + j], 1.0 + sum);
            }
        }
    }
}
