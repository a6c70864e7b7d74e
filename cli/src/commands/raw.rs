//! `compact`, `rpc`: straight to one server, to see what it keeps and speaks.
//!
//! # Caveats
//!
//! `rpc` makes a connection of its own for its one call, so the `id` is always 0. It can call
//! anything, also what harms: `rpc n1 drop …`.

use jsonrpsee::core::client::ClientT as _;
use jsonrpsee::core::traits::ToRpcParams;
use ringkv_shared::net::{Client, ClusterApiClient, NodeApiClient};
use ringkv_shared::{ErrorName, Failure, NodeId};
use serde_json::json;
use serde_json::value::RawValue;

use super::observe::bytes;
use crate::cluster::COORDINATOR;
use crate::report::{Report, Told, counted};
use crate::session::Session;
use crate::wire::{DEADLINE, LONG_DEADLINE, Trace, Wire};

/// Compacts a node's log.
pub(super) async fn compact(s: &mut Session, id: NodeId) -> Result<Report, Failure> {
    let node = connect(s, id.as_str(), &s.trace).await?;
    let reply = node.call(LONG_DEADLINE, async |c| NodeApiClient::compact(c).await).await?;
    let (before, after) = (bytes(reply.bytes_before), bytes(reply.bytes_after));
    let records = counted(reply.records, "record");
    Ok(Report::new(&reply).say(format!("Compacted {id}: {records}, {before} -> {after}.")))
}

/// One raw call.
pub(super) async fn rpc(
    s: &mut Session,
    target: String,
    method: String,
    params: Option<String>,
) -> Result<Report, Failure> {
    let params = params.map(parse_params).transpose()?;
    // A trace of its own: both lines are the result here, whether `.trace` is on or not.
    let trace = Trace::default();
    trace.switch(true);
    let wire = match target.as_str() {
        COORDINATOR => Wire::traced(&s.addr, format!("coordinator at {}", s.addr), &trace),
        node => connect(s, node, &trace).await?,
    };
    let call = async |c: &Client| c.request::<Box<RawValue>, _>(&method, Encoded(params)).await;
    let result = wire.call(DEADLINE, call).await;
    let lines = trace.take();
    match result {
        Ok(result) => {
            let report = Report::new(&json!({ "result": result })).plain(result.get());
            Ok(lines.into_iter().fold(report, Report::say))
        }
        Err(failure) => {
            let report = Report::from(failure);
            let shown = lines.into_iter().map(Told::Result);
            Ok(Report { narrated: shown.chain(report.narrated).collect(), ..report })
        }
    }
}

/// Parameters that are JSON already.
struct Encoded(Option<Box<RawValue>>);

impl ToRpcParams for Encoded {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        Ok(self.0)
    }
}

/// Parameters must be a JSON array or object, as JSON-RPC has them.
fn parse_params(text: String) -> Result<Box<RawValue>, Failure> {
    let bad = |why: String| {
        Failure::new(
            ErrorName::BadArgument,
            format!("the parameters are no JSON array or object{why}"),
        )
        .hint("for example: rpc n1 get '[\"apple\"]'        rpc n1 dump '{\"limit\":10}'")
    };
    let raw = RawValue::from_string(text).map_err(|error| bad(format!(": {error}")))?;
    if raw.get().trim_start().starts_with(['[', '{']) { Ok(raw) } else { Err(bad(String::new())) }
}

/// A connection to a node by its name.
pub(super) async fn connect(s: &Session, id: &str, trace: &Trace) -> Result<Wire, Failure> {
    let reply = s.call(async |c| ClusterApiClient::show(c).await).await?;
    let known: Vec<&str> = reply.nodes.iter().map(|row| row.id.as_str()).collect();
    match reply.nodes.iter().find(|row| row.id.as_str() == id) {
        Some(row) => Ok(Wire::traced(&row.addr, format!("{id} at {}", row.addr), trace)),
        None => Err(Failure::new(ErrorName::NodeNotFound, format!("no node {id}"))
            .hint(format!("there are: {}", known.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_array_or_an_object() {
        assert!(parse_params(r#" ["a"]"#.into()).is_ok());
        assert!(parse_params("{}".into()).is_ok());
        for bad in ["1", "\"a\"", "[", ""] {
            assert_eq!(parse_params(bad.into()).unwrap_err().name, ErrorName::BadArgument);
        }
    }
}
