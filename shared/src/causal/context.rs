//! A set of versions, short: up to a bound on each line, and single ones beyond.
//!
//! Coordinators, one after another, are one *line*: their epochs grow, and each goes on where the last
//! one stopped. Each node that numbers writes itself is a line of its own.
//!
//! Written `1.3,x9f00c001.7,+1.5`: all of the coordinators' up to 1.3, all of one node's up to 7, and
//! 1.5. Nothing at all is `-`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Version;
use crate::text::travels_as_text;
use crate::version::Line;

/// Versions that were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Context {
    /// Of each line, all versions up to this one.
    up_to: BTreeMap<Line, Version>,
    /// These too; none of them is below its line's bound.
    dots: BTreeSet<Version>,
}

impl Context {
    /// Nothing was seen.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// What a writer has seen who says nothing about it: all of its line before this version.
    #[must_use]
    pub fn before(version: Version) -> Self {
        let mut context = Self::default();
        if let Some(previous) = version.previous() {
            context.up_to.insert(version.line(), previous);
        }
        context
    }

    /// All of a line up to this version.
    #[must_use]
    pub fn up_to(version: Version) -> Self {
        Self { up_to: BTreeMap::from([(version.line(), version)]), dots: BTreeSet::new() }
    }

    /// Whether it is what a writer has seen who says nothing about it.
    #[must_use]
    pub fn is_before(&self, version: Version) -> bool {
        let bound = version.previous();
        let bounds = self.up_to.values().copied();
        self.dots.is_empty() && bounds.eq(bound)
    }

    /// Whether this version is in it.
    #[must_use]
    pub fn covers(&self, version: Version) -> bool {
        self.covers_all_up_to(version) || self.dots.contains(&version)
    }

    /// Whether all of a version's line up to it is in it.
    #[must_use]
    pub fn covers_all_up_to(&self, version: Version) -> bool {
        self.up_to.get(&version.line()).is_some_and(|bound| version <= *bound)
    }

    /// Adds one version.
    pub fn add(&mut self, version: Version) {
        if !self.covers(version) {
            self.dots.insert(version);
            self.fold();
        }
    }

    /// Adds all that another has seen.
    pub fn join(&mut self, other: &Self) {
        for (line, bound) in &other.up_to {
            let mine = self.up_to.entry(*line).or_insert(*bound);
            *mine = (*mine).max(*bound);
        }
        self.dots.extend(&other.dots);
        let up_to = &self.up_to;
        self.dots.retain(|dot| up_to.get(&dot.line()).is_none_or(|bound| dot > bound));
        self.fold();
    }

    /// Takes single versions that are next to a bound into it, so that one set has one form.
    fn fold(&mut self) {
        for bound in self.up_to.values_mut() {
            while self.dots.remove(&bound.next()) {
                *bound = bound.next();
            }
        }
    }

    /// The same with all of a version's line before it.
    #[must_use]
    pub fn and_before(&self, version: Version) -> Self {
        let mut seen = self.clone();
        seen.join(&Self::before(version));
        seen
    }

    /// The single versions.
    pub fn single(&self) -> impl Iterator<Item = Version> {
        self.dots.iter().copied()
    }

    /// The bound of each line.
    pub fn bounds(&self) -> impl Iterator<Item = Version> {
        self.up_to.values().copied()
    }

    /// Whether all that the other has seen is in this one.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let bound = |line: &Line| self.up_to.get(line);
        let bounds =
            other.up_to.iter().all(|(line, theirs)| bound(line).is_some_and(|b| b >= theirs));
        bounds && other.dots.iter().all(|dot| self.covers(*dot))
    }

    /// How many single versions it remembers: what it costs beyond a few bytes.
    #[must_use]
    pub fn dots(&self) -> usize {
        self.dots.len()
    }

    /// The versions it is written with: the bounds, then the single ones.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        self.bounds().chain(self.dots.iter().copied())
    }

    /// How many versions it is written with.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.up_to.len() + self.dots.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.up_to.is_empty() && self.dots.is_empty()
    }
}

/// Why a text is no context.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no context: use the one that get or put gave, for example 1.3,+1.5")]
pub struct BadContext(String);

impl FromStr for Context {
    type Err = BadContext;

    /// Canonical only: a text stands for one context and a context for one text.
    fn from_str(text: &str) -> Result<Self, BadContext> {
        let bad = || BadContext(text.to_owned());
        let mut context = Self::default();
        for part in text.split(',').filter(|_| text != "-") {
            let (dot, version) = match part.strip_prefix('+') {
                Some(version) => (true, version),
                None => (false, part),
            };
            let version: Version = version.parse().map_err(|_| bad())?;
            if dot {
                context.dots.insert(version);
            } else {
                context.up_to.insert(version.line(), version);
            }
        }
        context.fold();
        if context.to_string() == text { Ok(context) } else { Err(bad()) }
    }
}

travels_as_text!(Context);

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut comma = "";
        for bound in self.up_to.values() {
            write!(f, "{comma}{bound}")?;
            comma = ",";
        }
        for dot in &self.dots {
            write!(f, "{comma}+{dot}")?;
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> Context {
        text.parse().unwrap()
    }

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_covered() {
        let table = [
            ("-", "1.1", false),
            ("1.3", "1.3", true),
            ("1.3", "1.4", false),
            ("2.1", "1.999", true),
            ("1.3", "x80000001.1", false),
            ("x80000001.5", "x80000001.5", true),
            ("x80000001.5", "x80000002.1", false),
            ("1.3,+1.5", "1.5", true),
            ("1.3,+1.5", "1.4", false),
            ("+1.5", "1.4", false),
        ];
        for (text, asked, covered) in table {
            assert_eq!(context(text).covers(version(asked)), covered, "{text} covers {asked}");
        }
    }

    #[test]
    fn who_says_nothing_has_seen_its_own_line() {
        assert_eq!(Context::before(version("1.4")).to_string(), "1.3");
        assert_eq!(Context::before(version("x80000001.4")).to_string(), "x80000001.3");
        assert!(Context::before(version("2.1")).covers(version("1.7")));
    }

    #[test]
    fn a_join_keeps_single_versions_until_a_bound_covers_them() {
        let mut seen = context("1.3,+1.5,+1.9");
        seen.join(&context("1.5,x80000001.2"));
        assert_eq!(seen.to_string(), "1.5,x80000001.2,+1.9");
        assert!(seen.includes(&context("1.4,+1.9")) && !seen.includes(&context("1.4,+1.8")));
    }

    #[test]
    fn one_set_has_one_form() {
        let mut seen = context("1.3,+1.5");
        seen.add(version("1.4"));
        assert_eq!(seen, Context::up_to(version("1.5")));
        assert!(Context::before(version("1.6")) == seen && seen.is_before(version("1.6")));
        assert!(!seen.is_before(version("1.7")) && !context("-").is_before(version("1.7")));
        assert!(!context("1.5,x80000001.2").is_before(version("1.6")));
    }

    #[test]
    fn text_is_canonical() {
        for good in ["-", "1.3", "1.3,x80000001.7,+1.5", "+1.5"] {
            assert_eq!(context(good).to_string(), good);
        }
        for bad in
            ["", "1", "+1.5,1.3", "1.3,+1.4", "1.3,+1.5,+1.5", "1.3,1.4", "1.3,", "-,1.3", "x1.1"]
        {
            assert!(bad.parse::<Context>().is_err(), "{bad:?}");
        }
    }
}
