//! How a jail is brought up, mended and taken down: the outer steps by this process, which holds [`Lock`], the inner
//! ones by the init that it starts. Which process that is, and who waits for it, is up to [`super::keeper`].

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, Signal, WaitOptions};

use super::{Init, Life, Lock, Waits, capabilities, init, lost, namespaces};
use crate::config::{Config, Namespace};
use crate::engine::{self, Tell};
use crate::error::{Error, Result, What as _};
use crate::file;
use crate::netns;
use crate::plan::{self, Plan};
use crate::record::{self, Record};
use crate::step::account;
use crate::step::forwarding::Forwarding;
use crate::step::forwarding6::Forwarding6;
use crate::step::switch::Ipv6Switch;
use crate::step::{Machine, Seen, Step};
use crate::survey::{self, Before};
use crate::sys::{self, SignalSet};

/// How long to wait for an init that may be about to renew a mount whose source was replaced.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long to pause between looks at it meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// The jail that is asked for.
pub struct Wanted {
    /// The jail.
    pub config: Config,
    /// Whether its options were given. If not, a jail that exists already is accepted as it is.
    pub given: bool,
}

/// Where the progress of a jail that comes up is reported.
pub struct Teller<'a> {
    /// Called for each step.
    pub step: Tell<'a>,
    /// Called with what the machine does not allow.
    pub note: &'a mut dyn FnMut(&str),
}

/// Brings a jail up, or mends one that is up. The init is new if it is our own child.
pub fn bring_up(wanted: &Wanted, teller: &mut Teller<'_>, waits: Waits<'_>) -> Result<Init> {
    capabilities::check("a jail", capabilities::JAIL)?;
    let jail = wanted.config.jail.as_str();
    let _lock = Lock::take(waits)?;
    account::sweep()?;
    let old = Record::read(jail)?;
    if old.as_ref().is_some_and(|old| old.config.bare) {
        return Err(Error::cure(
            format!("kak setup -n {jail}"),
            "this is a network namespace that 'kak netns add --uplink' made, not a jail",
            format!("choose another name, or remove it with 'kak netns delete {jail}'"),
        ));
    }
    if let (Life::Up(init), Some(record)) = (Life::of(jail)?, &old)
        && mend(wanted, record, &init, teller)?
    {
        return Ok(init);
    }
    if old.is_none() {
        lost::check_link(jail, &format!("kak setup -n {jail}"))?;
    }
    super::end(jail)?;
    file::remove_open(&record::dir(jail).join("lock"))?;
    let mut machine = Machine::new(jail);
    let config = match &old {
        Some(old) if !wanted.given => &old.config,
        _ => &wanted.config,
    };
    hold_accounts(config, &mut machine)?;
    let record = match old {
        None => draw_up(wanted.config.clone(), &mut machine, Err)?,
        Some(old) => renewed(wanted, old, &mut machine)?,
    };
    let plan = Plan::new(&record);
    plan.notes.iter().for_each(|note| (teller.note)(note));

    let made = engine::setup(&plan.outer, &mut machine, teller.step)?;
    machine.accounts = None;
    match start(&record, &plan) {
        Ok(init) => {
            plan.inner.iter().for_each(|step| (teller.step)('+', step));
            Ok(init)
        }
        Err(error) => Err(error.and(made.take_back(&mut machine))),
    }
}

/// Locks the accounts if login shells have to be changed, so that what the record says of them still holds when they
/// are. If none has to be, another holder of that lock does not delay the jail.
fn hold_accounts(config: &Config, machine: &mut Machine) -> Result<()> {
    if let Some(user) = config.login_shells.first()
        && account::is_writable()?
        && survey::have_others(config)?
    {
        machine.accounts = Some(account::Lock::take(&format!("--login-shell {user}"))?);
    }
    Ok(())
}

/// A new record: the options, the machine as it is, and what exists already. What cannot be looked at would count as
/// ours, and be removed in the end; `unseen` decides whether that matters.
pub fn draw_up(
    config: Config,
    machine: &mut Machine,
    unseen: impl Fn(Error) -> Result<()>,
) -> Result<Record> {
    let mut record = sketch(config, None, machine)?;
    find(&mut record, &[], machine, unseen)?;
    Ok(record)
}

/// The record that a jail which is down, but has a record from an earlier run, would get now: the same one, unless the
/// options or the machine have changed. It does not say yet what exists already.
pub fn sketch_anew(wanted: &Wanted, old: &Record, machine: &mut Machine) -> Result<Record> {
    let config = if wanted.given {
        wanted.config.clone()
    } else {
        old.config.clone()
    };
    sketch(config, Some(old), machine)
}

/// The record for a jail's next run. What the last run made stays if the new one would make it too: a network namespace
/// may hold things that are recorded nowhere else.
fn renewed(wanted: &Wanted, old: Record, machine: &mut Machine) -> Result<Record> {
    let mut new = sketch_anew(wanted, &old, machine)?;
    if (&new.config, &new.facts) == (&old.config, &old.facts) {
        return Ok(old);
    }
    let own = own(&old)?;
    let steps: Vec<String> = texts(&new).collect();
    let last = Plan::new(&old);
    let (_, rest) = last.outer.split_at(plan::STATE);
    let shared = shared(&old);
    let keep = |text: &str| !has(&own, text) || has(&shared, text) || has(&steps, text);
    engine::teardown(rest, machine, keep, &mut quietly)?;
    find(&mut new, &own, machine, Err)?;
    Ok(new)
}

/// Options and facts, given what an earlier record of this jail (`before`) says.
fn sketch(config: Config, before: Option<&Record>, machine: &mut Machine) -> Result<Record> {
    let others = record::others(&config.jail);
    for other in &others {
        for (ours, theirs) in config.publish.iter().flat_map(|ours| {
            other
                .config
                .publish
                .iter()
                .map(move |theirs| (ours, theirs))
        }) {
            if ours.collides(*theirs) {
                let why = format!("is already forwarded to {}", other.config.jail);
                return Err(Error::text(format!("--publish {ours}"), why));
            }
        }
    }
    let before = match before {
        None => None,
        Some(record) => Some(Before {
            own: own(record)?,
            record,
        }),
    };
    Ok(Record {
        facts: survey::take(&config, &others, before.as_ref(), machine)?,
        config,
        found: Vec::new(),
    })
}

/// Records what exists already and is not ours, neither by an earlier record (`own`) nor by a mark of ours.
fn find(
    record: &mut Record,
    own: &[String],
    machine: &mut Machine,
    unseen: impl Fn(Error) -> Result<()>,
) -> Result<()> {
    // kak's own state is always its own, even if left by a process that was killed before it had written a record.
    for step in Plan::new(record).outer.iter().skip(plan::STATE) {
        match step.act.observe(machine) {
            Ok(Seen::Done) if !step.act.is_marked() => {
                record.found.push(step.act.to_string());
            }
            Ok(_) => {}
            Err(error) => unseen(error)?,
        }
    }
    // What another jail made belongs to both: the last of them removes it.
    for other in record::others(&record.config.jail) {
        for text in texts(&other).filter(|text| !other.found.contains(text)) {
            record.found.retain(|found| *found != text);
        }
    }
    record.found.retain(|text| !own.contains(text));
    check_resolvers(record)
}

/// The outer steps of a record, as text.
fn texts(record: &Record) -> impl Iterator<Item = String> {
    let steps = Plan::new(record).outer.into_iter();
    steps.map(|step| step.act.to_string())
}

/// Those of them that are the jail's own: what they make was not there before.
fn own(record: &Record) -> Result<Vec<String>> {
    let mut own: Vec<String> = texts(record).collect();
    own.retain(|text| !record.found.contains(text));
    if record.facts.cookie != survey::cookie()? {
        // The outer network namespace is another now (a restart): its switches were not set by this jail.
        own.retain(|text| text != Forwarding::TEXT && text != Forwarding6::TEXT);
        for link in record.facts.ipv6.iter().flat_map(|ipv6| &ipv6.heard) {
            let switch = Ipv6Switch::hear(link).to_string();
            own.retain(|text| *text != switch);
        }
    }
    Ok(own)
}

/// Whether a step, as text, is one of these.
fn has(steps: &[String], text: &str) -> bool {
    steps.iter().any(|step| step == text)
}

/// The plan of a jail that is up, with what has come since: chains that drop forwarded packets, as a firewall may have
/// been started, and login shells that users have chosen, whose accounts then are locked. The record is updated, and
/// `note` is called with each thing that the machine, as is seen only now, does not allow.
pub fn look_again(
    record: &Record,
    machine: &mut Machine,
    note: &mut dyn FnMut(&str),
) -> Result<Plan> {
    let mut now = record.clone();
    now.facts.firewall =
        survey::firewall::drops(&record.config, Some(&record.facts.firewall), machine)?;
    if record.facts.passwd_writable {
        hold_accounts(&record.config, machine)?;
        survey::take_in_chosen(&record.config, &mut now.facts)?;
    }
    if now.facts != record.facts {
        // Atomically, and before what it names is made: there is a record at every moment.
        now.write()?;
    }
    let (before, plan) = (Plan::new(record), Plan::new(&now));
    let new = plan
        .notes
        .iter()
        .filter(|text| !before.notes.contains(text));
    new.for_each(|text| note(text));
    Ok(plan)
}

/// Fails if `--dns` can have no effect: a resolv.conf that is somebody's own and says something else stays as it is.
fn check_resolvers(record: &Record) -> Result<()> {
    let Some(own) = plan::own_resolvers(record).filter(|_| !record.config.dns.is_empty()) else {
        return Ok(());
    };
    if record.found.contains(&own.to_string()) && own.read()? != record.facts.resolvers {
        let path = record.resolv_conf();
        return Err(Error::cure(
            "--dns",
            format!(
                "{} is there already, and says something else",
                path.display()
            ),
            "remove that file, or leave --dns out",
        ));
    }
    Ok(())
}

/// The steps of all other jails, as text: what this jail shares with them stays when it goes.
fn shared(record: &Record) -> Vec<String> {
    record::others(&record.config.jail)
        .iter()
        .flat_map(texts)
        .collect()
}

/// Fails if options were given and the jail, which is up, has others.
pub fn check_options(wanted: &Wanted, record: &Record) -> Result<()> {
    let jail = &record.config.jail;
    match wanted.config.differs(&record.config) {
        Some(how) if wanted.given => Err(Error::cure(
            format!("kak setup -n {jail}"),
            format!("it is up with other options: {how}"),
            format!("see 'kak status -n {jail}'; 'kak teardown -n {jail}' ends it"),
        )),
        _ => Ok(()),
    }
}

/// Makes what is missing of a jail that is up. What only its init could make is reported instead. Returns whether the
/// jail is still up after that: its last session may have ended meanwhile.
fn mend(wanted: &Wanted, record: &Record, init: &Init, teller: &mut Teller<'_>) -> Result<bool> {
    let jail = &record.config.jail;
    check_options(wanted, record)?;
    let mut machine = Machine::new(jail);
    let plan = look_again(record, &mut machine, teller.note)?;
    // A network namespace that has lost its name is found through init.
    machine.view = init.view()?;
    engine::setup(&plan.outer, &mut machine, teller.step)?;
    let start = Instant::now();
    let all = loop {
        let Some(view) = init.view()? else {
            return Ok(false);
        };
        machine.view = Some(view);
        let all = engine::observe(&plan.inner, &mut machine);
        let done = all.iter().all(|(_, seen)| *seen == Seen::Done);
        if done || start.elapsed() > PATIENCE {
            break all;
        }
        init.wait(PAUSE);
    };
    let mut errors = Vec::new();
    for (step, seen) in all {
        if seen == Seen::Done {
            (teller.step)('=', step);
        } else {
            errors.push(Error::cure(
                step.act.to_string(),
                "is missing in the jail, which somebody has changed from inside",
                format!("'kak teardown -n {jail}' and a new setup bring it back"),
            ));
        }
    }
    Error::all(errors)?;
    Ok(matches!(Life::of(jail)?, Life::Up(still) if still.pid == init.pid))
}

/// Starts init and waits until it says that the jail can be joined.
fn start(record: &Record, plan: &Plan) -> Result<Init> {
    let netns = netns::open(record.config.jail.as_ref())?;
    let own = &record.config.unshare;
    let time = own.contains(&Namespace::Time).then(namespaces::time);
    let time = time.transpose()?;
    // A pipe: over a socket, a process in the jail could find out which process is at this end (see `line`).
    let (ours, report) = pipe_with(PipeFlags::CLOEXEC).what(|| "pipe")?;
    let me = rustix::process::getpid();
    let keeper = rustix::process::pidfd_open(me, PidfdFlags::empty()).what(|| "pidfd_open")?;
    let before = sys::set_signal_mask(&SignalSet::all_but_faults());
    let what = || namespaces::command(own);
    let Some((pid, fd)) = sys::clone(namespaces::flags(own)).what(what)? else {
        drop(ours);
        init::run(init::Start {
            record,
            plan,
            netns,
            time,
            report,
            keeper,
        });
    };
    sys::set_signal_mask(&before);
    drop(report);
    let mut text = [0; 4096];
    let said = loop {
        match rustix::io::read(&ours, &mut text) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.unwrap_or(0),
        }
    };
    let life = Life::of(&record.config.jail);
    if matches!(life, Ok(Life::Up(_))) {
        return Ok(Init { pid, fd });
    }
    // Whatever it is still doing: nothing would keep track of it.
    rustix::process::pidfd_send_signal(&fd, Signal::KILL).ok();
    rustix::process::waitpid(Some(pid), WaitOptions::empty()).ok();
    life?;
    Err(match said {
        0 => Error::text(what(), "the jail's init ended before the jail was up"),
        read => Error::unpacked(&String::from_utf8_lossy(
            text.get(..read).unwrap_or_default(),
        )),
    })
}

/// Removes what a record lists as the jail's.
pub fn clear(record: &Record, tell: Tell<'_>) -> Result<()> {
    let (own, shared) = (own(record)?, shared(record));
    let plan = Plan::new(record);
    let mut machine = Machine::new(&record.config.jail);
    let keep = |text: &str| !has(&own, text) || has(&shared, text);
    let (state, rest) = plan.outer.split_at(plan::STATE);
    // The record goes last, and only if nothing is left that it is needed for.
    engine::teardown(rest, &mut machine, keep, tell)?;
    engine::teardown(state, &mut machine, |_| false, tell)
}

/// Ends a jail and removes all that it was built on. It is no error if there is none.
pub fn take_down(jail: &str, tell: Tell<'_>, waits: Waits<'_>) -> Result<()> {
    if file::lstat(Path::new(record::DIR))?.is_none() && lost::inits(jail)?.is_empty() {
        return lost::check(jail, false);
    }
    // Even if this jail has no state: a process killed early may have left the directory, which goes with the lock.
    let _lock = Lock::take(waits)?;
    take_down_locked(jail, tell)
}

/// The same for the jail of this init, which is the caller's child. If that jail is gone and another one has been
/// brought up in its place, that one is left alone.
pub fn take_down_own(jail: &str, mine: &Init) -> Result<()> {
    let _lock = Lock::take(&mut |_| Ok(()))?;
    let another = match Life::of(jail)? {
        Life::Down => false,
        // The PID of a dead child is not reused until it is reaped.
        Life::Starting(init) | Life::Up(init) | Life::Ending(init) => init.pid != mine.pid,
    };
    if another {
        return Ok(());
    }
    take_down_locked(jail, &mut quietly)
}

/// The same, with the lock held.
fn take_down_locked(jail: &str, tell: Tell<'_>) -> Result<()> {
    let ended = super::end(jail)?;
    let swept = account::sweep();
    let gone = if let Some(record) = Record::read(jail)? {
        clear(&record, tell)
    } else {
        // The process that made the directory was killed before it had written a record.
        let state = Plan::state(jail, Vec::new());
        let gone = engine::teardown(&state, &mut Machine::new(jail), |_| false, tell);
        gone.and_then(|()| lost::check(jail, ended))
    };
    Error::all([swept.err(), gone.err()].into_iter().flatten().collect())
}

/// Shows nothing.
pub fn quietly(_: char, _: &Step) {}
