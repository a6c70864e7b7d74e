//! What parses and what does not.

use super::values::parse_address;
use super::*;

fn parse(words: &[&str]) -> Result<Word, clap::Error> {
    Line::try_parse_from(words).map(|line| line.word)
}

#[test]
fn every_line_of_the_contract_parses() {
    let table = [
        "put apple 123",
        "put n -5",
        "put a -",
        "put a 1 --ttl 10s",
        "put a 1 --ttl none",
        "put a 1 --w 2 --context 1.3,+1.5 --request r1 --sloppy",
        "put a 1 --context - --strict",
        "put a 1 --if-version 1.3",
        "put a 1 --if-absent",
        "get a --r 2",
        "del a --w 1 --context 1.3",
        "del a --if-version x9f00c001.7",
        "resolve a 1",
        "resolve a --keep 1.3",
        "mput a 1 b -2 --ttl 5s --w 2",
        "mget a b --r 2",
        "mdel a b --strict",
        "explain put a 1 --w 2",
        "explain put a -- -x",
        "explain get a --r 2",
        "explain del a",
        "watch",
        "watch user: --from 3.17 --for 10s --count 5",
        "events",
        "events --follow --for 1s",
        "why a",
        "check",
        "check --repair",
        "keyspace",
        "keyspace show default",
        "keyspace set default --ttl 1h",
        "keyspace list",
        "keyspace create orders --n 3 --r 2 --w 2 --policy lww --sloppy on --ttl 5s",
        "keyspace set orders --sloppy off",
        "keyspace drop orders",
        "setquorum 2 2",
        "setquorum strong-read",
        "use orders",
        "get apple",
        "get apple --all",
        "get --all apple",
        "del apple",
        "addnode n4 5004",
        "addnode n4 host:5004 --weight 2",
        "removenode n3",
        "removenode n3 --force",
        "addnode n4 5004 --zone rack-a",
        "replacenode n1 n9 5009",
        "replacenode n1 n9 host:5009",
        "setweight n1 2",
        "setzone n1 rack-a",
        "setzone n1 -",
        "plan",
        "plan clear",
        "rebalance --epoch 9",
        "rebalance --detach",
        "progress",
        "pause",
        "resume",
        "cancel",
        "what-if kill n2,n5",
        "what-if kill n2 n5",
        "what-if add n9 --weight 2 --zone a",
        "what-if remove n2",
        "what-if weight n1 2",
        "doctor",
        "why-down n2",
        "setreplica 2",
        "rebalance",
        "rebalance --dry-run",
        "show",
        "stats",
        "stats n1",
        "where apple",
        "locate apple",
        "ring",
        "ring --tokens",
        "scan",
        "scan user: --limit 3",
        "count",
        "count user:",
        "load a.csv",
        "load -",
        "load - --as csv",
        "export -",
        "wal n1",
        "wal n1 --tail 3",
        "wal n1 tail 3",
        "wal ./n1 cat",
        "wal n1/data.log verify",
        "wal n1 blame cat",
        "salvage n1",
        "salvage ./n1 --into x --id n1",
        "compact n1",
        "rpc coordinator info",
        "rpc n1 get [\"apple\"]",
        "config",
        "config a",
        "config a 1",
        "source f",
        "kill n1",
        "stop n1",
        "start n1",
        "restart n1",
        "pause n1",
        "resume n1",
        "help",
        "help put",
        "exit",
        "quit",
        ".timing on",
        ".timing",
        ".output json",
        ".trace off",
        ".brief",
        ".history",
        ".clear",
        "put -- k -x",
    ];
    for line in table {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(parse(&words).is_ok(), "{line}: {:?}", parse(&words).err());
    }
}

#[test]
fn what_is_not_in_the_grammar_is_refused() {
    for line in [
        "pput a 1",
        "put a",
        "put a 1 2",
        "get",
        "get a --jsno",
        "addnode N1 5001",
        "addnode n1 0",
        "addnode n1 :5",
        "addnode n1 70000",
        "setreplica x",
        "replacenode n1 n9",
        "setweight n1 0",
        "setweight n1 -1",
        "setzone n1",
        "setzone n1 A",
        "plan cleer",
        "rebalance --dry-run --detach",
        "rebalance --epoch x",
        "what-if",
        "what-if kill",
        "what-if kill n2,",
        "what-if die n2",
        "cancel n1",
        "why-down",
        ".timing maybe",
        "put a --ttl",
        "put a 1 --ttl 0s",
        "put a 1 --ttl 10",
        "put a 1 --ttl -5s",
        "put a 1 --w x",
        "put a 1 --context 1",
        "put a 1 --sloppy --strict",
        "put a 1 --if-version 1.3 --if-absent",
        "get a --all --r 2",
        "resolve a",
        "resolve a 1 --keep 1.3",
        "mput",
        "mget",
        "explain",
        "explain show",
        "watch --count 0",
        "watch --for soon",
        "why",
        "keyspace drup default",
        "keyspace create Orders",
        "keyspace create orders --policy last",
        "keyspace create orders --n x",
        "setquorum",
        "setquorum strong",
        "setquorum 1 x",
        "use",
        "use a/b",
        "kill",
        "show n1",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(parse(&words).is_err(), "{line}");
    }
}

#[test]
fn after_two_dashes_a_dash_is_a_dash() {
    for (line, expected) in
        [("put k -", false), ("put k -- -", true), ("put -- k -", true), ("put -- - v", true)]
    {
        let words: Vec<&str> = line.split(' ').collect();
        let Ok(Word::Command(mut command)) = parse(&words) else { panic!("{line}") };
        command.heed_escape(&words);
        let Command::Data(Data::Put(PutArgs { literal, .. })) = *command else { panic!("{line}") };
        assert_eq!(literal, expected, "{line}");
    }
}

#[test]
fn a_port_alone_is_on_this_machine() {
    assert_eq!(parse_address("5004").as_deref(), Ok("127.0.0.1:5004"));
    assert_eq!(parse_address("[::1]:5004").as_deref(), Ok("[::1]:5004"));
}

#[test]
fn a_dash_is_a_dash_where_a_put_is_explained_too() {
    let words = ["explain", "put", "k", "--", "-"];
    let Ok(Word::Command(mut command)) = parse(&words) else { panic!("no command") };
    command.heed_escape(&words);
    let Command::Data(Data::Explain { what: Explained::Put(put) }) = *command else {
        panic!("not explained")
    };
    assert!(put.literal);
}

#[test]
fn options_that_are_left_out_are_not_sent() {
    let options = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let Ok(Word::Command(command)) = parse(&words) else { panic!("{line}") };
        let Command::Data(Data::Put(put)) = *command else { panic!("{line}") };
        put.how.options(ringkv_shared::KeyspaceName::default(), put.ttl)
    };
    assert_eq!(options("put a 1"), ringkv_shared::protocol::cluster::WriteOptions::default());
    assert_eq!(options("put a 1 --strict").sloppy, Some(false));
    assert_eq!(options("put a 1 --sloppy").sloppy, Some(true));
    assert_eq!(options("put a 1 --ttl none").ttl_ms, Some(0));
}
