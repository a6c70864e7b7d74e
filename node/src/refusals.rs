//! What the engine refuses, in the words of the wire: which name, what happened, what to do next.
//!
//! # Caveats
//!
//! The names are stable, the words are not.

use jsonrpsee::types::ErrorObjectOwned;
use ringkv_shared::net::failure_into_object;
use ringkv_shared::protocol::node::Reign;
use ringkv_shared::{ErrorName, Failure, NodeId};

use crate::compact::NotCompacted;
use crate::obedience::NotDone;
use crate::read::PageError;
use crate::replica::Disobeyed;
use crate::room::Refused;
use crate::store::FreezeError;

const FREE_SOME_ROOM: &str = "delete keys, or free room on the disk; the node notices by itself";

pub(crate) fn no_page(why: PageError) -> ErrorObjectOwned {
    match why {
        PageError::Picture(why) => no_picture(why),
        PageError::Storage(error) => unreadable(&error),
    }
}

pub(crate) fn no_picture(why: FreezeError) -> ErrorObjectOwned {
    let (name, hint) = match why {
        FreezeError::TooMany => (ErrorName::Busy, "wait for one of them"),
        FreezeError::Gone => (ErrorName::NotApplied, "begin again"),
    };
    failure_into_object(Failure::new(name, why.to_string()).hint(hint))
}

pub(crate) fn no_arcs() -> ErrorObjectOwned {
    let message = "no arcs of that name are known here; nothing was done";
    failure_into_object(Failure::new(ErrorName::NotApplied, message).hint("tell all of them once"))
}

pub(crate) fn no_room(why: Refused) -> ErrorObjectOwned {
    let (name, hint) = match why {
        Refused::DiskFull => (ErrorName::DiskFull, FREE_SOME_ROOM),
        Refused::ReadOnly => (ErrorName::DiskFull, "mount it writable; the node notices by itself"),
        Refused::Siblings => (
            ErrorName::TooLarge,
            "resolve them first, or write the key without a context, which replaces all",
        ),
        Refused::Crowded => (ErrorName::TooLarge, "write the key once without a context"),
    };
    let message = format!("{why} and the write was refused; nothing was applied");
    failure_into_object(Failure::new(name, message).hint(hint))
}

/// A request under these epochs is not obeyed.
pub(crate) fn disobeyed(node: &NodeId, under: Option<Reign>, why: Disobeyed) -> Failure {
    let (name, message, hint) = match why {
        Disobeyed::Another(coordinator) => (
            ErrorName::StaleEpoch,
            format!("{node} obeys another coordinator ({coordinator})"),
            "stop one of the two; to take over from one that is lost: kv coordinator --recover",
        ),
        Disobeyed::NotGreater(coordinator, epoch) => (
            ErrorName::StaleEpoch,
            format!("{node} obeys another coordinator ({coordinator}), under the epoch {epoch}"),
            "to take over from it, its nodes must be asked once more: kv coordinator --recover",
        ),
        Disobeyed::LaterStart(epoch) => (
            ErrorName::StaleEpoch,
            format!("{node} obeys a later start of this coordinator, of epoch {epoch}"),
            "stop this one, whose data is an old copy; or rebuild it: kv coordinator --recover",
        ),
        Disobeyed::Stale(known) => {
            let came = under.map_or_else(|| "an older epoch".to_owned(), |r| format!("epoch {r}"));
            (
                ErrorName::StaleEpoch,
                format!("the request is of {came}, and {node} knows of {known}"),
                "try again; if that does not help, another coordinator has taken over",
            )
        }
        Disobeyed::NotClaimed => (
            ErrorName::NotApplied,
            format!("only a coordinator that has claimed {node} under its epoch may tell it that"),
            "claim it first, and ask under the same epoch",
        ),
    };
    Failure::new(name, format!("{message}; nothing was applied")).hint(hint)
}

pub(crate) fn not_done(node: &NodeId, why: NotDone) -> ErrorObjectOwned {
    match why {
        NotDone::Disobeyed(why) => failure_into_object(disobeyed(node, None, why)),
        NotDone::Refused(why) => no_room(why),
        NotDone::Failed(error) => {
            let failure =
                Failure::new(ErrorName::NotApplied, format!("{error}; nothing was changed"));
            failure_into_object(failure.hint("check the disk, its free space and the permissions"))
        }
        NotDone::Unknown => {
            let message = format!("{node} may or may not have written it down, and stops");
            failure_into_object(Failure::new(ErrorName::OutcomeUnknown, message))
        }
        NotDone::Holds { keys, tombstones } => {
            let message = format!(
                "{node} still holds {keys} keys and {tombstones} tombstones; nothing was changed"
            );
            let failure = Failure::new(ErrorName::NotApplied, message);
            failure_into_object(failure.hint("drop them first: a node is released empty"))
        }
    }
}

pub(crate) fn unreadable(error: &impl std::fmt::Display) -> ErrorObjectOwned {
    let failure = Failure::new(ErrorName::NotReady, error.to_string());
    failure_into_object(failure.hint("other keys are not affected; ask another replica"))
}

pub(crate) fn refused(why: NotCompacted) -> Failure {
    let (name, hint) = match why {
        NotCompacted::Busy => (ErrorName::Busy, "wait for one of them"),
        NotCompacted::Stopping => (ErrorName::NotReady, "ask again when the node is back"),
        NotCompacted::NoRoom => (ErrorName::DiskFull, FREE_SOME_ROOM),
        NotCompacted::Unreadable(_) => (ErrorName::NotReady, "write that key again"),
    };
    Failure::new(name, why.to_string()).hint(hint)
}
