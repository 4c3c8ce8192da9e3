//! A disk for each node: an ext4 file system in a file, on a loop device. Its power can be cut: what was not synced is gone,
//! as it is not after SIGKILL, which the page cache survives. It can be filled up, be slow, and answer nothing for a while.
//! Unmounted when dropped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::shell::run;
use crate::processes::NODES;

const DISK_MIB: u64 = 384;
/// What a full disk has left: a few blocks.
const LEFT_BYTES: u64 = 256 << 10;
/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: the file system stops as it is, and not even its journal is flushed. Python
/// calls it, because our crates forbid unsafe code.
const CUT: &str = "import fcntl, os, struct, sys\nfor path in sys.argv[1:]:\n  fcntl.ioctl(os.open(path, os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// Where groups of processes have limits on what they write to a device (cgroups of version 1).
const LIMITS: &str = "/sys/fs/cgroup/blkio";

/// File systems in files.
pub struct Disks {
    folder: tempfile::TempDir,
}

impl Disks {
    /// Makes and mounts them; an error where this process may not.
    pub fn mount() -> Result<Disks> {
        let disks = Disks {
            folder: tempfile::tempdir()?,
        };
        for (node, path) in disks.paths().iter().enumerate() {
            std::fs::create_dir(path)?;
            let image = disks.image(node);
            std::fs::File::create(&image)?.set_len(DISK_MIB << 20)?;
            run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)?])?;
            disks.mount_one(node)?;
        }
        Ok(disks)
    }

    /// Where each is mounted.
    pub fn paths(&self) -> Vec<PathBuf> {
        let path = |node: usize| self.folder.path().join(format!("disk{node}"));
        (0..NODES).map(path).collect()
    }

    /// The power of these disks fails, all at once. Whoever writes there gets errors from now on.
    pub fn cut(&self, nodes: &[usize]) -> Result<()> {
        let paths = self.paths();
        let mut words = vec!["-c", CUT];
        for node in nodes {
            words.push(text(&paths[*node])?);
        }
        run("python3", &words).map(drop)
    }

    /// The power is back: unmounts and mounts again what nobody has open any more.
    pub fn restore(&self, node: usize) -> Result<()> {
        run("umount", &[text(&self.paths()[node])?])?;
        self.mount_one(node)
    }

    /// Fills a disk up.
    pub fn fill(&self, node: usize) -> Result<()> {
        let path = self.paths()[node].clone();
        let told = run("df", &["-B1", "--output=avail", text(&path)?])?;
        let Some(Ok(free)) = told.lines().nth(1).map(|line| line.trim().parse::<u64>()) else {
            bail!("df says {told:?}");
        };
        let length = free.saturating_sub(LEFT_BYTES).to_string();
        let ballast = path.join("ballast");
        run("fallocate", &["-l", &length, text(&ballast)?]).map(drop)
    }

    /// Whether [`Disks::slow`] can be had here.
    pub fn can_be_slow() -> bool {
        let group = Path::new(LIMITS).join(format!("granum-try-{}", std::process::id()));
        let made = std::fs::create_dir(&group).is_ok();
        let limits = made && group.join("blkio.throttle.write_iops_device").exists();
        let _ = std::fs::remove_dir(group);
        limits
    }

    /// So many writes a second of this process reach the disk from now on; 0: as many as it can.
    pub fn slow(&self, node: usize, process: u32, writes_a_second: u32) -> Result<()> {
        let group = self.group(node)?;
        if !group.exists() {
            std::fs::create_dir(&group)?;
        }
        std::fs::write(group.join("cgroup.procs"), process.to_string())?;
        let devices = run(
            "losetup",
            &["--noheadings", "--output", "MAJ:MIN", "-j", text(&self.image(node))?],
        )?;
        let limit = format!("{} {writes_a_second}", devices.trim());
        Ok(std::fs::write(group.join("blkio.throttle.write_iops_device"), limit)?)
    }

    /// The disk answers no write until [`Disks::thaw`].
    pub fn freeze(&self, node: usize) -> Result<()> {
        run("fsfreeze", &["--freeze", text(&self.paths()[node])?]).map(drop)
    }

    /// What waited for the disk goes on.
    pub fn thaw(&self, node: usize) -> Result<()> {
        run("fsfreeze", &["--unfreeze", text(&self.paths()[node])?]).map(drop)
    }

    /// Makes room again.
    pub fn empty(&self, node: usize) -> Result<()> {
        Ok(std::fs::remove_file(self.paths()[node].join("ballast"))?)
    }

    fn group(&self, node: usize) -> Result<PathBuf> {
        let folder = self.folder.path().file_name().context("a folder has a name")?;
        Ok(Path::new(LIMITS).join(format!("granum{}-{node}", folder.display())))
    }

    fn image(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("disk{node}.ext4"))
    }

    fn mount_one(&self, node: usize) -> Result<()> {
        let (image, path) = (self.image(node), self.paths()[node].clone());
        run("mount", &["-o", "loop", text(&image)?, text(&path)?]).map(drop)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for path in self.paths().iter().filter(|path| path.exists()) {
            // The loop device goes with the mount.
            let _ = text(path).and_then(|path| run("umount", &["-l", path]));
        }
        for group in (0..NODES).filter_map(|node| self.group(node).ok()) {
            let _ = std::fs::remove_dir(group);
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) => Ok(text),
        None => bail!("{} is not a text", path.display()),
    }
}
