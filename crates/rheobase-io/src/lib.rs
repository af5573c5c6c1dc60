//! Importers, exporters and data sets of Rheobase.
#![forbid(unsafe_code)]

pub mod data;
pub mod export;
pub mod files;
pub mod import;
