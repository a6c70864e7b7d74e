//! What a package installs beside the program: completions for shells, and manual pages. Both are
//! made from the grammar of the command line, so they name every command.
//!
//! # Caveats
//!
//! Completions know commands, options and their words, not the nodes of a cluster; the shell of
//! `kv` itself does.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use ringkv_shared::Failure;

use crate::usage;

/// The completions for `shell`.
#[must_use]
pub(crate) fn completions(mut grammar: Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut grammar, "kv", &mut script);
    script
}

/// The manual page of the whole, or of one command.
///
/// # Errors
///
/// There is no such command.
pub(crate) fn page(mut grammar: Command, command: Option<&str>) -> Result<Vec<u8>, Failure> {
    // Gives each command its own name, `kv-put`, and the global options.
    grammar.build();
    let page = match command {
        None => grammar,
        Some(name) => match grammar.find_subcommand(name) {
            Some(command) => command.clone(),
            None => return Err(usage::unknown(&grammar, name)),
        },
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).expect("memory takes all that is written");
    Ok(text)
}
