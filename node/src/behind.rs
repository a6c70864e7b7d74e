//! Work that may take its time: on a thread that gives way to those that serve.
//!
//! A compaction is some tenths of a second of processor time. Where all processors are busy, a thread as good as the others
//! takes its turns of several milliseconds from the one that serves, and all requests wait for that. One of less priority
//! has its turn when a processor is free, or else about a tenth of one.
//!
//! # Caveats
//!
//! Only Linux has priorities of threads; elsewhere, and where it is not allowed, such a thread is as good as the others.

use std::future::Future;
use std::thread;

/// How far the priority is lowered, as `nice` counts: to a tenth of the usual share of a processor.
const NICE: i32 = 10;

/// Begins a piece of work at once; its end is waited for without a processor.
///
/// # Panics
///
/// When awaited, if the work has panicked.
pub(crate) fn behind<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> {
    let give_way = move || {
        if cfg!(target_os = "linux") {
            // Where it is refused, the work is done all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
        }
        work()
    };
    // A thread of its own: one whose priority was lowered cannot get it back, and others of the pool write the log.
    let lent = tokio::task::spawn_blocking(|| thread::spawn(give_way).join());
    async {
        let done = lent.await.expect("waiting for a thread does not panic");
        done.expect("the work does not panic")
    }
}
