//! The engine and the node's methods as others see them: one program of tests, so that they run side by side.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod a_log_is_inspected;
mod a_node_serves;
mod a_segment_is_closed_beside;
mod an_answered_claim_is_kept;
mod any_operation_may_fail;
mod collected_keys_stay_deleted;
mod copies_come_whole;
mod crash_points_of_compaction;
mod damage_is_never_silent;
mod debts_are_kept;
mod digests_follow_the_map;
mod engine_is_a_map;
mod full_disk;
mod keys_fit_a_line;
mod memory_and_time;
mod one_coordinator_is_obeyed;
mod pictures;
mod quick_is_the_table;
mod segments_and_snapshots;
mod support;
