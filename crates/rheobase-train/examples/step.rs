//! Times training steps and prints them as JSON; bench/train_step.py runs it beside PyTorch.
//!
//!     cargo run --release -p rheobase-train --example step -- --arch resnet20 --levels 4 --batch 128 --steps 15 --threads 2

#![allow(clippy::print_stdout)]

use rheobase_core::network::zoo;
use rheobase_train::loss;
use rheobase_train::net::{Mode, Net};
use rheobase_train::optimiser::Sgd;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: &str| {
        let at = arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
        at.cloned().unwrap_or(default.to_string())
    };
    let (batch, steps): (usize, usize) =
        (option("--batch", "128").parse()?, option("--steps", "15").parse()?);
    let threads = option("--threads", "0").parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let network = zoo::random(&option("--arch", "resnet20"), 10, None, option("--levels", "4").parse()?, 0)?;
    let mut net = Net::new(&network)?;
    let images: Vec<f32> = (0..batch * net.image()).map(|i| (i * 7919 % 1009) as f32 / 504.0 - 1.0).collect();
    let labels: Vec<usize> = (0..batch).map(|i| i % 10).collect();
    let mut sgd = Sgd::new(net.params(), 0.9, 5e-4);
    let (mut gradient, mut seconds) = (vec![], vec![]);
    for step in 0..=steps {
        let start = Instant::now();
        let logits = net.forward(&images, Mode::Train);
        let loss = loss::cross_entropy(logits, &labels, 0.0, &mut gradient);
        net.backward(&gradient);
        sgd.step(net.params_mut(), 0.02);
        assert!(loss.is_finite());
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64()); // the first one fills the buffers
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.trim().strip_suffix(" kB"));
    let peak: Option<u64> = peak.and_then(|p| p.trim().parse().ok());
    println!("{}", serde_json::json!({"seconds": seconds, "peak_bytes": peak.map(|p| p * 1024)}));
    Ok(())
}
