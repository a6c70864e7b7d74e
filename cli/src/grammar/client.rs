//! What the shell itself understands: how it prints, and leaving it.
//!
//! # Caveats
//!
//! None of this reaches the cluster, and none of it outlives the session.

use clap::Subcommand;

use super::{Format, Switch};

/// A setting of the shell itself, or leaving it.
#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Say how long each command took.
    #[command(name = ".timing")]
    Timing {
        /// Without a word: on.
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// How results are written.
    #[command(name = ".output")]
    Output {
        /// The form.
        format: Format,
    },
    /// Show the JSON-RPC messages sent and received.
    #[command(name = ".trace")]
    Trace {
        /// Without a word: on.
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// On: only summaries. Off: every line of narration. At first: up to 20 lines.
    #[command(name = ".brief")]
    Brief {
        /// Without a word: on.
        #[arg(default_value = "on")]
        switch: Switch,
    },
    /// The lines typed so far.
    #[command(name = ".history")]
    History,
    /// Clear the screen.
    #[command(name = ".clear")]
    Clear,
    /// Leave; a local cluster stops.
    #[command(visible_alias = "quit")]
    Exit,
}
