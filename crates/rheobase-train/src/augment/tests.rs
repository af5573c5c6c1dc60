//! Augmentation against Pillow's results and against what must hold for every image.
//! In: tests/golden/augment.*, images of a formula. Out: agreement.

use serde_json::Value;

use super::crop::{self, Rect};
use super::ops::Op::{self, *};
use super::picture::Picture;
use super::*;

const BIN: &[u8] = include_bytes!("../../tests/golden/augment.bin");
const OPS: [Op; 13] = [
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Color,
    Posterize,
    Solarize,
    Contrast,
    Sharpness,
    Brightness,
    AutoContrast,
    Equalize,
    Invert,
];

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/augment.json")).unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers<const N: usize>(value: &Value) -> [usize; N] {
    std::array::from_fn(|i| number(&value[i]))
}

fn op(value: &Value) -> Op {
    *OPS.iter().find(|op| format!("{op:?}") == value.as_str().unwrap()).unwrap()
}

fn picture(golden: &Value, which: usize) -> Picture {
    let entry = &golden["pictures"][which];
    let [height, width, channels] = numbers(&entry["shape"]);
    let values = BIN[number(&entry["at"])..][..height * width * channels].to_vec();
    Picture { height, width, channels, values }
}

/// Pixels 1/1, 1/2, 1/3, ... so that every one is known by its value.
fn marked(values: usize) -> Vec<f32> {
    (1..=values).map(|i| 1.0 / i as f32).collect()
}

#[test]
fn every_operation_gives_pillow_s_bytes() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let mut image = picture(&golden, number(&case["picture"]));
        op(&case["op"]).perform(&mut image, number(&case["level"]), case["sign"].as_f64().unwrap());
        let want = &BIN[number(&case["at"])..][..image.values.len()];
        let wrong = image.values.iter().zip(want).filter(|(a, b)| a != b).count();
        assert_eq!(wrong, 0, "{case}");
    }
    assert_eq!(cases.len(), 58);
}

#[test]
fn a_resized_part_is_pillow_s() {
    let golden = golden();
    let image = picture(&golden, 0);
    let source: Vec<f32> = image.values.iter().map(|&v| f32::from(v)).collect();
    for case in golden["resized"].as_array().unwrap() {
        let ([top, left, height, width], size) = (numbers(&case["box"]), numbers::<2>(&case["size"]));
        let mut pixels = vec![0.0; size[0] * size[1] * 3];
        let shape = [3, image.height, image.width];
        crop::resize(&source, shape, Rect { top, left, height, width }, &mut pixels, size);
        let want =
            BIN[number(&case["at"])..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        for (have, want) in pixels.iter().zip(want) {
            assert!((have - want).abs() < 1e-3, "{case}: {have} {want}");
        }
    }
}

#[test]
fn the_policy_is_the_paper_s_table() {
    let golden = golden();
    let table = golden["policy"].as_array().unwrap();
    assert_eq!(table.len(), policy::CIFAR10.len());
    for (pair, want) in policy::CIFAR10.iter().zip(table) {
        for (step, want) in pair.iter().zip(want.as_array().unwrap()) {
            let level = want["level"].as_u64().unwrap_or(0) as usize;
            assert_eq!(*step, (op(&want["op"]), want["probability"].as_f64().unwrap(), level));
        }
    }
}

#[test]
fn names_are_read_back_as_they_are_written() {
    for (name, preset) in PRESETS {
        assert_eq!(name.parse::<Augment>().unwrap(), *preset);
        assert_eq!(preset.to_string(), *name);
    }
    for text in ["flip", "pad2+cutout8", "pad4+flip+policy+cutout8", "resized+policy"] {
        assert_eq!(text.parse::<Augment>().unwrap().to_string(), text);
    }
    assert_eq!(Augment::named("auto", 10).unwrap().cutout, 16);
    assert_eq!(Augment::named("auto", 100).unwrap().cutout, 8);
    assert_eq!(Augment::named("auto+cutout12", 100).unwrap().to_string(), "pad4+flip+policy+cutout12");
    for text in ["", "autos", "pad", "pad-1", "cutout99999999", "flip+"] {
        let error = text.parse::<Augment>().unwrap_err();
        assert!(error.to_string().contains("`none`, `shift`, `standard`, `auto`, `imagenet`"), "{error}");
    }
}

#[test]
fn a_padded_crop_shifts_by_every_amount_and_fills_with_black() {
    let (shape, size) = ([2, 5, 4], [5, 4]);
    let source = marked(40);
    let augment: Augment = "pad2".parse().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..500 {
        let mut pixels = vec![-1.0; 40];
        augment.apply(&mut Stream::new(1, i), &source, shape, &mut pixels, size);
        let at = |y: usize, x: usize| &pixels[(y * 4 + x) * 2..][..2];
        let want = |y: isize, x: isize| {
            let inside = (0..5).contains(&y) && (0..4).contains(&x);
            if inside { source[(y * 4 + x) as usize * 2..][..2].to_vec() } else { vec![0.0; 2] }
        };
        let fits = |dy: isize, dx: isize| {
            (0..5).all(|y| (0..4).all(|x| at(y, x) == want(y as isize + dy, x as isize + dx)))
        };
        let shifts: Vec<_> = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dy, dx))).collect();
        seen.insert(*shifts.iter().find(|(dy, dx)| fits(*dy, *dx)).unwrap());
    }
    assert_eq!(seen.len(), 25);
}

#[test]
fn a_flip_mirrors_half_of_the_images() {
    let source = marked(2 * 3 * 3);
    let mirrored: Vec<f32> =
        source.chunks(9).flat_map(|row| row.rchunks(3).flatten().copied().collect::<Vec<_>>()).collect();
    let mut flips = 0;
    for i in 0..1000 {
        let mut pixels = vec![0.0; 18];
        let augment = Augment { flip: true, ..Augment::default() };
        augment.apply(&mut Stream::new(2, i), &source, [3, 2, 3], &mut pixels, [2, 3]);
        flips += usize::from(pixels == mirrored);
        assert!(pixels == mirrored || pixels == source);
    }
    assert!((440..560).contains(&flips), "{flips}");
}

#[test]
fn the_centre_is_cut_out_of_larger_images_and_smaller_ones_are_refused() {
    let source = marked(16);
    let mut pixels = vec![0.0; 4];
    Augment::default().apply(&mut Stream::new(0, 0), &source, [1, 4, 4], &mut pixels, [2, 2]);
    assert_eq!(pixels, [source[5], source[6], source[9], source[10]]);
    assert!(Augment::default().check([1, 4, 4], [5, 2]).is_err());
    let resized: Augment = "imagenet".parse().unwrap();
    assert!(resized.check([1, 4, 4], [5, 2]).is_ok());
    let auto: Augment = "auto".parse().unwrap();
    assert!(auto.check([2, 8, 8], [8, 8]).unwrap_err().to_string().contains("2 channels"));
}

#[test]
fn cutout_sets_one_square_to_zero() {
    let augment = Augment { cutout: 4, ..Augment::default() };
    let mut corners = 0;
    for i in 0..200 {
        let mut pixels = vec![1.0; 10 * 12 * 2];
        augment.cut_out(&mut Stream::new(3, i), &mut pixels, [2, 10, 12]);
        let cut: Vec<usize> = (0..120).filter(|p| pixels[2 * p] == 0.0).collect();
        assert!((0..120).all(|p| pixels[2 * p] == pixels[2 * p + 1]));
        let rows = cut[cut.len() - 1] / 12 - cut[0] / 12 + 1;
        let columns =
            cut.iter().map(|p| p % 12).max().unwrap() - cut.iter().map(|p| p % 12).min().unwrap() + 1;
        assert_eq!(rows * columns, cut.len());
        assert!((2..=4).contains(&rows) && (2..=4).contains(&columns));
        corners += usize::from(rows < 4 || columns < 4);
    }
    assert!(corners > 20 && corners < 180);
}

#[test]
fn resized_parts_keep_to_their_limits_and_a_plain_image_stays_plain() {
    for i in 0..500 {
        let part = crop::part(&mut Stream::new(4, i), [60, 80]);
        assert!(part.top + part.height <= 60 && part.left + part.width <= 80);
        let (area, aspect) = (part.height * part.width, part.width as f64 / part.height as f64);
        assert!((360..=4800).contains(&area) && (0.70..=1.42).contains(&aspect), "{part:?}");
    }
    // nothing of the right aspect fits well into a line
    let thin = crop::part(&mut Stream::new(4, 0), [1, 900]);
    assert_eq!((thin.height, thin.width), (1, 1));
    let augment: Augment = "imagenet".parse().unwrap();
    let mut pixels = vec![0.0; 7 * 9];
    augment.apply(&mut Stream::new(5, 0), &[0.25; 600], [1, 20, 30], &mut pixels, [7, 9]);
    assert!(pixels.iter().all(|p| (p - 0.25).abs() < 1e-6));
}

#[test]
fn the_policy_works_on_grey_and_tiny_images_and_stays_in_range() {
    let augment: Augment = "auto".parse().unwrap();
    for shape in [[1, 8, 8], [3, 1, 1], [1, 2, 1], [3, 9, 5]] {
        let values = shape.iter().product();
        for i in 0..200 {
            let mut pixels = vec![0.0; values];
            augment.apply(&mut Stream::new(6, i), &marked(values), shape, &mut pixels, [shape[1], shape[2]]);
            assert!(pixels.iter().all(|p| (0.0..=1.0).contains(p)));
        }
    }
}
