//! CIFAR records and the archives that hold them.
#![no_main]

use rheobase_io::data::{CifarVersion, parse_cifar_archive_bytes, parse_cifar_bytes};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for version in [CifarVersion::CIFAR10, CifarVersion::CIFAR100] {
        rheobase_fuzz::check_samples(parse_cifar_bytes(version, data));
        rheobase_fuzz::check_samples(parse_cifar_archive_bytes(version, data));
    }
});
