//! The ring for a person: a bar a node, and the circle unrolled into one line.

use std::fmt::Write as _;

use super::ownership::Ring;

/// How many characters stand for the whole circle.
const CIRCLE_CHARS: u32 = 64;
/// How many characters stand for a node that owns everything.
const BAR_CHARS: f64 = 40.0;

/// Draws who owns how much. Letters in the circle stand for the nodes in the order of the bars;
/// each shows who is first owner at that point of the circle.
#[must_use]
pub fn draw(ring: &Ring) -> String {
    if ring.members().is_empty() {
        return "the ring is empty: addnode <id> <port>\n".to_owned();
    }
    let mut text = String::new();
    let name_chars = ring.members().keys().map(|id| id.as_str().len()).max().unwrap_or(0);
    let mut owned = std::collections::BTreeMap::new();
    for (_, node) in ring.tokens() {
        *owned.entry(node).or_insert(0u32) += 1;
    }
    for (letter, node) in letters().zip(ring.members().keys()) {
        let share = ring.share(node);
        let tokens = owned.get(node).copied().unwrap_or(0);
        let bar = bar(share);
        writeln!(
            text,
            "{letter} {node:<name_chars$} {:5.1} % {bar} {tokens} tokens",
            share * 100.0
        )
        .expect("writing to a String");
    }
    writeln!(text, "0 {} 2^64", circle(ring)).expect("writing to a String");
    text
}

fn letters() -> impl Iterator<Item = char> {
    ('A'..='Z').chain('a'..='z').chain(std::iter::repeat('*'))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bar(share: f64) -> String {
    "#".repeat((share * BAR_CHARS).round() as usize)
}

fn circle(ring: &Ring) -> String {
    let step = u64::MAX / u64::from(CIRCLE_CHARS);
    (0..u64::from(CIRCLE_CHARS))
        .filter_map(|i| ring.token_at(i * step + step / 2))
        .filter_map(|(_, node)| letters().zip(ring.members().keys()).find(|(_, id)| *id == node))
        .map(|(letter, _)| letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_drawn() {
        let ids = ["n1", "n2", "n10"].map(|id| (id.parse().unwrap(), 1));
        assert_eq!(
            draw(&Ring::new(4, ids)),
            "\
A n1   38.0 % ############### 4 tokens
B n10  18.0 % ####### 4 tokens
C n2   44.0 % ################## 4 tokens
0 CCCCCAAAAAAAAAAAAAAACCCCCCCCCCCCCCCCCCCCCCBAAAABBBBBBBBBBBAAAAAC 2^64
"
        );
        assert_eq!(draw(&Ring::empty(4)), "the ring is empty: addnode <id> <port>\n");
    }
}
