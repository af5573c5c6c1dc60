//! What the program's tests share: a folder to run it in, and files made by hand.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::print_stdout)] // each test program uses its part

pub mod make;
pub mod onnx;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any command here needs on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// Address space of the program, in KiB: no file here, however it lies about sizes, may make it ask for more.
const MEMORY: &str = "4194304";

/// An empty folder that the program runs in, with the digits' network as `digits.safetensors`.
pub struct Place {
    folder: TempDir,
}

/// What a command left.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        let place = Place { folder: TempDir::new().unwrap() };
        place.write("digits.safetensors", &digits_network());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Runs the program with these arguments, split at blanks.
    pub fn run(&self, arguments: &str) -> Done {
        self.run_with(&[], arguments)
    }

    /// The same with environment variables.
    pub fn run_with(&self, environment: &[(&str, &str)], arguments: &str) -> Done {
        let program = env!("CARGO_BIN_EXE_rheobase");
        let mut command = if cfg!(target_os = "linux") {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -v {MEMORY} && exec \"$0\" \"$@\""), program]);
            shell
        } else {
            Command::new(program)
        };
        let output = TempDir::new().unwrap();
        let file = |name: &str| fs::File::create(output.path().join(name)).unwrap();
        let text = |name: &str| String::from_utf8(fs::read(output.path().join(name)).unwrap()).unwrap();
        command
            .args(arguments.split_whitespace())
            .current_dir(&self.folder)
            .env_remove("RHEOBASE_KERNEL")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("`rheobase {arguments}` does not come to an end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Done { status, stdout: text("out"), stderr: text("err") }
    }

    /// Runs a command that must succeed quietly, and gives its standard output.
    #[track_caller]
    pub fn succeeds(&self, arguments: &str) -> String {
        let done = self.run(arguments);
        assert!(done.status.success(), "`rheobase {arguments}`: {}", done.stderr);
        assert_eq!(done.stderr, "", "`rheobase {arguments}` writes to standard error");
        done.stdout
    }

    /// Runs a command that must be refused: exit code 2, one line that holds `why`, no result, no file.
    #[track_caller]
    pub fn refuses(&self, arguments: &str, why: &str) {
        self.refuses_with(&[], arguments, why);
    }

    #[track_caller]
    pub fn refuses_with(&self, environment: &[(&str, &str)], arguments: &str, why: &str) {
        let done = self.refused(environment, arguments);
        let shown = format!("`rheobase {arguments}`\n{}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "more than one line: {shown}");
        assert!(done.stderr.contains(why), "not `{why}`: {shown}");
    }

    /// The same for what the parser of arguments refuses, with its usage below the first line.
    #[track_caller]
    pub fn refuses_argument(&self, arguments: &str, why: &str) {
        let done = self.refused(&[], arguments);
        assert!(done.stderr.contains(why), "not `{why}`: `rheobase {arguments}`\n{}", done.stderr);
    }

    #[track_caller]
    fn refused(&self, environment: &[(&str, &str)], arguments: &str) -> Done {
        let before = files(self.folder.path());
        let done = self.run_with(environment, arguments);
        let shown = format!("`rheobase {arguments}`\n{}", done.stderr);
        print!("{}", done.stderr); // all messages at a glance with `--nocapture`
        assert_eq!(done.status.code(), Some(2), "{} {shown}", done.status);
        assert!(done.stderr.starts_with("error: "), "{shown}");
        assert!(!done.stderr.contains("panicked"), "{shown}");
        assert_eq!(done.stdout, "", "a refused command has no result: {shown}");
        assert_eq!(files(self.folder.path()), before, "a refused command leaves no file: {shown}");
        done
    }
}

/// This project's network for the embedded digits.
pub fn digits_network() -> Vec<u8> {
    fs::read(repository().join("models/digits-l4.safetensors")).unwrap()
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A checkpoint that PyTorch wrote; `make.py` beside it says how.
pub fn checkpoint(name: &str) -> Vec<u8> {
    fs::read(repository().join("crates/rheobase-io/tests/pytorch/golden").join(name)).unwrap()
}

/// Every file below a folder with its length.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = vec![];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let data = entry.metadata().unwrap();
        if data.is_dir() {
            all.extend(files(&entry.path()));
        }
        all.push((entry.path(), data.len()));
    }
    all.sort();
    all
}

/// Compares what a command printed, without times and kernels, to `tests/snapshots/NAME.txt`.
#[track_caller]
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    let now: String = text.lines().map(|line| filtered(line) + "\n").collect();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &now).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == kept,
        "{name} changed; UPDATE_SNAPSHOTS=1 keeps the new text\n--- kept\n{kept}--- now\n{now}"
    );
}

/// The line with rates and names of kernels, which differ from run to run and machine to machine, blotted out.
fn filtered(line: &str) -> String {
    let mut line = match line.split_once(" images/s") {
        Some((before, after)) => {
            let rate = before.rfind("   ").unwrap_or_default();
            format!("{}   RATE images/s{after}", &before[..rate])
        }
        None => line.to_string(),
    };
    for isa in rheobase::core::Isa::available() {
        line = line.replace(&format!("({})", isa.name()), "(KERNEL)");
    }
    if line.ends_with("scalar") { "  KERNELS".into() } else { line }
}
