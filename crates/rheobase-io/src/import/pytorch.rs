//! PyTorch state dicts.
