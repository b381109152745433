//! The names and mode bits with which kak does anything for a user who got rights by executing it: as nssh, set-user-ID
//! root, and nothing else.

use std::path::Path;

use crate::people::*;
use crate::sandbox::*;

/// Every name of kak's but nssh, and some that are not its own.
fn names() -> Vec<String> {
    let mut names: Vec<String> = sh("kak --list").lines().map(str::to_owned).collect();
    let overview = sh("kak --help");
    let listed = overview
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.extend(
        listed
            .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()))
            .map(str::to_owned),
    );
    // Names that are in no list.
    names.extend(
        [
            "init",
            "ip",
            "ipnetns",
            "kak",
            "sh",
            "NSSH",
            "nssh2",
            "nssh.kak-new",
        ]
        .map(str::to_owned),
    );
    let with_prefix: Vec<String> = names.iter().map(|name| format!("kak-{name}")).collect();
    names.extend(with_prefix);
    names.retain(|name| name != "nssh");
    names.sort();
    names.dedup();
    for name in [
        "setup",
        "kak-setup",
        "kak-nssh",
        "teardown",
        "kill",
        "netns-add",
        "ip",
    ] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    names
}

/// A command that calls a program by execve(2) with exactly these words, argv[0] first; there may be none.
fn call(program: &str, words: &[&str]) -> Vec<String> {
    let script = "
import ctypes, sys
words = [word.encode() for word in sys.argv[2:]]
libc = ctypes.CDLL(None, use_errno=True)
array = (ctypes.c_char_p * (len(words) + 1))(*words, None)
none = (ctypes.c_char_p * 1)(None)
libc.execve(sys.argv[1].encode(), array, none)
sys.exit('execve: %d' % ctypes.get_errno())
";
    [&["python3", "-c", script, program], words]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// Runs that as alice.
fn called(program: &str, words: &[&str]) -> Ended {
    let argv = call(program, words);
    ALICE.program(&argv.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Asserts that a program does nothing for alice, whatever name and words she calls it with.
fn is_of_no_use(program: &str) {
    let words: &[&[&str]] = &[
        &[],
        &["-n", "USER"],
        &["--all"],
        &["USER"],
        &["add", "blue"],
        &["--help"],
        &["-c", "id"],
    ];
    let mut calls: Vec<Vec<String>> = Vec::new();
    let mut add =
        |words: &[&str]| calls.push(words.iter().map(|word| (*word).to_owned()).collect());
    for name in names() {
        for words in words {
            // The name in argv[0], in several spellings, and in argv[1].
            for dash in ["", "-", "/bin/", "-/bin/"] {
                add(&[&[format!("{dash}{name}").as_str()], *words].concat());
            }
            for kak in ["kak", "-kak", "/bin/kak", "", "-", "/"] {
                add(&[&[kak, name.as_str()], *words].concat());
            }
        }
    }
    for words in [
        &["kak"][..],
        &["kak", "--list"],
        &["kak", "--install", "/home/alice"],
        &["kak", "--install", "--setuid-nssh", "/home/alice/nssh"],
        &["kak", "nssh", "-c", "id"],
        &["kak", "nssh", "-n", "USER", "--", "-c", "id"],
        &["nssh/", "-c", "id"],
        &["n\u{301}ssh", "-c", "id"],
        &["", "nssh"],
        &[""],
    ] {
        add(words);
    }
    // All from one Python process: with one for each call this would take too long.
    std::fs::write("/home/calls", serde_json::to_string(&calls).unwrap()).unwrap();
    let script = "
import json, subprocess, sys
calls = json.load(open('/home/calls'))
for words in calls:
    ended = subprocess.run(words, executable=sys.argv[1], stdin=subprocess.DEVNULL, capture_output=True)
    said = ended.stderr.decode()
    if ended.returncode != 125 or ended.stdout or not said.startswith('kak: ') or said.count('\\n') != 1:
        print(words, ended)
print(len(calls))
";
    let said = ALICE
        .program(&["python3", "-c", script, program])
        .code(0)
        .text();
    assert_eq!(said, format!("{}\n", calls.len()));
    refused(called(program, &[]));
}

sandboxed! {
    fn a_set_user_id_nssh_is_nssh_and_nothing_else() {
        live_together();
        let before = dump();
        is_of_no_use("/bin/nssh");
        assert_same("afterwards", &before, &dump());
        assert_eq!(sh("kak status | head -n 1").split(',').next(), Some("USER: up"));
        // Its own name in several spellings. A path in it has no effect.
        for name in ["nssh", "-nssh", "/bin/nssh", "/x/../nssh", "-/bin/nssh"] {
            assert_eq!(called("/bin/nssh", &[name, "-c", "id -u"]).code(0).text(), "1000\n");
        }
    }

    fn with_the_bit_kak_is_of_no_use() {
        live_together();
        sh("chmod u+s /bin/kak");
        let before = dump();
        is_of_no_use("/bin/kak");
        assert_same("afterwards", &before, &dump());
        // Root gets a warning about the bit, and everything works as ever.
        run("kak setup").code(0).says("/kak has the set-user-ID").says("--setuid-nssh");
        sh("chmod u-s,g+s /bin/kak");
        run("kak setup --dry-run").code(0).says("set-group-ID");
        sh("chmod g-s /bin/kak");
        assert_eq!(run("kak setup").code(0).stderr, "");
        assert_eq!(run("bash -c 'exec -a setup /bin/nssh'").code(0).stderr, "");
    }

    fn other_rights_are_refused() {
        live_together();
        sh("cp /bin/kak /opt/kak; chmod 755 /opt; mkdir -m 755 /opt/group /opt/both /opt/other /opt/able");
        sh("for dir in group both other able; do cp /bin/kak /opt/$dir/nssh; done
            chgrp 50 /opt/group/nssh /opt/both/nssh; chmod 2755 /opt/group/nssh; chmod 6755 /opt/both/nssh
            chown 1001 /opt/other/nssh; chmod 4755 /opt/other/nssh");
        // CAP_SYS_ADMIN and CAP_NET_ADMIN, effective at once (capabilities(7)).
        sh("python3 -c 'import os, struct; os.setxattr(\"/opt/able/nssh\", \"security.capability\", struct.pack(\"<5I\", 0x02000001, 1 << 21 | 1 << 12, 0, 0, 0))'");
        for (dir, why) in [("group", "set-group-ID"), ("both", "set-group-ID"), ("other", "anybody but root"), ("able", "file capabilities")] {
            let nssh = format!("/opt/{dir}/nssh");
            for words in [&["nssh", "-c", "id"][..], &["kak", "setup"], &["kak", "--list"], &[]] {
                refused(called(&nssh, words).says(why));
            }
        }
        // A tracer without rights makes the kernel ignore the set-user-ID bit, which nssh notices.
        refused(ALICE.program(&["strace", "-f", "-o", "/dev/null", "/bin/nssh", "-c", "id"]).says("traced"));
    }

    fn without_a_name_it_does_nothing() {
        sh("kak setup");
        for words in [&[][..], &[""], &["", ""]] {
            for program in ["/bin/kak", "/bin/nssh"] {
                let argv = call(program, words);
                refused(program_of(&argv).says("without a name"));
            }
        }
        assert!(!Path::new("/run/kak/x").exists());
    }
}

/// Runs such a command as root.
fn program_of(argv: &[String]) -> Ended {
    program(&argv.iter().map(String::as_str).collect::<Vec<_>>())
}
