//! Linear systems with a symmetric, positive definite matrix, in f64, by blocks.
//! In: the matrix's lower half and right-hand sides, row-major. Out: the solutions, the same for any number of threads.

use rayon::prelude::*;
use rheobase_kernels::matmul::{self, Product};

/// Rows of a block.
const BLOCK: usize = 64;

/// Solves `a · x = b` for the `m` columns of `b`, in place; `a` `[n, n]` (its lower half is read) becomes its Cholesky factor.
/// False where `a` is not positive definite.
pub fn solve(a: &mut [f64], n: usize, b: &mut [f64], m: usize) -> bool {
    if n == 0 || m == 0 {
        return true;
    }
    for j in (0..n).step_by(BLOCK) {
        let w = BLOCK.min(n - j);
        if !factor(&mut a[j * n..], n, j, w) {
            return false;
        }
        let diagonal: Vec<f64> = (0..w * w).map(|i| a[(j + i / w) * n + j + i % w]).collect();
        let below = &mut a[(j + w) * n..];
        below.par_chunks_mut(n).for_each(|row| {
            for i in 0..w {
                let sum: f64 = (0..i).map(|l| row[j + l] * diagonal[i * w + l]).sum();
                row[j + i] = (row[j + i] - sum) / diagonal[i * w + i];
            }
        });
        let rest = n - j - w;
        let panel: Vec<f64> =
            below.chunks_exact(n).flat_map(|row| row[j..j + w].iter().map(|x| -x)).collect();
        let turned: Vec<f64> = (0..w * rest).map(|i| -panel[i % rest * w + i / rest]).collect();
        below.par_chunks_mut(BLOCK * n).enumerate().for_each(|(block, rows)| {
            let (first, height) = (block * BLOCK, rows.len() / n);
            let p = Product { m: height, k: w, n: first + height, strides: [w, rest, n], add: true };
            matmul::f64(&p, &panel[first * w..], &turned, &mut rows[j + w..]);
        });
    }
    forward(a, n, b, m);
    backward(a, n, b, m);
    true
}

/// The factor of the block at row 0 and column `j` of `rows`, one column after the other.
fn factor(rows: &mut [f64], n: usize, j: usize, w: usize) -> bool {
    for i in 0..w {
        for l in 0..=i {
            let sum: f64 = (0..l).map(|t| rows[i * n + j + t] * rows[l * n + j + t]).sum();
            let x = rows[i * n + j + l] - sum;
            if l < i {
                rows[i * n + j + l] = x / rows[l * n + j + l];
            } else if x > 0.0 && x.is_finite() {
                rows[i * n + j + i] = x.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

/// `b = l⁻¹ · b`.
fn forward(l: &[f64], n: usize, b: &mut [f64], m: usize) {
    for j in (0..n).step_by(BLOCK) {
        let w = BLOCK.min(n - j);
        let (head, rest) = b.split_at_mut((j + w) * m);
        let block = &mut head[j * m..];
        for i in 0..w {
            let (above, row) = block.split_at_mut(i * m);
            for (t, x) in above.chunks_exact(m).enumerate() {
                take(&mut row[..m], l[(j + i) * n + j + t], x);
            }
            row[..m].iter_mut().for_each(|x| *x /= l[(j + i) * n + j + i]);
        }
        let panel: Vec<f64> = (0..(n - j - w) * w).map(|i| -l[(j + w + i / w) * n + j + i % w]).collect();
        spread(&panel, w, block, rest, m);
    }
}

/// `b = l⁻ᵀ · b`.
fn backward(l: &[f64], n: usize, b: &mut [f64], m: usize) {
    for j in (0..n).step_by(BLOCK).rev() {
        let w = BLOCK.min(n - j);
        let (rest, tail) = b.split_at_mut(j * m);
        let block = &mut tail[..w * m];
        for i in (0..w).rev() {
            let (row, below) = block[i * m..].split_at_mut(m);
            for (t, x) in below.chunks_exact(m).enumerate() {
                take(row, l[(j + i + 1 + t) * n + j + i], x);
            }
            row.iter_mut().for_each(|x| *x /= l[(j + i) * n + j + i]);
        }
        let turned: Vec<f64> = (0..j * w).map(|i| -l[(j + i % w) * n + i / w]).collect();
        spread(&turned, w, block, rest, m);
    }
}

/// `row -= factor · x`.
fn take(row: &mut [f64], factor: f64, x: &[f64]) {
    row.iter_mut().zip(x).for_each(|(r, x)| *r -= factor * x);
}

/// `rest += panel · block`, by blocks of rows.
fn spread(panel: &[f64], w: usize, block: &[f64], rest: &mut [f64], m: usize) {
    rest.par_chunks_mut(BLOCK * m).zip(panel.par_chunks(BLOCK * w)).for_each(|(rows, panel)| {
        let p = Product { m: rows.len() / m, k: w, n: m, strides: [w, m, m], add: true };
        matmul::f64(&p, panel, block, rows);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rheobase_core::random::Stream;

    #[test]
    fn solutions_solve() {
        for (n, m) in [(1, 1), (5, 3), (64, 2), (65, 1), (200, 70)] {
            let mut random = Stream::new(1, n as u64);
            let mut numbers = |len: usize| -> Vec<f64> { (0..len).map(|_| random.uniform() - 0.5).collect() };
            let (root, x) = (numbers(n * n), numbers(n * m));
            let a: Vec<f64> = (0..n * n)
                .map(|i| {
                    let (r, c) = (i / n, i % n);
                    let dot: f64 = (0..n).map(|t| root[r * n + t] * root[c * n + t]).sum();
                    dot + if r == c { 0.5 } else { 0.0 }
                })
                .collect();
            let mut b: Vec<f64> =
                (0..n * m).map(|i| (0..n).map(|t| a[i / m * n + t] * x[t * m + i % m]).sum()).collect();
            assert!(solve(&mut a.clone(), n, &mut b, m));
            let worst = b.iter().zip(&x).map(|(b, x)| (b - x).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-10, "{n} {m}: {worst}");
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        let mut a = vec![1.0, 0.0, 2.0, 1.0];
        assert!(!solve(&mut a, 2, &mut [1.0, 1.0], 1));
        assert!(!solve(&mut [f64::NAN], 1, &mut [1.0], 1));
    }
}
