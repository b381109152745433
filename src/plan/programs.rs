//! kak's own program files inside a jail: each is a read-only bind mount of itself, so that nobody inside can write,
//! replace or remove, even by mistake, what root outside runs next. Root inside can unmount one; init then mounts it
//! again.

use std::path::{Path, PathBuf};

use super::Steps;
use crate::facts::PROGRAM_DIRS;
use crate::procfs::Mount;
use crate::record::Record;
use crate::step::mount::Bind;

/// The mounts.
pub(super) fn inner(record: &Record, steps: &mut Steps) {
    for path in &record.facts.programs {
        let why = "kak itself, which the jail must not change";
        steps.add(why, kept(&record.facts.root, path.clone()));
    }
}

/// The mount of one file.
pub fn kept(root: &Path, path: PathBuf) -> Bind {
    Bind {
        source: path.clone(),
        target: path,
        root: root.into(),
        read_only: true,
    }
}

/// The read-only mounts of kak and nssh in the well-known program directories of a mount table.
pub fn of_table(mounts: &[Mount]) -> impl Iterator<Item = &Path> {
    let is_one = |path: &&Path| {
        let is_found = |dir: &Path| PROGRAM_DIRS.iter().any(|known| dir == Path::new(known));
        path.parent().is_some_and(is_found) && (path.ends_with("kak") || path.ends_with("nssh"))
    };
    let read_only = mounts.iter().filter(|mount| mount.read_only);
    read_only.map(|mount| mount.point.as_path()).filter(is_one)
}
