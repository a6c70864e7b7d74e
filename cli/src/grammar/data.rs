//! Reading and writing keys: `put`, `get`, `del`, many at once, and how each is done.
//!
//! `put`, `get` and `del` have the same options wherever they stand, on a line of their own or after
//! `explain`.
//!
//! # Caveats
//!
//! An option that is left out is not sent: then what the keyspace says holds.

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use ringkv_shared::causal::Context;
use ringkv_shared::protocol::cluster::{ReadOptions, WriteOptions};
use ringkv_shared::{KeyspaceName, Version};

use super::Command;
use super::values::{Ttl, parse_copies, parse_ttl};

/// A command on keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Store a value at the owners of its key.
    #[command(
        after_help = "put apple 123\nput apple 123 --ttl 10s  (gone in ten seconds; ms, s, m, h, d)\nput \"two words\" \"a value\"\nput pic - < cat.jpg    (value from standard input, byte for byte; one-shot form)\nput sign -- -          (after -- every word is itself: stores a dash)\nput cart milk --context 1.3  (replaces what 1.3 had seen, and only that)\nput apple 5 --if-version 1.3 (only if that is what is there: exit code 7 if not)"
    )]
    Put(PutArgs),
    /// Read a value.
    #[command(
        after_help = "get apple\nget apple --all    (every replica's copy, with its version)\nget apple --r 2    (from two replicas)\nget pic > cat.jpg  (bytes that are no text come as they are, without a newline)"
    )]
    Get(GetArgs),
    /// Delete a key at its owners.
    #[command(after_help = "del apple\ndel apple --if-version 1.3")]
    Del(DelArgs),
    /// Make one value of the several that a key has.
    #[command(
        after_help = "resolve cart milk,eggs\nresolve cart --keep 1.4    (one of those that are there)"
    )]
    Resolve {
        /// The key.
        key: String,
        /// Its value from now on.
        #[arg(allow_negative_numbers = true, required_unless_present = "keep")]
        value: Option<String>,
        /// The version of the value that is to stay.
        #[arg(long, value_name = "VERSION", conflicts_with = "value")]
        keep: Option<Version>,
    },
    /// Store many values, each with an outcome of its own.
    #[command(after_help = "mput apple 1 pear 2\nmput apple 1 pear 2 --ttl 1h")]
    Mput {
        /// Keys, each with its value after it.
        #[arg(value_name = "KEY VALUE", required = true, allow_negative_numbers = true)]
        pairs: Vec<String>,
        /// How long they live.
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        ttl: Option<Ttl>,
        #[command(flatten)]
        how: KeyArgs,
    },
    /// Read many values.
    #[command(after_help = "mget apple pear")]
    Mget {
        /// The keys.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// Replicas that must answer for each.
        #[arg(long, value_name = "N", value_parser = parse_copies)]
        r: Option<usize>,
    },
    /// Delete many keys.
    #[command(after_help = "mdel apple pear")]
    Mdel {
        /// The keys.
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        how: KeyArgs,
    },
    /// Do it, and show how: from the hash to the answer.
    #[command(
        disable_help_subcommand = true,
        after_help = "explain put apple 123\nexplain get apple --r 2\nexplain del apple"
    )]
    Explain {
        /// What to do.
        #[command(subcommand)]
        what: Explained,
    },
}

/// What can be explained.
#[derive(Debug, Subcommand)]
pub(crate) enum Explained {
    /// Store a value.
    Put(PutArgs),
    /// Read a value.
    Get(ReadArgs),
    /// Delete a key.
    Del(DelArgs),
}

/// Words of a put.
#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    /// The key.
    pub(crate) key: String,
    /// The value; `-` reads it from standard input, `-- -` is a dash.
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: String,
    /// How long it lives: `10s`, `1h 30m`, `7d`; `none`: for ever. Without it, as the keyspace says.
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(crate) ttl: Option<Ttl>,
    #[command(flatten)]
    pub(crate) how: WriteArgs,
    /// Whether a value `-` is a dash: see [`Command::heed_escape`].
    #[arg(skip)]
    pub(crate) literal: bool,
}

/// Words of a delete.
#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    /// The key.
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) how: WriteArgs,
}

/// Words of a get.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Ask every replica and show each copy.
    #[arg(long, conflicts_with = "r")]
    pub(crate) all: bool,
}

/// Words of a read.
#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    /// The key.
    pub(crate) key: String,
    /// Replicas that must answer; without it, as the keyspace says.
    #[arg(long, value_name = "N", value_parser = parse_copies)]
    pub(crate) r: Option<usize>,
}

/// How a key is to be written, alone or among many.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeyArgs {
    /// Replicas that must have it before it is acknowledged; without it, as the keyspace says.
    #[arg(long, value_name = "N", value_parser = parse_copies)]
    w: Option<usize>,
    /// Others may stand in for owners that are away.
    #[arg(long, conflicts_with = "strict")]
    sloppy: bool,
    /// Only owners count.
    #[arg(long)]
    strict: bool,
}

/// How one key is to be written.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// What the writer has seen, as get tells it: only that is replaced.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<Context>,
    /// Only if the key has this version and nothing beside it.
    #[arg(long, value_name = "VERSION", conflicts_with = "if_absent")]
    if_version: Option<Version>,
    /// Only if the key has no value.
    #[arg(long)]
    if_absent: bool,
    /// A name for this write: to send it again under the same name is safe.
    #[arg(long, value_name = "NAME")]
    request: Option<String>,
}

impl KeyArgs {
    /// As it travels.
    #[must_use]
    pub(crate) fn options(&self, keyspace: KeyspaceName, ttl: Option<Ttl>) -> WriteOptions {
        let sloppy = match (self.sloppy, self.strict) {
            (false, false) => None,
            (sloppy, _) => Some(sloppy),
        };
        let ttl_ms = ttl.map(Ttl::ms);
        WriteOptions { keyspace, w: self.w, sloppy, ttl_ms, ..WriteOptions::default() }
    }
}

impl WriteArgs {
    /// As it travels.
    #[must_use]
    pub(crate) fn options(&self, keyspace: KeyspaceName, ttl: Option<Ttl>) -> WriteOptions {
        let Self { key, context, if_version, if_absent, request } = self.clone();
        let options = key.options(keyspace, ttl);
        WriteOptions { context, if_version, if_absent, request, ..options }
    }
}

impl ReadArgs {
    /// As it travels.
    #[must_use]
    pub(crate) fn options(&self, keyspace: KeyspaceName) -> ReadOptions {
        ReadOptions { keyspace, r: self.r, ..ReadOptions::default() }
    }
}

impl Command {
    /// Notes what the parser does not tell: that `--` stood before the value. `words` are those
    /// that were parsed.
    pub(crate) fn heed_escape(&mut self, words: &[impl AsRef<OsStr>]) {
        let put = match self {
            Self::Data(Data::Put(put) | Data::Explain { what: Explained::Put(put) }) => put,
            _ => return,
        };
        let at = |wanted: &str| words.iter().position(|word| word.as_ref() == wanted);
        put.literal = at("--").is_some_and(|escape| at("-").is_none_or(|dash| escape < dash));
    }
}
