use std::fs;
use std::path::PathBuf;

use image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba};
use rheobase_io::data::Transform;

use super::*;

/// The picture of `golden/make.py`.
fn pattern(height: u32, width: u32) -> RgbImage {
    let value = |x: u32, y: u32, c: u32| ((x * x * 7 + y * 13 * (c + 1) + x * y * 5) % 256) as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([0, 1, 2].map(|c| value(x, y, c))))
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

fn read_bytes(transform: &Transform, path: &Path, channels: usize) -> Vec<u64> {
    let [h, w] = transform.size();
    let mut pixels = vec![f32::NAN; h * w * channels];
    transform.read(path, channels, &mut pixels).unwrap();
    pixels.iter().map(|p| (p * 255.0).round() as u64).collect()
}

/// Sums printed by `golden/make.py`: torchvision's Resize and CenterCrop on Pillow images.
#[test]
fn resize_and_crop_equal_pillow_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    for (height, width, resize, size, sum, weighted, first) in [
        (47, 61, 9, [6, 8], 18675, 1_344_445, [140, 136, 130, 129, 125, 132]),
        (61, 47, 9, [6, 8], 18476, 1_333_997, [130, 127, 138, 126, 127, 132]),
        (5, 7, 11, [8, 10], 29544, 3_854_611, [15, 23, 32, 21, 30, 38]),
        (9, 30, 9, [8, 9], 28288, 3_090_024, [188, 188, 188, 79, 79, 79]),
    ] {
        pattern(height, width).save(&path).unwrap();
        let values = read_bytes(&Transform::new(Some(size), Some(resize)).unwrap(), &path, 3);
        assert_eq!(values[..6], first);
        assert_eq!(values.iter().sum::<u64>(), sum);
        assert_eq!(values.iter().zip(1..).map(|(v, i)| v * i).sum::<u64>(), weighted);
    }
    pattern(47, 61).save(&path).unwrap();
    let values = read_bytes(&Transform::new(Some([6, 8]), Some(9)).unwrap(), &path, 1);
    assert_eq!((values.iter().sum::<u64>(), &values[..6]), (6260, &[136, 127, 124, 126, 130, 130][..]));
}

/// The picture that `golden/make.py` stored in each form.
#[test]
fn every_form_of_jpeg_and_png_becomes_colour() {
    let t = Transform::new(Some([16, 16]), Some(16)).unwrap();
    let exact = read_bytes(&t, &golden("colour.png"), 3);
    assert_eq!(exact[..3], [52, 56, 60]);
    assert_eq!(read_bytes(&t, &golden("alpha.png"), 3), exact);
    let palette = read_bytes(&t, &golden("palette.png"), 3);
    assert_eq!(palette[(3 * 16 + 1) * 3..][..3], [82, 82, 82]);
    for name in ["baseline.jpg", "progressive.jpg", "cmyk.jpg"] {
        let values = read_bytes(&t, &golden(name), 3);
        let worst = values.iter().zip(&exact).map(|(&a, &b)| a.abs_diff(b)).max().unwrap();
        assert!(worst <= 6, "{name}: {worst}");
    }
    let (luma, red) = (read_bytes(&t, &golden("colour.png"), 1), exact.iter().step_by(3).copied().collect());
    for (name, wanted, tolerance) in [("grey.jpg", luma, 3), ("grey16.png", red, 0)] {
        let values = read_bytes(&t, &golden(name), 3);
        assert!(values.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
        let worst = values.iter().step_by(3).zip(&wanted).map(|(&a, &b)| a.abs_diff(b)).max().unwrap();
        assert!(worst <= tolerance, "{name}: {worst}");
    }
}

#[test]
fn sixteen_bits_and_alpha_keep_the_upper_byte_of_the_colours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    let t = Transform::new(Some([2, 2]), Some(2)).unwrap();
    ImageBuffer::from_pixel(2, 2, Rgba([0x1234u16, 0xabff, 0xffff, 0x0001])).save(&path).unwrap();
    assert_eq!(read_bytes(&t, &path, 3)[..3], [0x12, 0xab, 0xff]);
    ImageBuffer::from_pixel(2, 2, Luma([0x12ffu16])).save(&path).unwrap();
    assert_eq!(read_bytes(&t, &path, 3)[..3], [0x12; 3]);
    GrayAlphaImage::from_pixel(2, 2, image::LumaA([9, 3])).save(&path).unwrap();
    assert_eq!(read_bytes(&t, &path, 3)[..3], [9; 3]);
}

fn put(root: &Path, file: &str, value: u8) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = GrayImage::from_pixel(3, 3, Luma([value]));
    image.save_with_format(path, image::ImageFormat::Png).unwrap();
}

fn open_tiny(root: &Path, split: Split) -> Result<Box<dyn Samples>, Error> {
    let options = Options { split, size: Some([3, 3]), resize: Some(3) };
    open(&format!("imagefolder:{}", root.display()), &options)
}

fn contents(set: &dyn Samples) -> Vec<(usize, u8)> {
    (0..set.len()).map(|i| image(set, i)).map(|(p, label)| (label, (p[0] * 255.0).round() as u8)).collect()
}

#[test]
fn classes_and_files_are_sorted_by_name_one_level_deep() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (file, value) in [
        ("b/2.png", 5),
        ("b/10.PNG", 4),
        ("a/z.jpeg", 1),
        ("a/inner/a.jpg", 2),
        ("c/x.png", 7),
        ("a/inner/deeper/no.png", 99),
        (".hidden/no.png", 99),
        ("a/.no.png", 99),
        ("loose.png", 99),
    ] {
        put(root, file, value);
    }
    fs::write(root.join("a/notes.txt"), "not an image").unwrap();
    let set = open_tiny(root, Split::Test).unwrap();
    assert_eq!(set.classes(), ["a", "b", "c"]);
    assert_eq!(contents(&*set), [(0, 1), (0, 2), (1, 4), (1, 5), (2, 7)]);
    assert_eq!(contents(&*open_tiny(root, Split::Train).unwrap()), contents(&*set));
    let name = root.file_name().unwrap().to_str().unwrap();
    assert_eq!(set.name(), format!("imagefolder {name} (train and test not apart)"));
}

#[test]
fn split_folders_are_found_and_never_taken_for_classes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(root, "train/a/1.png", 1);
    let found = &["no images for the test split", "`test` or `val`", "`train`"];
    refused(open_tiny(root, Split::Test), Kind::Data, found);
    put(root, "val/a/1.png", 2);
    assert_eq!(contents(&*open_tiny(root, Split::Train).unwrap()), [(0, 1)]);
    assert_eq!(contents(&*open_tiny(root, Split::Test).unwrap()), [(0, 2)]);
    put(root, "test/a/1.png", 3);
    assert_eq!(contents(&*open_tiny(root, Split::Test).unwrap()), [(0, 3)]);

    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "train/1.png", 1);
    put(dir.path(), "bus/1.png", 2);
    let set = open_tiny(dir.path(), Split::Test).unwrap();
    assert_eq!(set.classes(), ["bus", "train"]);
}

#[test]
fn folders_without_images_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    refused(open_tiny(root, Split::Test), Kind::Data, &["no class folders"]);
    put(root, "loose.png", 1);
    refused(open_tiny(root, Split::Test), Kind::Data, &["no class folders", "lie in no class"]);
    refused(open_tiny(&root.join("loose.png"), Split::Test), Kind::Data, &["not a folder"]);
    put(root, "a/1.png", 1);
    fs::create_dir(root.join("b")).unwrap();
    fs::write(root.join("b/1.txt"), "x").unwrap();
    refused(open_tiny(root, Split::Test), Kind::Data, &["/b: ", "holds no image"]);
}

#[test]
fn an_unreadable_image_is_one_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let jpeg = fs::read(golden("baseline.jpg")).unwrap();
    let png = fs::read(golden("colour.png")).unwrap();
    let mut huge = png.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    let size = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap() + 5;
    let mut wide = jpeg.clone();
    wide[size..size + 4].fill(0xff);
    for (bytes, kind, part) in [
        (&b""[..], Kind::Format, "an empty file"),
        (b"not an image", Kind::Format, "expected JPEG or PNG"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00", Kind::Format, "expected JPEG or PNG"),
        (&jpeg[..jpeg.len() - 40], Kind::Format, "cut short"),
        (&jpeg[..100], Kind::Format, "cut short"),
        (&png[..png.len() / 2], Kind::Format, "cannot be decoded"),
        (&huge, Kind::Limit, "65535x65535"),
        (&wide, Kind::Limit, "65535x65535"),
    ] {
        fs::create_dir_all(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/bad.png"), bytes).unwrap();
        let set = open_tiny(dir.path(), Split::Test).unwrap();
        let error = set.read(0, &mut [0.0; 27]).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let line = error.to_string();
        assert!(line.contains("a/bad.png: ") && line.contains(part), "{line}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[test]
fn a_sliver_is_resized_without_making_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    GrayImage::from_pixel(1, 60_000, Luma([77])).save(&path).unwrap();
    let values = read_bytes(&Transform::new(None, None).unwrap(), &path, 3);
    assert_eq!((values.len(), values.iter().all(|&v| v == 77)), (224 * 224 * 3, true));
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let t = |size, resize| Transform::new(size, resize).map_err(|e| e.kind());
    assert_eq!(t(None, None).unwrap().resize(), 256);
    assert_eq!(t(Some([192, 160]), None).unwrap().resize(), 219);
    assert_eq!(t(Some([0, 5]), None), Err(Kind::Limit));
    assert_eq!(t(Some([1_000_000_000, 1_000_000_000]), None), Err(Kind::Limit));
    assert_eq!(t(Some([8, 9]), Some(8)), Err(Kind::Usage));
    assert_eq!(t(None, Some(usize::MAX)), Err(Kind::Usage));
    let none = t(None, None).unwrap().read(&golden("colour.png"), 3, &mut [0.0; 5]);
    assert_eq!(none.unwrap_err().kind(), Kind::Shape);
}
