//! The user of a session, as `kak status` shows it.

use std::process::{Command, Stdio};

use crate::sandbox::*;

sandboxed! {
    fn a_session_is_its_users() {
        sh("kak setup; printf 'odd\\033name:x:4243:4243::/:/bin/sh\\n' >>/etc/passwd");
        // Users with a name, without one, and with an escape character in it.
        for (uid, name) in [(0, "root"), (65534, "nobody"), (4242, "4242"), (4243, "odd?name")] {
            let script = format!("exec setpriv --reuid {uid} --clear-groups sleep 1000");
            let mut session = Command::new("nssh").args(["-c", &script]).stderr(Stdio::null()).spawn().unwrap();
            let one = || json("kak status --json")["sessions"][0].clone();
            until("it is listed", || one()["command"] == "sleep 1000");
            assert_eq!((one()["uid"].as_i64(), one()["user"].as_str()), (Some(uid), Some(name)));
            let line = format!("session {}  {name}  no terminal  ", one()["pid"]);
            assert!(sh("kak status").lines().any(|it| it.starts_with(&line)), "{line}");
            sh("kak kill --all");
            assert!(!session.wait().unwrap().success());
        }
    }
}
