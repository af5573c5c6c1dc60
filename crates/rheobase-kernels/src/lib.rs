//! The inner loops of Rheobase.
