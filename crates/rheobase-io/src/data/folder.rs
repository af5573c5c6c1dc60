//! Images in one folder per class.
//! In: a folder, with train/ and val/ or test/ below it or not. Out: colour images, decoded when they are asked for.

use std::path::{Path, PathBuf};

use rheobase_core::samples::{Normalisation, Samples};
use rheobase_core::{Error, Kind, Result};

use super::files::{self, Entry};
use super::packed::check_request;
use super::{Options, Split, Transform};

/// Mean and standard deviation of ImageNet's red, green and blue.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

struct Folder {
    name: String,
    root: PathBuf,
    classes: Vec<String>,
    /// Class and path below the root.
    files: Vec<(u32, PathBuf)>,
    transform: Transform,
}

/// Lists the images of a split; none is opened.
pub(super) fn open(path: &Path, options: &Options) -> Result<Box<dyn Samples>> {
    let transform = Transform::new(options.size, options.resize)?;
    let root = root(path, options.split)?;
    let (mut classes, mut images) = (Vec::new(), Vec::new());
    let entries = files::list(&root)?;
    for class in entries.iter().filter(|e| e.is_dir) {
        let label = u32::try_from(classes.len())
            .map_err(|_| Error::new(Kind::Limit, "too many class folders").file(&root))?;
        let before = images.len();
        add_images(&root, &class.name, true, &mut |image| images.push((label, image)))?;
        if images.len() == before {
            return Err(Error::new(Kind::Data, "class folder holds no image")
                .file(root.join(&class.name))
                .expected("files ending in .jpg, .jpeg or .png")
                .hint("remove the folder or fill it"));
        }
        classes.push(class.name.to_string_lossy().into_owned());
    }
    if classes.is_empty() {
        let loose =
            if entries.iter().any(is_image) { "images that lie in no class" } else { "no such folder" };
        return Err(Error::new(Kind::Data, "no class folders")
            .file(&root)
            .expected("one folder of JPEG or PNG files per class")
            .found(loose));
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    // one folder for both splits: do not let calibration images pass for training images
    let part = if root == path { "train and test not apart".to_string() } else { options.split.to_string() };
    let name = format!("imagefolder {name} ({part})");
    Ok(Box::new(Folder { name, root, classes, files: images, transform }))
}

/// The folder that holds the split's class folders.
fn root(path: &Path, split: Split) -> Result<PathBuf> {
    let missing = |what: &str| {
        Error::new(Kind::Data, what)
            .file(path)
            .expected("a folder with one folder of JPEG or PNG files per class")
            .hint("such folders may also lie below `train` and `val` or `test`")
    };
    let data = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => missing("no such folder"),
        _ => Error::io(path, &e),
    })?;
    if !data.is_dir() {
        return Err(missing("not a folder"));
    }
    let wanted: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["test", "val"],
    };
    let mut others = Vec::new();
    for name in ["test", "val", "train"] {
        let folder = path.join(name);
        if !holds_classes(&folder)? {
            continue;
        }
        if wanted.contains(&name) {
            return Ok(folder);
        }
        others.push(format!("`{name}`"));
    }
    if others.is_empty() {
        return Ok(path.to_path_buf());
    }
    // Taken for class folders, these would give every image a wrong label.
    Err(Error::new(Kind::Data, format!("no images for the {split} split"))
        .file(path)
        .expected(format!("`{}` with class folders", wanted.join("` or `")))
        .found(others.join(" and ")))
}

/// Whether it is a folder of folders, not of images: a class may well be called `train`.
fn holds_classes(folder: &Path) -> Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let entries = files::list(folder)?;
    Ok(entries.iter().any(|e| e.is_dir) && !entries.iter().any(is_image))
}

/// Adds a folder's images by name, then those one level deeper.
fn add_images(root: &Path, folder: &Path, deeper: bool, add: &mut dyn FnMut(PathBuf)) -> Result<()> {
    let entries = files::list(&root.join(folder))?;
    for image in entries.iter().filter(|e| is_image(e)) {
        add(folder.join(&image.name));
    }
    for inner in entries.iter().filter(|e| deeper && e.is_dir) {
        add_images(root, &folder.join(&inner.name), false, add)?;
    }
    Ok(())
}

fn is_image(entry: &Entry) -> bool {
    let ending = entry.name.extension().map(|e| e.to_ascii_lowercase());
    entry.is_file && ending.is_some_and(|e| e == "jpg" || e == "jpeg" || e == "png")
}

impl Samples for Folder {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn shape(&self) -> [usize; 3] {
        let [height, width] = self.transform.size();
        [3, height, width]
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn normalisation(&self) -> Normalisation {
        Normalisation { mean: MEAN.to_vec(), std: STD.to_vec() }
    }

    fn read(&self, index: usize, pixels: &mut [f32]) -> Result<usize> {
        check_request(self, index, pixels.len())?;
        let (class, file) = &self.files[index];
        self.transform.read(&self.root.join(file), 3, pixels)?;
        Ok(*class as usize)
    }
}
