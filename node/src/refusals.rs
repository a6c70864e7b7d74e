//! What the engine refuses, in the words of the wire: which name, what happened, what to do next.
//!
//! # Caveats
//!
//! The names are stable, the words are not.

use jsonrpsee::types::ErrorObjectOwned;
use ringkv_shared::net::failure_into_object;
use ringkv_shared::{ErrorName, Failure};

use crate::compact::NotCompacted;
use crate::read::PageError;
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
