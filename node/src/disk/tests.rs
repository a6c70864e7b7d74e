//! What every disk does, run on each of them; and what only the simulated one can show.

use super::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::path::PathBuf;

/// Runs a test on the real disk and on the simulated one.
fn on_each(test: impl Fn(&dyn Disk, &Path)) {
    let home = tempfile::tempdir().unwrap();
    test(&RealDisk, &home.path().join("a/b"));
    test(&SimDisk::new(1), Path::new("/a/b"));
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    let mut names = disk.names(dir).unwrap();
    names.sort();
    names
}

#[test]
fn files_are_written_read_and_cut() {
    on_each(|disk, dir| {
        disk.create_dir(dir).unwrap();
        disk.create_dir(dir).unwrap();
        let path = dir.join("f");
        assert_eq!(disk.open(&path, Open::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = disk.open(&path, Open::New).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.write_at(b"J", 0).unwrap();
        file.write_at(b"!", 7).unwrap();
        assert_eq!(read(&*file), b"Jello\0\0!");
        let mut buf = [9; 4];
        assert_eq!((file.read_at(&mut buf, 6).unwrap(), buf), (2, [0, b'!', 9, 9]));
        assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0);
        file.truncate(2).unwrap();
        file.sync().unwrap();
        assert_eq!(read(&*file), b"Je");
        assert_eq!(read(&*disk.open(&path, Open::Keep).unwrap()), b"Je");
        assert!(disk.open(&path, Open::Read).unwrap().write_at(b"x", 0).is_err());
        assert_eq!(read(&*disk.open(&path, Open::New).unwrap()), b"");
    });
}

#[test]
fn names_change_and_open_files_outlive_them() {
    on_each(|disk, dir| {
        disk.create_dir(dir).unwrap();
        for name in ["a", "b"] {
            disk.open(&dir.join(name), Open::New).unwrap().write_at(name.as_bytes(), 0).unwrap();
        }
        let b = disk.open(&dir.join("b"), Open::Read).unwrap();
        disk.rename(&dir.join("a"), &dir.join("b")).unwrap();
        assert_eq!(names(disk, dir), ["b"]);
        assert_eq!(read(&*b), b"b");
        assert_eq!(read(&*disk.open(&dir.join("b"), Open::Read).unwrap()), b"a");
        disk.remove(&dir.join("b")).unwrap();
        disk.sync_dir(dir).unwrap();
        assert!(names(disk, dir).is_empty());
        assert_eq!(disk.remove(&dir.join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_lock_is_held_until_it_is_dropped() {
    on_each(|disk, dir| {
        disk.create_dir(dir).unwrap();
        let path = dir.join("lock");
        let held = disk.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(disk.lock(&path).unwrap().is_none());
        drop(held);
        assert!(disk.lock(&path).unwrap().is_some());
    });
}

#[test]
fn reserved_room_does_not_show_in_the_length() {
    on_each(|disk, dir| {
        disk.create_dir(dir).unwrap();
        let file = disk.open(&dir.join("f"), Open::New).unwrap();
        file.write_at(b"x", 0).unwrap();
        match file.reserve(1, 1 << 20) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            reserved => reserved.unwrap(),
        }
        assert_eq!(file.len().unwrap(), 1);
        file.truncate(1).unwrap();
        assert_eq!(read(&*file), b"x");
    });
}

#[test]
fn a_real_truncate_gives_reserved_room_back() {
    use std::os::unix::fs::MetadataExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("f");
    let file = RealDisk.open(&path, Open::New).unwrap();
    file.write_at(b"x", 0).unwrap();
    if file.reserve(1, 1 << 20).is_err() {
        eprintln!("skipped: {} cannot reserve room", home.path().display());
        return;
    }
    let blocks = || std::fs::metadata(&path).unwrap().blocks();
    assert!(blocks() * 512 >= 1 << 20);
    file.truncate(1).unwrap();
    assert!(blocks() * 512 < 1 << 20);
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("elsewhere"), "x").unwrap();
    std::os::unix::fs::symlink("elsewhere", home.path().join("f")).unwrap();
    assert!(RealDisk.open(&home.path().join("f"), Open::Keep).is_err());
}

struct Sim {
    disk: SimDisk,
    path: PathBuf,
}

/// A file with ten durable sectors of `a`.
fn sim() -> Sim {
    let (disk, path) = (SimDisk::new(1), PathBuf::from("/d/f"));
    disk.create_dir(Path::new("/d")).unwrap();
    let file = disk.open(&path, Open::New).unwrap();
    file.write_at(&[b'a'; 5120], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    Sim { disk, path }
}

/// What the file holds after each of many power cuts.
fn crashes(sim: &Sim) -> Vec<Option<Vec<u8>>> {
    let cut = |seed| sim.disk.crash(&mut StdRng::seed_from_u64(seed)).contents(&sim.path);
    (0..200).map(cut).collect()
}

#[test]
fn a_power_cut_takes_any_part_of_what_was_not_synced_sector_by_sector() {
    let sim = sim();
    let file = sim.disk.open(&sim.path, Open::Write).unwrap();
    file.write_at(&[b'b'; 1024], 4608).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for bytes in crashes(&sim) {
        let bytes = bytes.unwrap();
        assert!(bytes[..4608].iter().all(|b| *b == b'a'));
        let sectors: String = bytes[4608..].chunks(512).map(|s| char::from(s[0])).collect();
        assert!(bytes[4608..].chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])));
        seen.insert(sectors);
    }
    let expected = ["a", "a\0", "ab", "b", "b\0", "bb"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    file.sync().unwrap();
    assert!(crashes(&sim).iter().all(|bytes| bytes.as_ref().unwrap().ends_with(&[b'b'; 1024])));
}

#[test]
fn after_a_failed_sync_the_next_one_claims_too_much() {
    let sim = sim();
    let file = sim.disk.open(&sim.path, Open::Write).unwrap();
    file.write_at(&[b'b'; 5120], 0).unwrap();
    sim.disk.fail_nth(1, Some(Operation::Sync), io::ErrorKind::Other);
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(read(&*file), [b'b'; 5120]);
    let left = crashes(&sim).remove(0).unwrap();
    assert!(left.contains(&b'a'), "the cache shows what the disk does not have");
}

#[test]
fn names_are_durable_after_a_sync_of_their_directory() {
    let sim = sim();
    let (dir, other) = (Path::new("/d"), PathBuf::from("/d/g"));
    sim.disk.rename(&sim.path, &other).unwrap();
    let both = |disk: &SimDisk| {
        let crashed = |seed| disk.crash(&mut StdRng::seed_from_u64(seed));
        let names = (0..50).map(|seed| names(&crashed(seed), dir));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(both(&sim.disk), [vec!["f".to_owned()], vec!["g".to_owned()]].into());
    sim.disk.sync_dir(dir).unwrap();
    assert_eq!(both(&sim.disk), [vec!["g".to_owned()]].into());
    sim.disk.remove(&other).unwrap();
    assert_eq!(both(&sim.disk), [vec![], vec!["g".to_owned()]].into());
}

#[test]
fn the_nth_operation_fails_and_then_no_more() {
    let sim = sim();
    let file = sim.disk.open(&sim.path, Open::Write).unwrap();
    sim.disk.fail_nth(2, Some(Operation::Write), io::ErrorKind::Other);
    file.write_at(b"1", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(file.write_at(&[b'2'; 100], 10).unwrap_err().kind(), io::ErrorKind::Other);
    let kept = read(&*file)[10..110].iter().filter(|b| **b == b'2').count();
    assert!(read(&*file)[10..10 + kept].iter().all(|b| *b == b'2'));
    file.write_at(b"3", 0).unwrap();
    sim.disk.power_off_after(1);
    file.sync().unwrap();
    file.sync().unwrap_err();
    assert!(sim.disk.open(&sim.path, Open::Read).is_err());
    assert_eq!(sim.disk.count(Some(Operation::Sync)), 4);
}

#[test]
fn a_full_disk_takes_what_fits_and_what_was_reserved() {
    let sim = sim();
    let file = sim.disk.open(&sim.path, Open::Write).unwrap();
    sim.disk.set_capacity(6000);
    file.reserve(5120, 500).unwrap();
    assert!(is_full(&file.reserve(5120, 1000).unwrap_err()));
    let other = sim.disk.open(Path::new("/d/g"), Open::New).unwrap();
    assert!(is_full(&other.write_at(&[1; 500], 0).unwrap_err()));
    assert_eq!(other.len().unwrap(), 6000 - 5620);
    file.write_at(&[b'c'; 500], 5120).unwrap();
    assert!(is_full(&file.write_at(b"x", 5620).unwrap_err()));
    sim.disk.remove(Path::new("/d/g")).unwrap();
    assert!(is_full(&file.write_at(b"x", 5620).unwrap_err()), "it is still open");
    drop(other);
    file.write_at(b"x", 5620).unwrap();
    sim.disk.set_read_only(true);
    assert!(is_read_only(&file.write_at(b"x", 0).unwrap_err()));
    assert!(is_read_only(&sim.disk.remove(&sim.path).unwrap_err()));
    assert_eq!(read(&*file).len(), 5621);
}
