//! Sessions on a terminal: the first session of `docker run -it`, and `docker exec -it C /bin/nssh`.

use rexpect::session::{PtySession, spawn};

use crate::rig::*;

/// Starts a command on a terminal of its own, with a limit of 15 s for each text that is waited for.
fn terminal(command: &str) -> PtySession {
    spawn(command, Some(15_000)).unwrap()
}

/// Waits for bash's prompt for root.
fn prompt(session: &mut PtySession) {
    session.exp_string("# ").unwrap();
}

/// Runs a line and waits for a text that the echo of the line itself does not contain.
fn line(session: &mut PtySession, line: &str, wanted: &str) {
    assert!(!line.contains(wanted));
    session.send_line(line).unwrap();
    session.exp_string(wanted).unwrap();
    prompt(session);
}

/// Waits for the end of the command; its exit status.
fn ended(session: &mut PtySession) -> i32 {
    session.exp_eof().unwrap();
    match session.process().wait().unwrap() {
        rexpect::process::WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

/// Starts `docker run -it --privileged kak-containers` and waits for the prompt.
fn first() -> (Container, PtySession) {
    let container = Container(unique("c"));
    let mut session = terminal(&format!(
        "docker run -it --privileged --name {} {}",
        container.0,
        image()
    ));
    prompt(&mut session);
    (container, session)
}

#[test]
fn the_first_session_is_in_the_jail() {
    let (container, mut session) = first();
    line(
        &mut session,
        "echo $((6 * 7)) $(cd /sys/class/net; echo *)",
        "42 eth0 lo",
    );
    let inside = container.inside("readlink /proc/self/ns/pid");
    line(&mut session, "readlink /proc/self/ns/pid", &inside);
    line(&mut session, "echo pid$(( $$ > 1 ))", "pid1");
    line(&mut session, "tty", "/dev/");
    session.send_line("exit 9").unwrap();
    assert_eq!(ended(&mut session), 9);
    assert_eq!(container.wait(), "9");
}

#[test]
fn job_control_works_in_both_kinds_of_session() {
    let (container, mut first) = first();
    let mut second = terminal(&format!("docker exec -it {} /bin/nssh", container.0));
    prompt(&mut second);
    for session in [&mut first, &mut second] {
        session.send_line("sleep 1000; echo after").unwrap();
        until("sleep runs", 5, || {
            container.inside("cat /proc/[0-9]*/comm").contains("sleep")
        });
        session.send_control('c').unwrap();
        prompt(session);
        line(session, "echo status=$?", "status=130");
        session.send_line("sleep 1000").unwrap();
        until("sleep runs", 5, || {
            container.inside("cat /proc/[0-9]*/comm").contains("sleep")
        });
        session.send_control('z').unwrap();
        session.exp_string("Stopped").unwrap();
        prompt(session);
        let stopped =
            "grep -l '^State:.T' $(grep -lx sleep /proc/[0-9]*/comm | sed s/comm/status/) | wc -l";
        until("sleep is stopped", 5, || container.inside(stopped) == "1");
        session.send_line("fg").unwrap();
        until("sleep goes on", 5, || container.inside(stopped) == "0");
        session.send_control('c').unwrap();
        prompt(session);
        line(session, "echo status=$?", "status=130");
    }
}

#[test]
fn a_session_in_a_session_stops_and_goes_on() {
    let container = Container::jail();
    let mut session = terminal(&format!("docker exec -it {} /bin/bash --norc", container.0));
    prompt(&mut session);
    session
        .send_line("nssh -c 'touch /tmp/runs; sleep 2; echo fin''ished'")
        .unwrap();
    until("it runs", 10, || {
        container
            .exec(&["/bin/nssh", "-c", "test -e /tmp/runs"])
            .status
            .success()
    });
    session.send_control('z').unwrap();
    session.exp_string("Stopped").unwrap();
    prompt(&mut session);
    session.send_line("fg").unwrap();
    session.exp_string("finished").unwrap();
    prompt(&mut session);
    line(&mut session, "echo status=$?", "status=0");
    // Ctrl-C belongs to the command, not to nssh.
    session.send_line("nssh -c \"trap 'echo cau''ght; exit 5' INT; touch /tmp/traps; while :; do sleep 0.1; done\"").unwrap();
    until("it traps", 10, || {
        container
            .exec(&["/bin/nssh", "-c", "test -e /tmp/traps"])
            .status
            .success()
    });
    session.send_control('c').unwrap();
    session.exp_string("caught").unwrap();
    prompt(&mut session);
    line(&mut session, "echo status=$?", "status=5");
}

#[test]
fn other_sessions_finish_first() {
    let (container, mut session) = first();
    let mut other = terminal(&format!("docker exec -it {} /bin/nssh", container.0));
    prompt(&mut other);
    session.send_line("exit 3").unwrap();
    session.exp_string("1 other session").unwrap();
    container.stays_up();
    line(&mut other, "echo still $((1 + 1))", "still 2");
    other.send_line("exit 5").unwrap();
    assert_eq!(ended(&mut other), 5);
    assert_eq!(ended(&mut session), 3);
    assert_eq!(container.wait(), "3");
}

#[test]
fn the_size_of_the_window_arrives() {
    let container = Container::jail();
    let mut session = terminal(&format!("docker exec -it {} /bin/nssh", container.0));
    prompt(&mut session);
    line(&mut session, "stty rows 33 cols 99; stty size", "33 99");
    line(&mut session, "nssh -c 'stty size'", "33 99");
}

#[test]
fn there_is_no_warning_at_the_start() {
    let container = Container::jail();
    let mut session = terminal(&format!("docker exec -it {} /bin/nssh", container.0));
    let said = session.exp_string("# ").unwrap();
    assert!(
        !said.contains("job control") && !said.contains("cannot") && !said.contains("kak"),
        "{said}"
    );
    session.send_control('d').unwrap();
    assert_eq!(ended(&mut session), 0);
}
