//! What the words of a command may be: switches, forms, times, addresses.
//!
//! # Caveats
//!
//! A time to live is rounded down to milliseconds, and one that is less is refused.

use std::time::Duration;

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on.
    #[must_use]
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

/// The form of a file of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileForm {
    /// `key,value`, with the quotes of RFC 4180.
    Csv,
    /// `{"key":…,"value":…}` a line.
    Jsonl,
    /// One key a line; its value is the line's number.
    Words,
    /// The lines of a node's log, or bare `PUT key value` and `DEL key`.
    Log,
}

/// How long a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// For ever.
    None,
    /// So long, in milliseconds; at least 1.
    Ms(u64),
}

impl Ttl {
    /// As it travels: 0 is for ever.
    #[must_use]
    pub(crate) const fn ms(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Ms(ms) => ms,
        }
    }
}

/// What to see of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WalView {
    /// All lines that a start would read.
    Cat,
    /// Whether they are as they should be.
    Verify,
    /// The last ones.
    Tail,
    /// Those about one key.
    Blame,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Sentences and tables, for people.
    #[default]
    Table,
    /// One JSON object a command.
    Json,
    /// The bare result.
    Plain,
}

pub(super) fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "none" {
        return Ok(Ttl::None);
    }
    let time = humantime::parse_duration(text).ok();
    let ms = time.and_then(|time| u64::try_from(time.as_millis()).ok());
    match ms {
        Some(ms @ 1..) => Ok(Ttl::Ms(ms)),
        _ => Err(format!("{text:?} is no time to live: write 500ms, 10s, 5m, 1h, 7d, or none")),
    }
}

pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let bad = |_| format!("{text:?} is no time: write 500ms, 10s, 5m, 1h");
    humantime::parse_duration(text).map_err(bad)
}

pub(super) fn parse_copies(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of copies"))
}

/// `5003` → `127.0.0.1:5003`; `host:5003` as it is.
pub(super) fn parse_address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
    match port.parse::<u16>() {
        Ok(number) if number > 0 && !host.is_empty() => Ok(format!("{host}:{number}")),
        _ => Err(format!("{text:?} is no address: write a port (5004) or host:port")),
    }
}
