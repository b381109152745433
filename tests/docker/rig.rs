//! Images, networks and containers that remove themselves when dropped, and docker commands with a time limit.

use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    /// The command, for messages.
    command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, trimmed.
    pub stdout: String,
    /// Standard error, trimmed.
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit status.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Self {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = &self;
        assert_eq!(
            status.code(),
            Some(wanted),
            "{command}: {status}\nstdout: {stdout}\nstderr: {stderr}"
        );
        self
    }
}

/// Runs `docker` with this standard input, two minutes at most (a build may take ten).
pub fn docker_with(input: &str, args: &[&str]) -> Ended {
    let limit = if args[0] == "build" { "600" } else { "120" };
    let mut child = Command::new("timeout")
        .args([limit, "docker"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("timeout (coreutils) and docker are needed");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    Ended {
        command: format!("docker {}", args.join(" ")),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}

/// Runs `docker`.
pub fn docker(args: &[&str]) -> Ended {
    docker_with("", args)
}

/// Waits until a condition holds, and fails after this many seconds.
#[track_caller]
pub fn until(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(seconds),
            "after {seconds} s still not: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A name for a container, image or network that no other test has.
pub fn unique(word: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("kak-test-{word}-{}-{count}", std::process::id())
}

/// The image, built once from the Dockerfile as the README says.
pub fn image() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        docker(&["build", "-t", "kak-containers", env!("CARGO_MANIFEST_DIR")]).code(0);
    });
    "kak-containers"
}

/// An image made for one test.
pub struct Image(pub String);

impl Image {
    /// Builds it from the text of a Dockerfile, without any context.
    pub fn build(dockerfile: &str) -> Self {
        let image = Self(unique("image"));
        docker_with(dockerfile, &["build", "-t", &image.0, "-"]).code(0);
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["image", "rm", "-f", &self.0]);
    }
}

/// A user-defined network, with the engine's own resolver. Dropping it removes it, if its containers are gone.
pub struct Network(pub String);

impl Network {
    /// Makes one.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Makes one with these options.
    pub fn with(options: &[&str]) -> Self {
        let network = Self(unique("net"));
        docker(&[&["network", "create"], options, &[&network.0]].concat()).code(0);
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker(&["network", "rm", &self.0]);
    }
}

/// A container. Dropping it removes it.
pub struct Container(pub String);

impl Container {
    /// `docker run ARGS IMAGE CMD...`; waits only for docker to return.
    pub fn run(args: &[&str], image: &str, command: &[&str]) -> Self {
        let container = Self(unique("c"));
        let all = [
            &["run", "--name", &container.0][..],
            args,
            &[image],
            command,
        ]
        .concat();
        docker(&all).code(0);
        container
    }

    /// `docker run -dit --privileged kak-containers`, and waits until the jail is up.
    pub fn jail() -> Self {
        Self::jail_of(image())
    }

    /// The same with another image.
    pub fn jail_of(image: &str) -> Self {
        let container = Self::run(&["-dit", "--privileged"], image, &[]);
        container.wait_up();
        container
    }

    /// A container of the image in which nothing of kak has run yet.
    pub fn bare() -> Self {
        Self::run(
            &["-d", "--init", "--privileged", "--entrypoint", "sleep"],
            image(),
            &["infinity"],
        )
    }

    /// Waits until `kak status` says that the jail is up.
    #[track_caller]
    pub fn wait_up(&self) {
        until("the jail is up", 20, || {
            self.exec(&["/bin/kak", "status"]).status.code() == Some(0)
        });
    }

    /// `docker exec`.
    pub fn exec(&self, command: &[&str]) -> Ended {
        docker(&[&["exec", &self.0][..], command].concat())
    }

    /// What a script prints in the jail.
    #[track_caller]
    pub fn inside(&self, script: &str) -> String {
        self.exec(&["/bin/nssh", "-c", script]).code(0).stdout
    }

    /// What a script prints in the container, outside of the jail.
    #[track_caller]
    pub fn outside(&self, script: &str) -> String {
        self.exec(&["/bin/bash", "-c", script]).code(0).stdout
    }

    /// A field of `docker inspect`.
    #[track_caller]
    pub fn inspect(&self, field: &str) -> String {
        docker(&["inspect", "-f", &format!("{{{{{field}}}}}"), &self.0])
            .code(0)
            .stdout
    }

    /// Whether the container is running.
    pub fn is_running(&self) -> bool {
        self.inspect(".State.Running") == "true"
    }

    /// Waits for the container to end; its exit status.
    #[track_caller]
    pub fn wait(&self) -> String {
        until("the container has ended", 20, || !self.is_running());
        self.inspect(".State.ExitCode")
    }

    /// Asserts that the container is still running after a second and a half.
    #[track_caller]
    pub fn stays_up(&self) {
        let waited = Command::new("timeout")
            .args(["1.5", "docker", "wait", &self.0])
            .output()
            .unwrap();
        assert_eq!(waited.status.code(), Some(124), "it ended: {waited:?}");
        assert!(self.is_running());
    }

    /// Runs `docker stop`; how long that took.
    #[track_caller]
    pub fn stop(&self) -> Duration {
        let start = Instant::now();
        docker(&["stop", &self.0]).code(0);
        start.elapsed()
    }

    /// Its address on Docker's bridge.
    pub fn address(&self) -> String {
        self.inspect(".NetworkSettings.IPAddress")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.0]);
    }
}

/// A container beyond the uplink with a server on port 7000 that answers each connection with the client's address.
pub fn neighbour() -> Container {
    let server = "use IO::Socket::INET; $|=1;
        $s = IO::Socket::INET->new(LocalPort => 7000, Listen => 9, ReuseAddr => 1) or die; print \"ready\\n\";
        while ($c = $s->accept) { print $c $c->peerhost . \"\\n\"; close $c }";
    let neighbour = Container::run(
        &["-d", "--init", "--entrypoint", "perl"],
        image(),
        &["-e", server],
    );
    until("the neighbour listens", 10, || {
        docker(&["logs", &neighbour.0]).stdout == "ready"
    });
    neighbour
}

/// A script for bash: asks a neighbour for the address that it sees the client by.
pub fn ask(neighbour: &Container) -> String {
    format!("cat </dev/tcp/{}/7000", neighbour.address())
}
