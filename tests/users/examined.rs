//! `kak doctor` with several users: run by a user without rights, and about set-user-ID copies of nssh.

use crate::people::*;
use crate::sandbox::*;

/// The lines that the doctor, run by root, prints of what is not ok.
fn bad() -> String {
    run("kak doctor")
        .text()
        .lines()
        .filter(|line| !line.starts_with("ok "))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Asserts that these are all of them, runs the cure, and asserts that everything is ok then.
#[track_caller]
fn cured(said: &str, cure: &str) {
    assert_eq!(bad(), format!("warn  {said}\n      run: {cure}\n"));
    sh(cure);
    assert_eq!(bad(), "");
}

sandboxed! {
    fn who_has_no_rights_is_told_what_he_does_not_see() {
        uplink::plug();
        live_together();
        sh("touch /run/netns/old");
        let before = dump();
        let ended = ALICE.program(&["kak", "doctor"]).code(1);
        assert_same("looked at by a user", &before, &dump());
        let text = ended.text();
        assert_eq!(ended.stderr, "");
        for capability in ["SYS_ADMIN", "NET_ADMIN", "SYS_CHROOT"] {
            let told = format!("fail  CAP_{capability}: ");
            assert!(text.contains(&told), "{text}");
        }
        for unseen in ["pid namespaces", "mounts", "a proc of its own", "nf_tables NAT", "firewall", "what is left of jails"] {
            let told = format!("warn  {unseen}: not checked: that takes CAP_");
            assert!(text.contains(&told), "no {told:?} in {text}");
        }
        // Each of these has a cure.
        let unseen = text.matches("not checked: ").count();
        assert!(text.matches("      cure: run as root").count() >= unseen, "{text}");
        // What a user can see is reported: kernel, network, names.
        for seen in ["ok    openat2\n", "ok    the way out: eth0\n", "ok    resolver 203.0.113.1\n", "ok    /bin/nssh: set-user-ID", "run: kak netns delete old"] {
            assert!(text.contains(seen), "no {seen:?} in {text}");
        }
        // No other check fails.
        assert_eq!(text.lines().filter(|line| line.starts_with("fail") && !line.contains("CAP_")).count(), 0, "{text}");
        sh("rm /run/netns/old");
        assert_eq!(bad(), "");
    }

    fn a_copy_that_is_none_or_has_no_effect() {
        uplink::plug();
        live_together();
        assert_eq!(bad(), "");
        let copy = "kak --install --setuid-nssh /bin/nssh";
        sh("rm /bin/nssh; ln -s kak /bin/nssh");
        cured("a set-user-ID nssh: there is none, and users whom the jail USER allows need it", copy);
        // A copy of another version.
        sh("cp /bin/kak /bin/nssh; printf x >>/bin/nssh; chmod 4755 /bin/nssh");
        cured("/bin/nssh: is set-user-ID, and not a copy of this kak", copy);
        ALICE.bash("nssh -c true");
        sh("mount --bind /bin /bin; mount -o remount,bind,nosuid /bin");
        assert_eq!(ALICE.program(&["nssh", "-c", "true"]).status.code(), Some(125));
        cured(
            "/bin/nssh: is set-user-ID on a file system that is mounted nosuid: it has no rights to lend",
            "mount -o remount,bind,suid \"$(findmnt -nT /bin -o TARGET)\"",
        );
        ALICE.bash("nssh -c true");
    }
}
