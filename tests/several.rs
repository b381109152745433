//! Several jails side by side, and which of them a command means: by -n, by KAK_JAIL, or USER.

use std::process::{Command, Stdio};

use crate::sandbox::*;

/// The state of a jail that must not change: its status, its record, and what it looks like inside.
fn whole(jail: &str) -> String {
    let status = sh(&format!("kak status -n {jail}"));
    let record = sh(&format!("cat /run/kak/{jail}/record"));
    let inside = sh(&format!(
        "KAK_JAIL={jail} nssh -c 'ip -4 -o addr | cut -d \" \" -f 2-; ip route; ls -A /opt; cut -d \" \" -f 4- /proc/self/mountinfo'"
    ));
    // The lines of sessions contain their ages.
    let status: Vec<&str> = status
        .lines()
        .filter(|line| !line.starts_with("session"))
        .collect();
    format!("{}\n{record}\n{inside}", status.join("\n"))
}

sandboxed! {
    fn the_variable_names_the_jail() {
        sh("kak setup; KAK_JAIL=one kak setup");
        let pid = |command: &str| sh(&format!("{command} -c 'readlink /proc/self/ns/pid'"));
        let (user, one) = (pid("nssh"), pid("KAK_JAIL=one nssh"));
        assert_ne!(user, one);
        assert_eq!(one, sh(&format!("readlink /proc/{}/ns/pid", init("one"))));
        assert_eq!(pid("KAK_JAIL=one kak nssh --"), one);
        // The option -n comes before the variable, whatever that says.
        assert_eq!(pid("KAK_JAIL=one kak nssh -n USER --"), user);
        assert_eq!(pid("KAK_JAIL=../x kak nssh -n one --"), one);
        // As a login shell, too.
        assert_eq!(sh("KAK_JAIL=one bash -c 'exec -a -nssh nssh -c \"readlink /proc/self/ns/pid\"'"), one);
        // Inside, nssh is the shell, whatever the variable says.
        assert_eq!(sh("KAK_JAIL=one nssh -c 'KAK_JAIL=../x nssh -c \"readlink /proc/self/ns/pid\"'"), one);
        assert_eq!(json("KAK_JAIL=one kak status --json")["jail"], "one");
        assert_eq!(json("kak status --json")["jail"], "USER");
        sh("KAK_JAIL=one kak setup --dry-run | grep -q /run/netns; KAK_JAIL=two kak setup --explain | grep -q 'ip netns add two'");
        sh("KAK_JAIL=one kak teardown");
        assert_eq!(run("kak status -n one").code(3).text(), "one: not up\n");
        sh("kak status; kak teardown");
        // A first nssh brings up the jail that the variable names.
        sh("KAK_JAIL=three nssh -c true; kak status -n three");
        program(&["kak", "status"]).code(3);
    }

    fn a_variable_that_is_no_name_is_told_by_its_own() {
        let before = dump();
        for value in ["../x", "", "a b", ".", "x/y"] {
            for command in ["kak setup", "kak setup --explain", "kak teardown", "kak status", "kak kill --all", "kak nssh -- -c 'echo in'", "nssh -c 'echo in'"] {
                // nssh uses 125, as 2 could be the command's own status.
                let status = if command.starts_with("nssh") { 125 } else { 2 };
                let ended = run(&format!("KAK_JAIL='{value}' {command}")).code(status).says("KAK_JAIL");
                assert_eq!(ended.text(), "", "{command}");
            }
        }
        assert_same("no jail of any name", &before, &dump());
        assert!(processes().is_empty());
    }

    fn the_end_of_one_leaves_the_other_whole() {
        uplink::plug();
        let before = dump();
        sh("mkdir /data; kak setup -n one --root /mnt/first --subnet 10.7.0.0/24 --bind /data --publish 8001:80
            kak nssh -n one -- -c 'echo precious >/opt/file; echo shared >/data/file'");
        let first = dump();
        // A session in the first jail, which goes on all the time.
        let mut session = Command::new("nssh")
            .args(["-c", "read line; echo $line; exit 9"])
            .env("KAK_JAIL", "one")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let sessions = |jail: &str| json(&format!("kak status -n {jail} --json"))["sessions"].as_array().unwrap().len();
        until("the session is listed", || sessions("one") == 1);
        let one = whole("one");
        sh("kak setup -n two --root /mnt/second --subnet 10.8.0.0/24 --publish 8002:80");
        assert_same("another jail came up", &one, &whole("one"));
        for (jail, address) in [("one", "10.7.0.2"), ("two", "10.8.0.2")] {
            let inside = |script: &str| sh(&format!("KAK_JAIL={jail} nssh -c '{script}'"));
            assert_eq!(inside("ip -4 -o addr show eth0 | grep -o \"inet [0-9.]*\""), format!("inet {address}"));
            assert_eq!(inside(&format!("cat </dev/tcp/{}/{}", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        }
        assert_eq!(sh("KAK_JAIL=two nssh -c 'ls -A /opt; cat /data/file'"), "shared");
        assert_eq!((sessions("one"), sessions("two")), (1, 0));
        program(&["kak", "kill", "-n", "two", &sh("kak status -n one --json | grep -o '\"pid\":[0-9]*' | grep -o '[0-9]*'")]).code(1);
        sh("kak teardown -n two");
        assert_same("another jail went", &one, &whole("one"));
        assert_same("the other jail came and went", &first, &dump());
        std::io::Write::write_all(&mut session.stdin.take().unwrap(), b"still here\n").unwrap();
        let ended = session.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(9), &b"still here\n"[..]));
        sh("kak teardown -n one; rm -r /mnt/first");
        assert_same("both are gone", &before, &dump());
        until("nobody is left", || processes().is_empty());
    }

    fn all_jails_are_listed() {
        let ended = program(&["kak", "status", "--all"]).code(3);
        assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""));
        assert_eq!(json("kak status --all --json || test $? = 3"), json("echo '[]'"));
        sh("kak setup -n two; kak setup -n one; kak netns add --uplink red");
        let (one, two) = (init("one"), init("two"));
        let lines = format!("one: up, init is {one}\nred: a network without a jail\ntwo: up, init is {two}\n");
        assert_eq!(program(&["kak", "status", "--all"]).code(0).text(), lines);
        let all = json("kak status --all --json");
        let names: Vec<_> = all.as_array().unwrap().iter().map(|jail| jail["jail"].as_str().unwrap()).collect();
        assert_eq!(names, ["one", "red", "two"]);
        assert_eq!(all[2], json("kak status -n two --json"));
        // An incomplete jail is shown as such; a record that cannot be parsed is an error, and the others are still
        // shown.
        sh("ip link del kak-one");
        assert!(program(&["kak", "status", "--all"]).code(3).text().starts_with("one: up but not complete, init is"));
        sh("mkdir /run/kak/odd; echo nonsense >/run/kak/odd/record");
        let ended = program(&["kak", "status", "--all"]).code(1).says("/run/kak/odd/record");
        assert_eq!(ended.text().lines().count(), 3);
        program(&["kak", "status", "--all", "-n", "one"]).code(2).says("--all");
    }
}
