//! Somebody has taken away what kak knows of a jail.

use std::process::Command;

use crate::sandbox::*;

/// The inits that there are.
fn inits() -> Vec<i64> {
    let all = processes().into_iter();
    all.filter(|(_, name)| name == "kak-init")
        .map(|(pid, _)| pid)
        .collect()
}

/// Does by hand what teardown says, and that what it cannot know of is looked at.
fn by_hand(said: &str) {
    let cure = said.split("if nobody has: ").nth(1).unwrap();
    sh(cure.split("; and look").next().unwrap());
    sh("ip netns delete USER; umount /run/netns; rmdir /run/netns; rm -r /mnt/user /etc/netns; sed -i /nssh/d /etc/shells
        echo 0 >/proc/sys/net/ipv4/ip_forward");
}

sandboxed! {
    fn a_jail_without_its_record_goes_on_until_it_is_ended() {
        uplink::plug();
        let before = dump();
        sh("kak setup");
        let mut session = Command::new("nssh").args(["-c", "sleep 1000"]).spawn().unwrap();
        until("the session is listed", || json("kak status --json || true")["sessions"].as_array().is_some_and(|all| all.len() == 1));
        sh("rm /run/kak/USER/record");
        let up = dump();
        for command in ["kak setup", "kak setup --dns 192.0.2.53"] {
            let ended = run(command).code(1).says("there is a link kak-USER of a jail USER, but no record of it here");
            assert!(ended.stderr.contains("ip link delete kak-USER"), "{ended}");
        }
        assert_same("refused", &up, &dump());
        assert_eq!(sh("nssh -c 'echo in'"), "in");
        assert!(session.try_wait().unwrap().is_none());
        let ended = run("kak teardown").code(1).says("a link kak-USER and a table kak-USER of a jail USER, but no record");
        assert!(!session.wait().unwrap().success());
        until("nobody is left", || processes().is_empty());
        assert!(sh("ip link").contains("kak-USER"), "it is left");
        run("kak teardown").code(1).says("no record");
        by_hand(&ended.stderr);
        assert_same("by hand", &before, &dump());
        assert_eq!(run("kak teardown").code(0).stderr, "");
        sh("kak setup; nssh -c true; kak teardown");
    }

    fn a_jail_without_its_lock_is_found_all_the_same() {
        uplink::plug();
        let before = dump();
        for command in ["kak setup", "nssh -c true", "kak teardown"] {
            sh("kak setup");
            let first = inits();
            sh(&format!("rm /run/kak/USER/lock; {command}"));
            until("the first one has gone", || !inits().contains(&first[0]));
            assert_eq!(inits().len(), usize::from(command != "kak teardown"), "{command}");
            if command != "kak teardown" {
                sh("kak status; nssh -c true; kak teardown");
            }
            until("nobody is left", || processes().is_empty());
            assert_same(command, &before, &dump());
        }
    }

    fn a_jail_without_any_state_can_be_ended() {
        uplink::plug();
        let before = dump();
        sh("kak setup; rm -r /run/kak");
        run("kak setup").code(1).says("no record of it here");
        assert_eq!(inits().len(), 1);
        let ended = run("kak teardown").code(1).says("no record of it here");
        until("nobody is left", || processes().is_empty());
        by_hand(&ended.stderr);
        assert_same("by hand", &before, &dump());
    }

    fn what_another_container_has_is_left() {
        uplink::plug();
        let before = dump();
        // One that shares our network, and not our files.
        sh("unshare -m sh -c 'mount -t tmpfs x /run; mount -t tmpfs x /mnt; kak setup >/dev/null; nssh -c true'");
        let theirs = sh("ip -d link; nft list ruleset");
        run("kak setup").code(1).says("another container may have it");
        run("kak teardown").code(1).says("another container may have it");
        assert_eq!(sh("ip -d link; nft list ruleset"), theirs);
        assert_eq!(inits().len(), 1);
        sh("kak setup -n ours; KAK_JAIL=ours nssh -c true; kak teardown -n ours");
        let keeper = process_field(inits()[0], "PPid").unwrap();
        sh(&format!("nsenter -t {keeper} -m kak teardown"));
        until("nobody is left", || processes().is_empty());
        assert_same("the other's", &lasting(&before), &lasting(&dump()));
    }
}
