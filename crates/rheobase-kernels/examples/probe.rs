use rheobase_kernels::{Isa, events::*, gather, table};
use std::time::Instant;
fn main() {
    // clock
    let mut x = std::hint::black_box(1u64);
    let t = Instant::now();
    for _ in 0..200_000_000u64 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(x >> 7);
    }
    println!("{:.2} GHz {x}", 0.2 * 4.0 / t.elapsed().as_secs_f64());
    let isa = std::env::args().nth(1).and_then(|n| Isa::named(&n)).unwrap_or(Isa::best());
    for density in [0.0, 0.05, 0.1, 0.2] {
        let mut s = 88172645463325252u64;
        let mut next = || {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            s
        };
        for (ch, outs, w, stride) in [
            (16usize, 16usize, 32usize, 1usize),
            (16, 32, 32, 2),
            (32, 32, 16, 1),
            (32, 64, 16, 2),
            (64, 64, 8, 1),
            (128, 128, 16, 1),
            (512, 512, 4, 1),
        ] {
            let words = ch.div_ceil(64);
            let mut bits = vec![0u64; w * w * 4 * words];
            for (i, b) in bits.iter_mut().enumerate() {
                for c in 0..64 {
                    if (i % words) * 64 + c < ch && ((next() >> 11) as f64 / (1u64 << 53) as f64) < density {
                        *b |= 1 << c;
                    }
                }
            }
            let sp = Spikes { bits: &bits, steps: 4, size: [w, w], words };
            let ow = w / stride;
            macro_rules! go { ($e:ty) => {{
                let mut out = vec![0 as $e; 4 * ow * outs];
                let mut ev = Events::default();
                let mut plane = Plane::default();
                let frame = Frame { channels: 0..ch, left: 1, width: w + 2, reach: vec![9; w] };
                let pk = gather::Packed::<$e>::new(isa, 9 * ch, outs, |r, o| (r * o % 101) as $e - 50);
                let tb = if outs == 16 { Some(table::Tables::<$e>::new([3, 3], ch, |t, c, o| ((t + c) * o % 101) as i32 - 50)) } else { None };
                let mut lists = gather::Lists::default();
                let reps = (if std::env::args().count() > 2 { 3 } else { 400 }) * 16 / ch.max(16);
                let mut times = [0f64; 3]; let mut n = 0;
                for _ in 0..reps {
                    let t = Instant::now(); ev.fill(isa, &sp, 0..ch, None, [w, w], pk.is_short()); times[0] += t.elapsed().as_secs_f64();
                    let t = Instant::now();
                    for y in 0..ow {
                        let taps: Vec<(usize, usize)> = (0..3).filter_map(|k| (y * stride + k).checked_sub(1).filter(|&s| s < w).map(|s| (s, k * 3 * ch))).collect();
                        n += gather::gather_row(isa, &gather::Row { taps: &taps, events: &ev, kernel: [3, stride, 1, 1], weights: &pk, positions: ow, stride: outs, to: 0, begin: None }, &mut lists, &mut out);
                    }
                    times[1] += t.elapsed().as_secs_f64();
                    if let Some(tb) = &tb {
                        plane.fill(isa, &sp, &frame);
                        let t = Instant::now();
                        for y in 0..ow {
                            let taps: Vec<(usize, usize)> = (0..3).filter_map(|k| (y * stride + k).checked_sub(1).filter(|&s| s < w).map(|s| (s, k))).collect();
                            table::table_row(isa, &table::Row { taps: &taps, plane: &plane, tables: tb, stride, positions: ow, cols: outs, to: 0, begin: None }, &mut out);
                        }
                        times[2] += t.elapsed().as_secs_f64();
                    }
                }
                let per = |t: f64| t / reps as f64 / (ow * ow * 4) as f64 * 1e9;
                println!("{density} {ch:3}->{outs:3} {:5} fill {:6.1} gather {:6.1} (events/pos {:.1}) table {:6.1} ns per position and step", stringify!($e), times[0] / reps as f64 / (w * w * 4) as f64 * 1e9, per(times[1]), n as f64 / reps as f64 / (ow * ow * 4) as f64, per(times[2]));
            }} }
            go!(i16);
            go!(i32);
        }
    }
}
