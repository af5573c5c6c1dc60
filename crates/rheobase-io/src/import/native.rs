//! Rheobase native files.
