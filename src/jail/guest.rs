//! Joining without being root: what a set-user-ID copy of nssh does for the user who called it, which is to join a jail
//! that is up, and only that.
//!
//! Theory of operation. Whoever starts a set-user-ID program chooses its arguments, environment, descriptors, limits
//! and signals, and may stop or kill it at any instruction. So nothing is decided by any of that, and nothing is ever
//! held or made that somebody else could wait for or miss: no lock, no file, no mount. Variables are passed on to the
//! shell, and looked at only for what the shell is to be: its name, its directory.
//!
//! 1. First, the process detects that it has rights which the caller lacks ([`Guest::of_process`]); only nssh, under
//!    that name, goes on. What was inherited is put away: descriptors, timers, core dumps, and the environment, which
//!    is kept as data for the shell.
//! 2. In the jail already, the rights are given up and the real shell is run.
//! 3. Outside, the state of the jail is read, if only root can write it. The guest must be one of those whom `--allow`
//!    names; the record that says so is read after init is pinned, so it is that init's and no other's.
//! 4. One setns joins, and right after it, before there is a process that the jail could see, the rights are given up
//!    for good ([`Guest::drop_rights`]). Everything else is done with the user's own rights; a process that stays
//!    outside to look after his terminal gives root's up as its first act.
//!
//! Other processes of the same user are kept out because this process is not dumpable, at first by the kernel's doing,
//! and to its end: no ptrace, no look at its descriptors, memory or directories.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Gid, StatVfsMountFlags, Uid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::process::keep_standard_descriptors;
use super::shell::{Environment, real_shell};
use super::{Init, Life};
use crate::config::{Accounts, Ids};
use crate::error::{Error, Result, What as _, complain};
use crate::file;
use crate::procfs;
use crate::record::state::State;
use crate::record::{self, Record};
use crate::sys;
use crate::text::harmless;

/// How long to wait for a jail that is coming up.
const LIMIT: Duration = Duration::from_secs(10);
/// When that wait is reported.
const TOLD: Duration = Duration::from_secs(3);
/// How often the jail is looked at. There is nothing to block on that would not hold up somebody else.
const PAUSE: Duration = Duration::from_millis(5);

/// The user who called a set-user-ID copy of nssh, and what of his is restored for the shell.
pub struct Guest {
    /// Who he is.
    user: Uid,
    /// His group.
    group: Gid,
    /// His environment, without what no set-user-ID program passes on.
    environment: Environment,
    /// His limit for the size of a core dump.
    core: Rlimit,
}

impl Guest {
    /// The caller, if this process has rights that he lacks; an error if they are not from a set-user-ID bit of root's.
    /// After that it has of the caller's only standard descriptors, arguments, limits, signals and directory.
    pub fn of_process() -> Result<Option<Self>> {
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let (as_user, as_group) = (rustix::process::geteuid(), rustix::process::getegid());
        if !sys::is_privileged_by_file() && user == as_user && group == as_group {
            return Ok(None);
        }
        let refused = |why: &str| Err(Error::text("", why));
        if group != as_group {
            return refused("refuses to run set-group-ID");
        }
        if user == as_user {
            return refused(
                "refuses to run with file capabilities, or set-user-ID while it is traced",
            );
        }
        if !as_user.is_root() {
            return refused("refuses to run set-user-ID as anybody but root");
        }
        // The kernel has done so already, unless fs.suid_dumpable says otherwise.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .what(|| "prctl PR_SET_DUMPABLE")?;
        sys::stop_timers();
        keep_standard_descriptors().what(|| "open /dev/null")?;
        sys::close_from(3);
        let core = getrlimit(Resource::Core);
        let none = Rlimit {
            current: Some(0),
            ..core
        };
        setrlimit(Resource::Core, none).what(|| "ulimit -S -c 0")?;
        let environment = Environment::of_caller().without_unsafe();
        sys::clear_environment();
        Ok(Some(Self {
            user,
            group,
            environment,
            core,
        }))
    }

    /// What the shell gets as its environment.
    pub fn environment(&self) -> Environment {
        self.environment.clone()
    }

    /// The shell's limit for the size of a core dump.
    pub fn core(&self) -> Rlimit {
        self.core
    }

    /// Restores the caller's limit for core dumps in this process, which is about to be the shell.
    pub fn give_back_limit(&self) -> Result<()> {
        setrlimit(Resource::Core, self.core).what(|| "ulimit -S -c")
    }

    /// The real shell, if we are in the jail already. Nobody without rights can make it look so: the link is in a
    /// directory that only root can write, at a path that only root could change or mount over. In a user namespace,
    /// where everybody may mount, the kernel ignores the set-user-ID bit of an owner who is not mapped there, so that
    /// there is no guest to be misled.
    pub fn real_shell() -> Option<PathBuf> {
        check_way(Path::new(record::DIR)).ok()?;
        real_shell().ok()?
    }

    /// The init of a jail that is up and that this user may join, and the jail's record. Nothing is made, written or
    /// locked: while the jail is coming up it is looked at again.
    pub fn find(&self, jail: &str) -> Result<(Init, Option<Record>)> {
        let start = Instant::now();
        let mut told = false;
        loop {
            // What is in the directory is checked where it is read.
            check_way(&record::dir(jail))?;
            let state = State::of(jail)?;
            let (life, record) = (Life::by(&state)?, Record::of(&state)?);
            if let Some(record) = &record {
                self.check_allowed(record)?;
            }
            let init = match life {
                Life::Up(init) if record.is_some() => return Ok((init, record)),
                Life::Ending(_) => return Err(Error::text(jail, "the jail is going down")),
                Life::Up(init) | Life::Starting(init) => Some(init),
                Life::Down if somebody_works() => None,
                Life::Down => {
                    return Err(Error::text(
                        jail,
                        "this jail is not up, and only root can bring it up",
                    ));
                }
            };
            if start.elapsed() >= LIMIT {
                let why = format!("the jail has not come up within {} s", LIMIT.as_secs());
                return Err(Error::text(jail, why));
            }
            if start.elapsed() >= TOLD && !told {
                told = true;
                complain("kak: nssh: waiting for the jail to come up\n");
            }
            match init {
                Some(init) => drop(init.wait(PAUSE)),
                None => drop(rustix::event::poll(&mut [], Some(&super::timespec(PAUSE)))),
            }
        }
    }

    /// Fails unless `--allow` names this user or a group of his, by the accounts as they are now.
    fn check_allowed(&self, record: &Record) -> Result<()> {
        let groups = rustix::process::getgroups().what(|| "getgroups")?;
        let who = Ids {
            user: self.user.as_raw(),
            groups: groups
                .into_iter()
                .chain([self.group])
                .map(Gid::as_raw)
                .collect(),
        };
        let allow = &record.config.allow;
        let (users, groups) = if allow.is_empty() {
            (Vec::new(), Vec::new())
        } else {
            let read = |path| file::read(Path::new(path));
            (read("/etc/passwd")?, read("/etc/group")?)
        };
        let accounts = Accounts {
            users: &users,
            groups: &groups,
        };
        if allow.iter().any(|some| some.admits(&who, accounts)) {
            return Ok(());
        }
        Err(Error::text(
            &record.config.jail,
            format!(
                "user {} may not join this jail: root decides who may, with 'kak setup --allow'",
                who.user
            ),
        ))
    }

    /// Takes init's user and group IDs but for the saved ones. By the others the kernel decides whether we may see
    /// init's namespaces; from anybody else it wants CAP_SYS_PTRACE (ptrace(2), access mode checking), which a
    /// container may lack. An error is ignored: with that capability it works as well.
    pub fn be_like_init(&self) {
        let (root, roots) = (Uid::ROOT, Gid::ROOT);
        rustix::thread::set_thread_res_gid(roots, roots, self.group).ok();
        rustix::thread::set_thread_res_uid(root, root, self.user).ok();
    }

    /// Becomes the caller, for good, and verifies that. The supplementary groups are his already: no exec changes them.
    /// The bounding set stays, so that su, sudo and ping are in the jail what they are outside.
    pub fn drop_rights(&self) -> Result<()> {
        let (user, group) = (self.user, self.group);
        let what = || {
            format!(
                "setpriv --reuid {} --regid {}",
                user.as_raw(),
                group.as_raw()
            )
        };
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_thread_res_gid(group, group, group).what(what)?;
        rustix::thread::set_thread_res_uid(user, user, user).what(what)?;
        rustix::thread::set_capabilities(None, none).what(what)?;
        rustix::thread::clear_ambient_capability_set().what(what)?;
        // A change of IDs sets the dumpable flag to fs.suid_dumpable (proc_sys_fs(5)).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).what(what)?;
        let whole = sys::user_ids().what(what)? == [user.as_raw(); 3]
            && sys::group_ids().what(what)? == [group.as_raw(); 3]
            && rustix::thread::set_thread_res_uid(None, Uid::ROOT, None).is_err()
            && rustix::thread::capabilities(None).what(what)? == none;
        if whole {
            Ok(())
        } else {
            Err(Error::text(what(), "some of root's rights are still there"))
        }
    }
}

/// Fails unless a directory and all above it are root's. From the top down: what was checked stays what it is.
fn check_way(dir: &Path) -> Result<()> {
    let mut way: Vec<&Path> = dir.ancestors().collect();
    way.reverse();
    way.into_iter()
        .try_for_each(|dir| file::check_roots(dir, FileType::Directory).map(drop))
}

/// Whether some process holds [`super::Lock`]; this only looks, and does not try to take it.
fn somebody_works() -> bool {
    let (Ok(dir), Ok(locks)) = (
        rustix::fs::stat(record::DIR),
        file::read(Path::new("/proc/locks")),
    ) else {
        return false;
    };
    let device = (rustix::fs::major(dir.st_dev), rustix::fs::minor(dir.st_dev));
    procfs::is_flocked(&locks, device, dir.st_ino)
}

/// The error for a caller without rights who cannot join: what would have given him some, and why it did not.
pub fn why_not() -> Error {
    let me = rustix::fs::readlink("/proc/self/exe", Vec::new()).unwrap_or_default();
    let has_bit = rustix::fs::stat("/proc/self/exe").is_ok_and(|stat| stat.st_mode & 0o4000 != 0);
    let nosuid = rustix::fs::statvfs("/proc/self/exe")
        .is_ok_and(|about| about.f_flag.contains(StatVfsMountFlags::NOSUID));
    let name = harmless(me.to_bytes());
    Error::text(
        "",
        if !has_bit {
            "needs root, or a set-user-ID copy of nssh that root makes with 'kak --install --setuid-nssh PATH'".into()
        } else if rustix::thread::no_new_privs().unwrap_or_default() {
            format!(
                "{name} is set-user-ID, but no_new_privs is set for its caller (setpriv, docker run --security-opt no-new-privileges)"
            )
        } else if nosuid {
            format!("{name} is set-user-ID, but its file system is mounted nosuid")
        } else {
            format!(
                "{name} is set-user-ID, but its owner is not mapped here: leave this user namespace"
            )
        },
    )
}
