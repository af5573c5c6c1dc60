//! Bad input, run against the program: one clear line, exit code 2, no file left behind, bounded memory.
//! Messages are looked at in part only; what each says in full is for the unit tests of its reader.

mod common;

use common::onnx::{self, Message, node};
use common::{Place, checkpoint, digits_network, make};
use serde_json::json;

/// A place with a file to begin with.
fn place(name: &str, bytes: &[u8]) -> Place {
    let place = Place::new();
    place.write(name, bytes);
    place
}

/// A file that no command may read: `inspect`, `import` and `eval` say the same.
#[track_caller]
fn refused(name: &str, bytes: &[u8], why: &str) {
    let place = place(name, bytes);
    place.refuses(&format!("inspect {name}"), why);
    place.refuses(&format!("import {name} --out new.safetensors"), why);
    place.refuses(&format!("eval {name} --data digits"), why);
}

/// The same for a state dict.
#[track_caller]
fn refused_dict(bytes: &[u8], arguments: &str, why: &str) {
    let place = place("m.pth", bytes);
    place.refuses(&format!("import m.pth {arguments} --out new.safetensors"), why);
}

// Networks of any kind

#[test]
fn files_that_are_no_network() {
    let place = Place::new();
    place.write("notes.txt", b"not a network").write("folder/x", b"x").write("m.bin", &make::noise(1000));
    place.refuses("inspect missing.onnx", "missing.onnx: no such file or directory");
    place.refuses("inspect missing.safetensors", "no such file or directory");
    place.refuses("inspect missing.pth --arch cnn", "no such file or directory");
    place.refuses("inspect folder", "folder");
    place.refuses("inspect notes.txt", "not a network that Rheobase reads (known: ");
    place.refuses("inspect m.bin", "not a network that Rheobase reads");
    place.refuses("eval digits.safetensors --data digits --arch cnn", "leave out `--arch`");
    place.refuses("eval digits.safetensors --data digits --levels 8", "leave out `--levels`");
    place.refuses("eval digits.safetensors --data digits --classes 100", "expected 100, found 10");
    place.refuses("eval digits.safetensors --data digits --input 3x8x8", "expected 3x8x8, found 1x8x8");
    place.refuses_argument("inspect", "<MODEL>");
    place.refuses_argument("eval digits.safetensors", "--data");
    place.refuses_argument("evaluate digits.safetensors", "eval");
}

// ONNX

#[test]
fn onnx_files_that_are_damaged() {
    let good = onnx::relu();
    place("m.onnx", &good).succeeds("inspect m.onnx");
    refused("m.onnx", b"", "m.onnx: the file is empty");
    refused("m.onnx", &make::noise(5000), "not an ONNX file, or damaged");
    refused("m.onnx", b"{\"model\": 1}", "m.onnx: ");
    for part in [1, 10, 50, 90, 99] {
        refused("m.onnx", &good[..good.len() * part / 100], "m.onnx: ");
    }
    // Every byte in turn: no damage may end in a crash, and what is read must be a network.
    let place = Place::new();
    for at in (0..good.len()).step_by(11) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        place.write("m.onnx", &bytes);
        let done = place.run("inspect m.onnx");
        assert!(matches!(done.status.code(), Some(0 | 2)), "byte {at}: {} {}", done.status, done.stderr);
        assert!(!done.stderr.contains("panicked"), "byte {at}: {}", done.stderr);
    }
}

#[test]
fn onnx_operations_that_are_not_converted_are_all_named() {
    let between = [node("Sigmoid", &["c1"], "s", &[]), node("FancyOp", &["s"], "a", &[])];
    refused("m.onnx", &onnx::small(17, &between, onnx::kernels()), "Sigmoid");
    refused("m.onnx", &onnx::small(17, &between, onnx::kernels()), "FancyOp");
    let relu = [node("Relu", &["c1"], "a", &[])];
    refused("m.onnx", &onnx::small(9, &relu, onnx::kernels()), "operator set is too old");
}

#[test]
fn onnx_weights_that_are_no_numbers() {
    let relu = [node("Relu", &["c1"], "a", &[])];
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weights = [0.5; 18];
        weights[7] = bad;
        refused(
            "m.onnx",
            &onnx::small(17, &relu, onnx::floats("w", &[2, 1, 3, 3], &weights)),
            "`w`: weights must be finite",
        );
    }
}

#[test]
fn onnx_sizes_that_are_lies() {
    let relu = [node("Relu", &["c1"], "a", &[])];
    let file = |w: Message| onnx::small(17, &relu, w);
    refused("m.onnx", &file(onnx::floats("w", &[2, 1, 3, 3], &[1.0; 17])), "`w`");
    refused("m.onnx", &file(onnx::tensor("w", &[1 << 40, 1 << 40, 3, 3], 1)), "`w`");
    refused("m.onnx", &file(onnx::tensor("w", &[1 << 20, 1 << 10, 3, 3], 1)), "`w`");
    refused("m.onnx", &file(onnx::tensor("w", &[-2, 1, 3, 3], 1)), "`w`");
    // A few bytes that ask for a tensor of 10^10 numbers.
    let shape =
        onnx::tensor("s", &[4], 7).bytes(9, [100_000i64, 1000, 10, 10].map(i64::to_le_bytes).concat());
    let nodes = [node("ConstantOfShape", &["s"], "w", &[]), node("Conv", &["image", "w"], "y", &[])];
    refused("m.onnx", &onnx::model(17, &nodes, &[shape], "y"), "m.onnx: ");
    let huge = [node("Conv", &["image", "w"], "c1", &[("pads", &[1 << 40, 1, 1, 1])])];
    refused("m.onnx", &onnx::model(17, &huge, &[onnx::kernels()], "c1"), "m.onnx: ");
}

#[test]
fn onnx_weights_in_other_files() {
    let relu = [node("Relu", &["c1"], "a", &[])];
    let file = |location: &str| onnx::small(17, &relu, onnx::external("w", &[2, 1, 3, 3], location));
    refused("m.onnx", &file("weights.bin"), "weights.bin");
    let place = Place::new();
    place.write("secret.bin", &[0; 72]).write("in/short.bin", &[0; 71]).write("in/good.bin", &[0; 72]);
    for outside in ["../secret.bin", "/etc/passwd", "sub/../../secret.bin"] {
        place.write("in/m.onnx", &file(outside)).refuses("inspect in/m.onnx", "`w`");
    }
    place.write("in/m.onnx", &file("short.bin")).refuses("inspect in/m.onnx", "short.bin");
    place.write("in/m.onnx", &file("good.bin")).succeeds("inspect in/m.onnx");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.bin", place.path("in/link.bin")).unwrap();
        place.write("in/m.onnx", &file("link.bin")).refuses("inspect in/m.onnx", "`w`");
    }
}

#[test]
fn max_pools_are_refused_with_the_way_on() {
    let place = place("m.onnx", &onnx::max_pool());
    place.succeeds("inspect m.onnx");
    place.refuses("eval m.onnx --data digits", "--maxpool avg");
    place.refuses("eval m.onnx --data digits", "m.onnx: node `a`");
    place.refuses("convert m.onnx --data digits --out new.safetensors", "m.onnx: node `a`");
    place.refuses("predict m.onnx x.png --data digits", "m.onnx: node `a`");
}

// PyTorch

#[test]
fn pickles_that_are_damaged() {
    for (good, arch) in [("zip.pth", "--arch cnn"), ("legacy.th", "--arch cnn")] {
        let bytes = checkpoint(good);
        place("m.pth", &bytes).succeeds(&format!("import m.pth {arch} --out new.safetensors"));
        for part in [1, 20, 50, 80, 99] {
            refused_dict(&bytes[..bytes.len() * part / 100], arch, "m.pth: ");
        }
    }
    refused_dict(b"", "--arch cnn", "m.pth: the file is empty");
    refused_dict(&make::noise(5000), "--arch cnn", "m.pth: ");
    refused_dict(&[b"PK\x03\x04", &make::noise(5000)[..]].concat(), "--arch cnn", "m.pth: ");
    refused_dict(&make::zip(&[]), "--arch cnn", "m.pth: ");
    refused_dict(&make::zip(&[make::Entry::stored("a.txt", b"hello")]), "--arch cnn", "m.pth: ");
}

#[test]
fn pickles_that_would_run_commands() {
    let evil = make::malicious_pickle();
    let inside = make::zip(&[
        make::Entry::stored("archive/data.pkl", &evil),
        make::Entry::stored("archive/version", b"3\n"),
    ]);
    let old = b"cposix\nsystem\n(S'touch owned'\ntR.".to_vec();
    let golden = ["evil.pth", "evil-plain.pth", "evil-beside.pth"].map(checkpoint);
    for bytes in [evil, inside, old].into_iter().chain(golden) {
        let place = place("m.pth", &bytes);
        let done = place.run("import m.pth --arch cnn --out new.safetensors");
        // One of them hides the call behind a good state dict, which may be read: only the call may not happen.
        assert!(matches!(done.status.code(), Some(0 | 2)), "{} {}", done.status, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        let names: Vec<_> =
            std::fs::read_dir(place.path(".")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|n| n != "owned" && n != "pwned"), "the pickle was executed: {names:?}");
    }
    refused_dict(&make::malicious_pickle(), "--arch cnn", "m.pth: ");
}

#[test]
fn pickles_and_archives_that_would_fill_the_memory() {
    let zeros =
        |name, claims| make::Entry { name, method: 8, bytes: make::packed_zeros(6000), claims, crc: 0 };
    refused_dict(&make::zip(&[zeros("archive/data.pkl", u32::MAX)]), "--arch cnn", "m.pth: ");
    refused_dict(&make::zip(&[zeros("archive/data.pkl", 100)]), "--arch cnn", "m.pth: ");
    refused_dict(&make::pickle_of_lists(12), "--arch cnn", "m.pth: ");
    for head in [b"\x80\x02\x8b\xff\xff\xff\x7f", b"\x80\x02X\xff\xff\xff\xff", b"\x80\x02T\xff\xff\xff\x7f"]
    {
        refused_dict(head, "--arch cnn", "m.pth: ");
    }
    refused_dict(&[b"\x80\x02", &[b'('; 1_000_000][..], b"."].concat(), "--arch cnn", "m.pth: ");
    refused_dict(
        &[b"\x80\x02", &[b']'; 1_000_000][..], &[b'a'; 999_999], b"."].concat(),
        "--arch cnn",
        "m.pth: ",
    );
}

#[test]
fn state_dicts_of_another_network() {
    let good = checkpoint("zip.pth");
    refused_dict(&good, "", "it fits `cnn`: give `--arch`");
    refused_dict(&good, "--arch resnet20", "the state dict does not fit `resnet20`");
    refused_dict(&good, "--arch resnet20", "(it fits `cnn`)");
    refused_dict(&checkpoint("padded.pth"), "--arch resnet20", "(it fits `resnet20-pad`)");
    refused_dict(&good, "--arch resnet21", "unknown network: `resnet21` (known: `vgg16`");
    refused_dict(&good, "--arch cnn --classes 100", "expected 100, found 10");
    refused_dict(&good, "--arch cnn --classes 0", "m.pth: ");
    refused_dict(&good, "--arch vgg16 --input 3x4096x4096", "m.pth: ");
    refused_dict(&good, "--arch cnn --input 3x32x32", "m.pth: the state dict does not fit `cnn`");
    refused_dict(&good, "--arch cnn --levels 0", "m.pth: ");
    refused_dict(&checkpoint("legacy.th"), "--arch cnn --levels 4", "leave out `--levels`");
}

// Native files

#[test]
fn native_files_that_are_damaged() {
    let good = digits_network();
    refused("m.safetensors", b"", "the file is empty");
    refused("m.safetensors", &make::noise(5000), "m.safetensors: ");
    refused("m.safetensors", &good[..3], "too short");
    refused("m.safetensors", &good[..2000], "cut short inside its header");
    refused("m.safetensors", &good[..good.len() - 1], "cut short");
    refused("m.safetensors", &[&good[..], b"x"].concat(), "longer than its tensors");
    let long = [&(1u64 << 62).to_le_bytes(), &good[8..]].concat();
    refused("m.safetensors", &long, "header is too long");
    let mut text = good.clone();
    text[200] = b'}';
    refused("m.safetensors", &text, "damaged");
    let mut nan = good.clone();
    let last = nan.len() - 100;
    nan[last..last + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    refused("m.safetensors", &nan, "node `bn3`");
}

#[test]
fn native_files_that_promise_too_much_or_too_little() {
    let good = digits_network();
    let header = |input: serde_json::Value| {
        json!({
            "format": 1, "name": "x", "output": 0, "classes": [], "normalisation": null, "notes": [],
            "neuron": {"fires": "potential >= threshold", "reset": "subtract threshold"},
            "nodes": [{"name": "in", "inputs": [], "op": {"kind": "input", "shape": input}}],
        })
    };
    let alone =
        |input| make::safetensors(&json!({"__metadata__": {"rheobase": header(input).to_string()}}), &[]);
    refused("m.safetensors", &alone(json!([1_000_000_000, 1, 1])), "too many classes: expected at most");
    refused("m.safetensors", &alone(json!([1, 4_000_000_000u32, 4_000_000_000u32])), "m.safetensors: ");
    refused("m.safetensors", &alone(json!([1, 60_000, 60_000])), "m.safetensors: ");
    let plain = json!({"conv1.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}});
    refused("m.safetensors", &make::safetensors(&plain, &[0; 4]), "without a graph");
    refused("m.safetensors", &make::with_graph(&good, |g| g["format"] = json!(99)), "found format 99");
    refused("m.safetensors", &make::with_graph(&good, |g| g["extra"] = json!(1)), "damaged");
    refused("m.safetensors", &make::with_graph(&good, |g| g["output"] = json!(99)), "m.safetensors: ");
    refused(
        "m.safetensors",
        &make::with_graph(&good, |g| g["nodes"][4]["inputs"] = json!([9])),
        "m.safetensors: ",
    );
    refused(
        "m.safetensors",
        &make::with_graph(&good, |g| g["nodes"][1]["op"]["stride"] = json!([0, 1])),
        "node `conv1`",
    );
    refused(
        "m.safetensors",
        &make::with_graph(&good, |g| g["nodes"][3]["op"]["function"]["qcfs"]["levels"] = json!(0)),
        "node `act1`",
    );
    refused(
        "m.safetensors",
        &make::with_graph(&good, |g| g["nodes"][1]["op"]["padding"] = json!([1, 1, 4_000_000_000u32, 1])),
        "m.safetensors: ",
    );
}

// Data

#[test]
fn cifar_files_that_are_damaged() {
    let place = Place::new();
    let eval = "eval digits.safetensors --data cifar10:";
    place.refuses(&format!("{eval}missing"), "missing: no such folder or file");
    place.refuses(&format!("{eval}missing"), "cifar-10-binary.tar.gz");
    place.write("empty/x", b"").refuses(&format!("{eval}empty"), "folder does not hold the data set");
    let good = make::cifar10(&[3, 9]);
    let data = |name: &str, bytes: &[u8], why: &str| {
        place.write(&format!("{name}/test_batch.bin"), bytes);
        place.refuses(&format!("{eval}{name}"), why);
    };
    data("short", &good[..good.len() - 1], "not made of whole records");
    data("nothing", b"", "not made of whole records");
    data("label", &make::cifar10(&[3, 10]), "byte 3073: label out of range: expected 0 to 9, found 10");
    data("good", &good, "do not fit the network: expected 1x8x8, found 3x32x32");
    let archive = make::gzip(&make::tar("cifar-10-batches-bin/test_batch.bin", &good));
    place.write("whole.tar.gz", &archive).refuses(&format!("{eval}whole.tar.gz"), "do not fit the network");
    let cut = &archive[..archive.len() / 2];
    place.write("cut.tar.gz", cut).refuses(&format!("{eval}cut.tar.gz"), "cut.tar.gz: file is cut short");
    let cut = &archive[..archive.len() - 4];
    place.write("cut.tar.gz", cut).refuses(&format!("{eval}cut.tar.gz"), "cut.tar.gz: file is cut short");
    let mut damaged = archive.clone();
    damaged[archive.len() / 2] ^= 0x10;
    place.write("bad.tar.gz", &damaged).refuses(&format!("{eval}bad.tar.gz"), "bad.tar.gz: ");
    let other = make::gzip(&make::tar("readme.txt", b"hello"));
    place
        .write("other.tar.gz", &other)
        .refuses(&format!("{eval}other.tar.gz"), "does not hold `test_batch.bin`");
    place.write("noise.tar.gz", &make::noise(9999)).refuses(&format!("{eval}noise.tar.gz"), "noise.tar.gz: ");
    let bomb = [make::gzip(b""), b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), make::packed_zeros(6000)].concat();
    place.write("bomb.tar.gz", &bomb).refuses(&format!("{eval}bomb.tar.gz"), "unpacks to too much");
    place.refuses("eval digits.safetensors --data cifar100:empty", "folder does not hold the data set");
}

#[test]
fn idx_files_that_are_damaged() {
    let place = Place::new();
    let (images, labels) = (make::idx(&[2, 8, 8], &[7; 128]), make::idx(&[2], &[1, 2]));
    let data = |images: &[u8], labels: &[u8], why: &str| {
        place.write("d/t10k-images-idx3-ubyte", images).write("d/t10k-labels-idx1-ubyte", labels);
        place.refuses("eval digits.safetensors --data mnist:d --limit 0", why);
    };
    data(&images, &labels, "`--limit` must be 1 or more");
    data(b"", &labels, "cut short");
    data(&make::noise(500), &labels, "not an idx file of bytes");
    data(&labels, &labels, "t10k-images-idx3-ubyte: ");
    data(&make::idx(&[3, 8, 8], &[7; 128]), &labels, "header and length differ");
    data(&make::idx(&[1, 8, 8], &[7; 128]), &labels, "header and length differ");
    data(&make::idx(&[u32::MAX, u32::MAX, u32::MAX], &[7; 128]), &labels, "header asks for too much");
    data(&make::idx(&[0, 8, 8], &[]), &labels, "holds no images");
    data(&images, &make::idx(&[3], &[1, 2, 3]), "images and labels differ in number");
    data(&images, &make::idx(&[2], &[1, 10]), "label of image 1 out of range");
    data(&make::gzip(&images)[..25], &labels, "cut short");
    place.refuses("eval digits.safetensors --data mnist:missing", "missing: no such folder");
    place
        .refuses("eval digits.safetensors --data mnist:d --split train", "folder does not hold the data set");
}

#[test]
fn image_folders_that_are_damaged() {
    let place = Place::new();
    place.succeeds("new --arch cnn --input 3x32x32 --classes 2 --out colour.safetensors");
    let png = make::png(8, 8, &make::noise(64));
    place.write("good/cat/1.png", &png).write("good/dog/2.png", &png);
    let eval = |folder: &str| format!("eval colour.safetensors --data imagefolder:{folder}");
    place.succeeds(&eval("good"));
    place.refuses(&eval("missing"), "missing: no such folder");
    place.refuses(&eval("colour.safetensors"), "not a folder");
    std::fs::create_dir(place.path("nothing")).unwrap();
    place.refuses(&eval("nothing"), "no class folders");
    place.write("loose/1.png", &png).refuses(&eval("loose"), "images that lie in no class");
    place.write("hollow/cat/1.png", &png).write("hollow/dog/notes.txt", b"");
    place.refuses(&eval("hollow"), "dog: class folder holds no image");
    place.write("noise/cat/1.png", &make::noise(500)).write("noise/dog/2.png", &png);
    place.refuses(&eval("noise"), "cat/1.png: not an image that can be read");
    place.write("cut/cat/1.png", &png[..png.len() / 2]).write("cut/dog/2.png", &png);
    place.refuses(&eval("cut"), "cat/1.png: image cannot be decoded");
    place.write("zero/cat/1.png", b"").write("zero/dog/2.jpg", &png);
    place.refuses(&eval("zero"), "cat/1.png: ");
    place.write("three/a/1.png", &png).write("three/b/1.png", &png).write("three/c/1.png", &png);
    place.refuses(&eval("three"), "expected 2 classes, found 3");
    place.refuses("eval digits.safetensors --data imagefolder:good", "expected 1x8x8, found 3x8x8");
    place.refuses(&format!("{} --resize 4", eval("good")), "cannot resize");
    // A few hundred bytes that promise an image of 65,500 x 65,500 pixels.
    let mut large = png.clone();
    large[16..24].copy_from_slice(&[0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc]);
    let mut crc = flate2::Crc::new();
    crc.update(&large[12..29]);
    large[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    place.write("large/cat/1.png", &large).write("large/dog/2.png", &png);
    place.refuses(&eval("large"), "cat/1.png: ");
}

#[test]
fn networks_and_data_that_do_not_fit() {
    let place = Place::new();
    place.succeeds("new --arch cnn --classes 7 --out seven.safetensors");
    place.refuses("eval seven.safetensors --data digits", "expected 7 classes, found 10");
    place.succeeds("new --arch cnn --input 3x32x32 --out colour.safetensors");
    place.refuses("eval colour.safetensors --data digits", "expected 3x32x32, found 1x8x8");
    place.refuses("eval digits.safetensors --data digit", "unknown kind of data set: `digit` (known: ");
    place.refuses("eval digits.safetensors --data digits:folder", "takes no folder");
    place.refuses("eval digits.safetensors --data cifar10", "needs a folder");
    place.refuses("eval digits.safetensors --data cifar10:", "needs a folder");
    place.refuses("eval digits.safetensors --data digits --resize 8", "are not resized");
    place.refuses_argument("eval digits.safetensors --data digits --split dev", "expected `train` or `test`");
}

// Options

#[test]
fn numbers_that_make_no_sense() {
    let place = Place::new();
    let eval = |more: &str| format!("eval digits.safetensors --data digits {more}");
    place.refuses(&eval("--steps 0"), "--steps");
    place.refuses(&eval("--steps 1000000000"), "expected 1 to 1024, found 1000000000");
    place.refuses(&eval("--steps 18446744073709551615"), "expected 1 to 1024");
    place.refuses(&eval("--presim 0"), "`cos` needs 1 or more pre-simulation steps");
    place.refuses(&eval("--presim 0 --method srp"), "`srp` needs 1 or more pre-simulation steps");
    place.refuses(&eval("--presim 1000000000"), "expected 1 to 1024");
    place.refuses(&eval("--limit 0"), "`--limit` must be 1 or more");
    place.refuses(&eval("--batch 0"), "`--batch`");
    place.refuses(&eval("--input 4294967296x4294967296x1"), "the network takes other images");
    place.refuses(&eval("--maxpool avg"), "no max-pooling to replace");
    place.refuses(&eval("--threshold max"), "has its threshold already (leave out `--threshold`)");
    place.refuses(&eval("--per-channel"), "has its threshold already (leave out `--per-channel`)");
    place.refuses(&eval("--threads 0"), "expected 1 to 1024, found 0");
    place.refuses(&eval("--threads 1000000000"), "expected 1 to 1024");
    place.refuses(&eval("--method spiking"), "unknown method: `spiking` (known: qcfs, cos, srp)");
    place.refuses(&eval("--mean 0.5,0.5 --std 1,1"), "expected 1 numbers, found 2");
    place.refuses(&eval("--mean 0.5,0.5 --std 1"), "normalisation makes no sense");
    place.refuses(&eval("--mean 0.5"), "both of `--mean` and `--std`");
    place.refuses(&eval("--mean 0.5 --std 0"), "std above 0");
    place.refuses(&eval("--mean NaN --std 1"), "normalisation makes no sense");
    place.refuses(&eval("--mean 0.5 --std inf"), "normalisation makes no sense");
    for (option, why) in [
        ("--iterations 0", "a number above 0, or `exact`"),
        ("--iterations many", "a number above 0, or `exact`"),
        ("--iterations=-1", "--iterations"),
        ("--steps=-1", "--steps"),
        ("--steps 4.5", "--steps"),
        ("--steps 99999999999999999999", "--steps"),
        ("--threshold median", "known: max, percentile:P"),
        ("--threshold percentile:0", "known: max, percentile:P"),
        ("--threshold percentile:101", "known: max, percentile:P"),
        ("--threshold percentile:NaN", "known: max, percentile:P"),
        ("--maxpool max", "avg"),
        ("--precision int4", "int32"),
        ("--mean grey --std 1", "--mean"),
        ("--input 8x8", "3x32x32"),
        ("--input 1x0x8", "3x32x32"),
        ("--colour blue", "--colour"),
    ] {
        place.refuses_argument(&eval(option), why);
    }
}

#[test]
fn checks_that_cannot_be_made() {
    let place = Place::new();
    let verify = |more: &str| format!("eval digits.safetensors --data digits --verify {more}");
    for more in
        ["", "--iterations exact --presim 4 --steps 8", "--method qcfs --steps 4", "--presim 8 --steps 8"]
    {
        place.refuses(&verify(more), "`--verify` goes with `--method cos --iterations exact`");
    }
}

#[test]
fn kernels_that_are_not_there() {
    let place = Place::new();
    let elsewhere = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    for command in ["eval digits.safetensors --data digits", "quickstart"] {
        for name in ["nonsense", elsewhere] {
            let says = format!("no kernels named `{name}` (it has: ");
            place.refuses_with(&[("RHEOBASE_KERNEL", name)], command, &says);
        }
    }
}

#[test]
fn networks_that_cannot_be_made() {
    let place = Place::new();
    let new = |more: &str| format!("new --out new.safetensors {more}");
    place.refuses(&new("--arch lenet"), "unknown network: `lenet` (known: `vgg16`");
    place.refuses(&new("--arch cnn --classes 0"), "expected 1 to 65536, found 0");
    place.refuses(&new("--arch cnn --classes 1000000000"), "expected 1 to 65536");
    place.refuses(&new("--arch cnn --levels 0"), "levels");
    place.refuses(&new("--arch cnn --levels 4000000000"), "levels");
    place.refuses(&new("--arch resnet18 --input 1000000000x1x1"), "expected 1 to 4096");
    place.refuses(&new("--arch vgg16 --input 3x4096x4096"), "too many weights");
    place.refuses(&new("--arch vgg16 --input 4096x4096x4096"), "the image does not suit `vgg16`");
    place.refuses(&new("--arch cnn --input 1x1x1"), "the image does not suit `cnn`");
    place.refuses_argument("new --arch cnn", "--out");
}

#[test]
fn thresholds_that_cannot_be_taken() {
    let place = place("relu.onnx", &onnx::relu());
    place.write("x.png", &make::png(8, 8, &make::noise(64)));
    place.refuses("predict relu.onnx x.png", "needs training images for its thresholds");
    place.refuses("eval relu.onnx --data digits --calibration-images 0", "`--calibration-images`");
    place.refuses("convert digits.safetensors --data digits --out new.safetensors", "nothing to convert");
    place.refuses(
        "convert relu.onnx --data digits --threshold mse --steps 0 --out new.safetensors",
        "--steps",
    );
    place.write("only-test/t10k-images-idx3-ubyte", &make::idx(&[2, 8, 8], &[7; 128]));
    place.write("only-test/t10k-labels-idx1-ubyte", &make::idx(&[2], &[1, 2]));
    place.refuses("eval relu.onnx --data mnist:only-test", "taken from training images");
}

#[test]
fn networks_that_cannot_be_quantized() {
    let place = place("relu.onnx", &onnx::relu());
    place.write("max.onnx", &onnx::max_pool());
    let quantize = |model: &str, more: &str| format!("quantize {model} --out new.safetensors {more}");
    let relu = |more: &str| quantize("relu.onnx", &format!("--data digits --levels 4 {more}"));
    place.refuses(
        &quantize("digits.safetensors", "--data digits --levels 4"),
        "digits.safetensors: nothing to quantize",
    );
    place.refuses(&quantize("max.onnx", "--data digits --levels 4"), "--maxpool avg");
    place.refuses(&relu("--maxpool avg"), "no max-pooling to replace");
    place.refuses(&relu("--images 0"), "`--images`");
    place.refuses(&relu("--limit 5"), "`--images` says how many");
    place.refuses(&relu("--mean 0.5"), "both of `--mean` and `--std`");
    place.refuses(&quantize("relu.onnx", "--data digits --levels 0"), "1 to 2^20 levels");
    place.refuses(&quantize("relu.onnx", "--data digits --levels 4000000"), "1 to 2^20 levels");
    place.refuses(&quantize("relu.onnx", "--data cifar10:missing --levels 4"), "missing: no such folder");
    place.refuses(&quantize("missing.onnx", "--data digits --levels 4"), "missing.onnx: no such file");
    place.refuses("quantize relu.onnx --data digits --levels 4 --out relu.onnx", "written over the file");
    place.write("only-test/t10k-images-idx3-ubyte", &make::idx(&[2, 8, 8], &[7; 128]));
    place.write("only-test/t10k-labels-idx1-ubyte", &make::idx(&[2], &[1, 2]));
    place.refuses(&quantize("relu.onnx", "--data mnist:only-test --levels 4"), "`--split test`");
    place.refuses_argument(&quantize("relu.onnx", "--data digits"), "--levels");
    place.refuses_argument(&quantize("relu.onnx", "--levels 4"), "--data");
    place.refuses_argument("quantize relu.onnx --data digits --levels 4", "--out");
    place.refuses_argument(&relu("--method kl"), "known: mse, least-squares, distill");
    place.refuses_argument(&relu("--levels=-1"), "--levels");
}

// Results

#[test]
fn results_that_have_nowhere_to_go() {
    let place = Place::new();
    place.write("relu.onnx", &onnx::relu()).write("x.png", &make::png(8, 8, &make::noise(64)));
    std::fs::create_dir(place.path("folder")).unwrap();
    let gone = "missing/x: no such file or directory";
    place.refuses("import digits.safetensors --out missing/x", gone);
    place.refuses("convert relu.onnx --data digits --out missing/x", gone);
    place.refuses("quantize relu.onnx --data digits --levels 4 --out missing/x", gone);
    place.refuses("new --arch cnn --out missing/x", gone);
    place.refuses("inspect digits.safetensors --json missing/x", gone);
    place.refuses("quickstart --json missing/x", gone);
    place.refuses("predict digits.safetensors x.png --json missing/x", gone);
    place.refuses("eval digits.safetensors --data digits --json missing/x", gone);
    place.refuses("eval digits.safetensors --data digits --predictions missing/x", gone);
    // Neither of two results appears alone.
    place.refuses("eval digits.safetensors --data digits --predictions p.csv --json missing/x", gone);
    place.refuses("eval digits.safetensors --data digits --json j.json --predictions missing/x", gone);
    for command in
        ["import digits.safetensors --out", "new --arch cnn --out", "inspect digits.safetensors --json"]
    {
        place.refuses(&format!("{command} folder"), "folder: ");
        place.refuses(&format!("{command} digits.safetensors/x"), "digits.safetensors/x: ");
    }
    place.refuses("import digits.safetensors --out /", "/: ");
    place.refuses(
        "import digits.safetensors --out ./digits.safetensors",
        "written over the file it is read from",
    );
}

// Images

#[test]
fn pictures_that_cannot_be_read() {
    let place = Place::new();
    let png = make::png(8, 8, &make::noise(64));
    place.write("x.png", &png).write("noise.png", &make::noise(500)).write("cut.png", &png[..60]);
    std::fs::create_dir(place.path("folder")).unwrap();
    for (image, why) in [
        ("missing.png", "missing.png: no such file or directory"),
        ("noise.png", "noise.png: not an image that can be read"),
        ("cut.png", "cut.png: image cannot be decoded"),
        ("folder", "folder: "),
        ("digits.safetensors", "digits.safetensors: not an image"),
    ] {
        place.refuses(&format!("predict digits.safetensors {image}"), why);
        place.refuses(&format!("predict digits.safetensors x.png {image}"), why);
    }
    let predict = |more: &str| format!("predict digits.safetensors x.png {more}");
    place.refuses(&predict("--steps 0"), "--steps");
    place.refuses(&predict("--steps 1000000000"), "1024");
    place.refuses(&predict("--presim 0"), "`cos` needs 1 or more");
    place.refuses(&predict("--top 0"), "--top");
    place.refuses(&predict("--resize 0"), "cannot resize");
    place.refuses(&predict("--resize 1000000"), "cannot resize");
    place.refuses(&predict("--mean 0.5,0.5 --std 1,1"), "expected 1, found 2");
    place.refuses(&predict("--data digits"), "leave out `--data`");
    place.refuses_argument(&predict("--mean 0.5"), "--std");
    place.refuses_argument("predict digits.safetensors", "<IMAGES>");
}

#[test]
fn class_names_that_do_not_fit() {
    let place = Place::new();
    place
        .write("nine.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\n")
        .write("noise.txt", &make::noise(100))
        .write("empty.txt", b"");
    let import = |file: &str| format!("import digits.safetensors --out new.safetensors --class-names {file}");
    place.refuses(&import("missing.txt"), "missing.txt: no such file or directory");
    place.refuses(&import("nine.txt"), "expected 10");
    place.refuses(&import("empty.txt"), "expected 10 names, one a line, found 0");
    place
        .write("gap.txt", b"a\nb\nc\nd\n\ne\nf\ng\nh\ni\n")
        .refuses(&import("gap.txt"), "found 9 and 1 blank lines");
    place.refuses(&import("noise.txt"), "noise.txt: ");
    place.refuses(
        "import digits.safetensors --out new.safetensors --mean 0.5,0.5,0.5 --std 1,1,1",
        "expected 1 channels, found 3",
    );
}
