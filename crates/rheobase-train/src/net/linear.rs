//! Fully connected layers over a batch.
//! In: `[n, in]`, weights `[in][out]`. Out: `[n, out]`; gradients. Split into fixed blocks of columns, so that every number is
//! the work of one thread whatever the threads.

use rayon::prelude::*;
use rheobase_kernels::matmul::{Strided, strided};

/// Columns of a block.
const BLOCK: usize = 256;

/// Columns of a `[rows, cols]` matrix, block by block: `block` fills `[rows, width]` for columns that begin at its argument.
fn by_columns(
    rows: usize,
    cols: usize,
    out: &mut [f32],
    add: bool,
    block: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    let firsts: Vec<usize> = (0..cols).step_by(BLOCK).collect();
    let parts: Vec<Vec<f32>> = firsts
        .par_iter()
        .map(|&first| {
            let width = BLOCK.min(cols - first);
            let mut part = vec![0.0; rows * width];
            block(first, width, &mut part);
            part
        })
        .collect();
    out.par_chunks_exact_mut(cols).enumerate().for_each(|(row, out)| {
        for (&first, part) in firsts.iter().zip(&parts) {
            let width = BLOCK.min(cols - first);
            let (to, from) = (&mut out[first..first + width], &part[row * width..(row + 1) * width]);
            if add {
                to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
            } else {
                to.copy_from_slice(from);
            }
        }
    });
}

/// `y = x · w + bias`.
pub fn forward(x: &[f32], w: &[f32], bias: Option<&[f32]>, n: usize, y: &mut [f32]) {
    let (k, out) = (x.len() / n, y.len() / n);
    if let Some(bias) = bias {
        y.chunks_exact_mut(out).for_each(|row| row.copy_from_slice(bias));
    }
    by_columns(n, out, y, bias.is_some(), |first, width, part| {
        let p = Strided { size: [n, k, width], a: [k, 1], b: [out, 1], out: width, add: false };
        strided(&p, x, &w[first..], part);
    });
}

/// Gradients of weights and bias, and of x where `dx` is asked for (`true`: add to it).
pub fn backward(
    x: &[f32],
    w: &[f32],
    dy: &[f32],
    n: usize,
    [dw, db]: [&mut [f32]; 2],
    dx: Option<(&mut [f32], bool)>,
) {
    let (k, out) = (x.len() / n, dy.len() / n);
    for (c, db) in db.iter_mut().enumerate() {
        *db = dy.iter().skip(c).step_by(out).map(|g| f64::from(*g)).sum::<f64>() as f32;
    }
    dw.par_chunks_mut(BLOCK * out).enumerate().for_each(|(block, dw)| {
        let p = Strided { size: [dw.len() / out, n, out], a: [1, k], b: [out, 1], out, add: false };
        strided(&p, &x[block * BLOCK..], dy, dw);
    });
    if let Some((dx, add)) = dx {
        by_columns(n, k, dx, add, |first, width, part| {
            let p = Strided { size: [n, out, width], a: [out, 1], b: [1, out], out: width, add: false };
            strided(&p, dy, &w[first * out..], part);
        });
    }
}
