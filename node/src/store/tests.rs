//! Each rule of the map by an example.

use super::*;

use crate::log::place::FileId;
use crate::log::value::Value;
use crate::replica::Leaves;
use bytes::Bytes;
use ringkv_shared::hlc::Stamp;
use ringkv_shared::merkle;

const PLACE: Place = Place { file: FileId(2), offset: 100, len: 80 };

fn record(key: &str, op: Op, counter: u64) -> Record {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Record { seq: counter, ..Record::new(key, op, Version::new(0, counter)) }
}

fn value(text: &str) -> Value {
    Value::new(Bytes::copy_from_slice(text.as_bytes()))
}

fn put(store: &mut Store, key: &str, text: &str, counter: u64) -> bool {
    store.apply(&record(key, Op::write(Some(value(text))), counter), Some(PLACE))
}

fn put_until(store: &mut Store, key: &str, expires: u64, counter: u64) -> bool {
    let op = Op::Put { value: value("x"), expires: Some(expires) };
    store.apply(&record(key, op, counter), Some(PLACE))
}

fn text(store: &Store, key: &str, now: u64) -> Option<Bytes> {
    match store.get(key.as_bytes(), now)?.entry.content {
        Content::Value(value) => Some(value.to_bytes()),
        _ => None,
    }
}

fn all() -> PageRequest {
    PageRequest {
        after: None,
        prefix: Bytes::new(),
        all_keyspaces: false,
        keys_max: 100,
        bytes_max: 1000,
        leaves: None,
        arcs: None,
        until: None,
        keys_only: false,
        tombstones: false,
        at: None,
    }
}

fn keys(page: &Page) -> Vec<&[u8]> {
    page.entries.iter().map(|(key, _)| key.as_ref()).collect()
}

#[test]
fn the_newest_version_wins_in_any_order() {
    let mut store = Store::default();
    assert!(put(&mut store, "a", "2", 2));
    assert!(!put(&mut store, "a", "1", 1));
    assert!(!put(&mut store, "a", "again", 2));
    assert_eq!(text(&store, "a", 0).unwrap(), "2");
    assert!(store.apply(&record("a", Op::Del, 3), None));
    assert_eq!((store.tally().live, store.tally().tombstones), (0, 1));
    assert!(put(&mut store, "a", "4", 4));
    assert_eq!((store.tally().live, store.tally().tombstones), (1, 0));
}

#[test]
fn a_drop_forgets_what_is_there() {
    let mut store = Store::default();
    put(&mut store, "a", "1", 5);
    assert!(!store.apply(&record("b", Op::Drop, 5), None));
    assert!(store.apply(&record("a", Op::Drop, 5), None));
    assert_eq!((store.tally().live, store.depends_on(b"a")), (0, 5));
    assert!(put(&mut store, "a", "0", 1), "nothing is left to lose to");
}

#[test]
fn an_answer_depends_on_a_line_until_it_is_safe() {
    let mut store = Store::default();
    put(&mut store, "a", "1", 5);
    assert_eq!((store.depends_on(b"a"), store.depends_on(b"b")), (5, 0));
    store.settle(5);
    assert_eq!(store.depends_on(b"a"), 0);
}

#[test]
fn pages_go_through_all_keys_once() {
    let mut store = Store::default();
    for (n, key) in ["a", "b1", "b2", "b3", "c"].into_iter().enumerate() {
        put(&mut store, key, "x", n as u64 + 1);
    }
    store.apply(&record("b2", Op::Del, 9), None);
    let mut request = PageRequest { prefix: Bytes::from_static(b"b"), keys_max: 1, ..all() };
    let page = store.page(&request, 0).unwrap();
    assert_eq!((keys(&page), page.more), (vec![&b"b1"[..]], true));
    request.after = Some(Bytes::from_static(b"b1"));
    let page = store.page(&request, 0).unwrap();
    assert_eq!((keys(&page), page.more), (vec![&b"b3"[..]], false));
    let page = store.page(&PageRequest { tombstones: true, ..all() }, 0).unwrap();
    assert_eq!(page.entries.len(), 5);
}

#[test]
fn a_page_keeps_its_byte_budget_but_always_moves_on() {
    let mut store = Store::default();
    put(&mut store, "a", "0123456789", 1);
    put(&mut store, "b", "1", 2);
    let page = store.page(&PageRequest { bytes_max: 5, ..all() }, 0).unwrap();
    assert_eq!((keys(&page), page.more), (vec![&b"a"[..]], true));
    let request = PageRequest { bytes_max: 5, keys_only: true, ..all() };
    let page = store.page(&request, 0).unwrap();
    assert_eq!((keys(&page).len(), page.more), (2, false));
}

#[test]
fn a_value_that_was_read_gets_a_second_chance() {
    let mut store = Store::default();
    for (n, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        put(&mut store, key, "xx", n as u64 + 1);
    }
    let budget = Budget { bytes: 4, values: None };
    assert_eq!(store.evict(&budget), Eviction { values: 0, over: true }, "nothing is safe yet");
    store.settle(4);
    store.read(b"a", 0);
    assert_eq!(store.evict(&budget), Eviction { values: 2, over: false });
    assert_eq!((text(&store, "a", 0).unwrap(), text(&store, "b", 0)), ("xx".into(), None));
    let missed = store.read(b"b", 0).unwrap().entry;
    assert_eq!(missed.content, Content::Evicted { len: 2, stored_len: 2 });
    assert_eq!((missed.place, missed.is_live()), (Some(PLACE), true));
    assert_eq!(store.reads(), Reads { hits: 1, misses: 1, evictions: 2 });
    assert!(!store.admit(b"b", Version::new(0, 9), &value("yy")));
    assert!(store.admit(b"b", Version::new(0, 2), &value("xx")));
    assert_eq!(text(&store, "b", 0).unwrap(), "xx");
    let few = Budget { bytes: 100, values: Some(1) };
    assert!(!store.evict(&few).over);
    assert_eq!((store.tally().resident_values, store.tally().live), (1, 4));
}

#[test]
fn a_value_without_a_place_stays_in_memory() {
    let mut store = Store::default();
    store.apply(&record("a", Op::write(Some(value("x"))), 1), None);
    store.settle(1);
    assert_eq!(store.evict(&Budget { bytes: 0, values: None }).values, 0);
    assert!(store.replace(b"a", Version::new(0, 1), PLACE));
    assert!(!store.replace(b"a", Version::new(0, 2), PLACE), "it is another version");
    assert_eq!(store.evict(&Budget { bytes: 0, values: None }).values, 1);
}

#[test]
fn an_expired_value_is_a_tombstone_and_sweeping_makes_it_one() {
    let mut store = Store::default();
    put_until(&mut store, "a", 1000, 1);
    put(&mut store, "b", "stays", 2);
    assert_eq!(text(&store, "a", 999).unwrap(), "x");
    let expired = store.get(b"a", 1000).unwrap().entry;
    assert_eq!((expired.content, expired.version), (Content::Tombstone, Version::new(0, 1)));
    assert_eq!(keys(&store.page(&all(), 1000).unwrap()), [b"b"]);
    assert_eq!(store.sweep(999, 10), []);
    let [end] = &store.sweep(1000, 10)[..] else { panic!("one has expired") };
    assert_eq!(*end, Record { seq: 0, ..record("a", Op::Del, 1) });
    assert!(store.apply(end, None));
    assert!(!put_until(&mut store, "a", 1000, 1), "the same put again does not bring it back");
    assert!(!store.apply(&record("b", Op::Del, 2), None), "b does not expire");
    assert_eq!((store.tally().tombstones, store.tally().expiring), (1, 0));
    assert_eq!(store.sweep(5000, 10), []);
}

#[test]
fn a_sweep_does_its_round_in_pieces() {
    let mut store = Store::default();
    for n in 0..10 {
        put_until(&mut store, &format!("k{n}"), 5, n + 1);
    }
    let rounds: Vec<usize> = (0..5).map(|_| store.sweep(9, 4).len()).collect();
    assert_eq!(rounds, [4, 4, 2, 4, 4]);
}

#[test]
fn a_picture_stays_as_it_was() {
    let mut store = Store::default();
    put(&mut store, "a", "1", 1);
    put(&mut store, "b", "1", 2);
    put(&mut store, "c", "1", 3);
    let id = store.freeze().unwrap();
    let at = Some((id, Version::new(0, 3)));
    let before = store.page(&all(), 0).unwrap().entries;
    put(&mut store, "a", "2", 4);
    put(&mut store, "a", "3", 5);
    store.apply(&record("b", Op::Del, 6), None);
    store.apply(&record("c", Op::Drop, 3), None);
    put(&mut store, "d", "1", 7);
    assert_eq!(store.page(&PageRequest { at, ..all() }, 0).unwrap().entries, before);
    let at = Some((id, Version::new(0, 4)));
    let later = store.page(&PageRequest { at, ..all() }, 0).unwrap();
    assert_eq!(later.entries[0].1.entry.version, Version::new(0, 4));
    assert_eq!(keys(&store.page(&all(), 0).unwrap()), [b"a", b"d"]);
    store.thaw(id);
    assert_eq!(store.page(&PageRequest { at, ..all() }, 0).unwrap_err(), FreezeError::Gone);
    assert_eq!((store.is_frozen(), store.kept_bytes()), (false, 0));
}

#[test]
fn pictures_are_few_and_given_up_when_too_much_is_kept() {
    let mut store = Store::default();
    let ids: Vec<FreezeId> = (0..FREEZES_MAX).map(|_| store.freeze().unwrap()).collect();
    assert_eq!(store.freeze(), Err(FreezeError::TooMany));
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let mut counter = 0;
    while store.is_frozen() {
        assert!(store.kept_bytes() <= KEPT_BYTES_MAX && counter < 100);
        counter += 1;
        let value = Value::Plain(large.clone());
        store.apply(&record("a", Op::Put { value, expires: None }, counter), None);
    }
    let at = Some((ids[0], Version::new(0, 1)));
    assert_eq!(store.page(&PageRequest { at, ..all() }, 0).unwrap_err(), FreezeError::Gone);
    assert_eq!(store.kept_bytes(), 0);
}

#[test]
fn a_page_of_some_leaves_ends_after_a_while_where_it_was() {
    let mut store = Store::default();
    for n in 0..120_000 {
        put(&mut store, &format!("key{n:06}"), "v", n + 1);
    }
    let wanted = "key110000";
    let leaves: Leaves = [merkle::leaf_of_key(wanted.as_bytes())].into_iter().collect();
    let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let request = PageRequest { after, leaves: Some(leaves.clone()), ..all() };
        let page = store.page(&request, 0).unwrap();
        found.extend(keys(&page).into_iter().map(<[u8]>::to_vec));
        pages += 1;
        if !page.more {
            break;
        }
        after = page.reached;
    }
    let same = |key: &Vec<u8>| merkle::leaf_of_key(key) == merkle::leaf_of_key(wanted.as_bytes());
    assert!(found.contains(&wanted.as_bytes().to_vec()) && found.iter().all(same));
    assert_eq!(pages, 3);
}

/// Each line: version, what its writer had seen (`=`: says nothing), its stamp, and what is held then: the
/// past and the versions.
#[test]
fn what_is_held_after_each_write() {
    let siblings = [
        ("1.5", "=", "", "1.4; 1.5"),
        ("1.7", "=", "", "1.6; 1.7"),
        ("1.5", "=", "", "1.6; 1.7"),
        ("1.9", "1.6", "", "1.6; 1.7 1.9"),
        ("x80000001.4", "=", "", "1.6,x80000001.3; 1.7 1.9 x80000001.4"),
        ("1.8", "1.7", "", "1.7,x80000001.3; 1.8 1.9 x80000001.4"),
        ("1.10", "=", "", "1.9,x80000001.3; 1.10 x80000001.4"),
        ("1.11", "1.10,x80000001.4", "", "1.10,x80000001.4; 1.11"),
        ("1.12", "=", "", "1.11,x80000001.4; 1.12"),
        ("2.1", "1.12,x80000001.4", "", "1.12,x80000001.4; 2.1"),
        ("2.1", "9.9,x80000001.9", "", "1.12,x80000001.4; 2.1"),
    ];
    let last_wins = [
        ("1.5", "=", "10.0", "1.4; 1.5"),
        ("1.6", "-", "9.9", "1.4; 1.5"),
        ("1.8", "1.4", "10.0", "1.7; 1.8"),
        // Its clock was behind: it had seen 1.8, and loses all the same.
        ("2.1", "=", "9.0", "1.7; 1.8"),
        ("x80000001.4", "-", "10.1", "x80000001.3; x80000001.4"),
        // Without a stamp it is before all that have one.
        ("1.9", "-", "", "x80000001.3; x80000001.4"),
        ("1.12", "=", "11.0", "1.11; 1.12"),
    ];
    for table in [&siblings[..], &last_wins] {
        let mut store = Store::default();
        for (seq, (version, seen, stamp, expected)) in (1..).zip(table) {
            let op = Op::write(Some(value(version)));
            let record = Record::new(Bytes::from("k"), op, version.parse().unwrap());
            let record = match *seen {
                "=" => record,
                seen => record.with_seen(&seen.parse().unwrap()),
            };
            let record = Record { stamp: stamp.parse().ok(), seq, ..record };
            store.apply(&record, None);
            let held = store.get(b"k", 0).unwrap();
            let versions: Vec<String> = held.entries().map(|e| e.version.to_string()).collect();
            assert_eq!(format!("{}; {}", held.past(), versions.join(" ")), *expected, "{version}");
            assert!(!store.standing(&record).changes, "{version} again");
        }
    }
}

#[test]
fn a_page_is_of_one_keyspace_or_of_all() {
    use crate::log::key::{prefix, stored};
    let mut store = Store::default();
    let names = ["carts", "default", "cart"];
    let spaces = names.map(|name| name.parse::<ringkv_shared::KeyspaceName>().unwrap());
    for (space, seq) in spaces.iter().zip(1..) {
        for key in ["", "\0", "\0a\0", "b"] {
            let op = Op::write(Some(value("x")));
            let record = Record::new(stored(space, key.into()), op, Version::new(1, 1));
            assert!(store.apply(&Record { seq, ..record }, None));
        }
    }
    for keys_max in 1..5 {
        for space in &spaces {
            let start = if space.is_default() { Vec::new() } else { prefix(space) };
            let mut request = PageRequest { prefix: start.into(), keys_max, ..all() };
            let mut found = Vec::new();
            loop {
                let page = store.page(&request, 0).unwrap();
                found.extend(page.entries.into_iter().map(|(key, _)| key));
                request.after = found.last().cloned();
                if !page.more {
                    break;
                }
            }
            let expected = ["", "\0", "\0a\0", "b"].map(|key| stored(space, key.into()));
            assert_eq!(found, expected, "{space}, {keys_max} a page");
        }
    }
    assert_eq!(store.page(&PageRequest::everything(), 0).unwrap().entries.len(), 12);
    let carts = Record::new(Bytes::from(prefix(&spaces[0])), Op::DropSpace, Version::default());
    assert!(store.apply(&carts, None) && !store.apply(&carts, None));
    assert_eq!((store.tally().live, store.count(&prefix(&spaces[2]))), (8, 4));
}

#[test]
fn a_picture_has_the_last_by_the_clock() {
    let stamped = |counter, ms| {
        let stamp = Some(Stamp { ms, count: 0 });
        Record { stamp, ..record("a", Op::write(Some(value("x"))), counter) }
    };
    let mut store = Store::default();
    let id = store.freeze().unwrap();
    store.apply(&stamped(3, 5), Some(PLACE));
    // It was numbered before, came later, and is the last.
    store.apply(&stamped(2, 9), Some(PLACE));
    store.apply(&stamped(4, 12), Some(PLACE));
    for (at, there) in [(2, 2), (3, 2), (4, 4)] {
        let at = Some((id, Version::new(0, at)));
        let page = store.page(&PageRequest { at, ..all() }, 0).unwrap();
        assert_eq!(page.entries[0].1.entry.version, Version::new(0, there), "{at:?}");
    }
}

/// Without values, too: a page of nothing but contexts would outgrow a line of the wire.
#[test]
fn contexts_and_siblings_count_for_the_size_of_a_page() {
    let dots = (0..100).map(|n| format!(",+0.{}", 100 + 2 * n)).collect::<String>();
    let seen = format!("0.1{dots}").parse().unwrap();
    let mut store = Store::default();
    for key in ["a", "b", "c", "d"] {
        for counter in [2, 3] {
            let write = record(key, Op::write(Some(value("x"))), counter);
            store.apply(&write.with_seen(&seen), Some(PLACE));
        }
    }
    for keys_only in [false, true] {
        let page = store.page(&PageRequest { keys_only, bytes_max: 1500, ..all() }, 0).unwrap();
        assert_eq!((page.entries.len(), page.more), (2, true), "{keys_only}");
    }
}
