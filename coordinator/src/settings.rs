//! What can be set while the coordinator runs, each with unit, bounds and what it changes.

use std::time::Duration;

use ringkv_shared::protocol::cluster::Setting;
use ringkv_shared::{ErrorName, Failure, nearest};

/// One setting.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    value: u64,
    default: u64,
    least: u64,
    most: u64,
    help: &'static str,
    /// Where the value is from: `default`, `start` or `set`.
    origin: &'static str,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Settings([Entry; 10]);

const HEARTBEAT: usize = 0;
const DOWN_AFTER: usize = 1;
const TIMEOUT: usize = 2;
const HEDGE: usize = 3;
const LINGER: usize = 4;
const ANTI_ENTROPY: usize = 5;
const SYNC_BUDGET: usize = 6;
const REBALANCE_RATE: usize = 7;
const YIELD_ABOVE: usize = 8;
const AUTOHEAL: usize = 9;

impl Default for Settings {
    fn default() -> Self {
        let entry = |name, default, least, most, help| Entry {
            name,
            value: default,
            default,
            least,
            most,
            help,
            origin: "default",
        };
        Self([
            entry(
                "heartbeat",
                500,
                20,
                60_000,
                "milliseconds between heartbeats; shorter notices a dead node sooner and alarms falsely more often",
            ),
            entry(
                "down_after",
                u64::from(ringkv_shared::detector::DOWN_AFTER_MISSES),
                1,
                100,
                "heartbeats missed in a row until a node is DOWN",
            ),
            entry(
                "timeout",
                2000,
                10,
                60_000,
                "milliseconds a replica has for an answer; after that its part is unknown",
            ),
            entry(
                "hedge",
                100,
                1,
                60_000,
                "milliseconds until a read asks one more replica because somebody is slow",
            ),
            entry(
                "linger",
                1000,
                0,
                60_000,
                "milliseconds that an acknowledged write waits for the other replicas, to tell of them; a request may say otherwise",
            ),
            entry(
                "anti_entropy",
                30,
                0,
                86_400,
                "seconds between the rounds in which replicas are compared, mended and rid of old tombstones; 0: none but check",
            ),
            entry(
                "sync_budget",
                65_536,
                64,
                16_777_216,
                "KiB, about, that such a round may move; what is left is for the next one",
            ),
            entry(
                "rebalance_rate",
                0,
                0,
                16_777_216,
                "KiB a second that a rebalance may copy, over all links; 0: as fast as it can",
            ),
            entry(
                "yield_above",
                50,
                0,
                60_000,
                "milliseconds: while one request in a hundred takes longer, a rebalance holds back; 0: it never does",
            ),
            entry(
                "autoheal",
                0,
                0,
                604_800,
                "seconds that a node must be DOWN until it is taken off the ring and its copies are made anew; 0: never by itself",
            ),
        ])
    }
}

impl Settings {
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.0[HEARTBEAT].value)
    }

    pub(crate) fn down_after(&self) -> u32 {
        u32::try_from(self.0[DOWN_AFTER].value).expect("bounded by 100")
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.0[TIMEOUT].value)
    }

    pub(crate) fn hedge(&self) -> Duration {
        Duration::from_millis(self.0[HEDGE].value)
    }

    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.0[LINGER].value)
    }

    /// The pause between rounds of anti-entropy; `None`: there are none.
    pub(crate) fn anti_entropy(&self) -> Option<Duration> {
        let seconds = self.0[ANTI_ENTROPY].value;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// Bytes that a round may move.
    pub(crate) fn sync_budget(&self) -> u64 {
        self.0[SYNC_BUDGET].value * 1024
    }

    /// Bytes a second that a rebalance may copy; `None`: no limit.
    pub(crate) fn rebalance_rate(&self) -> Option<u64> {
        let kib = self.0[REBALANCE_RATE].value;
        (kib > 0).then_some(kib * 1024)
    }

    /// While requests are slower than this, a rebalance holds back; `None`: it never does.
    pub(crate) fn yield_above(&self) -> Option<Duration> {
        let ms = self.0[YIELD_ABOVE].value;
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// How long a node must be DOWN until it is taken off the ring; `None`: it never is.
    pub(crate) fn autoheal(&self) -> Option<Duration> {
        let seconds = self.0[AUTOHEAL].value;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// All settings, or the named one.
    pub(crate) fn list(&self, name: Option<&str>) -> Result<Vec<Setting>, Failure> {
        let shown: Vec<Setting> = self
            .0
            .iter()
            .filter(|entry| name.is_none_or(|name| name == entry.name))
            .map(Entry::show)
            .collect();
        if shown.is_empty() { Err(self.unknown(name.unwrap_or_default())) } else { Ok(shown) }
    }

    /// Sets one while the coordinator runs.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        self.assign(name, value, "set")
    }

    /// Sets one that flag, environment or file gave.
    pub(crate) fn start_with(&mut self, name: &str, value: u64) -> Result<(), Failure> {
        self.assign(name, &value.to_string(), "start")
    }

    fn assign(&mut self, name: &str, value: &str, origin: &'static str) -> Result<(), Failure> {
        let unknown = self.unknown(name);
        let entry = self.0.iter_mut().find(|entry| entry.name == name).ok_or(unknown)?;
        match value.parse() {
            Ok(number) if (entry.least..=entry.most).contains(&number) => {
                (entry.value, entry.origin) = (number, origin);
                Ok(())
            }
            _ => Err(Failure::new(
                ErrorName::BadArgument,
                format!(
                    "{name} cannot be {value:?}: it is a number from {} to {}",
                    entry.least, entry.most
                ),
            )
            .hint(format!("config {name} tells what it does"))),
        }
    }

    fn unknown(&self, name: &str) -> Failure {
        let names: Vec<&str> = self.0.iter().map(|entry| entry.name).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(guess) => format!("did you mean: {guess}"),
            None => format!("settings: {}", names.join(" ")),
        };
        Failure::new(ErrorName::BadArgument, format!("no setting {name:?}")).hint(hint)
    }
}

impl Entry {
    fn show(&self) -> Setting {
        Setting {
            name: self.name.to_owned(),
            value: self.value.to_string(),
            origin: self.origin.to_owned(),
            help: format!(
                "{} ({} to {}, default {})",
                self.help, self.least, self.most, self.default
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_settings_are_refused_and_change_nothing() {
        let mut settings = Settings::default();
        for (name, value) in
            [("heartbeat", "0"), ("heartbeat", "x"), ("hedge", "-1"), ("nope", "1")]
        {
            assert!(settings.set(name, value).is_err(), "{name} {value}");
        }
        assert_eq!(settings.heartbeat(), Duration::from_millis(500));
        settings.set("heartbeat", "100").unwrap();
        assert_eq!(settings.heartbeat(), Duration::from_millis(100));
        assert_eq!(settings.list(Some("heartbeat")).unwrap()[0].origin, "set");
    }
}
