//! What a user without rights can do to a jail that is up, which is nothing.

use crate::sandbox::*;

/// Runs a command as the user nobody.
fn nobody(command: &str) -> Ended {
    program(&[
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        command,
    ])
}

sandboxed! {
    fn rights_that_came_without_root_are_rights() {
        sh("kak netns add a");
        let rights = "+sys_admin,+dac_override";
        run(&format!(
            "setpriv --reuid 65534 --clear-groups --inh-caps {rights} --ambient-caps {rights} -- kak netns delete a"
        ))
        .code(0);
        assert_eq!(sh("kak netns"), "");
    }

    fn where_one_may_not_look_there_is_a_bad_entry() {
        sh("kak netns add a; mkdir -m 700 /root/secret; ln -s /root/secret/x /run/netns/l");
        let ended = nobody("kak netns").code(0).says("\"l\" is no network namespace");
        assert_eq!(ended.text(), "l\na\n");
    }

    fn nobody_gets_in_or_changes_it() {
        uplink::plug();
        sh("kak setup");
        let before = dump();
        for (command, code) in [
            ("nssh -c id", 125),
            ("kak nssh -- -c id", 125),
            ("kak nssh --pty -- -c id", 125),
            ("kak setup -n other", 1),
            ("kak teardown", 1),
            ("kak kill --all", 1),
            ("kak status", 1),
            ("kak netns delete USER", 1),
            ("kak netns exec USER id", 255),
            ("cat /run/kak/USER/record", 1),
        ] {
            let ended = nobody(command).code(code);
            assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{ended}");
        }
        assert_same("after nobody", &before, &dump());
        assert!(alive(init("USER")));
    }
}
