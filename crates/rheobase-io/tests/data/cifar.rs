use std::fs;

use tar::{Builder, Header};

use super::*;

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// Records whose pixels tell plane, row and column apart.
fn records(labels: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.extend_from_slice(label);
        for plane in 0..3u32 {
            bytes.extend((0..1024u32).map(|i| (i % 32 + i / 32 * 3 + plane * 50 + label.len() as u32) as u8));
        }
    }
    bytes
}

fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn check_pixels(set: &dyn Samples, index: usize, labels: usize) {
    let (pixels, _) = image(set, index);
    for (row, column, c) in [(0, 0, 0), (0, 1, 2), (31, 30, 1), (17, 3, 2)] {
        let value = column + row * 3 + c * 50 + labels;
        assert_eq!(pixels[(row * 32 + column) * 3 + c], value as f32 / 255.0);
    }
}

#[test]
fn cifar10_is_read_from_its_folder_a_folder_above_and_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    let mut files = vec![("cifar-10-batches-bin/batches.meta.txt", b"airplane\n".to_vec())];
    let paths: Vec<String> = TRAIN.iter().map(|n| format!("cifar-10-batches-bin/{n}")).collect();
    for (i, name) in TRAIN.iter().enumerate().rev() {
        let bytes = records(&[&[i as u8], &[9]]);
        fs::write(inner.join(name), &bytes).unwrap();
        files.push((&paths[i], bytes));
    }
    fs::write(inner.join("test_batch.bin"), records(&[&[3]])).unwrap();
    files.push(("cifar-10-batches-bin/test_batch.bin", records(&[&[3]])));
    let packed = dir.path().join("cifar-10-binary.tar.gz");
    fs::write(&packed, gzip(&archive(&files))).unwrap();
    let plain = dir.path().join("unzipped.tar");
    fs::write(&plain, archive(&files)).unwrap();
    let above = tempfile::tempdir().unwrap();
    fs::copy(&packed, above.path().join("cifar-10-binary.tar.gz")).unwrap();

    for path in [dir.path(), &inner, &packed, &plain, above.path()] {
        let train = open_split("cifar10", path, Split::Train).unwrap();
        assert_eq!((train.len(), train.shape(), train.name().as_str()), (10, [3, 32, 32], "cifar10 (train)"));
        let labels: Vec<usize> = (0..10).map(|i| image(&*train, i).1).collect();
        assert_eq!(labels, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]);
        check_pixels(&*train, 9, 1);
        assert_eq!(train.classes()[9], "truck");
        let test = open_split("cifar10", path, Split::Test).unwrap();
        assert_eq!((test.len(), image(&*test, 0).1), (1, 3));
    }
}

#[test]
fn cifar100_counts_the_fine_label() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("train.bin"), records(&[&[200, 99], &[0, 0]])).unwrap();
    fs::write(dir.path().join("test.bin"), records(&[&[1, 42]])).unwrap();
    let train = open_split("cifar100", dir.path(), Split::Train).unwrap();
    assert_eq!((train.len(), image(&*train, 0).1, image(&*train, 1).1), (2, 99, 0));
    check_pixels(&*train, 1, 2);
    assert_eq!((train.classes().len(), train.classes()[99].as_str()), (100, "worm"));
    let mut sorted = train.classes().to_vec();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, train.classes());
    let norm = train.normalisation();
    assert!((norm.mean[0] - 129.3 / 255.0).abs() < 1e-7 && (norm.std[2] - 70.4 / 255.0).abs() < 1e-7);
}

#[test]
fn damaged_records_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let test = dir.path().join("test_batch.bin");
    let case = |bytes: &[u8], kind, parts: &[&str]| {
        fs::write(&test, bytes).unwrap();
        refused(open_split("cifar10", dir.path(), Split::Test), kind, parts);
    };
    case(b"", Kind::Format, &["test_batch.bin", "whole records", "0 bytes"]);
    case(&records(&[&[1]])[1..], Kind::Format, &["3072 bytes", "multiple of 3073"]);
    case(&[records(&[&[1]]), vec![0; 100]].concat(), Kind::Format, &["3173 bytes"]);
    case(&records(&[&[1], &[10]]), Kind::Format, &["byte 3073", "label out of range", "0 to 9", "10"]);
    // CIFAR-100's file under CIFAR-10's name.
    case(&records(&[&[1, 2]]), Kind::Format, &["3074 bytes"]);
}

#[test]
fn a_batch_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for name in &TRAIN[..4] {
        fs::write(dir.path().join(name), records(&[&[1]])).unwrap();
    }
    let hint = "cifar-10-binary.tar.gz";
    refused(open_split("cifar10", dir.path(), Split::Train), Kind::Data, &["data_batch_5.bin", hint]);
    refused(open_split("cifar10", dir.path(), Split::Test), Kind::Data, &["test_batch.bin", hint]);
    refused(open_split("cifar100", dir.path(), Split::Test), Kind::Data, &["test.bin", "cifar-100-binary"]);
}

#[test]
fn a_folder_in_a_files_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("test.bin")).unwrap();
    refused(open_split("cifar100", dir.path(), Split::Test), Kind::Data, &["test.bin", "a folder"]);
}

#[test]
fn bad_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar.gz");
    let case = |bytes: &[u8], kind, parts: &[&str]| {
        fs::write(&path, bytes).unwrap();
        let parts = [parts, &["a.tar.gz"]].concat();
        refused(open_split("cifar100", &path, Split::Test), kind, &parts);
    };
    let good =
        archive(&[("x/test.bin", records(&[&[0, 1]])), ("x/train.bin", records(&[[0u8, 1].as_slice(); 20]))]);
    fs::write(&path, gzip(&good)).unwrap();
    assert_eq!(open_split("cifar100", &path, Split::Test).unwrap().len(), 1);

    case(b"", Kind::Data, &["does not hold `test.bin`"]);
    case(b"no archive at all, but long enough to be asked what it is", Kind::Format, &[]);
    case(&[7; 2048], Kind::Format, &["not a sound tar archive", "cifar-100-binary.tar.gz"]);
    case(&archive(&[("x/other.bin", vec![1; 10])]), Kind::Data, &["does not hold `test.bin`", "kriz"]);
    case(&archive(&[("test.bin", records(&[&[0, 100]]))]), Kind::Format, &["label out of range", "byte 1"]);
    case(&archive(&[("test.bin", vec![0; 3073])]), Kind::Format, &["whole records"]);
    // Cut short inside the file, and after it, where only gzip's end is missing.
    case(&good[..2000], Kind::Format, &[]);
    let packed = gzip(&good);
    case(&packed[..packed.len() / 2], Kind::Format, &["cut short"]);
    case(&packed[..packed.len() - 4], Kind::Format, &["cut short"]);
    let mut flipped = packed.clone();
    let crc = flipped.len() - 6;
    flipped[crc] ^= 1;
    case(&flipped, Kind::Format, &["damaged"]);
}

#[test]
fn sizes_in_an_archive_are_not_trusted() {
    let mut header = Header::new_ustar();
    header.set_path("test.bin").unwrap();
    header.set_size(8_000_000_000);
    header.set_cksum();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    fs::write(&path, [header.as_bytes().as_slice(), &[0; 4096]].concat()).unwrap();
    refused(open_split("cifar100", &path, Split::Test), Kind::Limit, &["8000000000", "at most"]);

    // A gigabyte of zeros in a few kilobytes, in a file that is not even asked for.
    let mut header = Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_size(1 << 30);
    header.set_cksum();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(header.as_bytes()).unwrap();
    for _ in 0..1 << 10 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    fs::write(&path, encoder.finish().unwrap()).unwrap();
    refused(open_split("cifar100", &path, Split::Test), Kind::Limit, &["unpacks to too much"]);
}
