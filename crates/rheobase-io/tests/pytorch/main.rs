//! State dicts: what PyTorch writes is read, what does not fit is refused.
//! The files in `golden/` were made by `golden/make.py` with PyTorch 2.15.
#![cfg(feature = "pytorch")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod damaged;

use rheobase_core::network::op::{ActivationKind, BatchNorm, Op, Threshold};
use rheobase_core::{Kind, Network, Result};
use rheobase_io::import::{self, Options};

fn golden(file: &str) -> String {
    format!("{}/tests/pytorch/golden/{file}", env!("CARGO_MANIFEST_DIR"))
}

fn arch(name: &str) -> Options {
    Options { arch: Some(name.into()), ..Options::default() }
}

fn open(file: &str, options: &Options) -> Result<Network> {
    import::open(golden(file), options)
}

/// An error without the folder in front.
fn refusal(file: &str, options: &Options) -> String {
    let e = open(file, options).unwrap_err().to_string();
    e.rsplit_once("golden/").map_or(e.clone(), |(_, rest)| rest.to_string())
}

fn weights(n: &Network, node: &str) -> Vec<f32> {
    match &n.nodes.iter().find(|n| n.name == node).unwrap().op {
        Op::Conv2d(conv) => conv.weight.data.clone(),
        Op::Linear(linear) => linear.weight.data.clone(),
        other => panic!("{other:?}"),
    }
}

fn norm<'a>(n: &'a Network, node: &str) -> &'a BatchNorm {
    match &n.nodes.iter().find(|n| n.name == node).unwrap().op {
        Op::BatchNorm(bn) => bn,
        other => panic!("{other:?}"),
    }
}

fn activations(n: &Network) -> Vec<(ActivationKind, Option<Threshold>)> {
    n.nodes
        .iter()
        .filter_map(
            |n| if let Op::Activation(a) = &n.op { Some((a.kind, a.threshold.clone())) } else { None },
        )
        .collect()
}

/// `conv1.weight` of every file.
fn counted() -> Vec<f32> {
    (0..144).map(|i| i as f32 / 256.0).collect()
}

fn qcfs(levels: u32) -> Vec<(ActivationKind, Option<Threshold>)> {
    (1..=6).map(|i| (ActivationKind::Qcfs { levels }, Some(Threshold::Layer(i as f32 + 0.5)))).collect()
}

#[test]
fn a_zip_of_a_bare_state_dict() {
    let n = open("zip.pth", &arch("cnn")).unwrap();
    assert_eq!(weights(&n, "conv1"), counted());
    assert_eq!(weights(&n, "fc"), [0.25; 480]);
    assert_eq!(norm(&n, "bn6").var, [0.25; 48]);
    assert_eq!(activations(&n), qcfs(4));
    assert_eq!(
        n.notes,
        [
            "QCFS with 4 levels, assumed: `--levels` changes it",
            "images of 1x8x8 assumed: `--input` changes it"
        ]
    );
    let given = Options { levels: Some(16), input: Some([1, 28, 28]), classes: Some(10), ..arch("cnn") };
    let n = open("zip.pth", &given).unwrap();
    assert_eq!(activations(&n), qcfs(16));
    assert_eq!(n.input_shape(), [1, 28, 28]);
    assert!(n.notes.is_empty());
}

#[test]
fn a_checkpoint_says_levels_class_names_and_normalisation() {
    let n = open("checkpoint.pt", &arch("cnn")).unwrap();
    assert_eq!(activations(&n), qcfs(8));
    assert_eq!(n.classes[9], "digit 9");
    let normalisation = n.normalisation.unwrap();
    assert_eq!((normalisation.mean, normalisation.std), (vec![0.5], vec![0.25]));
}

#[test]
fn the_legacy_layout_with_module_prefixes_of_a_relu_network() {
    let n = open("legacy.th", &arch("cnn")).unwrap();
    assert_eq!(weights(&n, "conv1"), counted());
    assert_eq!(activations(&n), vec![(ActivationKind::Relu, None); 6]);
}

#[test]
fn a_module_pickled_whole_and_a_checkpoint_with_an_optimiser() {
    assert_eq!(weights(&open("module.pt", &arch("cnn")).unwrap(), "conv1"), counted());
    let n = open("optimizer.pt", &arch("cnn")).unwrap();
    assert_eq!(weights(&n, "conv1"), counted());
    assert_eq!(
        n.notes[1],
        "weights under `model.`; 1 other tensors of the checkpoint left out (`optimizer.state.0.momentum_buffer`, ...)"
    );
}

#[test]
fn every_type_and_a_transposed_view_are_converted() {
    let n = open("types.pth", &arch("cnn")).unwrap();
    assert_eq!(weights(&n, "conv1"), counted());
    for node in ["bn1", "bn2", "bn6"] {
        assert_eq!(norm(&n, node).scale, vec![1.0; norm(&n, node).scale.len()]);
        assert_eq!(norm(&n, node).mean, norm(&n, node).shift);
    }
}

#[test]
fn a_state_dict_of_another_network_is_refused_and_that_network_named() {
    assert_eq!(
        refusal("padded.pth", &arch("resnet20")),
        "padded.pth: the state dict does not fit `resnet20`: of its keys 10 missing \
         (`conv3_x.0.shortcut.0.weight`, `conv3_x.0.shortcut.1.weight`, `conv3_x.0.shortcut.1.bias`, ...) \
         (it fits `resnet20-pad`)"
    );
    let n = open("padded.pth", &arch("resnet20-pad")).unwrap();
    assert_eq!(n.nodes.last().unwrap().name, "linear");
    assert_eq!(
        refusal("zip.pth", &Options { classes: Some(100), ..arch("cnn") }),
        "zip.pth: the network has another number of classes: expected 100, found 10 \
         (leave out `--classes` to take the file's)"
    );
    assert_eq!(
        refusal("zip.pth", &Options { input: Some([3, 32, 32]), ..arch("cnn") }),
        "zip.pth: the state dict does not fit `cnn`: of its keys 1 of another shape \
         (`conv1.weight` is [16, 1, 3, 3], not [16, 3, 3, 3]) (it fits `cnn` with `--input 1x8x8`)"
    );
}

#[test]
fn a_state_dict_needs_its_network_named() {
    assert_eq!(
        refusal("zip.pth", &Options::default()),
        "zip.pth: a state dict does not say which network it belongs to (it fits `cnn`: give `--arch`)"
    );
    let e = refusal("zip.pth", &arch("resnet21"));
    assert!(e.starts_with("zip.pth: unknown network: `resnet21` (known: `vgg16`"), "{e}");
}

#[test]
fn options_without_effect_are_refused() {
    assert_eq!(
        refusal("legacy.th", &Options { levels: Some(4), ..arch("cnn") }),
        "legacy.th: `--levels` is for QCFS networks, and this state dict has no λ (leave out `--levels`)"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    rheobase_io::export::native::write(&open("zip.pth", &arch("cnn")).unwrap(), &path).unwrap();
    import::open(&path, &Options { classes: Some(10), input: Some([1, 8, 8]), ..Options::default() })
        .unwrap();
    for (options, kind) in [
        (arch("cnn"), Kind::Usage),
        (Options { levels: Some(4), ..Options::default() }, Kind::Usage),
        (Options { classes: Some(11), ..Options::default() }, Kind::Shape),
        (Options { input: Some([1, 9, 8]), ..Options::default() }, Kind::Shape),
    ] {
        assert_eq!(import::open(&path, &options).unwrap_err().kind(), kind);
    }
}

#[test]
fn a_pickle_that_calls_the_system_runs_nothing() {
    assert!(refusal("evil.pth", &arch("cnn")).starts_with("evil.pth: cannot read the PyTorch file"));
    assert!(
        refusal("evil-plain.pth", &arch("cnn")).starts_with("evil-plain.pth: cannot read the PyTorch file")
    );
    // Beside the weights it is a value like any other.
    open("evil-beside.pth", &arch("cnn")).unwrap();
    assert!(!std::path::Path::new("rheobase-was-here").exists());
    assert!(!std::path::Path::new(&golden("rheobase-was-here")).exists());
}

#[test]
fn a_safetensors_state_dict_is_read_given_its_network() {
    use safetensors::tensor::{Dtype, TensorView};
    let blueprint = rheobase_core::network::zoo::blueprint("cnn", 10, None).unwrap();
    let bytes: Vec<_> = blueprint
        .parameters
        .iter()
        .map(|p| (p.names[0].clone(), p.shape.clone(), vec![0x3c; 2 * p.shape.iter().product::<usize>()]))
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (name.clone(), TensorView::new(Dtype::BF16, shape.clone(), data).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dict.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let n = import::open(&path, &arch("cnn")).unwrap();
    assert_eq!(weights(&n, "fc"), vec![f32::from_bits(0x3c3c_0000); 480]);
    let e = import::open(&path, &Options::default()).unwrap_err().to_string();
    assert!(e.contains("not a Rheobase model (if it is a state dict, say which network"), "{e}");
}

#[test]
fn files_of_no_known_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        import::open(&path, &arch("cnn")).unwrap_err()
    };
    assert!(file("empty.pth", b"").to_string().ends_with("the file is empty"));
    assert!(file("x.txt", b"hello, world").to_string().contains("not a network that Rheobase reads (known:"));
    assert_eq!(file("x.pth", b"hello, world").kind(), Kind::Format);
    assert_eq!(import::open("no/such.pth", &arch("cnn")).unwrap_err().kind(), Kind::Io);
    assert_eq!(import::open(folder.path(), &arch("cnn")).unwrap_err().kind(), Kind::Io);
}
