//! From an image file to the pixels that ImageNet networks are evaluated on.
//! In: a JPEG or PNG file. Out: short side resized, centre cut out, pixels in [0, 1], channels innermost.

use std::io::Cursor;
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use rheobase_core::{Error, Kind, Result};

use super::files;
use super::resample::{Picture, resize};

/// Files of photographs are a few megabytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// A small file can promise a large image; decoding takes up to 8 bytes per pixel.
const MAX_PIXELS: u64 = 64 << 20;
/// Largest height and width of what a network sees, and of what the short side is resized to.
const MAX_SIDE: usize = 1 << 14;

/// Resize the short side, keep the aspect, cut out the centre: torchvision's `Resize` and `CenterCrop` on Pillow images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    size: [usize; 2],
    resize: usize,
}

impl Transform {
    /// Cuts out `size` (height, width; 224x224 if not given) after resizing the short side to `resize` (if not given,
    /// 256/224 of the larger side of `size`, rounded). A file that is larger than fits memory is refused.
    pub fn new(size: Option<[usize; 2]>, resize: Option<usize>) -> Result<Self> {
        let size = size.unwrap_or([224, 224]);
        let larger = size[0].max(size[1]);
        if size.contains(&0) || larger > MAX_SIDE {
            return Err(Error::new(Kind::Limit, "image size makes no sense")
                .expected(format!("1 to {MAX_SIDE} pixels"))
                .found(format!("{}x{}", size[0], size[1])));
        }
        let resize = resize.unwrap_or((larger * 256 + 112) / 224);
        if resize < larger || resize > 2 * MAX_SIDE {
            return Err(Error::new(Kind::Usage, "cannot resize to this short side")
                .expected(format!(
                    "{larger} to {} pixels, for a cut of {}x{}",
                    2 * MAX_SIDE,
                    size[0],
                    size[1]
                ))
                .found(resize.to_string()));
        }
        Ok(Transform { size, resize })
    }

    /// Height and width of the result.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// What the short side is resized to.
    pub fn resize(&self) -> usize {
        self.resize
    }

    /// Reads an image file into `pixels`, `[height, width, channels]` in [0, 1], as colour (3 channels) or grey (1).
    /// Transparency and the orientation tag are ignored, as Pillow's `convert("RGB")` does.
    pub fn read(&self, path: &Path, channels: usize, pixels: &mut [f32]) -> Result<()> {
        let bytes = files::read(path, MAX_FILE_BYTES)?;
        self.read_bytes(&bytes, MAX_PIXELS, channels, pixels).map_err(|e| e.file(path))
    }

    /// [`Transform::read`] of a file's bytes, with a limit on the pixels decoded.
    #[doc(hidden)]
    pub fn read_bytes(&self, bytes: &[u8], limit: u64, channels: usize, pixels: &mut [f32]) -> Result<()> {
        let [height, width] = self.size;
        if !matches!(channels, 1 | 3) || pixels.len() != height * width * channels {
            return Err(Error::new(Kind::Shape, "buffer does not fit the image")
                .expected(format!("{height}x{width} pixels of 1 or 3 channels"))
                .found(format!("{} values of {channels} channels", pixels.len())));
        }
        let mut picture = decode(bytes, limit)?;
        if channels == 1 {
            grey(&mut picture);
        }
        let full = self.resized(picture.height, picture.width);
        let (top, left) = (half(full[0] - height), half(full[1] - width));
        let cut = resize(&picture, full, top..top + height, left..left + width);
        for (pixel, &value) in pixels.iter_mut().zip(&cut.values) {
            *pixel = f32::from(value) / 255.0;
        }
        Ok(())
    }

    /// The size after the short side has been resized; the long side is cut off to a whole pixel.
    fn resized(&self, height: usize, width: usize) -> [usize; 2] {
        if width <= height {
            [self.resize * height / width, self.resize]
        } else {
            [self.resize, self.resize * width / height]
        }
    }
}

/// Half of it, rounded to the even number where it lies between two, as Python's `round` does.
fn half(n: usize) -> usize {
    n / 2 + usize::from(n % 4 == 3)
}

/// Colour to grey by Pillow's integers for the ITU-R 601-2 luma.
fn grey(picture: &mut Picture) {
    let luma = |p: &[u8]| {
        let sum = u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471;
        ((sum + 0x8000) >> 16) as u8
    };
    picture.values = picture.values.chunks_exact(3).map(luma).collect();
    picture.channels = 1;
}

/// Decodes JPEG or PNG to 8-bit colour.
fn decode(bytes: &[u8], limit: u64) -> Result<Picture> {
    let bad = |e: image::ImageError| {
        let kind = match e {
            image::ImageError::Limits(_) => Kind::Limit,
            image::ImageError::Unsupported(_) => Kind::Unsupported,
            _ => Kind::Format,
        };
        Error::new(kind, "image cannot be decoded").found(e.to_string())
    };
    let unknown = || {
        Error::new(Kind::Format, "not an image that can be read").expected("JPEG or PNG").found(match bytes {
            [] => "an empty file",
            _ => "something else",
        })
    };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| unknown())?;
    match reader.format() {
        Some(ImageFormat::Jpeg) if !has_jpeg_end(bytes) => {
            return Err(Error::new(Kind::Format, "JPEG file is cut short"));
        }
        Some(ImageFormat::Jpeg | ImageFormat::Png) => {}
        _ => return Err(unknown()),
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(limit.saturating_mul(8));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > limit {
        return Err(Error::new(Kind::Limit, "image size makes no sense")
            .expected(format!("1 to {limit} pixels"))
            .found(format!("{width}x{height}")));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(bad)?;
    let values = match image.color() {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => high_bytes(&image),
        _ => image.into_rgb8().into_raw(),
    };
    Ok(Picture { height: height as usize, width: width as usize, channels: 3, values })
}

/// The upper byte of 16-bit samples, as Pillow takes it.
fn high_bytes(image: &DynamicImage) -> Vec<u8> {
    image.to_rgb16().into_raw().iter().map(|v| (v >> 8) as u8).collect()
}

/// Whether the data after the first scan's header ends as JPEG data has to; the decoder would fill up with grey.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        match bytes.get(at..) {
            Some([0xff, 0xff, ..]) => at += 1,
            // Markers without a length.
            Some([0xff, 0x01 | 0xd0..=0xd8, ..]) => at += 2,
            Some([0xff, 0xda, rest @ ..]) => return rest.windows(2).any(|w| w == [0xff, 0xd9]),
            Some([0xff, 0xd9, ..]) => return true,
            Some([0xff, _, high, low, ..]) => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            // Bytes between segments are the decoder's business.
            Some([_, _, ..]) => at += 1,
            _ => return false,
        }
    }
}
