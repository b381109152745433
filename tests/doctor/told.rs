//! Runs `kak doctor`, with and without `--json`, and checks its output.

use serde_json::Value;

use crate::sandbox::*;

/// One check, as `--json` has it.
#[derive(Clone, PartialEq, Debug)]
pub struct Check {
    pub name: String,
    pub state: String,
    pub what: String,
    pub why: String,
    pub cure: Option<String>,
    pub command: bool,
}

/// The output of the doctor.
#[derive(Debug)]
pub struct Told {
    pub status: i32,
    pub checks: Vec<Check>,
}

/// Runs the doctor, behind a prefix (`setpriv ...`) if there is one, and asserts that the text says the same as the
/// JSON, and that the exit status fits.
#[track_caller]
pub fn doctor_by(prefix: &str) -> Told {
    let json = run(&format!("{prefix} kak doctor --json"));
    let text = run(&format!("{prefix} kak doctor"));
    assert_eq!(json.status, text.status, "{json}\n{text}");
    assert_eq!(text.stderr, "", "{text}");
    let list: Value =
        serde_json::from_slice(&json.stdout).unwrap_or_else(|why| panic!("{why}: {json}"));
    let field = |object: &Value, key: &str| object[key].as_str().unwrap().to_owned();
    let checks: Vec<Check> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            assert_eq!(object.as_object().unwrap().len(), 6, "{object}");
            Check {
                name: field(object, "name"),
                state: field(object, "state"),
                what: field(object, "what"),
                why: field(object, "why"),
                cure: object["cure"].as_str().map(str::to_owned),
                command: object["command"].as_bool().unwrap(),
            }
        })
        .collect();
    assert_eq!(text.text(), checks.iter().map(words).collect::<String>());
    for check in &checks {
        assert_eq!(check.cure.is_none(), check.state == "ok", "{check:?}");
    }
    let status = text.status.code().unwrap();
    let failed = checks.iter().any(|check| check.state == "fail");
    assert_eq!(status, i32::from(failed), "{text}");
    Told { status, checks }
}

/// A check as text.
pub fn words(check: &Check) -> String {
    let Check {
        state, what, why, ..
    } = check;
    let colon = if why.is_empty() { "" } else { ": " };
    let cure = check.cure.as_ref().map_or(String::new(), |cure| {
        let word = if check.command { "run" } else { "cure" };
        format!("      {word}: {cure}\n")
    });
    format!("{state:<4}  {what}{colon}{why}\n{cure}")
}

/// Runs the doctor without a prefix.
#[track_caller]
pub fn doctor() -> Told {
    doctor_by("")
}

impl Told {
    /// The checks of this name that are not ok.
    pub fn bad(&self, name: &str) -> Vec<&Check> {
        let mut found: Vec<&Check> = self.checks.iter().collect();
        found.retain(|check| check.name == name && check.state != "ok");
        found
    }

    /// Asserts that just one check of this name is not ok, with this state and these words; returns its cure.
    #[track_caller]
    pub fn has(&self, name: &str, state: &str, said: &[&str]) -> String {
        let bad = self.bad(name);
        assert_eq!(bad.len(), 1, "{name}: {self:#?}");
        assert_eq!(bad[0].state, state, "{:#?}", bad[0]);
        let words = words(bad[0]);
        for said in said {
            assert!(words.contains(said), "no {said:?} in {words}");
        }
        bad[0].cure.clone().unwrap()
    }

    /// Asserts that every check is ok.
    #[track_caller]
    pub fn is_content(&self) {
        let bad: Vec<_> = self
            .checks
            .iter()
            .filter(|check| check.state != "ok")
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(self.status, 0);
    }

    /// Asserts that a check of this name is ok and has these words.
    #[track_caller]
    pub fn is_well(&self, name: &str, said: &str) {
        let well = self
            .checks
            .iter()
            .any(|check| check.name == name && check.state == "ok" && words(check).contains(said));
        assert!(well, "{name}: {said}: {self:#?}");
    }
}

/// Asserts that this check and no other is not ok, runs its cure, and asserts that all are ok then.
#[track_caller]
pub fn cured(name: &str, state: &str, said: &[&str]) {
    let told = doctor();
    let cure = told.has(name, state, said);
    assert_eq!(
        told.checks
            .iter()
            .filter(|check| check.state != "ok")
            .count(),
        1,
        "{told:#?}"
    );
    assert!(told.bad(name)[0].command, "{cure}");
    sh(&cure);
    doctor().is_content();
}
