//! Does the disk in memory lose what a real one may lose, and nothing else?

use super::*;

fn written() -> (MemoryDisk, Arc<dyn File>) {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.create(Path::new("/d/f")).unwrap();
    file.append(&[1; 1000]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.append(&[2; 3000]).unwrap();
    (disk, file)
}

fn bytes(disk: &MemoryDisk) -> Vec<u8> {
    let file = disk.open(Path::new("/d/f")).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_crash_loses_what_was_not_synced() {
    let (disk, _file) = written();
    assert_eq!(bytes(&disk).len(), 4000);
    assert_eq!(bytes(&disk.crash(Survival::Synced)), [1; 1000]);
    assert_eq!(bytes(&disk.crash(Survival::Everything)).len(), 4000);
}

#[test]
fn a_torn_write_leaves_a_prefix_and_a_scattered_one_leaves_sectors() {
    let (disk, _file) = written();
    let lengths: BTreeSet<usize> = (0..50)
        .map(|seed| bytes(&disk.crash(Survival::Prefix(seed))).len())
        .collect();
    assert!(
        lengths.len() > 10 && lengths.iter().all(|length| (1000..=4000).contains(length)),
        "{lengths:?}"
    );
    let holes = (0..50).any(|seed| bytes(&disk.crash(Survival::Scattered(seed)))[1000..].contains(&0));
    assert!(holes, "a later sector survives without an earlier one");
    assert_eq!(
        bytes(&disk.crash(Survival::Prefix(7))),
        bytes(&disk.crash(Survival::Prefix(7)))
    );
}

#[test]
fn a_name_is_lost_until_its_folder_is_synced() {
    let (disk, _file) = written();
    disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
    let survivor = disk.crash(Survival::Synced);
    assert_eq!(survivor.list(Path::new("/d")).unwrap(), ["f"]);
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.crash(Survival::Synced).list(Path::new("/d")).unwrap(), ["g"]);
}

#[test]
fn a_full_disk_refuses_growth_and_takes_overwriting() {
    let (disk, file) = written();
    disk.set_faults(Faults {
        capacity_bytes: Some(4100),
        ..Faults::default()
    });
    assert_eq!(disk.available_space(Path::new("/d")).unwrap(), 100);
    assert!(file.append(&[3; 101]).unwrap_err().is_full());
    file.append(&[3; 100]).unwrap();
    file.write_at(0, &[4; 4100]).unwrap();
}

#[test]
fn a_power_cut_tears_the_call_it_falls_into_and_stops_all_after_it() {
    let (disk, file) = written();
    disk.set_faults(Faults {
        power_cut_after: Some(1),
        ..Faults::default()
    });
    file.sync_data().unwrap();
    assert!(file.append(&[3; 600]).is_err());
    assert!(file.len().is_err() && disk.list(Path::new("/d")).is_err());
    let lengths: BTreeSet<usize> = (0..50)
        .map(|seed| bytes(&disk.crash(Survival::Prefix(seed))).len())
        .collect();
    assert!(
        lengths.iter().all(|length| (4000..=4600).contains(length)) && lengths.len() > 5,
        "{lengths:?}"
    );
}

#[test]
fn an_injected_failure_comes_once() {
    let (disk, file) = written();
    let fail_next = Some((Operation::Sync, io::ErrorKind::Other));
    disk.set_faults(Faults {
        fail_next,
        ..Faults::default()
    });
    assert_eq!(file.sync_data().unwrap_err().to_string(), "sync /d/f: injected");
    file.sync_data().unwrap();
}
