//! The dense reading against a direct, naive one.

use super::*;
use crate::network::{Conv2d, Pool, PoolKind, Shortcut};
use crate::tensor::Tensor;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed | 1;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(1664525).wrapping_add(1013904223);
            (s >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn naive_conv(c: &Conv2d, x: &[f32], [ci, h, w]: Shape, [co, oh, ow]: Shape) -> Vec<f32> {
    let (per, kh, kw) = (c.weight.shape[1], c.weight.shape[2], c.weight.shape[3]);
    let mut out = vec![];
    for oy in 0..oh {
        for ox in 0..ow {
            for o in 0..co {
                let mut sum = c.bias.as_ref().map_or(0.0, |b| f64::from(b[o]));
                for i in 0..per {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let y = (oy * c.stride[0] + ky * c.dilation[0]) as isize - c.padding[0] as isize;
                            let xx = (ox * c.stride[1] + kx * c.dilation[1]) as isize - c.padding[1] as isize;
                            if y >= 0 && xx >= 0 && (y as usize) < h && (xx as usize) < w {
                                let channel = o / (co / c.groups) * per + i;
                                sum += f64::from(x[(y as usize * w + xx as usize) * ci + channel])
                                    * f64::from(c.weight.data[((o * per + i) * kh + ky) * kw + kx]);
                            }
                        }
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

#[test]
fn convolutions_agree_with_the_definition() {
    for (ci, co, groups, k, stride, padding, dilation) in [
        (3, 8, 1, [3, 3], [1, 1], [1; 4], [1, 1]),
        (4, 6, 2, [3, 2], [2, 1], [0, 1, 2, 3], [1, 2]),
        (6, 6, 6, [3, 3], [2, 2], [0, 0, 1, 1], [1, 1]),
        (6, 12, 6, [3, 3], [1, 2], [1; 4], [2, 1]),
        (5, 7, 1, [1, 1], [1, 1], [0; 4], [1, 1]),
        (5, 7, 1, [1, 1], [2, 3], [0; 4], [1, 1]),
    ] {
        let conv = Conv2d {
            weight: Tensor::new([co, ci / groups, k[0], k[1]], numbers(co * ci / groups * k[0] * k[1], 1))
                .unwrap(),
            bias: Some(numbers(co, 2)),
            stride,
            padding,
            dilation,
            groups,
        };
        let mut n = Network::new("t", [ci, 9, 11]);
        n.push("conv", Op::Conv2d(conv.clone()), &[0]);
        n.push("flat", Op::Flatten, &[1]);
        let dense = Dense::new(&n).unwrap();
        let x = numbers(ci * 99, 3);
        let [c, h, w] = dense.shapes()[1];
        let want = naive_conv(&conv, &x, [ci, 9, 11], [c, h, w]);
        let got = dense.forward(&x);
        for (i, g) in got.iter().enumerate() {
            let want = want[i % (h * w) * c + i / (h * w)];
            assert!((g - want).abs() < 1e-5, "{conv:?} {i}: {g} {want}");
        }
    }
}

#[test]
fn average_pools_divide_as_pytorch_does() {
    // 5 pixels of 1, kernel 3, stride 2, padding 1, ceil mode off and on; values from torch.nn.functional.avg_pool2d
    let x = vec![1.0; 5];
    for (count_padding, ceil, size, want) in [
        (true, false, 5, vec![2.0 / 3.0, 1.0, 2.0 / 3.0]),
        (false, false, 5, vec![1.0, 1.0, 1.0]),
        (true, true, 4, vec![2.0 / 3.0, 1.0, 0.5]),
        (false, true, 4, vec![1.0, 1.0, 1.0]),
    ] {
        let pool = Pool {
            kind: PoolKind::Average { count_padding },
            kernel: [1, 3],
            stride: [1, 2],
            padding: [0, 1, 0, 1],
            ceil,
        };
        let mut n = Network::new("t", [1, 1, size]);
        n.push("pool", Op::Pool(pool), &[0]);
        n.push("flat", Op::Flatten, &[1]);
        assert_eq!(Dense::new(&n).unwrap().forward(&x[..size]), want, "{count_padding} {ceil}");
    }
}

#[test]
fn shortcuts_subsample_and_pad_and_concat_keeps_order() {
    let mut n = Network::new("t", [2, 2, 3]);
    let s = n.push("s", Op::Shortcut(Shortcut { stride: [2, 2], before: 1, after: 0 }), &[0]);
    let c = n.push("c", Op::Concat, &[s, s]);
    n.push("flat", Op::Flatten, &[c]);
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    // kept pixels: (0,0) = [0, 1] and (0,2) = [4, 5]
    assert_eq!(Dense::new(&n).unwrap().forward(&x), [0., 0., 0., 4., 1., 5., 0., 0., 0., 4., 1., 5.]);
}

#[test]
fn qcfs_rounds_to_its_levels() {
    use crate::network::{Start, Threshold};
    let mut n = Network::new("t", [6, 1, 1]);
    let kind = ActivationKind::Qcfs { levels: 4 };
    let a = Activation { kind, threshold: Some(Threshold::Layer(2.0)), start: Start::Half };
    n.push("q", Op::Activation(a), &[0]);
    let got = Dense::new(&n).unwrap().forward(&[-1.0, 0.24, 0.25, 0.8, 1.74, 9.0]);
    assert_eq!(got, [0.0, 0.0, 0.5, 1.0, 1.5, 2.0]);
}
