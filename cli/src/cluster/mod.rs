//! Local clusters of real processes: one coordinator, some nodes, and somebody who owns them.
//!
//! ```text
//!   kv (shell or script)                       kv demo --detach
//!     └ LocalCluster                             └ kv demo --supervise …
//!         └ Supervisor ── pipes ──┐                   └ Supervisor ── pipes ──┐
//!             ▲                   ├ coordinator            ▲                  ├ coordinator
//!             │ JSON-RPC          ├ n1                     │ JSON-RPC         ├ n1
//!          Control                └ n2 …                Control               └ n2 …
//! ```
//!
//! The supervisor starts children by running this very program again, so there is nothing to
//! install beside it. Each child prints one ready line when it serves and stops when its standard
//! input ends, which happens when the supervisor dies, however it dies: no orphans.
//!
//! Killing and restarting goes through a small JSON-RPC endpoint whose address the coordinator
//! tells in `info`. So `kill n1` is the same command for a shell's own cluster and for a detached
//! one at the other end of `--connect`.
//!
//! - what may be done to a child, purely: [`life`]; which ports: [`ports`]
//! - a child process: [`process`]; the owner of all of them: [`supervisor`]
//! - its endpoint: [`rpc`]; the client of that: [`control`]
//! - making the nodes members: [`register`]
//! - a cluster in this process: [`local`]; one that runs on: [`detached`], found again by [`state`]
//!
//! # Caveats
//!
//! The endpoint binds loopback and asks nobody for credentials: on a machine with several users,
//! each can kill the processes of the others' demos. It can start nothing but this program.

mod control;
mod detached;
mod life;
mod local;
mod ports;
mod process;
mod register;
mod rpc;
mod state;
mod supervisor;

pub(crate) use control::Control;
pub(crate) use detached::{demo_detached, demo_stop, supervise};
pub(crate) use life::{Action, COORDINATOR};
pub(crate) use local::{DemoOptions, LocalCluster};
pub(crate) use state::supervisor_of;
