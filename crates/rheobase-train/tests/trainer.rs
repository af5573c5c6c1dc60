//! The training loop as a user runs it: stopped and resumed, diverged, resumed from another run's checkpoint.
#![allow(clippy::unwrap_used)]

use rheobase_core::Kind;
use rheobase_core::network::Network;
use rheobase_core::samples::Samples;
use rheobase_io::data::{self, Split};
use rheobase_train::checkpoint::Epoch;
use rheobase_train::recipe::Recipe;
use rheobase_train::start;
use rheobase_train::trainer::{Status, Trained, Training, Watch, train};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Asks to stop after so many steps.
struct After(AtomicUsize);

impl Watch for After {
    fn start(&self, _: Option<(usize, usize)>) {}
    fn step(&self, _: &Status) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
    fn epoch(&self, _: &Epoch, _: usize) {}
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

fn never() -> After {
    After(AtomicUsize::new(usize::MAX))
}

struct Setup {
    train: Box<dyn Samples>,
    test: Box<dyn Samples>,
    recipe: Recipe,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new(recipe: Recipe) -> Self {
        let open = |split| data::open("digits", &data::Options { split, ..Default::default() }).unwrap();
        Setup {
            train: open(Split::Train),
            test: open(Split::Test),
            recipe,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn network(&self, arch: &str) -> Network {
        start::scratch(arch, 10, [1, 8, 8], 4, self.recipe.seed).unwrap()
    }

    fn train(&self, network: &Network, resume: bool, watch: &After) -> rheobase_core::Result<Trained> {
        train(
            &Training {
                network,
                teacher: None,
                train: &*self.train,
                test: &*self.test,
                normalisation: self.train.normalisation(),
                recipe: &self.recipe,
                init: None,
                teacher_from: None,
                checkpoint: self.folder.path().join("net.checkpoint"),
                metrics: self.folder.path().join("net.metrics.jsonl"),
                resume,
            },
            watch,
        )
    }
}

fn small(seed: u64) -> Recipe {
    Recipe { epochs: 2, batch: 100, ..Recipe::of("digits", seed) }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn stopped_at_any_step_and_resumed_it_ends_in_the_same_weights() {
    resumes(small(3));
    resumes(Recipe { average: 0.9, ..small(3) });
}

fn resumes(recipe: Recipe) {
    let whole = Setup::new(recipe.clone());
    let want = whole.train(&whole.network("cnn"), false, &never()).unwrap();
    // stops inside the first epoch, at its last step and inside the second one
    let parts = Setup::new(recipe);
    for steps in [4, 11, 9] {
        let watch = After(AtomicUsize::new(steps));
        let stopped = parts.train(&parts.network("cnn"), true, &watch).map(|_| ()).unwrap_err();
        assert_eq!(stopped.kind(), Kind::Cancelled, "{stopped}");
    }
    let got = parts.train(&parts.network("cnn"), true, &never()).unwrap();
    assert!(want.network == got.network);
    let accuracy = |t: &Trained| t.history.iter().map(|e| e.test_accuracy).collect::<Vec<_>>();
    assert_eq!(accuracy(&want), accuracy(&got));
    assert_eq!(files(parts.folder.path()), 2, "nothing but checkpoint and metrics is left");
    let lines = std::fs::read_to_string(parts.folder.path().join("net.metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);
}

#[test]
fn an_average_of_weights_is_what_is_saved() {
    let plain = Setup::new(small(5));
    let plain = plain.train(&plain.network("cnn"), false, &never()).unwrap();
    // so short a memory that it is the weights themselves to the last digits
    let same = Setup::new(Recipe { average: 1e-9, ..small(5) });
    let same = same.train(&same.network("cnn"), false, &never()).unwrap();
    let long = Setup::new(Recipe { average: 0.99, ..small(5) });
    let long = long.train(&long.network("cnn"), false, &never()).unwrap();
    assert_eq!(plain.history[1].loss, long.history[1].loss, "averaging does not change the steps");
    assert_eq!(plain.history[1].test_accuracy, same.history[1].test_accuracy);
    assert!(plain.network != long.network);
}

#[test]
fn seeds_make_the_weights_and_threads_do_not() {
    let weights = |seed, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let setup = Setup::new(Recipe { epochs: 1, ..small(seed) });
        pool.install(|| setup.train(&setup.network("cnn"), false, &never()).unwrap().network)
    };
    let one = weights(1, 1);
    assert!(one == weights(1, 3));
    assert!(one != weights(2, 1));
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_what_differs() {
    let mut setup = Setup::new(Recipe { epochs: 1, batch: 500, ..small(0) });
    setup.train(&setup.network("cnn"), false, &never()).unwrap();
    let text = |e: rheobase_core::Result<Trained>| e.map(|_| ()).unwrap_err().to_string();
    let other = text(setup.train(&setup.network("resnet18"), true, &never()));
    assert!(other.contains("net.checkpoint: the checkpoint is of another run: its network differs: expected resnet18, found cnn"), "{other}");
    setup.recipe.lr = 0.5;
    let other = text(setup.train(&setup.network("cnn"), true, &never()));
    assert!(other.contains("its `lr` differs: expected 0.5, found 0.1"), "{other}");
    setup.recipe.lr = 0.1;
    let path = setup.folder.path().join("net.checkpoint");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let other = text(setup.train(&setup.network("cnn"), true, &never()));
    assert!(other.contains("net.checkpoint: not a checkpoint, or damaged"), "{other}");
}

#[test]
fn divergence_stops_and_keeps_the_last_good_checkpoint() {
    let setup = Setup::new(Recipe { lr: 0.05, ..small(0) });
    setup.train(&setup.network("cnn"), false, &never()).unwrap();
    let path = setup.folder.path().join("net.checkpoint");
    let wild = Setup { recipe: Recipe { lr: 100.0, momentum: 0.99, epochs: 40, ..small(0) }, ..setup };
    let good = std::fs::read(&path).unwrap();
    let mut network = wild.network("cnn");
    // weights so large that the first loss is beyond all bounds
    if let rheobase_core::network::Op::Linear(l) = &mut network.nodes.last_mut().unwrap().op {
        l.weight.data.iter_mut().for_each(|w| *w *= 1e12);
    }
    let e = wild.train(&network, false, &never()).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), Kind::Check, "{e}");
    assert!(e.to_string().contains("training diverged in epoch 1, batch 1: expected a finite loss"), "{e}");
    assert!(std::fs::read(&path).unwrap() == good);
}
