//! Writes to a node behind the coordinator's back: they make replicas differ, and never outrun what
//! the coordinator acknowledges afterwards.

use serde_json::json;

use crate::cluster::Cluster;
use crate::support::Caller;

/// The node numbers its own writes after the highest it has seen: the first of them gets the
/// number that the coordinator gives next, the others higher ones.
#[test]
fn an_acknowledged_write_wins_over_those_made_behind_it() {
    for behind in 1..=3 {
        let cluster = Cluster::of(2, 2);
        let mut caller = cluster.caller();
        caller.call("put", json!(["apple", "123"]));
        let mut direct = Caller::to(cluster.addr_of("n1"));
        for n in 0..behind {
            direct.call("put", json!(["apple", format!("behind {n}")]));
        }
        let put = caller.call("put", json!(["apple", "125"]));
        for id in ["n1", "n2"] {
            let got = Caller::to(cluster.addr_of(id)).call("get", json!(["apple"]));
            assert_eq!((&got["value"], &got["version"]), (&json!("125"), &put["version"]), "{id}");
        }
    }
}
