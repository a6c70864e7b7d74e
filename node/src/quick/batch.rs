//! Pages and batches in front of the method table: `dump` and `apply` as a rebalance spells them.
//!
//! ```text
//! apply  [[{"key":"apple","value":"red","version":"3.17"},{"key":"fig","deleted":true,"version":"3.9"}],"default","move"]
//! dump   ["apple",10000,null,null,true,null,"default",null,"fig","7fffffffffffffff:0 ffffffffffffffff:1"]
//!        ["apple",10000,null,null,true,null,"default",null,"fig","@0123456789abcdef0123456789abcdef"]
//! ```
//!
//! A batch is read whole before anything of it is done, so that the table can have it as long as it is not.
//!
//! # Caveats
//!
//! Only keys that have one value, in memory and as it was written, in ascending order, and only while no tombstone
//! was ever collected: else all of the page or batch goes to the table.

use std::borrow::Cow;

use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use ringkv_shared::net::{QuickCall, Scan, Spell as _};
use ringkv_shared::protocol::node::Via;
use ringkv_shared::told::Told;
use ringkv_shared::{KeyspaceName, Version};

use super::ask::{given, stamp, version};
use super::{refused, times};
use crate::engine::Engine;
use crate::log::key;
use crate::log::record::{Op, Record};
use crate::log::value::{PLAIN_BYTES_MAX, Value};
use crate::refusals::no_room;
use crate::store::{Content, Held, PageRequest};

/// A copy of what another replica holds for a key.
struct Copy<'a> {
    name: &'a str,
    /// `None`: a tombstone.
    value: Option<&'a str>,
    version: Version,
    expires: Option<u64>,
    stamp: Option<Stamp>,
}

/// Takes over a line, if it is one of these.
pub(super) fn answer(engine: &Engine, line: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(call) = QuickCall::read(line) else { return false };
    match call.method {
        "apply" => apply(engine, &call, out),
        "dump" => dump(engine, &call, out),
        _ => false,
    }
}

fn apply(engine: &Engine, call: &QuickCall<'_>, out: &mut Vec<u8>) -> bool {
    let Some(records) = records(call.params) else { return false };
    let state = engine.0.lock();
    if !state.serves(call.reign) || !state.ledger.floors.is_empty() {
        return false;
    }
    match engine.merge_plain(state, records) {
        Ok(changed) => {
            out.answer_to(call.id).raw(r#"{"status":"ok","changed":"#).number(changed).raw("}}\n");
        }
        Err(why) => refused(no_room(why), call.id, out),
    }
    true
}

fn records(params: &[u8]) -> Option<Vec<Record<Cow<'_, [u8]>>>> {
    let mut params = Scan::new(params);
    let mut copies: Vec<Copy<'_>> = Vec::new();
    let mut bytes = 0;
    params.skip("[")?;
    loop {
        let copy = copy(&mut params)?;
        bytes += copy.name.len() + copy.value.map_or(0, str::len);
        let ascends = copies.last().is_none_or(|last| last.name < copy.name);
        if !ascends || bytes > PAGE_BYTES_MAX || copies.len() == PAGE_KEYS_MAX {
            return None;
        }
        copies.push(copy);
        if !params.skip_if(",") {
            break;
        }
    }
    params.skip("],")?;
    let keyspace: KeyspaceName = params.text()?.parse().ok()?;
    params.skip(r#","move""#)?;
    params.is_done().then(|| copies.into_iter().map(|copy| copy.into_record(&keyspace)).collect())
}

impl<'a> Copy<'a> {
    fn into_record(self, keyspace: &KeyspaceName) -> Record<Cow<'a, [u8]>> {
        let Self { name, value, version, expires, stamp } = self;
        let op = match value {
            Some(value) => Op::Put { value: Value::Plain(value.as_bytes().into()), expires },
            None => Op::Del,
        };
        let record =
            Record::new(key::stored_cow(keyspace.as_str(), name.as_bytes().into()), op, version);
        Record { stamp, via: Some(Via::Move), ..record }
    }
}

fn copy<'a>(params: &mut Scan<'a>) -> Option<Copy<'a>> {
    params.skip(r#"{"key":"#)?;
    let name = params.text().filter(|name| name.len() <= KEY_BYTES_MAX)?;
    let value = if params.skip_if(r#","value":"#) {
        // What is longer may be packed.
        Some(params.text().filter(|value| value.len() <= PLAIN_BYTES_MAX)?)
    } else {
        params.skip(r#","deleted":true"#)?;
        None
    };
    params.skip(r#","version":"#)?;
    let version = version(params)?;
    let expires = given(params.skip_if(r#","expires":"#).then(|| params.number()))?;
    let stamp = given(params.skip_if(r#","stamp":"#).then(|| stamp(params)))?;
    params.skip("}")?;
    Some(Copy { name, value, version, expires, stamp })
}

fn dump(engine: &Engine, call: &QuickCall<'_>, out: &mut Vec<u8>) -> bool {
    let Some((mut request, told)) = request(call.params) else { return false };
    let now = engine.now();
    let mut state = engine.0.lock();
    if !state.serves(call.reign) {
        return false;
    }
    request.arcs = state.arcs.meant(told);
    if request.arcs.is_none() {
        return false;
    }
    state.depend_on_all();
    let (start, mut last, mut count) = (out.len(), None, 0);
    out.answer_to(call.id).raw(r#"{"status":"ok","items":["#);
    let mut all = true;
    let shown = state.store.show(&request, now, |stored, held| {
        if count > 0 {
            out.push(b',');
        }
        let name = key::split(stored).1;
        all = item(name, held, out);
        (count, last) = (count + 1, Some(name.to_vec()));
        all
    });
    let Some(shown) = shown.ok().filter(|_| all) else {
        out.truncate(start);
        return false;
    };
    out.raw("]");
    let reached = shown.reached.map(|stored| key::split(&stored).1.to_vec());
    if let Some(next) = reached.or(last).filter(|_| shown.more) {
        out.raw(r#","next":"#).blob(&next);
    }
    out.raw("}}\n");
    true
}

fn request(params: &[u8]) -> Option<(PageRequest, Told)> {
    let mut params = Scan::new(params);
    let after = text_or_null(&mut params)?;
    params.skip(",")?;
    let limit = usize::try_from(params.number()?).ok()?;
    params.skip(",null,null,true,null,")?;
    let keyspace: KeyspaceName = params.text()?.parse().ok()?;
    params.skip(",null,")?;
    let until = text_or_null(&mut params)?;
    params.skip(",")?;
    let told = params.text()?.parse().ok().filter(|_| params.is_done())?;
    let place = |name: &str| key::stored(&keyspace, name.as_bytes().to_vec().into());
    let request = PageRequest {
        after: after.map(place),
        prefix: place(""),
        all_keyspaces: false,
        keys_max: limit.clamp(1, PAGE_KEYS_MAX),
        until: until.map(place),
        ..PageRequest::everything()
    };
    Some((request, told))
}

fn text_or_null<'a>(params: &mut Scan<'a>) -> Option<Option<&'a str>> {
    if params.skip_if("null") { Some(None) } else { Some(Some(params.text()?)) }
}

/// Writes what is held for a key; false if that is more than one value, or the value is not there in plain.
fn item(name: &[u8], held: &Held<&[u8]>, out: &mut Vec<u8>) -> bool {
    let Held { entry, more: None } = held else { return false };
    out.raw(r#"{"key":"#).blob(name);
    match entry.content {
        Content::Value(Value::Plain(value)) => out.raw(r#","value":"#).blob(value),
        Content::Tombstone => out.raw(r#","deleted":true"#),
        Content::Value(Value::Zstd { .. }) | Content::Evicted { .. } => return false,
    };
    times(entry, out);
    out.raw("}");
    true
}
