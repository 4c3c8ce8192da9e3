//! One setting of a role: it has one name in the configuration file, as a flag and in the environment.
//!
//! `data_dir` is `data_dir = ...` in the file, `--data-dir` as a flag and `GRANUM_DATA_DIR` in the environment. A flag wins
//! over the environment, which wins over the file. docs/reference/config.md is generated from these lists.

/// A setting and what its help says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// In snake case, units last: `cache_bytes`, `drain_timeout_ms`.
    pub name: &'static str,
    /// What stands for the value in the help: `DIR`, `ADDRESS`, `BYTES`, `MS`, `HOST:PORT,...`, `TEXT|json`; "" is a switch.
    pub value: &'static str,
    /// The default as it would be written; "" if there is none.
    pub default: &'static str,
    /// One line.
    pub help: &'static str,
}
