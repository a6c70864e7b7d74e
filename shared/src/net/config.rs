//! Settings of a server, from three places by one definition.
//!
//! A server's settings are one struct of `Option` fields with `#[arg(long, env = …)]`. clap reads
//! flags and environment into it; this module reads a TOML file into another value of the same
//! struct, by giving clap each key as if it were the flag of that name. So a setting has one name,
//! one type and one check wherever it comes from. The server then takes, for each field, the
//! first of: flag, environment, file, default.
//!
//! ```toml
//! listen = "127.0.0.1:5001"
//! compact-after = 1000
//! ```
//!
//! # Caveats
//!
//! The file is read once, at start. Only flat keys: no tables, no lists.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Command};
use toml::{Table, Value};

use crate::nearest;

/// The flag that names the file: the one that cannot stand in it.
const CONFIG: &str = "config";

/// Why the settings do not do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither flag nor environment nor file has it.
    #[error("no {what} was given")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// The flag, and key, that gives it.
        flag: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("configuration file {} is not TOML: line {line}: {}", path.display(), source.message())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The mistake.
        source: Box<toml::de::Error>,
    },
    /// The file has a key that is no setting.
    #[error("configuration file {} has an unknown key \"{key}\"", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that is most like it, if any is.
        nearest: Option<String>,
        /// All keys there are.
        known: Vec<String>,
    },
    /// A key of the file has a value that does not do.
    #[error("configuration file {}: {key} cannot be {value}: {why}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value, as TOML.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ConfigError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { flag, .. } => {
                format!("give --{flag}, {}, or {flag} = … in the file of --config", variable(flag))
            }
            Self::Unreadable { .. } => "--config names the file; without it none is read".into(),
            Self::Malformed { .. } => "one setting a line: listen = \"127.0.0.1:5000\"".into(),
            Self::UnknownKey { nearest: Some(key), .. } => format!("did you mean: {key}"),
            Self::UnknownKey { known, .. } => format!("keys: {}", known.join(" ")),
            Self::BadValue { .. } => "--help tells what each setting takes".into(),
        }
    }
}

/// The environment variable of a flag: `compact-after` is `KV_COMPACT_AFTER`.
fn variable(flag: &str) -> String {
    format!("KV_{}", flag.to_uppercase().replace('-', "_"))
}

/// The settings in the file at `path`, and no others; none without a path.
///
/// # Errors
///
/// The file cannot be read, is no TOML, has an unknown key or a value that does not do.
pub fn read_settings<T: Args>(path: Option<&Path>) -> Result<T, ConfigError> {
    // The environment has been read with the flags, and what a flag beat there need not be right.
    let command = T::augment_args(Command::new(CONFIG).no_binary_name(true))
        .mut_args(|setting| setting.env(Resettable::Reset));
    let mut flags = Vec::new();
    if let Some(path) = path {
        for (key, value) in read_table(path)? {
            check_key(&command, path, &key)?;
            let flag = flag_of(&key, &value);
            if let Err(error) = command.clone().try_get_matches_from([&flag]) {
                let (path, value) = (path.to_owned(), value.to_string());
                return Err(ConfigError::BadValue { path, key, value, why: in_words(&error) });
            }
            flags.push(flag);
        }
    }
    let matches = command.try_get_matches_from(flags).expect("each flag was tried by itself");
    Ok(T::from_arg_matches(&matches).expect("settings are optional, one by one"))
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    text.parse().map_err(|source: toml::de::Error| {
        let before = &text.as_bytes()[..source.span().map_or(0, |span| span.start)];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::Malformed { path: path.to_owned(), line, source: Box::new(source) }
    })
}

fn check_key(command: &Command, path: &Path, key: &str) -> Result<(), ConfigError> {
    let settings = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let known: Vec<String> = settings
        .filter_map(|arg| arg.get_long())
        .filter(|long| *long != CONFIG)
        .map(str::to_owned)
        .collect();
    if known.iter().any(|long| long == key) {
        return Ok(());
    }
    let nearest = nearest(key, known.clone());
    Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.to_owned(), nearest, known })
}

/// `--key=value`, a text without its quotes.
fn flag_of(key: &str, value: &Value) -> OsString {
    match value {
        Value::String(text) => format!("--{key}={text}").into(),
        other => format!("--{key}={other}").into(),
    }
}

/// What clap has against a value, without its usage lines.
fn in_words(error: &clap::Error) -> String {
    if let Some(why) = std::error::Error::source(error) {
        return why.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("it is one of {}", values.join(", ")),
        _ => "it does not fit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Args, Debug)]
    struct Settings {
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9))]
        compact_after: Option<u32>,
        #[arg(long, value_parser = ["always", "os"])]
        durability: Option<String>,
        #[arg(long)]
        config: Option<PathBuf>,
    }

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.toml");
        std::fs::write(&path, text).unwrap();
        read_settings(Some(&path))
    }

    #[test]
    fn a_file_is_read_as_the_flags_are() {
        let settings = read("compact-after = 7\ndurability = \"os\"").unwrap();
        assert_eq!((settings.compact_after, settings.durability.as_deref()), (Some(7), Some("os")));
        let nothing: Settings = read_settings(None).unwrap();
        assert!(nothing.compact_after.is_none() && nothing.config.is_none());
    }

    #[test]
    fn mistakes_name_key_file_and_remedy() {
        let table = [
            ("compact_after = 7", "unknown key \"compact_after\"", "did you mean: compact-after"),
            ("speed = 1", "unknown key \"speed\"", "keys: compact-after durability"),
            ("config = \"x\"", "unknown key \"config\"", "keys: compact-after durability"),
            ("compact-after = 0", "compact-after cannot be 0: 0 is not in 1..=9", "--help"),
            ("compact-after = \"x\"", "compact-after cannot be \"x\": invalid digit", "--help"),
            ("durability = \"no\"", "cannot be \"no\": it is one of always, os", "--help"),
            ("durability = [\"os\"]", "durability cannot be [\"os\"]", "--help"),
            ("\ndurability =", "is not TOML: line 2: ", "one setting a line"),
        ];
        for (text, message, hint) in table {
            let error = read(text).unwrap_err();
            let told = error.to_string();
            assert!(told.contains("kv.toml") && told.contains(message), "{text}: {told}");
            assert!(error.hint().starts_with(hint), "{text}: {}", error.hint());
        }
        let missing = ConfigError::Missing { what: "data directory", flag: "compact-after" };
        assert!(missing.hint().contains("--compact-after, KV_COMPACT_AFTER"), "{}", missing.hint());
    }
}
