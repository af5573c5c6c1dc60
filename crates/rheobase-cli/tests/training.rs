//! `train`, `quantize --epochs` and `reproduce` as a user runs them: on digits, for a few epochs.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, onnx};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

const TRAIN: &str = "train --arch cnn --data digits --epochs 3 --batch 128 --seed 5";

/// Runs a command that must succeed; epochs are told on standard error.
#[track_caller]
fn succeeds(place: &Place, arguments: &str) -> (String, String) {
    let done = place.run(arguments);
    assert!(done.status.success(), "`rheobase {arguments}`: {}", done.stderr);
    (done.stdout, done.stderr)
}

#[track_caller]
fn json(place: &Place, arguments: &str) -> Value {
    serde_json::from_str(&succeeds(place, &format!("{arguments} --json -")).0).unwrap()
}

#[test]
fn training_tells_what_eval_finds_and_keeps_it_in_the_model() {
    let place = Place::new();
    let told = json(&place, &format!("{TRAIN} --out net.safetensors"));
    assert_eq!(told["epochs"].as_array().unwrap().len(), 3);
    let found = json(&place, "eval net.safetensors --data digits --presim 4 --iterations exact --steps 4");
    assert_eq!(told["correct"], found["ann"]["correct"]);
    let kept = json(&place, "inspect net.safetensors");
    let notes = kept["notes"].to_string();
    for part in [
        "rheobase train --arch cnn --data digits --levels 4 --epochs 3",
        "--seed 5",
        "test images right",
        "best",
    ] {
        assert!(notes.contains(part), "{notes}");
    }
    assert_eq!(kept["classes"].as_array().unwrap().len(), 10);
    assert!(kept["normalisation"]["mean"][0].as_f64().unwrap() > 0.2);
    let lines = String::from_utf8(place.read("net.metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["epoch"], 3);
    assert!(last["loss"].as_f64().unwrap() < 2.5);
}

#[test]
fn killed_at_several_moments_and_resumed_it_ends_in_the_same_bytes() {
    let whole = Place::new();
    succeeds(&whole, &format!("{TRAIN} --out net.safetensors"));
    let parts = Place::new();
    let line = format!("{TRAIN} --out net.safetensors --resume");
    for milliseconds in [30, 250, 150, 400] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rheobase"))
            .args(line.split(' '))
            .current_dir(parts.path("."))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeeds(&parts, &line);
    assert!(whole.read("net.safetensors") == parts.read("net.safetensors"));
}

#[test]
fn resuming_says_where_it_begins() {
    let place = Place::new();
    let (_, first) = succeeds(&place, &format!("{TRAIN} --out net.safetensors --resume"));
    assert!(first.starts_with("no checkpoint at net.checkpoint yet: training from the beginning"), "{first}");
    let (text, again) = succeeds(&place, &format!("{TRAIN} --out net.safetensors --resume"));
    assert_eq!(again, "going on after epoch 3\n");
    assert!(text.contains("test accuracy"), "{text}");
    let other = place
        .run("train --arch cnn --data digits --epochs 4 --batch 128 --seed 5 --out net.safetensors --resume");
    assert_eq!(other.status.code(), Some(2));
    assert!(other.stderr.contains(
        "net.checkpoint: the checkpoint is of another run: its `epochs` differs: expected 4, found 3"
    ));
    let other = place.run(
        "train --arch resnet18 --data digits --epochs 3 --batch 128 --seed 5 --out net.safetensors --resume",
    );
    assert!(other.stderr.contains("its network differs: expected resnet18, found cnn"), "{}", other.stderr);
}

#[test]
fn a_relu_network_is_quantized_and_trained_on() {
    let place = Place::new();
    place.write("relu.onnx", &onnx::relu());
    let line = "quantize relu.onnx --data digits --levels 4 --mean 0.3 --std 0.4";
    let (text, _) = succeeds(&place, &format!("{line} --epochs 1 --batch 128 --out q.safetensors"));
    assert!(text.contains("1 epochs") && text.contains("test accuracy"), "{text}");
    let (text, _) = succeeds(
        &place,
        &format!("{line} --method distill --steps 20 --distill-images 256 --out d.safetensors"),
    );
    assert!(text.contains("distilled from its ReLU network: 20 steps"), "{text}");
    let (text, _) = succeeds(
        &place,
        "train --init relu.onnx --teacher relu.onnx --data digits --epochs 1 --out t.safetensors --mean 0.3 --std 0.4",
    );
    assert!(text.contains("t.safetensors: 1 epochs"), "{text}");
}

#[test]
fn the_papers_rows_say_what_is_missing() {
    let text = Place::new().succeeds("reproduce");
    for part in [
        "69.97",
        "59.22",
        "no network at models/resnet20-cifar100-l4.safetensors",
        "rheobase train --arch resnet34",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let one = json(&Place::new(), "reproduce --table cifar100-vgg16");
    assert_eq!(one["rows"].as_array().unwrap().len(), 1);
    assert_eq!(one["rows"][0]["paper"]["ann"], 76.28);
    let place = Place::new();
    place.refuses("reproduce --table cifar10-lenet", "known: cifar100-resnet20");
    place.refuses("reproduce --data digits", "no row of the paper uses `digits`");
}

#[test]
fn training_that_cannot_begin() {
    let place = Place::new();
    place.write("relu.onnx", &onnx::relu()).write("max.onnx", &onnx::max_pool());
    let train = |more: &str| format!("train --arch cnn --data digits --out new.safetensors {more}");
    place.refuses("train --arch cnm --data digits --out n.safetensors", "known: ");
    place.refuses("train --arch cnn --data digit --out n.safetensors", "unknown kind of data set");
    place.refuses("train --arch cnn --data cifar10:missing --out n.safetensors", "missing: no such folder");
    place.refuses(
        "train --arch cnn --data digits --out missing/n.safetensors",
        "missing/n.safetensors: no such file or directory",
    );
    place.refuses(&train("--epochs 0"), "the number of epochs makes no sense");
    place.refuses(&train("--batch 0"), "the batch makes no sense");
    place.refuses(&train("--lr 0"), "the learning rate makes no sense");
    place.refuses(&train("--lr NaN"), "the learning rate makes no sense");
    place.refuses(&train("--warmup 60"), "fewer than 60 epochs");
    place.refuses(&train("--levels 0"), "QCFS needs 1 or more levels");
    place.refuses(&train("--augment shake"), "unknown augmentation: expected `none`, `shift`");
    place.refuses(&train("--mean 0.5"), "both of `--mean` and `--std`");
    place.refuses(&train("--input 3x8x8"), "expected 3x8x8, found 1x8x8");
    place
        .refuses("train --init missing.onnx --data digits --out n.safetensors", "missing.onnx: no such file");
    place.refuses("train --init max.onnx --data digits --out n.safetensors", "--maxpool avg");
    place.refuses(&train("--teacher missing.onnx"), "missing.onnx: no such file");
    place.refuses_argument("train --data digits", "--arch");
    place.refuses_argument("train --arch cnn", "--data");
    // A folder of pictures with an empty class, then with one that cannot be read.
    for (class, split) in [("a", "train"), ("b", "train"), ("a", "test"), ("b", "test")] {
        place
            .write(&format!("set/{split}/{class}/1.png"), &common::make::png(8, 8, &common::make::noise(64)));
    }
    std::fs::create_dir(place.path("set/train/c")).unwrap();
    let folder =
        "train --arch cnn --data imagefolder:set --input 1x8x8 --batch 2 --epochs 1 --out n.safetensors";
    place.refuses(folder, "set/train/c");
    std::fs::remove_dir(place.path("set/train/c")).unwrap();
    place.write("set/train/b/2.png", b"no picture");
    let done = place.run(
        "train --arch cnn --data imagefolder:set --input 3x8x8 --batch 3 --epochs 1 --out n.safetensors",
    );
    assert_eq!(done.status.code(), Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("2.png"), "{}", done.stderr);
    assert!(!place.path("n.safetensors").exists());
}
