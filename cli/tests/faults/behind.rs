//! Writes to a node behind the coordinator's back: they make replicas differ, and never push out what
//! the coordinator acknowledges.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{Caller, wait_for};

/// The node numbers its own writes on a line of its own. Neither side has seen the other's, so both are kept, at every
/// owner once one was read.
#[test]
fn an_acknowledged_write_is_kept_beside_those_made_behind_it() {
    for behind in 1..=3 {
        let cluster = Cluster::of(2, 2);
        let mut caller = cluster.caller();
        caller.call("put", json!(["apple", "123"]));
        let mut direct = Caller::to(cluster.addr_of("n1"));
        for n in 1..=behind {
            direct.call("put", json!(["apple", format!("behind {n}")]));
        }
        let put = caller.call("put", json!(["apple", "125"]));
        let got = caller.call("get", json!(["apple", {"r": 2}]));
        let values = json!(["125", format!("behind {behind}")]);
        let found: Vec<&Value> =
            got["siblings"].as_array().unwrap().iter().map(|one| &one["value"]).collect();
        assert_eq!(json!(found), values, "{got}");
        assert_eq!(got["siblings"][0]["version"], put["version"]);
        wait_for("the read has repaired", || {
            let [n1, n2] = ["n1", "n2"].map(|id| {
                Caller::to(cluster.addr_of(id)).call("fetch", json!([["apple"]]))["records"].clone()
            });
            (n1 == n2).then_some(())
        });
    }
}
