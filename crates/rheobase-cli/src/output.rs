//! What people see: progress bars on a terminal, numbers with separators, bars in tables.

use indicatif::{ProgressBar, ProgressStyle};
use rheobase::core::progress::Progress;
use std::io::IsTerminal;
use std::sync::Mutex;
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
fn duration(seconds: f64) -> String {
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
