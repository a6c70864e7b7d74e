//! `keyspace`: what holds for all keys of a keyspace.
//!
//! # Caveats
//!
//! A time to live is for what is put from then on; what is there already stays as it is.

use ringkv_shared::keyspace::BadKeyspaceName;
use ringkv_shared::net::ClusterApiClient;
use ringkv_shared::protocol::cluster::{KeyspaceChange, KeyspaceReply, KeyspaceRow};
use ringkv_shared::{ErrorName, Failure, Keyspace};

use super::expiry;
use crate::grammar::{KeyspaceAction, Ttl};
use crate::report::Report;
use crate::session::Session;

/// Shows keyspaces, or changes one.
pub(super) async fn run(
    s: &mut Session,
    action: Option<KeyspaceAction>,
    name: Option<String>,
    ttl: Option<Ttl>,
) -> Result<Report, Failure> {
    let fits = match action.unwrap_or(KeyspaceAction::Show) {
        KeyspaceAction::Show => ttl.is_none(),
        KeyspaceAction::Set => ttl.is_some() && name.is_some(),
    };
    if !fits {
        let message = "a keyspace is set by its name and a time to live, or shown without one";
        return Err(Failure::new(ErrorName::BadArgument, message)
            .hint("keyspace set default --ttl 1h        keyspace show"));
    }
    let change =
        ttl.map(|ttl| KeyspaceChange { ttl_ms: Some(ttl.ms()), ..KeyspaceChange::default() });
    let name = name.map(|name| name.parse()).transpose();
    let name = name.map_err(|error: BadKeyspaceName| {
        Failure::new(ErrorName::BadArgument, error.to_string())
    })?;
    let reply = s.call(async |c| ClusterApiClient::keyspace(c, name, change).await).await?;
    Ok(report(&reply))
}

fn report(reply: &KeyspaceReply) -> Report {
    let line =
        |KeyspaceRow { keyspace: Keyspace { name, ttl_ms, .. }, .. }: &KeyspaceRow| match ttl_ms {
            Some(ttl_ms) => format!("{name}: values live for {}", expiry::span(*ttl_ms)),
            None => format!("{name}: values live for ever"),
        };
    reply.keyspaces.iter().map(line).fold(Report::new(reply), Report::say)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use ringkv_shared::KeyspaceName;
    use ringkv_shared::protocol::Status;

    #[test]
    fn a_keyspace_is_a_line() {
        let said = |ttl_ms| {
            let keyspace = Keyspace { ttl_ms, ..Keyspace::new(KeyspaceName::default()) };
            let row = KeyspaceRow { keyspace, n_now: None, guarantee: String::new() };
            let keyspaces = vec![row];
            text(&report(&KeyspaceReply { status: Status::Ok, keyspaces }).narrated)
        };
        assert_eq!(said(None), "default: values live for ever");
        assert_eq!(said(Some(1_500)), "default: values live for 1.5 s");
        assert_eq!(said(Some(5_400_000)), "default: values live for 1h 30m");
    }
}
