"""Writes the small images beside it and prints the numbers that `../folder.rs` expects. Needs Pillow, numpy and torchvision."""
import pathlib
import numpy as np
from PIL import Image
from torchvision import transforms

here = pathlib.Path(__file__).parent


def pattern(height, width):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * x * 7 + y * 13 * (c + 1) + x * y * 5) % 256).astype("uint8")


def smooth(height, width):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (40 + x * (3 + c) + y * (5 - c)).astype("uint8")


for height, width, resize, size in [(47, 61, 9, (6, 8)), (61, 47, 9, (6, 8)), (5, 7, 11, (8, 10)), (9, 30, 9, (8, 9))]:
    t = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])
    out = np.asarray(t(Image.fromarray(pattern(height, width))), dtype=np.uint64).ravel()
    weighted = int((out * np.arange(1, out.size + 1, dtype=np.uint64)).sum())
    print((height, width, resize, size), "sum", int(out.sum()), "weighted", weighted, "first", out[:6].tolist())
grey = np.asarray(transforms.CenterCrop((6, 8))(transforms.Resize(9)(Image.fromarray(pattern(47, 61)).convert("L"))), dtype=np.uint64)
print("grey", int(grey.sum()), grey.ravel()[:6].tolist())

picture = Image.fromarray(smooth(16, 24))
picture.save(here / "baseline.jpg", quality=95, subsampling=0)
picture.save(here / "progressive.jpg", quality=95, progressive=True)
picture.convert("L").save(here / "grey.jpg", quality=95)
cmyk = Image.merge("CMYK", [Image.fromarray(255 - smooth(16, 24)[:, :, c]) for c in range(3)] + [Image.new("L", (24, 16), 0)])
cmyk.save(here / "cmyk.jpg", quality=95)
picture.save(here / "colour.png")
picture.convert("P", palette=Image.ADAPTIVE, colors=8).save(here / "palette.png")
rgba = picture.convert("RGBA")
rgba.putalpha(7)
rgba.save(here / "alpha.png")
Image.fromarray(smooth(16, 24)[:, :, 0].astype("uint16") * 256 + 200).save(here / "grey16.png")
for name in sorted(here.glob("*.[jp][pn]g")):
    pixels = np.asarray(Image.open(name).convert("RGB"), dtype=float)
    print(name.name, name.stat().st_size, pixels.mean(axis=(0, 1)).round(2).tolist(), pixels[3, 5].tolist())
