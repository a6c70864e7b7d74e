//! `cluster`: the file that says whom the node obeys and what it was told of its cluster.
//!
//! ```text
//! #ringkv-cluster 1 node=6f1c4f4e-52a3-4c9e-9a1b-0d6f7b1c2a33
//! coordinator 0b8e77aa-0312-4f8e-9c1d-7bd16a2b4c7d
//! epoch 3
//! told 3.12
//! BOOT 3
//! ADD n1 - 1
//! END c=636485eb
//! ```
//!
//! | line | what it says |
//! |---|---|
//! | `#ringkv-cluster 1` | format and its version; `node=` is the identity of the data directory |
//! | `coordinator` | who is obeyed: the identity of its data directory, a UUID |
//! | `epoch` | the greatest epoch under which it claimed the node, u32 |
//! | `told` | under which epochs, the coordinator's and the ring's, the map was told; `0.0`: not yet |
//! | the next | the map: lines of the coordinator's log, as they are; at most [`MAP_BYTES_MAX`] |
//! | `END` | last line; `c=` is zlib's CRC-32 of all before it, 8 hex digits |
//!
//! A node that obeys nobody has no such file. Numbers are without sign or leading zero, so what is read can be
//! written back bit for bit.
//!
//! It is apart from the log, which is about keys, and is always durable before anybody is told, whatever holds for
//! writes: written as `cluster.tmp`, synced, renamed, and the directory synced. All that is done at once, in the
//! thread that serves: it is rare, and short.
//!
//! The room for the next one is taken ahead, in `cluster.tmp`: a coordinator that starts anew has to be obeyed on a full
//! disk, too, for who is to delete keys there?
//!
//! # Caveats
//!
//! When the last two steps fail nobody knows what a power cut would leave. Then the node has to stop, as after any
//! sync that failed: the next start makes durable what it sees, and goes by that. On a full disk there is no room for a
//! map of more than 64 KiB, nor where room cannot be reserved. `kv wal verify` is about the log, and does not look here.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::str::{FromStr, SplitInclusive};
use std::sync::Arc;

use ringkv_shared::limits::MAP_BYTES_MAX;
use uuid::Uuid;

use crate::StorageError;
use crate::disk::{DiskFile, Open};
use crate::log::files::{self, DataDir};
use crate::log::record::checksum;
use crate::replica::Obeys;

const HEADER: &str = "#ringkv-cluster 1";
/// The most bytes of such a file: the lines around the map take less than the rest.
const FILE_BYTES_MAX: usize = MAP_BYTES_MAX + 256;
/// The room that is taken ahead, in bytes: for the map of some hundred nodes.
const ROOM_BYTES: u64 = 64 * 1024;

/// The file of a data directory.
#[derive(Debug)]
pub(crate) struct ClusterFile {
    dir: Arc<DataDir>,
    /// The next one, empty, with room.
    next: Option<Arc<dyn DiskFile>>,
    /// Whether a change of its name failed: it is not known what a power cut would leave.
    broken: bool,
}

/// Why something was not written down.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// All is as it was.
    Unchanged(StorageError),
    /// A power cut would leave what was, or what was to be.
    Unknown(StorageError),
}

/// What is wrong with such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCluster {
    /// It is longer than any.
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// It was cut short, added to or changed.
    #[error("the checksum in its last line does not fit, or there is none")]
    Checksum,
    /// It belongs to another data directory.
    #[error("it is of the data directory {0}")]
    Foreign(Uuid),
    /// A line is not as it would be written.
    #[error("its line {0:?} is missing, or not as it would be written")]
    Line(&'static str),
}

impl ClusterFile {
    /// The file, and what it says.
    ///
    /// # Errors
    ///
    /// It is damaged, or cannot be read.
    pub(crate) fn open(dir: &Arc<DataDir>) -> Result<(Self, Obeys), StorageError> {
        let file = Self { dir: Arc::clone(dir), next: None, broken: false };
        let obeys = file.read()?;
        Ok((file, obeys))
    }

    fn read(&self) -> Result<Obeys, StorageError> {
        let path = self.path();
        let file = match self.dir.disk().open(&path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Obeys::default()),
            opened => opened.map_err(StorageError::io("opening", &path))?,
        };
        let mut bytes = vec![0; FILE_BYTES_MAX + 1];
        let read = file.read_at(&mut bytes, 0).map_err(StorageError::io("reading", &path))?;
        decode(&bytes[..read], self.dir.uuid())
            .map_err(|why| StorageError::BadCluster { file: path, why })
    }

    /// Makes it say this, durably; that nobody is obeyed by being away.
    ///
    /// # Errors
    ///
    /// See [`NotKept`].
    pub(crate) fn keep(&mut self, obeys: &Obeys) -> Result<(), NotKept> {
        let (dir, path, tmp) = (Arc::clone(&self.dir), self.path(), self.tmp());
        if self.broken {
            let before = io::Error::other("a change of it failed before");
            return Err(NotKept::Unknown(StorageError::io("changing", &path)(before)));
        }
        let Some(coordinator) = obeys.coordinator() else {
            return self.named(files::remove(dir.disk(), &path));
        };
        let kept = match self.write(&encode(dir.uuid(), coordinator, obeys)) {
            Ok(()) => self.named(files::rename(dir.disk(), &tmp, &path)),
            Err(error) => Err(NotKept::Unchanged(error)),
        };
        if matches!(kept, Err(NotKept::Unchanged(_))) {
            // If this does not delete it, the next one is written over it, or the next start deletes it.
            let _ = dir.disk().remove(&tmp);
        }
        if !self.broken {
            self.take_room();
        }
        kept
    }

    /// Takes the room for the next change, if it can be had.
    pub(crate) fn take_room(&mut self) {
        let next = self.dir.disk().open(&self.tmp(), Open::New);
        self.next = next.and_then(|next| next.reserve(0, ROOM_BYTES).map(|()| next)).ok();
    }

    /// Writes the next one and syncs it.
    fn write(&mut self, text: &str) -> Result<(), StorageError> {
        let tmp = self.tmp();
        let next = match self.next.take() {
            Some(next) => next,
            None => files::open(self.dir.disk(), &tmp, Open::New)?,
        };
        next.write_at(text.as_bytes(), 0).map_err(StorageError::io("writing", &tmp))?;
        // What is left of the room is there for the one after.
        next.truncate(text.len() as u64).map_err(StorageError::io("cutting", &tmp))?;
        next.sync().map_err(StorageError::io("syncing", &tmp))
    }

    /// Makes a change of the name durable, if it was done.
    fn named(&mut self, changed: Result<(), StorageError>) -> Result<(), NotKept> {
        let named = match changed {
            // These come before anything is changed; of others nobody knows.
            Err(error) if error.is_full() || error.is_read_only() => {
                return Err(NotKept::Unchanged(error));
            }
            changed => changed.and_then(|()| self.dir.sync()),
        };
        self.broken = named.is_err();
        named.map_err(NotKept::Unknown)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn tmp(&self) -> PathBuf {
        self.dir.path().join("cluster.tmp")
    }
}

/// The file of the node with this data directory.
fn encode(node: Uuid, coordinator: Uuid, obeys: &Obeys) -> String {
    let (reign, told) = (obeys.reign(), obeys.told());
    let map = obeys.map().map_or("", |map| &**map);
    debug_assert!(map.is_empty() || map.ends_with('\n'), "a map is whole lines");
    let body = format!(
        "{HEADER} node={node}\ncoordinator {coordinator}\nepoch {}\ntold {told}\n{map}",
        reign.coordinator
    );
    let end = end(&body);
    body + &end
}

fn end(body: &str) -> String {
    format!("END c={:08x}\n", checksum(body.as_bytes(), 0))
}

/// What the file says, if it is the one of the node with this data directory.
fn decode(bytes: &[u8], node: Uuid) -> Result<Obeys, BadCluster> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(BadCluster::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| BadCluster::Checksum)?;
    let last = text.split_inclusive('\n').next_back().ok_or(BadCluster::Checksum)?;
    let body = text.strip_suffix(last).unwrap_or_default();
    if last != end(body) {
        return Err(BadCluster::Checksum);
    }
    let mut lines = body.split_inclusive('\n');
    let of = field(&mut lines, "#ringkv-cluster 1 node=")?;
    if of != node {
        return Err(BadCluster::Foreign(of));
    }
    let coordinator = field(&mut lines, "coordinator ")?;
    let (epoch, told) = (field(&mut lines, "epoch ")?, field(&mut lines, "told ")?);
    let map: String = lines.collect();
    Ok(Obeys::of(Some(coordinator), epoch, told, (!map.is_empty()).then(|| map.into())))
}

/// What the next line says behind its name; spelled in the one way it is written.
fn field<T: FromStr + Display>(
    lines: &mut SplitInclusive<'_, char>,
    name: &'static str,
) -> Result<T, BadCluster> {
    let line = lines.next().ok_or(BadCluster::Line(name))?;
    let value = line.strip_prefix(name).and_then(|rest| rest.strip_suffix('\n')?.parse().ok());
    value.filter(|value| format!("{name}{value}\n") == line).ok_or(BadCluster::Line(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Uuid = Uuid::from_u128(0x6f1c_4f4e_52a3_4c9e_9a1b_0d6f_7b1c_2a33);
    const A: Uuid = Uuid::from_u128(0x0b8e_77aa_0312_4f8e_9c1d_7bd1_6a2b_4c7d);

    fn claimed() -> Obeys {
        Obeys::default().claim(A, 3, &[]).unwrap()
    }

    fn sealed(body: &str) -> Vec<u8> {
        (body.to_owned() + &end(body)).into_bytes()
    }

    #[test]
    fn golden_files() {
        for (obeys, golden) in [
            (claimed(), "told 0.0\nEND c=72477824\n"),
            (
                claimed().adopt(12, "BOOT 3\nADD n1 - 1\n").unwrap(),
                "told 3.12\nBOOT 3\nADD n1 - 1\nEND c=636485eb\n",
            ),
        ] {
            let golden = format!(
                "#ringkv-cluster 1 node=6f1c4f4e-52a3-4c9e-9a1b-0d6f7b1c2a33\n\
                 coordinator 0b8e77aa-0312-4f8e-9c1d-7bd16a2b4c7d\nepoch 3\n{golden}"
            );
            assert_eq!(encode(NODE, A, &obeys), golden);
            assert_eq!(decode(golden.as_bytes(), NODE), Ok(obeys));
        }
    }

    /// A map may say anything, even what the last line does.
    #[test]
    fn every_truncated_length_and_every_flipped_bit_is_noticed() {
        let inner = encode(NODE, A, &claimed());
        let obeys = claimed().adopt(12, &inner).unwrap();
        let whole = encode(NODE, A, &obeys).into_bytes();
        assert_eq!(decode(&whole, NODE), Ok(obeys));
        for len in 0..whole.len() {
            assert!(decode(&whole[..len], NODE).is_err(), "{len} bytes of it");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, NODE).is_err(), "bit {bit}");
        }
        let more = [&whole[..], b"\n"].concat();
        assert_eq!(decode(&more, NODE), Err(BadCluster::Checksum));
    }

    #[test]
    fn a_file_has_one_spelling() {
        let line = |name| Err(BadCluster::Line(name));
        let header = format!("{HEADER} node={NODE}\n");
        let (by, epoch) = (format!("coordinator {A}\n"), "epoch 3\n");
        for (body, expected) in [
            (String::new(), line("#ringkv-cluster 1 node=")),
            (header.replace(" 1 ", " 2 "), line("#ringkv-cluster 1 node=")),
            (header.replace(&NODE.to_string(), &A.to_string()), Err(BadCluster::Foreign(A))),
            (header.clone(), line("coordinator ")),
            (header.clone() + &by.to_uppercase(), line("coordinator ")),
            (header.clone() + &by.replace('-', ""), line("coordinator ")),
            (header.clone() + "coordinator -\n", line("coordinator ")),
            (header.clone() + &by + "epoch 03\n", line("epoch ")),
            (header.clone() + &by + "epoch +3\n", line("epoch ")),
            (header.clone() + &by + "epoch  3\n", line("epoch ")),
            (header.clone() + &by + epoch, line("told ")),
            (header.clone() + &by + epoch + "told 3\n", line("told ")),
            (header + &by + epoch + "told 0.0 \n", line("told ")),
        ] {
            assert_eq!(decode(&sealed(&body), NODE), expected, "{body}");
        }
        let long = vec![b'x'; FILE_BYTES_MAX + 1];
        assert_eq!(decode(&long, NODE), Err(BadCluster::TooLong));
    }

    /// The longest map and the longest numbers fit.
    #[test]
    fn the_longest_file() {
        let map = "x".repeat(MAP_BYTES_MAX - 1) + "\n";
        let obeys = Obeys::default().claim(A, u32::MAX, &[]).unwrap();
        let obeys = obeys.adopt(u64::MAX, &map).unwrap();
        let text = encode(NODE, A, &obeys);
        assert!(text.len() <= FILE_BYTES_MAX, "{}", text.len());
        assert_eq!(decode(text.as_bytes(), NODE), Ok(obeys));
    }
}
