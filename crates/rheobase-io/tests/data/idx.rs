use std::fs;

use super::*;

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    for size in sizes {
        file.extend(size.to_be_bytes());
    }
    [file, bytes.to_vec()].concat()
}

fn images() -> Vec<u8> {
    idx(&[3, 4, 5], &(0..60).map(|i| i * 4).collect::<Vec<u8>>())
}

#[test]
fn images_and_labels_are_read_under_all_names() {
    for (images_name, labels_name) in [
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        ("t10k-images.idx3-ubyte", "t10k-labels-idx1-ubyte.gz"),
        ("t10k-images-idx3-ubyte.gz", "t10k-labels.idx1-ubyte"),
        ("t10k-images.idx3-ubyte.gz", "t10k-labels.idx1-ubyte.gz"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [(images_name, images()), (labels_name, idx(&[3], &[7, 0, 9]))] {
            let bytes = if name.ends_with(".gz") { gzip(&bytes) } else { bytes };
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let set = open_split("mnist", dir.path(), Split::Test).unwrap();
        assert_eq!((set.len(), set.shape(), set.name().as_str()), (3, [1, 4, 5], "mnist (test)"));
        let (pixels, label) = image(&*set, 2);
        assert_eq!((label, pixels[0], pixels[19]), (9, 160.0 / 255.0, 236.0 / 255.0));
        assert_eq!(set.classes()[9], "9");
        refused(
            open_split("mnist", dir.path(), Split::Train),
            Kind::Data,
            &["train-images-idx3-ubyte", "does not hold"],
        );
    }
}

#[test]
fn damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (images_file, labels_file) =
        (dir.path().join("t10k-images-idx3-ubyte"), dir.path().join("t10k-labels-idx1-ubyte"));
    let labels = idx(&[3], &[7, 0, 9]);
    for zip in [false, true] {
        let case = |images: &[u8], labels: &[u8], kind, parts: &[&str]| {
            let wrap = |b: &[u8]| if zip { gzip(b) } else { b.to_vec() };
            fs::write(&images_file, wrap(images)).unwrap();
            fs::write(&labels_file, wrap(labels)).unwrap();
            refused(open_split("mnist", dir.path(), Split::Test), kind, parts);
        };
        let (good, i, l) = (images(), "t10k-images", "t10k-labels");
        case(b"", &labels, Kind::Format, &[i, "cut short"]);
        case(&good[..10], &labels, Kind::Format, &[i, "cut short"]);
        case(&good[..70], &labels, Kind::Format, &[i, "header and length differ", "76 bytes", "70"]);
        case(&[&good[..], &[1]].concat(), &labels, Kind::Format, &[i, "header and length differ"]);
        case(&labels, &labels, Kind::Format, &[i]);
        case(&idx(&[60], &[0; 60]), &labels, Kind::Format, &[i, "0x00000803", "0x00000801"]);
        case(&idx(&[0, 28, 28], &[]), &labels, Kind::Data, &[i, "no images"]);
        case(&idx(&[3, 0, 28], &[]), &labels, Kind::Data, &[i, "no images", "3x0x28"]);
        case(&idx(&[u32::MAX; 3], &[0; 9]), &labels, Kind::Limit, &[i, "asks for too much"]);
        case(&idx(&[1_000_000_000, 28, 28], &[0; 9]), &labels, Kind::Limit, &[i, "1000000000x28x28"]);
        case(&idx(&[1_000_000, 28, 28], &[0; 9]), &labels, Kind::Format, &[i, "header and length differ"]);
        case(&good, &idx(&[2], &[7, 0]), Kind::Format, &[l, "differ in number", "3 labels", "2"]);
        case(&good, &idx(&[3], &[7, 0, 10]), Kind::Format, &[l, "image 2", "10"]);
        case(&good, &idx(&[3], &[7, 0]), Kind::Format, &[l, "header and length differ"]);
    }
    let packed = gzip(&images());
    fs::write(&images_file, &packed[..packed.len() - 3]).unwrap();
    refused(open_split("mnist", dir.path(), Split::Test), Kind::Format, &["cut short"]);
}

#[test]
fn a_file_is_not_a_folder() {
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(open_split("mnist", file.path(), Split::Test), Kind::Data, &["not a folder"]);
}

#[test]
fn a_zipped_flood_is_refused() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&idx(&[1, 1, 1], &[])).unwrap();
    for _ in 0..1 << 6 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t10k-images-idx3-ubyte.gz"), encoder.finish().unwrap()).unwrap();
    fs::write(dir.path().join("t10k-labels-idx1-ubyte"), idx(&[1], &[0])).unwrap();
    refused(open_split("mnist", dir.path(), Split::Test), Kind::Format, &["differ", "more"]);
}
