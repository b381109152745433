//! How the binary is called: names, links, help.

use std::os::unix::fs::MetadataExt as _;

use crate::sandbox::*;

/// The applets that `kak --help` lists.
fn applets() -> Vec<String> {
    let overview = sh("kak --help");
    let names: Vec<String> = overview
        .lines()
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .filter(|word| !word.is_empty())
        })
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect();
    for name in ["setup", "teardown", "status", "nssh", "kill", "netns"] {
        assert!(
            names.iter().any(|listed| listed == name),
            "no {name} in {overview}"
        );
    }
    names
}

sandboxed! {
    fn what_cannot_be_printed_is_told() {
        uplink::plug();
        sh("kak netns add blue --uplink");
        for words in ["--help", "--list", "setup --explain", "setup --dry-run", "status -n blue", "netns list", "netns list-id -j", "doctor --json", "help netns"] {
            run(&format!("kak {words} >/dev/full")).code(1).says("kak: standard output: No space left on device");
        }
        sh("kak netns delete blue");
    }

    fn every_help_has_its_shape() {
        for name in applets() {
            let help = program(&["kak", "help", &name]).code(0).text();
            assert!(help.starts_with("usage: kak "), "{help}");
            assert!(help.contains(&format!("kak {name}")), "{help}");
            assert!(help.split("\n\n").count() >= 2, "no sentence after the synopsis: {help}");
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{name}: more than 80 columns: {line}");
            }
            assert_eq!(program(&["kak", &name, "--help"]).code(0).text(), help);
        }
    }

    fn the_overview_is_what_kak_alone_says() {
        let overview = program(&["kak"]).code(0).text();
        assert!(overview.starts_with("usage: kak "), "{overview}");
        for line in overview.lines() {
            assert!(line.len() <= 80, "{line}");
        }
        for word in ["--help", "-h", "help"] {
            assert_eq!(program(&["kak", word]).code(0).text(), overview);
        }
    }

    fn the_readme_has_every_help() {
        let readme = include_str!("../README.md");
        for name in applets() {
            let help = program(&["kak", "help", &name]).code(0).text();
            assert!(readme.contains(&help), "README.md lacks, or has differently:\n{help}");
        }
    }

    fn the_version_is_the_crates() {
        let wanted = concat!("kak ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(program(&["kak", "--version"]).code(0).text(), wanted);
    }

    fn an_applet_has_many_names() {
        let help = sh("kak help setup");
        sh("ln -s /bin/kak /opt/setup; ln -s /bin/kak /opt/kak-setup; ln -s /bin/kak /opt/status");
        for name in ["/opt/setup", "/opt/kak-setup", "/sbin/kak-setup"] {
            assert_eq!(sh(&format!("{name} --help")), help, "{name}");
        }
        assert_eq!(sh("/opt/status --help"), sh("kak status --help"));
        // With the leading '-' of a login shell's name.
        assert_eq!(sh("bash -c 'exec -a -setup kak --help'"), help);
    }

    fn netns_verbs_are_links_too() {
        sh("kak --install -s /opt");
        sh("/opt/netns-add blue");
        assert_eq!(sh("stat -f -c %T /run/netns/blue"), "nsfs");
        assert_eq!(sh("kak netns list"), sh("ip netns list"));
        assert_eq!(sh("/opt/netns-exec blue ls /sys/class/net"), "lo");
        assert_eq!(
            sh("/opt/netns-exec blue readlink /proc/self/ns/net"),
            sh("nsenter --net=/run/netns/blue readlink /proc/self/ns/net")
        );
    }

    fn links_are_listed_and_made() {
        let list = sh("kak --list");
        let names: Vec<&str> = list.lines().collect();
        for name in ["nssh", "netns-add", "netns-exec"] {
            assert!(names.contains(&name), "{list}");
        }
        assert!(names.contains(&"setup") || names.contains(&"kak-setup"), "{list}");
        // A hard link cannot leave its file system.
        sh("mkdir /opt/hard /opt/soft; cp /bin/kak /opt/kak; /opt/kak --install /opt/hard; /opt/kak --install -s /opt/soft");
        let inode = std::fs::metadata("/opt/kak").unwrap().ino();
        for name in &names {
            let hard = std::fs::symlink_metadata(format!("/opt/hard/{name}")).unwrap();
            assert_eq!((hard.ino(), hard.is_symlink()), (inode, false), "{name}");
            assert_eq!(sh(&format!("readlink -f /opt/soft/{name}")), "/opt/kak");
        }
        assert_eq!(sh("ls /opt/hard | wc -l"), names.len().to_string());
        // Links that exist already are left as they are.
        sh("/opt/kak --install /opt/hard; /opt/kak --install -s /opt/soft");
    }

    fn a_foreign_file_is_never_overwritten() {
        sh("mkdir /opt/bin; echo mine >/opt/bin/nssh; cp /bin/kak /opt/kak");
        for option in ["", "-s"] {
            run(&format!("/opt/kak --install {option} /opt/bin")).code(1).says("/opt/bin/nssh");
            assert_eq!(sh("cat /opt/bin/nssh"), "mine");
        }
        // The others are made all the same.
        assert_eq!(sh("readlink -f /opt/bin/netns-add"), "/opt/bin/netns-add");
        sh("/opt/bin/netns-add blue");
    }

    fn an_unknown_applet_is_told_the_nearest() {
        program(&["kak", "setpu"]).code(2).says("setup");
        program(&["kak", "statsu"]).code(2).says("status");
        program(&["kak", "help", "teardow"]).code(2).says("teardown");
        program(&["kak", "xyzzyxyzzyxyzzy"]).code(2).says("xyzzyxyzzyxyzzy");
    }

    fn an_unknown_option_is_wrong_usage() {
        for applet in ["setup", "teardown", "status", "kill"] {
            let ended = program(&["kak", applet, "--nonsense"]).code(2).says("--nonsense");
            assert!(ended.stderr.starts_with(&format!("kak: {applet}: ")), "{ended}");
            assert!(ended.stdout.is_empty(), "{ended}");
        }
        program(&["kak", "--nonsense"]).code(2);
        program(&["kak", "--install"]).code(2);
        assert_eq!(sh("kak --install --help"), sh("kak --help"));
        // On another file system, where hard links are impossible: one message, not one for each link.
        let ended = run("mkdir /opt/far; mount -t tmpfs far /opt/far; kak --install /opt/far").code(1).says("use 'kak --install -s DIR'");
        assert_eq!(ended.stderr.lines().count(), 2, "{ended}");
        sh("umount /opt/far; rmdir /opt/far");
    }

    fn a_reader_that_went_away_is_no_error() {
        let ended = run("bash -c 'kak --help | true; echo ${PIPESTATUS[0]}'").code(0);
        assert!(["0\n", "141\n"].contains(&ended.text().as_str()), "{ended}");
        assert_eq!(ended.stderr, "");
    }
}
