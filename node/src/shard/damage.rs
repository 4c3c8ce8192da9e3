//! Are a replica's files what was written? A look at all of them, as of the seal that stands.

use super::machine::ShardMachine;
use super::{Fault, manifest};

impl ShardMachine {
    /// Reads all files of the seal that stands; what is damaged, if anything is. Slow.
    pub fn find_damage(&self) -> Result<Option<String>, Fault> {
        let Some(pinned) = self.pin_snapshot()? else {
            return Ok(None);
        };
        let opened = match manifest::read(self.options.disk.as_ref(), &pinned.directory).map_err(Fault::from) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Some("the manifest is gone".to_owned())),
            Err(fault) if fault.is_damage => return Ok(Some(fault.to_string())),
            Err(fault) => return Err(fault),
        };
        let verified = granum_index::verify(&pinned.directory, &opened.segments);
        Ok(verified.problems.into_iter().next())
    }
}
