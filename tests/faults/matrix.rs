//! The matrix: for every system call of a verb's clean run, runs in which it fails, one for each of its errnos, and one
//! in which its process is killed, and the checks afterwards. The verbs are in [`crate::verbs`].

use std::fmt::Write as _;

use crate::calls;
use crate::sandbox::*;
use crate::state;
use crate::tracer::{self, Fault, Made, Point, Traced};

/// What an error may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Nothing: all is as before.
    Nothing,
    /// Nothing, or a complete jail: it was brought up for the session that then failed, and stays.
    NothingOrWhole,
    /// Nothing; or, if the error comes at the end, in the command's own teardown, a rest that another teardown removes.
    NothingOrRest,
    /// A rest: a command that removes goes on after an error, reports each one, and removes the rest when called again.
    Rest,
}

/// A verb of kak's, and how it may end.
pub struct Verb {
    /// Its name, for the report.
    pub name: &'static str,
    /// Prepares the machine, once.
    pub once: &'static str,
    /// Prepares the machine before each run.
    pub each: &'static str,
    /// The verb.
    pub command: &'static str,
    /// Restores the state before `each`.
    pub back: &'static str,
    /// How an error message begins.
    pub prefix: &'static str,
    /// The exit statuses of errors.
    pub codes: &'static [i32],
    /// What an error may leave.
    pub after: After,
    /// Whether what a kill left can be mended by running the verb again, too, not only by `back`.
    pub again: bool,
    /// By default only each `every`th point is tried: another verb makes the same calls, too.
    pub every: usize,
    /// Only calls near those on these paths are tried; all if this is empty.
    pub about: &'static [&'static str],
}

/// KAK_FAULTS. Without it each point fails once, with one of its errnos in turn, and is killed at if it changes
/// something. With `all`, each point fails with all of its errnos, and is killed at, mended in both ways. Any other
/// text chooses those of all these runs whose label contains it.
fn wish() -> Option<String> {
    std::env::var("KAK_FAULTS")
        .ok()
        .filter(|wish| !wish.is_empty())
}

/// The machine's states.
struct States {
    /// Before [`Verb::each`].
    without: String,
    /// Before the verb.
    before: String,
    /// After it.
    clean: String,
}

/// Tries one share of `parts` of a verb's points.
pub fn part(verb: &Verb, part: usize, parts: usize) {
    uplink::plug6();
    // With a firewall that drops, the plan has steps of every kind.
    sh(
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
    );
    sh(verb.once);
    let without = state::at_rest();
    sh(verb.each);
    let before = state::at_rest();
    let first = tracer::run(verb.command, None);
    assert_eq!(
        (first.status, first.said.as_str()),
        (Some(0), ""),
        "{}",
        verb.command
    );
    let clean = state::at_rest();
    run(verb.back);
    let states = States {
        without,
        before,
        clean,
    };
    state::expect(&states.without, None).unwrap();
    let points: Vec<Made> = chosen(verb, first.made);
    assert!(!points.is_empty());
    let wish = wish();
    let (mut tried, mut runs, mut missed) = (0, 0, 0);
    let mut differ = Vec::new();
    let ours = points
        .iter()
        .enumerate()
        .filter(|(_, made)| share(&made.point, parts) == part);
    for (turn, (n, made)) in ours.enumerate() {
        // In this share only each `every`th point.
        if wish.is_none() && !turn.is_multiple_of(verb.every) {
            continue;
        }
        tried += 1;
        for (fault, again) in faults(verb, made, n, wish.is_some()) {
            let label = label(made, fault, again);
            if wish
                .as_ref()
                .is_some_and(|wish| wish != "all" && !label.contains(wish))
            {
                continue;
            }
            runs += 1;
            match attempt(verb, &states, &made.point, fault, again) {
                Ok(true) => {}
                Ok(false) => missed += 1,
                Err(why) => {
                    println!("\nfaults: {}: {label}: {why}", verb.name);
                    differ.push(label);
                }
            }
        }
    }
    println!(
        "\nfaults: {}, part {} of {parts}: {tried} points, {runs} runs, {missed} not reached, {} differ",
        verb.name,
        part + 1,
        differ.len()
    );
    assert!(differ.is_empty(), "{}: {differ:#?}", verb.name);
    // How often kak polls depends on timing, so a few of the clean run's calls may not be made.
    assert!(
        missed * 20 <= runs + 19,
        "{missed} of {runs} faults did not come to pass"
    );
}

/// The share that a point belongs to: by its name, not by its place, as the clean runs of the parts can differ by a few
/// calls.
fn share(point: &Point, parts: usize) -> usize {
    point.to_string().bytes().map(usize::from).sum::<usize>() % parts
}

/// The points of a verb that are tried.
fn chosen(verb: &Verb, all: Vec<Made>) -> Vec<Made> {
    if verb.about.is_empty() {
        return all;
    }
    // The calls shortly before and after as well: reads and closes of what was opened, and changes after a look.
    let near = |n: usize| {
        let (from, to) = (n.saturating_sub(6), (n + 12).min(all.len()));
        all[from..to].iter().any(|made| {
            made.point.process == all[n].point.process
                && verb.about.iter().any(|path| made.path.starts_with(path))
        })
    };
    let near: Vec<bool> = (0..all.len()).map(near).collect();
    all.into_iter()
        .zip(near)
        .filter_map(|(made, near)| near.then_some(made))
        .collect()
}

/// The faults to try at a point, and whether a kill is mended by the same command again, or by `back`.
fn faults(verb: &Verb, made: &Made, n: usize, all: bool) -> Vec<(Fault, bool)> {
    let errnos = calls::errnos(made.point.name);
    let mut faults: Vec<_> = if all {
        errnos
            .iter()
            .map(|errno| (Fault::Error(*errno), false))
            .collect()
    } else {
        errnos
            .iter()
            .cycle()
            .skip(n)
            .take(1)
            .map(|errno| (Fault::Error(*errno), false))
            .collect()
    };
    if all {
        faults.extend([(Fault::Kill, false), (Fault::Kill, true)]);
        faults.truncate(faults.len() - usize::from(!verb.again));
    } else if !made.quiet {
        faults.push((Fault::Kill, n.is_multiple_of(2) && verb.again));
    }
    faults
}

/// A run's label: the point and the fault.
fn label(made: &Made, fault: Fault, again: bool) -> String {
    let mut text = made.point.to_string();
    if !made.path.is_empty() {
        write!(text, " ({})", made.path).unwrap();
    }
    match fault {
        Fault::Kill if again => text + " killed, again",
        Fault::Kill => text + " killed, back",
        Fault::Error(errno) => format!("{text} {}", calls::errno_name(errno)),
    }
}

/// Makes one run with a fault; whether the fault happened, or what is wrong afterwards.
fn attempt(
    verb: &Verb,
    states: &States,
    point: &Point,
    fault: Fault,
    again: bool,
) -> Result<bool, String> {
    let mut hit = false;
    let mut result = Ok(());
    // A call that depends on timing may be made the next time.
    for _ in 0..3 {
        if !verb.each.is_empty() {
            sh(verb.each);
        }
        let ended = tracer::run(verb.command, Some((point, fault)));
        hit = ended.hit;
        // A Rust program that gets no memory aborts.
        let dies = calls::is_allocation(point.name) && ended.said.contains("memory allocation of");
        result = match fault {
            Fault::Error(_) if dies => mend(verb, states, verb.again),
            Fault::Kill => mend(verb, states, again),
            Fault::Error(_) => judge(verb, states, &ended),
        }
        .map_err(|why| format!("status {:?}, said {:?}\n{why}", ended.status, ended.said));
        let back = run(verb.back);
        let returned =
            state::expect(&states.without, None).map_err(|why| format!("then {back}\n{why}"));
        if returned.is_err() {
            println!(
                "\nfaults: {}: {point}: the way back ends elsewhere: {returned:?}",
                verb.name
            );
            run("kak teardown; kak netns delete blue; rm -rf /run/kak
                for at in /proc/[0-9]*; do case $(cat $at/comm) in kak*) kill -KILL ${at#/proc/};; esac; done");
            sh(verb.once);
            state::expect(&states.without, None).unwrap();
        }
        result = result.and(returned);
        if hit || result.is_err() {
            break;
        }
    }
    result.map(|()| hit)
}

/// Checks the outcome of an error.
fn judge(verb: &Verb, states: &States, ended: &Traced) -> Result<(), String> {
    match ended.status {
        None => Err("it hangs".into()),
        Some(0) => state::expect(&states.clean, None),
        Some(code) if verb.codes.contains(&code) => {
            if !ended.said.lines().any(|line| line.starts_with(verb.prefix))
                || ended.said.contains("panicked")
            {
                return Err("it does not say what is wrong".into());
            }
            match verb.after {
                After::NothingOrWhole => state::expect(&states.before, Some(&states.clean)),
                After::NothingOrRest if ended.said.contains("kak: teardown: ") => {
                    mend(verb, states, false)
                }
                After::Nothing | After::NothingOrRest => state::expect(&states.before, None),
                After::Rest => mend(verb, states, true),
            }
        }
        Some(_) => Err("a status that is not an error's".into()),
    }
}

/// Mends what a kill left, by the same command again or by `back`, and checks the state.
fn mend(verb: &Verb, states: &States, again: bool) -> Result<(), String> {
    let (script, wanted) = if again {
        (verb.command, &states.clean)
    } else {
        (verb.back, &states.without)
    };
    let ended = run(script);
    // If the killed command had done everything, or nothing, the namespace exists already, or does not exist.
    let moot = ["File exists", "No such file"]
        .iter()
        .any(|why| ended.stderr.contains(why));
    if ended.status.code() != Some(0) && !(moot && script.contains("netns")) {
        return Err(ended.to_string());
    }
    state::expect(wanted, None).map_err(|why| format!("{ended}\n{why}"))
}
