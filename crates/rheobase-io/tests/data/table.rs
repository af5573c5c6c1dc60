use rheobase_io::data::DATASETS;

use super::*;

#[test]
fn every_kind_is_documented_and_explains_what_it_needs() {
    for d in DATASETS {
        assert!(d.usage.starts_with(d.name) && !d.help.is_empty(), "{}", d.name);
        if d.usage.contains(':') {
            let none = "/no/such/place";
            refused(open(d.name, &Options::default()), Kind::Usage, &["needs a folder", d.usage]);
            refused(open(&format!("{}:", d.name), &Options::default()), Kind::Usage, &["needs a folder"]);
            refused(open_split(d.name, Path::new(none), Split::Train), Kind::Data, &[none, "no such folder"]);
            let empty = tempfile::tempdir().unwrap();
            let path = empty.path().to_str().unwrap().to_string();
            refused(open_split(d.name, empty.path(), Split::Test), Kind::Data, &[&path, "expected"]);
        } else {
            assert!(!open(d.name, &Options::default()).unwrap().is_empty());
            refused(open(&format!("{}:x", d.name), &Options::default()), Kind::Usage, &["takes no folder"]);
            refused(open(&format!("{}:", d.name), &Options::default()), Kind::Usage, &["takes no folder"]);
        }
    }
}

#[test]
fn unknown_kinds_name_the_known_ones() {
    let all: Vec<&str> = DATASETS.iter().map(|d| d.usage).collect();
    for spec in ["", "what:/x", ":", "CIFAR10:x", "/some/folder"] {
        refused(open(spec, &Options::default()), Kind::Usage, &all);
    }
}

#[test]
fn only_image_folders_are_resized() {
    let options = Options { resize: Some(40), ..Options::default() };
    refused(open("digits", &options), Kind::Usage, &["not resized"]);
}

#[test]
fn splits_are_written_as_they_are_read() {
    for split in [Split::Train, Split::Test] {
        assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
    }
    assert!("valid".parse::<Split>().is_err());
}

/// Counts, sums and pixels as scikit-learn's `load_digits` gives them.
#[test]
fn digits_are_those_of_scikit_learn() {
    let mut counts = [0; 10];
    let (mut sum, mut square, mut train) = (0.0, 0.0, 0.0);
    for split in [Split::Train, Split::Test] {
        let set = open("digits", &Options { split, ..Options::default() }).unwrap();
        assert_eq!(set.shape(), [1, 8, 8]);
        assert_eq!(set.len(), if split == Split::Train { 1437 } else { 360 });
        for i in 0..set.len() {
            let (pixels, label) = image(&*set, i);
            counts[label] += 1;
            sum += pixels.iter().map(|&p| f64::from(p) * 16.0).sum::<f64>();
            if split == Split::Train {
                train += pixels.iter().map(|&p| f64::from(p)).sum::<f64>();
                square += pixels.iter().map(|&p| f64::from(p).powi(2)).sum::<f64>();
            }
        }
    }
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    assert_eq!(sum, 561_718.0);

    let set = open("digits", &Options { split: Split::Train, ..Options::default() }).unwrap();
    let (mean, n) = (train / (1437.0 * 64.0), 1437.0 * 64.0);
    let norm = set.normalisation();
    assert!((f64::from(norm.mean[0]) - mean).abs() < 1e-6);
    assert!((f64::from(norm.std[0]) - (square / n - mean * mean).sqrt()).abs() < 1e-6);
    let (first, label) = image(&*set, 0);
    assert_eq!(label, 0);
    assert_eq!(first[..8], [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0].map(|v: f32| v / 16.0));
    let test = open("digits", &Options::default()).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(|i| image(&*test, i).1), [2, 3, 4, 5, 6]);
    let last = image(&*test, 359).0;
    assert_eq!(last[..8], [0.0, 0.0, 10.0, 14.0, 8.0, 1.0, 0.0, 0.0].map(|v: f32| v / 16.0));
}

#[test]
fn an_index_past_the_end_and_a_wrong_buffer_are_errors() {
    let set = open("digits", &Options::default()).unwrap();
    let error = set.read(360, &mut [0.0; 64]).unwrap_err();
    assert!(error.to_string().contains("no image 360"), "{error}");
    assert_eq!(set.read(0, &mut [0.0; 63]).unwrap_err().kind(), Kind::Shape);
}
