//! Residual networks: the paper's with 1x1-convolution shortcuts, and those with parameter-free shortcuts.
//! In: a builder, blocks per stage, the number of classes. Out: the network, with both usual ways to name its parts.

use super::builder::{Builder, Names, names};
use crate::network::NodeId;

/// How a block's shortcut changes shape.
#[derive(Clone, Copy, PartialEq)]
enum Shortcuts {
    /// 1x1 convolution with BatchNorm; parameters named as by the paper's authors.
    Convolution,
    /// Every second pixel, zero channels on both sides; parameters named as in torchvision.
    Padding,
}

/// ResNet-18 and 34 with 64 to 512 channels.
pub(super) fn wide(b: &mut Builder, blocks: &[usize; 4], classes: usize) {
    resnet(b, &[64, 128, 256, 512], blocks, Shortcuts::Convolution, classes);
}

/// The paper's ResNet-20.
pub(super) fn resnet20(b: &mut Builder, classes: usize) {
    resnet(b, &[16, 32, 64], &[3, 3, 3], Shortcuts::Convolution, classes);
}

/// ResNet-20, 32, 44 and 56: 3, 5, 7 and 9 blocks per stage.
pub(super) fn padded(b: &mut Builder, blocks: usize, classes: usize) {
    resnet(b, &[16, 32, 64], &[blocks; 3], Shortcuts::Padding, classes);
}

fn resnet(b: &mut Builder, widths: &[usize], blocks: &[usize], shortcuts: Shortcuts, classes: usize) {
    let order = |authors: &[&str], others: &[&str]| shortcuts.order(names(authors), names(others));
    b.conv(&order(&["conv1.0"], &["conv1"]), 0, widths[0], 3, 1, false);
    b.norm(&order(&["conv1.1"], &["bn1"]));
    b.act(&order(&["conv1.2"], &["act", "relu", "act1", "relu1"]));
    for (stage, (&width, &count)) in widths.iter().zip(blocks).enumerate() {
        for i in 0..count {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            block(b, [stage, i], width, stride, shortcuts);
        }
    }
    b.global_average("avg_pool");
    b.linear(&order(&["fc"], &["linear"]), classes);
}

/// conv, norm, activation, conv, norm, plus the shortcut, activation.
fn block(b: &mut Builder, [stage, i]: [usize; 2], width: usize, stride: usize, shortcuts: Shortcuts) {
    let prefix = |p: String, modules: &[&str]| modules.iter().map(|m| format!("{p}.{m}")).collect();
    let module = |authors: &[&str], others: &[&str]| {
        shortcuts.order(
            prefix(format!("conv{}_x.{i}", stage + 2), authors),
            prefix(format!("layer{}.{i}", stage + 1), others),
        )
    };
    let from = b.last();
    b.conv(&module(&["residual_function.0"], &["conv1"]), from, width, 3, stride, false);
    b.norm(&module(&["residual_function.1"], &["bn1"]));
    b.act(&module(&["residual_function.2"], &["act1", "relu1"]));
    let inner = b.last();
    b.conv(&module(&["residual_function.3"], &["conv2"]), inner, width, 3, 1, false);
    let residual = b.norm(&module(&["residual_function.4"], &["bn2"]));
    let skip: NodeId = if b.shape(from) == b.shape(residual) {
        from
    } else if shortcuts == Shortcuts::Convolution {
        b.conv(&module(&["shortcut.0"], &["shortcut.0", "downsample.0"]), from, width, 1, stride, false);
        b.norm(&module(&["shortcut.1"], &["shortcut.1", "downsample.1"]))
    } else {
        b.shortcut(&module(&["shortcut"], &["shortcut"])[0], from, width, stride)
    };
    b.add(&module(&["add"], &["add"])[0], residual, skip);
    b.act(&module(&["relu", "act"], &["act2", "relu2"]));
}

impl Shortcuts {
    /// The names usual for this kind of network first.
    fn order(self, authors: Names, others: Names) -> Names {
        match self {
            Shortcuts::Convolution => [authors, others].concat(),
            Shortcuts::Padding => [others, authors].concat(),
        }
    }
}
