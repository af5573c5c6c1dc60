//! Times training steps: `cargo run --release -p rheobase-train --example step`.
use rheobase_train::{
    loss,
    net::{Mode, Net},
};
use std::time::Instant;
fn main() {
    let mut args = std::env::args().skip(1);
    let arch = args.next().unwrap_or("resnet20".into());
    let batch: usize = args.next().map_or(128, |b| b.parse().unwrap());
    let network = rheobase_core::network::zoo::random(&arch, 10, None, 4, 1).unwrap();
    let mut net = Net::new(&network).unwrap();
    let images: Vec<f32> =
        (0..batch * net.image()).map(|i| ((i * 7919 % 1009) as f32 / 504.0 - 1.0)).collect();
    let labels: Vec<usize> = (0..batch).map(|i| i % 10).collect();
    let mut g = vec![];
    for _ in 0..12 {
        let t = Instant::now();
        let logits = net.forward(&images, Mode::Train);
        let loss = loss::cross_entropy(logits, &labels, 0.0, &mut g);
        let f = t.elapsed();
        net.backward(&g);
        let b = t.elapsed();
        for p in net.params_mut() {
            let g = std::mem::take(&mut p.gradient);
            p.data.iter_mut().zip(&g).for_each(|(w, g)| *w -= 0.02 * g);
            p.gradient = g;
        }
        println!(
            "loss {loss:.4} forward {:.1} ms, backward {:.1} ms, all {:.1} ms",
            f.as_secs_f64() * 1e3,
            (b - f).as_secs_f64() * 1e3,
            t.elapsed().as_secs_f64() * 1e3
        );
    }
}
