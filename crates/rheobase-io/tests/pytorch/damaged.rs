//! Damaged files: an error, no panic, no memory that the file does not hold.

use super::{arch, golden};
use proptest::prelude::*;
use rheobase_io::import;

fn survives(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    if let Err(e) = import::open(&path, &arch("cnn")) {
        assert!(!e.to_string().contains('\n'));
    }
}

#[test]
fn files_cut_short_anywhere_are_refused() {
    for file in ["zip.pth", "legacy.th", "evil-plain.pth"] {
        let bytes = std::fs::read(golden(file)).unwrap();
        for n in (0..bytes.len()).step_by(23) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(file);
            std::fs::write(&path, &bytes[..n]).unwrap();
            import::open(&path, &arch("cnn")).unwrap_err();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn files_with_changed_bytes_do_not_panic(
        file in prop::sample::select(vec!["zip.pth", "legacy.th", "module.pt", "types.pth"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(golden(file)).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survives(file, &bytes);
    }
}

/// A legacy pickle of one tensor with a shape of 2^30 by 48, every element the same stored number.
#[test]
fn a_billion_classes_are_refused() {
    let mut bytes = std::fs::read(golden("legacy.th")).unwrap();
    // `fc.weight` is the one tensor of 10 rows of 48 (0x4b is BININT1): make it 2^30 rows (0x4a is BININT).
    let rows = [0x4b, 10, 0x4b, 48, 0x86];
    let at = bytes.windows(5).position(|w| w == rows).unwrap();
    bytes.splice(at..at + 2, [0x4a, 0, 0, 0, 0x40]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.th");
    std::fs::write(&path, &bytes).unwrap();
    let e = import::open(&path, &arch("cnn")).unwrap_err().to_string();
    assert!(e.contains("number of classes is out of range") || e.contains("limit"), "{e}");
}
