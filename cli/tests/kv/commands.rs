//! The commands as a script or a person uses them one by one: bare results, JSON, exit codes.

use crate::cluster::{Ended, Place};
use serde_json::{Value, json};

/// A place with a cluster, and how to run `kv` on it.
struct Shop {
    place: Place,
    at: String,
}

impl Shop {
    fn open() -> Self {
        let place = Place::new();
        let line = place.detach(&["--replicas", "2"]);
        let at = line["coordinator"]["addr"].as_str().expect("an address").to_owned();
        Self { place, at }
    }

    fn kv(&self, args: &[&str]) -> Ended {
        self.place.kv(&self.at, args, b"")
    }

    fn kv_with(&self, stdin: &[u8], args: &[&str]) -> Ended {
        self.place.kv(&self.at, args, stdin)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.place.path().join(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.place.path().join(name)).expect("a file")
    }
}

/// One start of a cluster, many looks at it.
#[test]
fn every_command_keeps_its_word() {
    let shop = Shop::open();
    values_are_kept_byte_for_byte(&shop);
    a_dash_is_standard_input_or_a_dash(&shop);
    files_go_round(&shop);
    a_scan_of_many_pages_is_whole(&shop);
    settings_are_shown_and_set(&shop);
    a_sourced_file_runs_to_its_first_mistake(&shop);
    a_node_is_compacted_paused_and_resumed(&shop);
    what_was_planned_is_what_is_carried_out(&shop);
    the_shell_is_set_by_dot_commands(&shop);
    json_is_one_object_a_command(&shop);
}

fn values_are_kept_byte_for_byte(shop: &Shop) {
    let text = "zeile 1\nüöä ✓\n\ttab";
    shop.kv_with(text.as_bytes(), &["put", "text", "-"]).with(0);
    assert_eq!(shop.kv(&["get", "text"]).with(0), format!("{text}\n"));
    assert_eq!(
        shop.kv(&["--narrate", "get", "text"]).with(0),
        "text -> zeile 1\\nüöä ✓\\n\\ttab\n"
    );
    let bytes: Vec<u8> = (0..=255).collect();
    shop.kv_with(&bytes, &["put", "bytes", "-"]).with(0);
    assert_eq!(shop.kv(&["get", "bytes"]).out, bytes, "no newline is added");
    let got: Value =
        serde_json::from_slice(&shop.kv(&["--json", "get", "bytes"]).out).expect("JSON");
    assert!(got["value"]["base64"].is_string(), "{got}");
}

fn a_dash_is_standard_input_or_a_dash(shop: &Shop) {
    shop.kv_with(b"not this", &["put", "dash", "--", "-"]).with(0);
    assert_eq!(shop.kv(&["get", "dash"]).with(0), "-\n");
    shop.kv(&["-e", "put dash -- -x; put -- dash2 -"]).with(0);
    assert_eq!(shop.kv(&["-e", "get dash; get dash2"]).with(0), "-x\n-\n");
    // Commands come from standard input, so a value cannot.
    let told = shop.kv_with(b"put dash -\n", &[]);
    told.with(2);
    assert!(told.err.contains("the value \"-\" itself: put KEY -- -"), "{}", told.err);
}

fn files_go_round(shop: &Shop) {
    let said = shop.kv(&["export", "all.jsonl"]);
    let told = said.with(0);
    assert!(told.starts_with("Exported 4 keys to all.jsonl: all writes up to "), "{told}");
    assert_eq!(said.err, "", "no bar without a terminal");
    let all = shop.read("all.jsonl");
    assert!(all.starts_with("{\"key\":\"bytes\",\"value\":{\"base64\":\""), "{all}");
    for key in ["bytes", "text", "dash", "dash2"] {
        shop.kv(&["del", key]).with(0);
    }
    assert_eq!(shop.kv(&["count"]).with(0), "0\n");
    let said = shop.kv(&["load", "all.jsonl"]);
    assert!(said.with(0).starts_with("Loaded 4 keys in "));
    assert_eq!(said.err, "", "no bar without a terminal");
    assert_eq!(shop.kv(&["export", "-"]).with(0), all);
    shop.kv(&["del", "bytes"]).with(0);
    shop.kv_with(all.as_bytes(), &["load", "-"]).with(0);
    assert_eq!(shop.kv(&["export", "-"]).with(0), all);

    let csv = "key,value\na,1\n\"b,c\",\"x\ny\"\n";
    shop.kv_with(csv.as_bytes(), &["load", "-", "--as", "csv"]).with(0);
    assert_eq!(shop.kv(&["get", "b,c"]).with(0), "x\ny\n");
    shop.write("some.jsonl", "{\"key\":\"c\",\"value\":\"1\"}\n{\"key\":\"d\"}\n");
    let told = shop.kv(&["load", "some.jsonl"]);
    assert!(told.with(5).starts_with("Loaded 1 key "));
    assert!(told.err.contains("error: 1 not loaded\n  line 2: missing field"), "{}", told.err);
    shop.kv(&["load", "nofile"]).with(2);
    shop.kv(&["export", "no/such/folder"]).with(1);
}

fn a_scan_of_many_pages_is_whole(shop: &Shop) {
    let keys: Vec<String> = (0..2500).map(|n| format!("page-{n:04}")).collect();
    shop.write("keys.txt", &keys.join("\n"));
    shop.kv(&["load", "keys.txt"]).with(0);
    let lines: Vec<String> = keys.iter().zip(1..).map(|(key, n)| format!("{key}\t{n}\n")).collect();
    assert_eq!(shop.kv(&["scan", "page-"]).with(0), lines.concat());
    assert_eq!(shop.kv(&["scan", "page-", "--limit", "1001"]).with(0), lines[..1001].concat());
    assert_eq!(shop.kv(&["count", "page-"]).with(0), "2500\n");
}

fn settings_are_shown_and_set(shop: &Shop) {
    let all = shop.kv(&["config"]).with(0);
    assert!(all.starts_with("NAME "), "{all}");
    assert_eq!(shop.kv(&["config", "down_after", "4"]).with(0), "4\n");
    assert_eq!(shop.kv(&["config", "down_after"]).with(0), "4\n");
    for (args, said) in [
        (["config", "down_after", "abc"], "down_after cannot be \"abc\""),
        (["config", "nope", "1"], "no setting \"nope\""),
    ] {
        let told = shop.kv(&args);
        told.with(2);
        assert!(told.err.contains(said), "{}", told.err);
    }
}

fn a_sourced_file_runs_to_its_first_mistake(shop: &Shop) {
    shop.write("outer.kv", "# a comment\nput s 1\nsource inner.kv\nput s 3\n");
    shop.write("inner.kv", "put 'two\nlines' 2\nget nope\nput s 2\n");
    let told = shop.kv(&["source", "outer.kv"]);
    assert_eq!(told.with(3), "ok\nok\n");
    assert!(told.err.contains("nope not found on"), "{}", told.err);
    assert_eq!(shop.kv(&["get", "s"]).with(0), "1\n");
    shop.write("wrong.kv", "put s 1\n\nputt s 2\n");
    let told = shop.kv(&["source", "wrong.kv"]);
    told.with(2);
    assert!(told.err.starts_with("wrong.kv:3: error: unknown command"), "{}", told.err);
    shop.write("self.kv", "source self.kv\n");
    let told = shop.kv(&["source", "self.kv"]);
    told.with(2);
    assert!(told.err.contains("more than 8 files deep"), "{}", told.err);
}

fn a_node_is_compacted_paused_and_resumed(shop: &Shop) {
    let said = shop.kv(&["compact", "n1"]).with(0);
    assert!(said.starts_with("Compacted n1: "), "{said}");
    shop.kv(&["compact", "n9"]).with(3);
    assert!(shop.kv(&["pause", "n1"]).with(0).starts_with("Paused n1 (pid "));
    shop.kv(&["pause", "n1"]).with(1);
    assert!(shop.kv(&["resume", "n1"]).with(0).starts_with("Resumed n1 (pid "));
    shop.kv(&["resume", "n1"]).with(1);
}

fn what_was_planned_is_what_is_carried_out(shop: &Shop) {
    // By a raw call, as somebody else would: this session does not know of it.
    let stranger = "rpc coordinator setreplica [1]";
    let told = shop.kv(&["--json", "-e", &format!("plan; {stranger}; rebalance")]);
    let out = told.with(1);
    let last: Value = serde_json::from_str(out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["error"]["name"], "STALE_EPOCH", "{out}");
    // What the session stages itself it knows; and a plan that is seen again is the new one.
    shop.kv(&["-e", "plan; plan clear; setreplica 1; rebalance"]).with(0);
    shop.kv(&["-e", &format!("plan; {}; plan; rebalance", stranger.replace('1', "2"))]).with(0);
    let plan: Value = serde_json::from_slice(&shop.kv(&["--json", "plan"]).out).expect("JSON");
    assert_eq!((&plan["stage"], &plan["copies"]), (&json!("idle"), &json!(0)), "{plan}");
}

fn the_shell_is_set_by_dot_commands(shop: &Shop) {
    shop.kv(&["put", "k", "v"]).with(0);
    let told = shop.kv(&["-e", ".timing; get k; .timing off; get k"]);
    assert_eq!(told.with(0), "v\nv\n");
    assert_eq!(told.err.matches(" ms)\n").count(), 1, "{}", told.err);

    let told = shop.kv(&["-e", ".output json; get k; .output plain; get k"]);
    let out = told.with(0);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("{\"ok\":true,\"cmd\":\"get\""), "{out}");
    assert_eq!(lines[2..], ["v"]);

    let narrated = |line: &str| shop.kv(&["--narrate", "-e", line]).with(0);
    let usual = narrated("put k v");
    assert_eq!(usual.matches("] PUT k = v -> {\"status\":\"ok\"}\n").count(), 2, "{usual}");
    assert!(!narrated(".brief on; put k v").contains("PUT"));
    assert!(narrated(".brief off; put k v").contains("\"version\":"));

    let told = shop.kv(&["-e", "get k; .trace on; get k; .trace off; get k"]);
    let lines: Vec<&str> = told.err.lines().collect();
    let [sent, received] = lines[..] else { panic!("{}", told.err) };
    let message = |line: &str, arrow: &str| -> Value {
        serde_json::from_str(line.strip_prefix(arrow).expect(arrow)).expect("JSON")
    };
    let (sent, received) = (message(sent, "--> "), message(received, "<-- "));
    assert_eq!(sent, json!({"jsonrpc": "2.0", "id": 1, "method": "get", "params": ["k"]}));
    assert_eq!((&received["id"], &received["result"]["value"]), (&json!(1), &json!("v")));

    assert_eq!(
        shop.kv(&["-e", "get k; .history"]).with(0),
        "v\nget k\n.history\n",
        "what was typed, in order"
    );
}

fn json_is_one_object_a_command(shop: &Shop) {
    let table: [(&[&str], i32); 67] = [
        (&["put", "j", "1"], 0),
        (&["put", "j"], 2),
        (&["get", "j"], 0),
        (&["get", "j", "--all"], 0),
        (&["get", "nope"], 3),
        (&["get", "nope", "--all"], 3),
        (&["del", "j"], 0),
        (&["del", "nope"], 3),
        (&["addnode", "n1", "1"], 4),
        (&["removenode", "n9"], 3),
        (&["setreplica", "2"], 0),
        (&["setreplica", "9"], 2),
        (&["rebalance"], 0),
        (&["rebalance", "--dry-run"], 0),
        (&["rebalance", "--epoch", "1"], 1),
        (&["plan"], 0),
        (&["plan", "clear"], 0),
        (&["plan", "cleer"], 2),
        (&["progress"], 0),
        (&["pause"], 1),
        (&["resume"], 1),
        (&["cancel"], 1),
        (&["replacenode", "n9", "n8", "5009"], 3),
        (&["setweight", "n9", "2"], 3),
        (&["setzone", "n9", "rack-a"], 3),
        (&["what-if", "kill", "n2"], 0),
        (&["what-if", "add", "n9", "--weight", "2"], 0),
        (&["what-if", "kill", "n9"], 3),
        (&["what-if", "kil", "n2"], 2),
        (&["doctor"], 0),
        (&["why-down", "n1"], 0),
        (&["why-down", "n9"], 3),
        (&["show"], 0),
        (&["stats"], 0),
        (&["where", "k"], 0),
        (&["ring"], 0),
        (&["scan", "k"], 0),
        (&["count"], 0),
        (&["load", "all.jsonl"], 0),
        (&["load", "nofile"], 2),
        (&["export", "again.jsonl"], 0),
        (&["wal", "n1"], 0),
        (&["wal", "n1", "cat"], 0),
        (&["wal", "n1", "verify"], 0),
        (&["wal", "n2", "blame", "k"], 0),
        (&["wal", "n1", "blame", "never"], 3),
        (&["wal", "./nowhere"], 2),
        (&["salvage", "n1"], 1),
        (&["stats", "n1"], 0),
        (&["keyspace"], 0),
        (&["keyspace", "show", "nope"], 2),
        (&["keyspace", "create", "orders", "--n", "2"], 0),
        (&["--keyspace", "orders", "put", "k", "1"], 0),
        (&["--keyspace", "orders", "setquorum", "strong-read"], 0),
        (&["--keyspace", "nope", "put", "k", "1"], 2),
        (&["use", "orders"], 0),
        (&["use", "nope"], 2),
        (&["keyspace", "drop", "orders"], 0),
        (&["compact", "n1"], 0),
        (&["rpc", "n1", "size"], 0),
        (&["rpc", "n1", "nope"], 2),
        (&["config"], 0),
        (&["kill", "n9"], 3),
        (&["restart", "n1"], 0),
        (&["help"], 0),
        (&["help", "nope"], 2),
        (&["nope"], 2),
    ];
    for (args, code) in table {
        let told = shop.kv(&[&["--json"], args].concat());
        let out = told.with(code);
        let object: Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?}: {out}"));
        assert_eq!(object["ok"], code == 0, "{out}");
        assert_eq!(object["error"]["name"].is_string(), code != 0, "{out}");
        assert_eq!(told.err, "", "{args:?}: all is in the object");
    }
}

#[test]
fn completions_and_pages_name_every_command() {
    let place = Place::new();
    let kv = |args: &[&str]| place.kv("", args, b"").with(0);
    let help: Value = serde_json::from_str(&kv(&["--json", "help"])).expect("JSON");
    let list = help["message"].as_str().expect("a text").lines();
    let names = list.filter_map(|line| line.split_whitespace().next());
    let names = names.filter(|name| !name.starts_with('.') && *name != "exit");
    let forms = ["demo", "run", "check", "completions", "man", "coordinator", "node"];
    let names: Vec<&str> = names.chain(forms).collect();
    assert!(names.len() > 30, "{names:?}");
    assert!(kv(&["help", "demo"]).contains("--detach"));
    let page = kv(&["man"]);
    for name in &names {
        let listed = format!("kv\\-{}(1)", name.replace('-', "\\-"));
        assert!(page.contains(&listed), "{name}: {page}");
        assert!(kv(&["man", name]).contains(&format!(".TH kv-{name} 1")), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = kv(&["completions", shell]);
        for name in &names {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    place.kv("", &["man", "putt"], b"").with(2);
}
