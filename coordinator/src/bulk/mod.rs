//! The two passes of a rebalance over keys that are alike, many at a time.
//!
//! ```text
//!   copy   survey ─ all owners of now hold the same, a new owner does not ─► dump at one of them ─ as it is ─► apply
//!   drop   survey ─ all owners and a stray hold the same ─► shed at the stray, while it comes to what it came to
//!          survey ─ all owners hold the same, a stray something else ─► marks of one owner ─► shed at the stray
//!   both   survey ─ else ─► the walk key by key, over these sorts of this stretch only
//! ```
//!
//! A page that is copied is not read on its way: its records go on as they came. A new owner that had something before
//! may hold what nobody else does, since somebody wrote to it: it is looked at once more afterwards.
//!
//! | file | idea |
//! |---|---|
//! | here | a pass over the stretches of a survey |
//! | `copying` | loads of records from an owner to who is to be one |
//! | `page` | records side by side, not read |
//! | `dropping` | what strays hold as the owners do, forgotten |
//!
//! # Caveats
//!
//! Who follows hears of numbers of keys, not of each. An owner that is written to between its count and its marks makes
//! its keys of that stretch be walked.

mod copying;
mod dropping;
mod page;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream;
use ringkv_shared::pace::BATCHES_MOST;
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::survey::{Ground, Step, Survey};

/// Stretches that are looked at at once: while the last page of one is written where it goes, that of the next is read
/// where it is, and the one after that is counted. With more, requests of others would wait behind all of them.
const STRETCHES: usize = 3;

/// What all stretches of a pass share.
struct Pass<'a> {
    ground: Arc<Ground<'a>>,
    /// Something failed, or it is to be left: no stretch is begun any more.
    stop: AtomicBool,
    /// One batch takes one, several when only few may be under way.
    turns: Semaphore,
}

impl<'a> Pass<'a> {
    fn over(survey: &Survey<'a>) -> Self {
        let ground = Arc::clone(&survey.ground);
        Self { ground, stop: AtomicBool::new(false), turns: Semaphore::new(BATCHES_MOST) }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Cluster {
    /// The steps of a survey, until the pass is stopped.
    fn steps<'s>(
        &'s self,
        survey: Survey<'s>,
        pass: &'s Pass<'_>,
    ) -> impl stream::Stream<Item = Step> + 's {
        stream::unfold(survey, async |mut survey| {
            if pass.is_stopped() {
                return None;
            }
            survey.next().await.map(|step| (step, survey))
        })
    }
}
