//! Whom the outcome of a key goes to: a call of its own, or a seat in a batch.

use ringkv_shared::net::{Spell as _, Ticket, failure_into_object};
use ringkv_shared::{Blob, Failure};
use serde::Serialize;
use tokio::time::Instant;

use super::batch::Seat;
use crate::cluster::Cluster;

/// Who waits for an outcome.
pub(super) enum Return {
    /// Who made the call with this id.
    Call { ticket: Ticket, id: u64 },
    /// A batch.
    Seat(Seat),
}

impl Return {
    /// Gives the result, which `spell` appends.
    pub(super) fn done(
        self,
        cluster: &Cluster,
        (started, now): (Instant, Instant),
        spell: impl FnOnce(&mut Vec<u8>),
    ) {
        match self {
            Self::Call { ticket, id } => {
                cluster.latency.note(now, now - started);
                ticket.answer(|out| {
                    out.answer_to_number(id);
                    spell(out);
                    out.raw("}");
                });
            }
            Self::Seat(seat) => seat.fill(spell),
        }
    }

    /// Gives what the machine has made of it.
    pub(super) fn end(
        self,
        cluster: &Cluster,
        started: Instant,
        key: Blob,
        end: Result<impl Serialize, Failure>,
    ) {
        match (self, end) {
            (Self::Seat(seat), end) => seat.end(key, end),
            (call, Ok(result)) => {
                call.done(cluster, (started, Instant::now()), |out| write_json(&result, out));
            }
            (Self::Call { ticket, id }, Err(failure)) => {
                let now = Instant::now();
                cluster.latency.note(now, now - started);
                ticket.answer(|out| spell_error(id, &failure_into_object(failure), out));
            }
        }
    }
}

/// An answer that is an error.
pub(super) fn spell_error(id: u64, error: &impl Serialize, out: &mut Vec<u8>) {
    out.raw(r#"{"jsonrpc":"2.0","id":"#).number(id).raw(r#","error":"#);
    write_json(error, out);
    out.raw("}");
}

pub(super) fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("what we answer is JSON, and memory takes it");
}
