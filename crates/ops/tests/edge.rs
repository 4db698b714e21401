//! The edge as it is configured, with a real HAProxy: where browsers' logins lead, and how a slot comes to rest.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ops::deploy::Instance;
use ops::edge::{Admission, Edge as _, HaProxy};

/// How long a test waits for what must come about.
const PATIENCE: Duration = Duration::from_secs(60);

/// The edge, ended when it is dropped.
struct Running {
    child: Child,
    port: u16,
    edge: HaProxy,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("server-state"), "1\n").expect("a file");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infrastructure/edge/haproxy.cfg");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("EDGE_LISTEN", format!("127.0.0.1:{port}")).env("EDGE_DIR", folder.path());
        let child = command.spawn().expect("haproxy, as `cargo xtask test` installs it");
        let running = Self { child, port, edge: HaProxy::in_folder(folder.path()), _folder: folder };
        eventually("the edge answers", || running.edge.slots().is_ok());
        running
    }

    /// Has a slot lead to a gateway that answers with its name.
    fn lead(&self, slot: &str, name: &'static str) {
        let port = gateway(name);
        let instance =
            Instance { id: name.into(), tag: name.into(), address: "127.0.0.1".into(), port, admin_port: port };
        self.edge.assign(slot, &instance, 100).expect("a slot");
        self.edge.admit(slot, Admission::Ready).expect("it is ready");
        let alive = || self.edge.slots().is_ok_and(|slots| slots.iter().any(|one| one.name == slot && one.alive));
        eventually("the slot is alive", alive);
    }

    /// Who answers, and the cookie that came with it.
    fn ask(&self, path: &str, cookie: &str) -> (String, Option<String>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncookie: other=1; {cookie}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let set = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned);
        (answer.lines().last().unwrap_or_default().to_owned(), set)
    }

    /// Who answers a few requests one after another.
    fn who(&self, cookie: &str) -> Vec<String> {
        (0..4).map(|_| self.ask("/console", cookie).0).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that answers with its name, and with a cookie at the login.
fn gateway(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, name));
        }
    });
    port
}

/// A check may hang up in the middle; that is no concern of ours.
fn answer(mut stream: TcpStream, name: &str) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    let cookie =
        if first.contains("/login") { format!("set-cookie: __Host-domicile=of-{name}\r\n") } else { String::new() };
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{cookie}content-length: {}\r\n\r\n", name.len());
    stream.write_all(format!("{head}{name}").as_bytes()).ok()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "it did not come true: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_login_leads_back_to_the_gateway_that_made_it_until_that_one_drains() {
    let running = Running::start();
    running.lead("web1", "one");
    running.lead("web2", "two");
    let mut strangers = running.who("");
    strangers.sort();
    assert_eq!(strangers, ["one", "one", "two", "two"], "who has no login goes to each in turn");

    let logins: Vec<_> = (0..2).map(|_| running.ask("/console/login", "")).collect();
    for (name, cookie) in &logins {
        let cookie = cookie.as_deref().expect("a cookie");
        assert_eq!(running.who(cookie), [name.as_str(); 4]);
    }
    let table = running.edge.say("show table web").expect("an answer");
    assert!(table.contains("used:2") && !table.contains("of-one"), "only hashes are kept: {table}");

    running.edge.admit("web1", Admission::Drain).expect("it drains");
    assert_eq!(running.who("__Host-domicile=of-one"), ["two"; 4], "it comes to rest");
    assert_eq!(running.who("__Host-domicile=of-two"), ["two"; 4]);
}
