//! The floors of the core: a file imports lower floors only. Reads the `use crate::` lines.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor, lowest first; rooms of one floor do not see each other.
const FLOORS: &[&[&str]] = &[
    &["error", "progress", "random", "timing"],
    &["tensor", "env", "samples"],
    &["network"],
    &["neuron", "prepared", "ann"],
    &["outcome", "integer"],
    &["convert", "engine"],
    &["evaluate"],
];

fn floor(room: &str) -> usize {
    FLOORS
        .iter()
        .position(|f| f.contains(&room))
        .unwrap_or_else(|| panic!("`{room}` has no floor in this test"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn nobody_imports_upwards_or_sideways() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![];
    files(&root, &mut all);
    let mut breaches = vec![];
    for path in all.iter().filter(|p| !p.ends_with("lib.rs") && !p.ends_with("tests.rs")) {
        let inside = path.strip_prefix(&root).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|l| {
            l.trim_start().starts_with("use crate::") || l.contains("(crate::") || l.contains(" crate::")
        }) {
            for part in line.split("crate::").skip(1) {
                let other: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if other != room
                    && !other.chars().next().is_some_and(char::is_uppercase)
                    && floor(&other) >= floor(room)
                {
                    breaches.push(format!("{}: {}", inside.display(), line.trim()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}
