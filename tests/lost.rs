//! Jails whose record, lock or other state has been removed, and things that belong to another container's jails.

use std::process::Command;

use crate::sandbox::*;

/// The PIDs of all inits.
fn inits() -> Vec<i64> {
    let all = processes().into_iter();
    all.filter(|(_, name)| name == "kak-init")
        .map(|(pid, _)| pid)
        .collect()
}

/// Runs the commands that teardown's message gives, then removes by hand what it cannot know of.
fn by_hand(said: &str) {
    assert!(
        said.contains("it has been ended, and what was made for it is not known"),
        "{said}"
    );
    let cure = said
        .lines()
        .nth(1)
        .unwrap()
        .split("kak: teardown: ")
        .nth(1)
        .unwrap();
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

    fn a_table_of_a_jail_that_nobody_has_is_taken_back_with_the_next() {
        uplink::plug();
        let before = dump();
        // As left on the host's network by a container that was killed.
        sh("kak setup; nft list table ip kak-USER >/tmp/table; kak teardown; nft -f /tmp/table; rm /tmp/table");
        run("kak teardown").code(1).says("there is a table kak-USER of a jail USER, but no record of it here: another container may have it");
        sh("kak setup; nssh -c true; kak teardown");
        assert_same("taken back", &before, &dump());
    }

    fn another_network_by_the_jails_name_is_told_and_left() {
        uplink::plug();
        sh("kak setup; ip netns delete USER; ip netns add USER; ip -n USER link set lo up");
        let theirs = sh("ip -n USER -d addr");
        let told = run("kak status").code(3).text();
        let wrong: Vec<&str> = told.lines().filter(|line| !line.starts_with("ok ")).collect();
        assert!(wrong.len() == 2 && wrong[0].starts_with("USER: up but not complete"), "{told}");
        assert!(sh("kak doctor || :").contains("run: kak netns delete USER; kak setup -n USER"));
        assert_eq!(wrong[1], "!!  ip netns add USER  # there is /run/netns/USER that is not the jail's network");
        run("kak setup").code(1).says("ip netns add USER: there is /run/netns/USER that is not the jail's network");
        assert_eq!(sh("ip -n USER -d addr"), theirs);
        assert_eq!(sh(&format!("nssh -c 'cat </dev/tcp/{}/{}'", uplink::THEIRS, uplink::PORT)), uplink::OURS);
        // Without that one, the jail's network has merely lost its name.
        sh("ip netns delete USER");
        let told = run("kak status").code(3).text();
        assert_eq!(told.lines().filter(|line| !line.starts_with("ok ")).nth(1), Some("--  ip netns add USER"), "{told}");
        sh("kak setup; kak status; kak teardown");
    }

    fn resolvers_that_were_there_before_are_told() {
        uplink::plug();
        sh("kak setup; cp /etc/netns/USER/resolv.conf /tmp/left; kak teardown");
        let said = |command: &str| run(command).code(0).stderr;
        for (setup, teardown) in [("kak setup", "kak teardown"), ("kak netns add USER --uplink", "kak netns delete USER")] {
            assert!(!said(setup).contains("resolv.conf"));
            sh(teardown);
            // As after a reboot while the jail was up.
            sh("mkdir -p /etc/netns/USER; cp /tmp/left /etc/netns/USER/resolv.conf");
            assert!(said(setup).contains("/etc/netns/USER/resolv.conf was there before: it names the resolvers, whatever this machine's are\n"));
            sh(&format!("{teardown}; cmp /tmp/left /etc/netns/USER/resolv.conf; rm -r /etc/netns/USER"));
        }
    }

    fn what_another_containers_network_has_is_left() {
        uplink::plug();
        let before = dump();
        sh("unshare -m sh -c 'mount -t tmpfs x /run; kak netns add red --uplink --publish 8080:80; kak status -n red; exec sleep 1000' >/dev/null 2>&1 & echo $! >/tmp/pid; until nft list table ip kak-red >/dev/null 2>&1; do :; done; sleep 0.3");
        let theirs = sh("ip -d link; nft list ruleset");
        run("kak netns add red --uplink").code(1).says("kak netns add red --uplink: there is a link kak-red of a jail red, but no record of it here: another container may have it");
        assert_eq!(sh("ip -d link; nft list ruleset"), theirs);
        sh("nsenter -t $(cat /tmp/pid) -m kak netns delete red; kill $(cat /tmp/pid); rm /tmp/pid");
        assert_same("the other's", &lasting(&before), &lasting(&dump()));
    }

    fn what_another_container_has_is_left() {
        uplink::plug();
        let before = dump();
        // A container that shares the machine's network, but not its files.
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
