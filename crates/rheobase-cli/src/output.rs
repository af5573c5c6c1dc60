//! What people see: progress bars on a terminal, numbers with separators, bars in tables.

use indicatif::{ProgressBar, ProgressStyle};
use rheobase::core::progress::Progress;
use rheobase::{Error, Kind, Result};
use rheobase_train::checkpoint::Epoch;
use rheobase_train::trainer::{Status, Watch};
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A progress bar on standard error, where that is a terminal.
pub struct Bar {
    bar: Mutex<Option<Phase>>,
    visible: bool,
}

/// A kind of work and its bar.
struct Phase {
    name: String,
    start: Instant,
    bar: ProgressBar,
}

impl Bar {
    /// Nothing is drawn before the first tick.
    pub fn new() -> Self {
        Bar { bar: Mutex::new(None), visible: std::io::stderr().is_terminal() }
    }
}

impl Progress for Bar {
    fn tick(&self, what: &str, done: usize, total: usize) {
        if !self.visible {
            return;
        }
        let Ok(mut current) = self.bar.lock() else { return };
        if current.as_ref().is_none_or(|phase| phase.name != what) {
            let style = ProgressStyle::with_template("{prefix:<12} {wide_bar} {pos}/{len}  {msg}");
            let bar = ProgressBar::new(total as u64).with_prefix(what.to_string());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            *current = Some(Phase { name: what.to_string(), start: Instant::now(), bar });
        }
        if let Some(Phase { start, bar, .. }) = current.as_ref() {
            if done > 0 {
                let rate = done as f64 / start.elapsed().as_secs_f64().max(1e-9);
                let left = total.saturating_sub(done) as f64 / rate;
                bar.set_message(format!("{}/s  {} left", short(rate), duration(left)));
            }
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        }
    }
}

/// Watches training: a bar with loss, accuracy, images a second and the time left on a terminal; a line an epoch in any case.
pub struct Epochs {
    bar: Option<ProgressBar>,
    start: Instant,
    /// Images of this run so far, epochs and images before it.
    seen: Mutex<(usize, Option<usize>)>,
    checkpoint: Option<std::path::PathBuf>,
    stop: &'static AtomicBool,
}

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

impl Epochs {
    /// Ctrl-C asks training to stop from now on; pressed twice it ends the program at once. `checkpoint` where it is to be
    /// resumed from.
    pub fn new(checkpoint: Option<&std::path::Path>) -> Result<Self> {
        let stop = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::abort();
            }
        });
        stop.map_err(|e| Error::new(Kind::Io, "Ctrl-C cannot be watched").found(e.to_string()))?;
        let style = ProgressStyle::with_template("{prefix:<13} {wide_bar} {pos}/{len}  {msg}");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let checkpoint = checkpoint.map(std::path::Path::to_path_buf);
        Ok(Epochs { bar, start: Instant::now(), seen: Mutex::new((0, None)), checkpoint, stop: &STOP })
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => _ = writeln!(std::io::stderr(), "{text}"),
        }
    }
}

impl Watch for Epochs {
    fn start(&self, resumed: Option<(usize, usize)>) {
        match (&self.checkpoint, resumed) {
            (Some(_), Some((epochs, 0))) => self.line(&format!("going on after epoch {epochs}")),
            (Some(_), Some((epochs, batch))) => {
                self.line(&format!("going on after epoch {epochs} and {batch} steps"));
            }
            (Some(path), None) => {
                self.line(&format!("no checkpoint at {} yet: training from the beginning", path.display()));
            }
            (None, _) => {}
        }
    }

    fn step(&self, s: &Status) {
        let Some(bar) = &self.bar else { return };
        let Ok(mut seen) = self.seen.lock() else { return };
        let done = (s.epoch - 1) * s.of + s.images;
        let before = *seen.1.get_or_insert(done.saturating_sub(1));
        seen.0 = done - before;
        let rate = seen.0 as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
        bar.set_prefix(format!("epoch {}/{}", s.epoch, s.epochs));
        bar.set_length(s.of as u64);
        bar.set_position(s.images as u64);
        bar.set_message(format!(
            "loss {:.3}  {:.1} %  {} images/s  {} left",
            s.loss,
            100.0 * s.accuracy,
            short(rate),
            duration((s.epochs * s.of - done) as f64 / rate)
        ));
    }

    fn epoch(&self, e: &Epoch, of: usize) {
        self.line(&format!(
            "epoch {}/{of}: loss {:.4}, training {:.2} %, test {:.2} %, {} images/s, {}",
            e.epoch,
            e.loss,
            100.0 * e.train_accuracy,
            100.0 * e.test_accuracy,
            short(e.images_per_second),
            duration(e.seconds)
        ));
        if let Some(bar) = &self.bar
            && e.epoch == of
        {
            bar.finish_and_clear();
        }
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// 1234567 as `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// A rate or a count per image, short: `934`, `14.8 M`.
pub fn short(x: f64) -> String {
    match x {
        x if x >= 1e9 => format!("{:.1} G", x / 1e9),
        x if x >= 1e6 => format!("{:.1} M", x / 1e6),
        x if x >= 1e4 => format!("{:.1} k", x / 1e3),
        x if x >= 100.0 => format!("{x:.0}"),
        x => format!("{x:.1}"),
    }
}

/// Seconds as `42s`, `3m 10s` or `2h 05m`.
pub fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        s @ ..60 => format!("{s}s"),
        s @ ..3600 => format!("{}m {:02}s", s / 60, s % 60),
        s => format!("{}h {:02}m", s / 3600, s / 60 % 60),
    }
}

/// A bar of up to `width` characters for a share of 1.
pub fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// The most memory that this process has held, where the system tells.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(short(14_800_000.0), "14.8 M");
        assert_eq!([42.4, 190.0, 7500.0].map(duration), ["42s", "3m 10s", "2h 05m"]);
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(1.0 / 32.0, 4), "▏");
    }
}
