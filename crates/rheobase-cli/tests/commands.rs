//! Whole commands on data that is in the program or made here: what they print, write and promise.
//! `UPDATE_SNAPSHOTS=1 cargo test -p rheobase-cli` rewrites snapshots/ from what the program prints now.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, make, onnx, snapshot};
use rheobase::io::data;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

const EVAL: &str = "eval digits.safetensors --data digits";
const COMMANDS: [&str; 11] = [
    "quickstart",
    "import",
    "convert",
    "quantize",
    "train",
    "inspect",
    "predict",
    "eval",
    "reproduce",
    "new",
    "list",
];

/// What a command writes to standard output for `--json -`: JSON and nothing else.
#[track_caller]
fn json(place: &Place, arguments: &str) -> Value {
    serde_json::from_str(&place.succeeds(&format!("{arguments} --json -"))).unwrap()
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
}

/// Pixels of the first test digits as 8-bit grey, and their labels.
fn digits(count: usize) -> Vec<(Vec<u8>, usize)> {
    let set = data::open("digits", &data::Options::default()).unwrap();
    let mut pixels = vec![0.0; 64];
    (0..count)
        .map(|i| {
            let label = set.read(i, &mut pixels).unwrap();
            (pixels.iter().map(|p| (p * 255.0).round() as u8).collect(), label)
        })
        .collect()
}

// Snapshots

#[test]
fn texts_are_as_they_were() {
    let place = Place::new();
    snapshot("quickstart", &place.succeeds("quickstart"));
    snapshot("list", &place.succeeds("list"));
    snapshot("inspect", &place.succeeds("inspect digits.safetensors"));
    snapshot("eval", &place.succeeds(&format!("{EVAL} --offsets --steps 16")));
    place.write("relu.onnx", &onnx::max_pool());
    snapshot("eval-relu", &place.succeeds("eval relu.onnx --data digits --maxpool avg --threshold max"));
    snapshot("import", &place.succeeds("import relu.onnx --out new.safetensors"));
    let quantize =
        "quantize relu.onnx --data digits --mean 0.3 --std 0.4 --maxpool avg --levels 4 --out q.safetensors";
    snapshot("quantize", &place.succeeds(quantize));
}

// Quickstart

#[test]
fn quickstart_shows_what_calibration_gains() {
    let figures = json(&Place::new(), "quickstart");
    let after_four = |name: &str| {
        let methods = figures["methods"].as_array().unwrap();
        counts(&methods.iter().find(|m| m["method"] == name).unwrap()["correct"])[3]
    };
    assert_eq!(figures["images"], 360);
    assert!(after_four("cos") > after_four("qcfs"), "{figures}");
    assert!(after_four("cos exact") > after_four("qcfs"), "{figures}");
    assert_eq!(figures["exact_at_levels"]["agree_with_ann"], 360);
    assert_eq!(figures["exact_at_levels"]["lossless"], 360);
}

// eval

#[test]
fn the_figures_of_an_evaluation_have_stable_keys_and_types() {
    let place = Place::new();
    let all = json(&place, &format!("{EVAL} --steps 6"));
    let is_text = |v: &Value| assert!(v.is_string(), "{v}");
    let is_count = |v: &Value| assert!(v.is_u64(), "{v}");
    let is_real = |v: &Value| assert!(v.as_f64().is_some_and(|x| x > 0.0), "{v}");
    is_text(&all["model"]);
    is_text(&all["data"]);
    assert_eq!(all["images"], 360);
    is_real(&all["seconds"]);
    let (ann, snn) = (&all["ann"], &all["snn"]);
    is_count(&ann["correct"]);
    is_text(&snn["method"]);
    is_count(&snn["presim"]);
    is_count(&snn["iterations"]);
    assert_eq!(snn["steps"], 6);
    for key in ["accuracy", "seconds", "images_per_second"] {
        is_real(&ann[key]);
    }
    for key in ["spikes_per_image", "synops_per_image", "seconds", "images_per_second"] {
        is_real(&snn[key]);
    }
    let correct = counts(&snn["correct"]);
    let accuracy: Vec<f64> =
        snn["accuracy"].as_array().unwrap().iter().map(|a| a.as_f64().unwrap()).collect();
    assert_eq!((correct.len(), accuracy.len()), (6, 6));
    let share = |c: u64, a: f64| assert!((a - c as f64 / 360.0).abs() < 1e-12, "{c} {a}");
    correct.iter().zip(&accuracy).for_each(|(&c, &a)| share(c, a));
    share(ann["correct"].as_u64().unwrap(), ann["accuracy"].as_f64().unwrap());
}

#[test]
fn every_rule_runs_with_every_number_of_rounds() {
    let place = Place::new();
    let mut fourth = BTreeMap::new();
    for (method, presim) in [("qcfs", 0), ("cos", 4), ("srp", 4)] {
        for rounds in ["1", "3", "exact"] {
            let all = json(&place, &format!("{EVAL} --method {method} --iterations {rounds}"));
            let snn = &all["snn"];
            assert_eq!(snn["method"], method);
            assert_eq!(snn["presim"], presim);
            match (method, rounds) {
                ("cos", "exact") => assert_eq!(snn["iterations"], "exact"),
                ("cos", n) => assert_eq!(snn["iterations"].to_string(), n),
                _ => assert!(snn["iterations"].is_null()),
            }
            fourth.insert((method, rounds), counts(&snn["correct"])[3]);
        }
    }
    assert!(fourth[&("cos", "1")] > fourth[&("qcfs", "1")]);
    // What takes no rounds gives the same whatever their number.
    for method in ["qcfs", "srp"] {
        assert_eq!(fourth[&(method, "1")], fourth[&(method, "exact")]);
    }
}

#[test]
fn predictions_are_those_that_were_counted() {
    let place = Place::new();
    let all = json(&place, &format!("{EVAL} --limit 200 --steps 5 --predictions p.csv"));
    let text = String::from_utf8(place.read("p.csv")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("index,label,ann,t1,t2,t3,t4,t5"));
    let rows: Vec<Vec<u64>> = lines.map(|l| l.split(',').map(|n| n.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 200);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(i, r)| r.len() == 8 && r[0] == i as u64 && r[1..].iter().all(|&c| c < 10))
    );
    let right = |column: usize| rows.iter().filter(|r| r[column] == r[1]).count() as u64;
    assert_eq!(all["ann"]["correct"], right(2));
    assert_eq!(counts(&all["snn"]["correct"]), (3..8).map(right).collect::<Vec<_>>());
    let labels: Vec<u64> = digits(200).iter().map(|d| d.1 as u64).collect();
    assert_eq!(rows.iter().map(|r| r[1]).collect::<Vec<_>>(), labels);

    place.succeeds(&format!("{EVAL} --limit 3 --steps 1 --no-ann --predictions p.csv --json j.json"));
    let text = String::from_utf8(place.read("p.csv")).unwrap();
    assert!(text.lines().skip(1).all(|l| l.split(',').nth(2) == Some("")), "{text}");
    let all: Value = serde_json::from_slice(&place.read("j.json")).unwrap();
    assert!(all["ann"].is_null());
}

#[test]
fn results_are_the_same_bytes_however_they_are_computed() {
    let place = Place::new();
    let run = |environment: &[(&str, &str)], more: &str| {
        let done = place.run_with(
            environment,
            &format!("{EVAL} --limit 101 --offsets --predictions p.csv --json - {more}"),
        );
        assert!(done.status.success(), "{}", done.stderr);
        let mut all: Value = serde_json::from_str(&done.stdout).unwrap();
        let mut snn = all["snn"].take();
        for key in ["seconds", "images_per_second"] {
            snn.as_object_mut().unwrap().remove(key).unwrap();
        }
        (snn, place.read("p.csv"))
    };
    for method in ["qcfs", "cos", "cos --iterations 3", "cos --iterations exact", "srp"] {
        let method = &format!("--method {method}");
        let first = run(&[], method);
        for more in ["--threads 1", "--threads 2", "--threads 3", "--batch 1", "--batch 7", "--batch 100000"]
        {
            assert!(run(&[], &format!("{method} {more}")) == first, "{method} {more}");
        }
        // few numbers differ from rule to rule: one of them at every precision
        let precisions: &[_] =
            if method == "--method cos" { &["int32", "int16", "int8"] } else { &["int16"] };
        for precision in precisions {
            let method = &format!("{method} --precision {precision}");
            let first = run(&[], method);
            for kernels in rheobase::core::Kernels::available() {
                let name = kernels.to_string();
                assert!(run(&[("RHEOBASE_KERNEL", &name)], method) == first, "{method} {name}");
            }
        }
    }
}

#[test]
fn exact_calibration_is_verified_to_the_bit() {
    let place = Place::new();
    for steps in [1, 4, 6] {
        let all = json(
            &place,
            &format!("{EVAL} --limit 40 --verify --iterations exact --presim {steps} --steps {steps}"),
        );
        assert_eq!(all["snn"]["lossless"], 40, "{steps} steps");
    }
    let text = place.succeeds(&format!("{EVAL} --limit 9 --verify --iterations exact --presim 4 --steps 4"));
    assert!(
        text.contains("logits equal to the bit to the QCFS reading of the same integers: 9 of 9 images"),
        "{text}"
    );
}

#[test]
fn the_training_part_and_other_normalisations_can_be_chosen() {
    let place = Place::new();
    let train = json(&place, &format!("{EVAL} --split train --no-ann --steps 1"));
    assert_eq!(train["images"], 1437);
    let own = json(&place, &format!("{EVAL} --steps 1"));
    let same = json(&place, &format!("{EVAL} --steps 1 --mean 0.3053861 --std 0.3755071"));
    let other = json(&place, &format!("{EVAL} --steps 1 --mean -0.5 --std 2"));
    assert_eq!(own["normalisation"], same["normalisation"]);
    assert_eq!(other["normalisation"]["mean"].to_string(), "[-0.5]");
    assert_eq!(same["options"]["data"]["std"].to_string(), "[0.3755071]");
    assert_eq!(own["snn"]["correct"], same["snn"]["correct"]);
    assert_ne!(own["ann"]["correct"], other["ann"]["correct"]);
}

#[test]
fn a_guessed_normalisation_is_told() {
    let place = Place::new();
    place.write("relu.onnx", &onnx::relu()).write("x.png", &make::png(8, 8, &make::noise(64)));
    assert!(place.succeeds("import relu.onnx --out m.safetensors").contains("normalisation unknown"));
    let told = "images normalised with the data set's usual mean 0.3053861, std 0.3755071";
    assert!(place.succeeds("eval relu.onnx --data digits").contains(told));
    assert!(!place.succeeds("eval relu.onnx --data digits --mean 0.3 --std 0.4").contains(told));
    assert!(!place.succeeds(EVAL).contains(told));
    assert!(
        place
            .succeeds("predict relu.onnx x.png --data digits")
            .contains("images normalised with no change: mean 0, std 1")
    );
}

// Data

#[test]
fn digits_in_other_formats_are_the_same_digits() {
    let place = Place::new();
    let (mut pixels, mut labels) = (vec![], vec![]);
    for (i, (image, label)) in digits(360).iter().enumerate() {
        pixels.extend(image);
        labels.push(*label as u8);
        if i < 60 {
            place.write(&format!("folder/test/{label}/{i}.png"), &make::png(8, 8, image));
        }
    }
    place.write("idx/t10k-images-idx3-ubyte", &make::idx(&[360, 8, 8], &pixels));
    place.write("idx/t10k-labels-idx1-ubyte.gz", &make::gzip(&make::idx(&[360], &labels)));
    let own = counts(&json(&place, EVAL)["snn"]["correct"]);
    let idx = counts(&json(&place, "eval digits.safetensors --data mnist:idx")["snn"]["correct"]);
    // 17 greys became 256 and are off by up to half of one.
    assert!(own.iter().zip(&idx).all(|(a, b)| a.abs_diff(*b) <= 6), "{own:?} {idx:?}");
    place.refuses("eval digits.safetensors --data imagefolder:folder", "do not fit the network");
}

#[test]
fn archives_are_read_in_place() {
    let place = Place::new();
    place.succeeds("new --arch cnn --input 3x32x32 --out m.safetensors");
    let records = make::cifar10(&[3, 9, 0]);
    let tar = make::tar("cifar-10-batches-bin/test_batch.bin", &records);
    place.write("a/cifar-10-batches-bin/test_batch.bin", &records);
    place.write("b/cifar-10-binary.tar.gz", &make::gzip(&tar));
    let eval = |data: &str| {
        place.succeeds(&format!("eval m.safetensors --data cifar10:{data} --predictions p.csv"));
        place.read("p.csv")
    };
    let first = eval("a");
    for data in ["a/cifar-10-batches-bin", "b", "b/cifar-10-binary.tar.gz"] {
        assert_eq!(eval(data), first, "{data}");
    }
}

// Networks

#[test]
fn a_native_file_survives_import() {
    let place = Place::new();
    place.succeeds("import digits.safetensors --out a.safetensors");
    assert_eq!(place.read("a.safetensors"), place.read("digits.safetensors"));
    place.write("names.txt", b"null\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n\n");
    place.succeeds("import a.safetensors --out a2.safetensors --class-names names.txt --mean 0.5 --std 0.25");
    let all = json(&place, "inspect a2.safetensors");
    assert_eq!(all["classes"][7], "seven");
    assert_eq!(all["normalisation"]["std"][0], 0.25);
}

#[test]
fn inspect_adds_up() {
    let place = Place::new();
    let all = json(&place, "inspect digits.safetensors");
    let nodes = all["nodes"].as_array().unwrap();
    let sum = |key: &str| nodes.iter().map(|n| n[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(all["parameters"], sum("parameters"));
    assert_eq!(all["macs"], sum("macs"));
    assert_eq!(all["input"], serde_json::json!([1, 8, 8]));
    assert_eq!(all["outputs"], 10);
    let activations: Vec<_> = nodes.iter().filter(|n| n["op"] == "QCFS").collect();
    assert_eq!(activations.len(), 6);
    for a in activations {
        assert_eq!(a["details"], "L = 4");
        assert!(a["threshold"][0].as_f64().unwrap() > 0.0);
    }
    place.succeeds("inspect digits.safetensors --json j.json");
    assert_eq!(serde_json::from_slice::<Value>(&place.read("j.json")).unwrap(), all);
}

#[test]
fn relu_networks_take_their_thresholds_from_training_images() {
    let place = Place::new();
    place.write("relu.onnx", &onnx::relu());
    for more in
        ["--threshold max", "--threshold percentile:99", "--threshold mse", "--threshold mse --per-channel"]
    {
        let direct = json(&place, &format!("eval relu.onnx --data digits {more} --steps 8"));
        place.succeeds(&format!("convert relu.onnx --data digits {more} --steps 8 --out m.safetensors"));
        let baked = json(&place, "eval m.safetensors --data digits --steps 8");
        assert_eq!(direct["snn"]["correct"], baked["snn"]["correct"], "{more}");
        assert_eq!(direct["snn"]["spikes_per_image"], baked["snn"]["spikes_per_image"], "{more}");
        let rule = more.split(' ').nth(1).unwrap();
        assert!(direct["notes"].to_string().contains(rule), "{}", direct["notes"]);
        assert!(place.succeeds("inspect m.safetensors").contains(&format!("by {rule}")));
    }
}

#[test]
fn quantized_networks_are_the_same_bytes_for_any_threads_and_spike_without_loss() {
    let place = Place::new();
    place.write("relu.onnx", &onnx::relu());
    for method in ["mse", "least-squares"] {
        for threads in [1, 2, 3] {
            place.succeeds(&format!(
                "quantize relu.onnx --data digits --mean 0.3 --std 0.4 --levels 4 --method {method} --threads {threads} --out {threads}.safetensors"
            ));
            assert_eq!(place.read("1.safetensors"), place.read(&format!("{threads}.safetensors")));
        }
        let exact = "--iterations exact --presim 4 --steps 4 --verify";
        let done = json(&place, &format!("eval 1.safetensors --data digits {exact}"));
        assert_eq!(done["snn"]["lossless"], 360, "{method}");
        let kept = json(&place, "inspect 1.safetensors");
        assert_eq!(kept["normalisation"]["mean"][0], 0.3);
    }
}

#[test]
fn replaced_pools_are_noted_wherever_the_result_is_shown() {
    let place = Place::new();
    place.write("m.onnx", &onnx::max_pool()).write("x.png", &make::png(8, 8, &make::noise(64)));
    let note = "max-pooling replaced by average pooling: a";
    assert!(place.succeeds("eval m.onnx --data digits --maxpool avg").contains(note));
    assert!(json(&place, "eval m.onnx --data digits --maxpool avg")["notes"].to_string().contains(note));
    assert!(place.succeeds("convert m.onnx --data digits --maxpool avg --out a.safetensors").contains(note));
    assert!(place.succeeds("inspect a.safetensors").contains(note));
    assert!(place.succeeds("predict m.onnx x.png --data digits --maxpool avg").contains(note));
}

#[test]
fn random_networks_come_from_their_seed() {
    let place = Place::new();
    let new = |name: &str, seed: u32| {
        let text = place.succeeds(&format!("new --arch cnn --levels 8 --seed {seed} --out {name}"));
        assert_eq!(text, format!("{name}: cnn with random weights, seed {seed}\n"));
        place.read(name)
    };
    let first = new("a.safetensors", 7);
    assert_eq!(new("b.safetensors", 7), first);
    assert_ne!(new("c.safetensors", 8), first);
    let text = place.succeeds("eval a.safetensors --data digits --limit 20");
    assert!(text.contains("random weights, seed 7"), "{text}");
}

// predict

#[test]
fn pictures_of_digits_are_read_by_both_networks() {
    let place = Place::new();
    let (mut names, mut labels) = (vec![], vec![]);
    for (i, (image, label)) in digits(20).iter().enumerate() {
        place.write(&format!("{i}.png"), &make::png(8, 8, image));
        names.push(format!("{i}.png"));
        labels.push(*label);
    }
    let predict = format!("predict digits.safetensors {}", names.join(" "));
    let all = json(&place, &format!("{predict} --iterations exact"));
    let images = all["images"].as_array().unwrap();
    assert_eq!(images.len(), 20);
    let mut right = 0;
    for ((image, name), label) in images.iter().zip(&names).zip(labels) {
        assert_eq!(image["image"], name.as_str());
        let (ann, snn) = (&image["ann"], &image["snn"]);
        assert_eq!(ann.as_array().unwrap().len(), 3);
        assert_eq!(ann[0]["class"], snn[0]["class"], "exact, T = rho = L: the ANN's class");
        assert!((ann[0]["score"].as_f64().unwrap() - snn[0]["score"].as_f64().unwrap()).abs() < 1e-3);
        assert_eq!(ann[0]["name"].as_str().unwrap(), ann[0]["class"].to_string());
        right += usize::from(ann[0]["class"] == label);
    }
    assert!(right >= 18, "{right} of 20");
    let text = place.succeeds("predict digits.safetensors 0.png --top 2 --method qcfs");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.starts_with("0.png\n  ANN") && text.contains("SNN, qcfs, T = 4"), "{text}");
    assert_eq!(place.succeeds("predict digits.safetensors 0.png --top 100").lines().count(), 12);
}

// The program

#[test]
fn every_command_has_help() {
    let place = Place::new();
    let list = place.succeeds("--help");
    for command in COMMANDS {
        assert!(list.contains(&format!("\n  {command} ")), "{command} is not in\n{list}");
        let help = place.succeeds(&format!("{command} --help"));
        assert!(help.contains(&format!("Usage: rheobase {command}")), "{help}");
        // Every option says what it does; a description may begin on the line below.
        let lines: Vec<_> = help.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.trim_start().starts_with("--")) {
            let described = line.trim().split("  ").count() > 1
                || lines.get(i + 1).is_some_and(|l| l.starts_with("          "));
            assert!(described, "{command}: {line}");
        }
        assert_eq!(place.succeeds(&format!("help {command}")), help);
    }
    assert_eq!(place.succeeds("--version"), format!("rheobase {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(place.run("").status.code(), Some(2));
}

#[test]
fn list_names_all_there_is() {
    let text = Place::new().succeeds("list");
    for name in rheobase::core::network::zoo::ZOO.iter().map(|a| a.name) {
        assert!(text.contains(&format!("\n  {name} ")), "{name}");
    }
    for name in rheobase::core::neuron::RULES.iter().map(|r| r.name) {
        assert!(text.contains(&format!("\n  {name} ")), "{name}");
    }
    for usage in data::DATASETS.iter().map(|d| d.usage) {
        assert!(text.contains(&format!("\n  {usage} ")), "{usage}");
    }
    for name in rheobase::core::env::ALL.iter().map(|v| v.name) {
        assert!(text.contains(&format!("\n  {name} ")), "{name}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let place = Place::new();
    for arguments in
        ["list", "--help", "inspect digits.safetensors --json -", "eval digits.safetensors --data digits"]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rheobase"))
            .args(arguments.split(' '))
            .current_dir(place.path("."))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stderr.is_empty(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn names_of_files_need_not_be_unicode() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let (model, image) = (OsStr::from_bytes(b"\xff.safetensors"), OsStr::from_bytes(b"\xfe.png"));
    std::fs::write(place.path(".").join(model), place.read("digits.safetensors")).unwrap();
    std::fs::write(place.path(".").join(image), make::png(8, 8, &make::noise(64))).unwrap();
    let json = [OsStr::new("--json"), OsStr::new("-")];
    let digits = [OsStr::new("--data"), OsStr::new("digits")];
    for (command, more) in [
        ("inspect", &json[..]),
        ("eval", &digits),
        ("eval", &[digits, json].concat()),
        ("predict", &[&[image], &json[..]].concat()),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_rheobase"))
            .args([OsStr::new(command), model])
            .args(more)
            .current_dir(place.path("."))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(String::from_utf8(done.stdout).unwrap().contains("\u{fffd}"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let place = Place::new();
    for arguments in ["list", "inspect digits.safetensors --json -"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_rheobase"))
            .args(arguments.split(' '))
            .current_dir(place.path("."))
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments}");
        assert!(String::from_utf8_lossy(&done.stderr).starts_with("error: standard output: "));
    }
}
