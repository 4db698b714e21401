//! The edge's runtime interface: HAProxy's slots, spoken to over its socket. A target is in no slot until the
//! pipeline has proven it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::deploy::Instance;
use crate::deploy::write_whole;
use crate::exit::{Exit, Trouble};

/// How long HAProxy may take to answer; it needs a millisecond.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Whether a slot gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Ready,
    /// It gets no new ones and finishes those it has.
    Drain,
    /// It is not used at all.
    Maintenance,
}

/// One slot of the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name, `web1` to `web16`.
    pub name: String,
    /// The target's address.
    pub address: String,
    /// The target's port.
    pub port: u16,
    /// Whether it gets requests.
    pub admission: Admission,
    /// Its weight, 0 to 256.
    pub weight: u32,
    /// Whether the edge's own check finds it alive.
    pub alive: bool,
    /// Requests under way in it.
    pub in_flight: u64,
    /// Answers by it, ever.
    pub answers: u64,
    /// Of these, 5xx.
    pub errors: u64,
    /// Requests that it did not answer at all, ever.
    pub broken: u64,
}

impl Slot {
    /// Whether it is this instance's.
    #[must_use]
    pub fn is_of(&self, instance: &Instance) -> bool {
        self.admission != Admission::Maintenance && self.address == instance.address && self.port == instance.port
    }
}

/// What the pipeline asks of an edge.
pub trait Edge {
    /// Every slot.
    ///
    /// # Errors
    /// When the edge does not answer.
    fn slots(&self) -> Result<Vec<Slot>, Trouble>;

    /// Gives a slot that is in maintenance a target, and its first weight. It gets no requests yet.
    ///
    /// # Errors
    /// When the edge refuses.
    fn assign(&self, slot: &str, instance: &Instance, weight: u32) -> Result<(), Trouble>;

    /// Changes a slot's weight.
    ///
    /// # Errors
    /// When the edge refuses.
    fn weigh(&self, slot: &str, weight: u32) -> Result<(), Trouble>;

    /// Lets requests in, or keeps them out.
    ///
    /// # Errors
    /// When the edge refuses.
    fn admit(&self, slot: &str, admission: Admission) -> Result<(), Trouble>;

    /// Has the slots survive a restart of the edge.
    ///
    /// # Errors
    /// When that cannot be written.
    fn remember(&self) -> Result<(), Trouble>;
}

/// HAProxy 2.6 or newer with `infrastructure/edge/haproxy.cfg`.
#[derive(Debug, Clone)]
pub struct HaProxy {
    folder: PathBuf,
}

impl HaProxy {
    /// The one whose socket and state lie in this folder.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("haproxy.sock")
    }

    /// Says something to it and gives its answer.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn say(&self, command: &str) -> Result<String, Trouble> {
        speak(&self.socket(), command)
            .map_err(|e| Trouble::of(Exit::Unreachable, format!("the edge does not answer on its socket: {e}")))
    }

    /// Forgets which logins lead to a slot: HAProxy would follow them while it drains. Their browsers log in at another one.
    fn forget(&self, slot: &str) -> Result<(), Trouble> {
        let state = self.say("show servers state web")?;
        let Some(number) = number(&state, slot) else {
            return Err(Trouble::new(format!("the edge has no slot {slot}")));
        };
        let answer = self.say(&format!("clear table web data.server_id eq {number}"))?;
        // An edge that was not reloaded since it knew of no logins has no table of them.
        let fine = answer.trim().is_empty() || answer.contains("No such table");
        if fine { Ok(()) } else { Err(Trouble::new(format!("the edge did not forget logins: {}", answer.trim()))) }
    }

    /// Says something to which silence, or a mere note, is the good answer.
    fn order(&self, command: &str) -> Result<(), Trouble> {
        let answer = self.say(command)?;
        let fine = answer.trim().is_empty() || answer.contains("changed from") || answer.contains("no need to change");
        if fine { Ok(()) } else { Err(Trouble::new(format!("the edge refused `{command}`: {}", answer.trim()))) }
    }
}

fn speak(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Edge for HaProxy {
    fn slots(&self) -> Result<Vec<Slot>, Trouble> {
        let state = self.say("show servers state web")?;
        let stat = self.say("show stat web 4 -1")?;
        parse(&state, &stat).ok_or_else(|| Trouble::new("the edge told of its slots in a way that is not understood"))
    }

    fn assign(&self, slot: &str, instance: &Instance, weight: u32) -> Result<(), Trouble> {
        let Instance { address, port, admin_port, .. } = instance;
        self.order(&format!("set server web/{slot} state maint"))?;
        self.order(&format!("set server web/{slot} addr {address} port {port}"))?;
        self.order(&format!("set server web/{slot} check-port {admin_port}"))?;
        self.weigh(slot, weight)
    }

    fn weigh(&self, slot: &str, weight: u32) -> Result<(), Trouble> {
        self.order(&format!("set server web/{slot} weight {weight}"))
    }

    fn admit(&self, slot: &str, admission: Admission) -> Result<(), Trouble> {
        let state = match admission {
            Admission::Ready => "ready",
            Admission::Drain => "drain",
            Admission::Maintenance => "maint",
        };
        self.order(&format!("set server web/{slot} state {state}"))?;
        if admission == Admission::Drain { self.forget(slot) } else { Ok(()) }
    }

    fn remember(&self) -> Result<(), Trouble> {
        let state = self.say("show servers state")?;
        let path = self.folder.join("server-state");
        write_whole(&path, state.as_bytes())?;
        // The edge's own user reads it; the folder above it is ours alone.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        Ok(std::fs::set_permissions(path, mode)?)
    }
}

/// The number by which `show servers state web` knows a slot.
fn number(state: &str, slot: &str) -> Option<u32> {
    let (columns, rows) = table(state, ' ')?;
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (id, name) = (column("srv_id")?, column("srv_name")?);
    rows.iter().find(|row| row.get(name) == Some(&slot))?.get(id)?.parse().ok()
}

/// Reads `show servers state web` and `show stat web 4 -1` together.
fn parse(state: &str, stat: &str) -> Option<Vec<Slot>> {
    let (columns, rows) = table(stat, ',')?;
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (name, alive, in_flight) = (column("svname")?, column("status")?, column("scur")?);
    let classes = ["hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"].map(column);
    let broken = ["econ", "eresp"].map(column);
    let number = |row: &[&str], at: usize| row.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let counted: BTreeMap<&str, &Vec<&str>> = rows.iter().filter_map(|row| Some((*row.get(name)?, row))).collect();

    let (columns, rows) = table(state, ' ')?;
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (srv, addr, port) = (column("srv_name")?, column("srv_addr")?, column("srv_port")?);
    let (admin, weight) = (column("srv_admin_state")?, column("srv_uweight")?);
    rows.iter()
        .map(|row| {
            let server = *row.get(srv)?;
            let counts = *counted.get(server)?;
            // Bits: 1 and 4 are maintenance (forced, from the file), 8 is drain.
            let bits: u32 = row.get(admin)?.parse().ok()?;
            let admission = match bits {
                bits if bits & 0x01 != 0 => Admission::Maintenance,
                bits if bits & 0x08 != 0 => Admission::Drain,
                _ => Admission::Ready,
            };
            let sum = |columns: &[Option<usize>]| columns.iter().flatten().map(|at| number(counts, *at)).sum();
            Some(Slot {
                name: server.to_owned(),
                address: (*row.get(addr)?).to_owned(),
                port: row.get(port)?.parse().ok()?,
                admission,
                weight: row.get(weight)?.parse().ok()?,
                alive: counts.get(alive).is_some_and(|status| status.starts_with("UP") || status.starts_with("DRAIN")),
                in_flight: number(counts, in_flight),
                answers: sum(&classes),
                errors: sum(&classes[4..5]),
                broken: sum(&broken),
            })
        })
        .collect()
}

/// A table whose header begins with `# `, after lines that are none of it.
fn table(text: &str, separator: char) -> Option<(Vec<&str>, Vec<Vec<&str>>)> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("# "));
    let header = lines.next()?.trim_start_matches("# ").split(separator).collect();
    let rows = lines.filter(|line| !line.trim().is_empty()).map(|line| line.split(separator).collect());
    Some((header, rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_as_haproxy_tells_them() {
        let state = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port\n\
                     3 web 1 web1 127.0.0.2 2 4 10 100 18081\n\
                     3 web 2 web2 127.0.0.1 2 12 100 100 18082\n\
                     3 web 3 web3 127.0.0.1 0 5 100 100 8080\n\n";
        let stat = "# pxname,svname,scur,status,econ,eresp,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,\n\
                    web,web1,3,UP,1,2,0,90,0,4,6,0,\n\
                    web,web2,1,DRAIN,0,0,0,5,0,0,0,0,\n\
                    web,web3,0,MAINT,0,0,0,0,0,0,0,0,\n";
        let slots = parse(state, stat).expect("a table");
        assert_eq!(slots.len(), 3);
        let first = &slots[0];
        assert_eq!((first.name.as_str(), first.address.as_str(), first.port), ("web1", "127.0.0.2", 18081));
        assert_eq!((first.admission, first.weight, first.alive), (Admission::Ready, 10, true));
        assert_eq!((first.in_flight, first.answers, first.errors, first.broken), (3, 100, 6, 3));
        assert_eq!((number(state, "web2"), number(state, "web4")), (Some(2), None));
        assert_eq!((slots[1].admission, slots[1].alive), (Admission::Drain, true));
        assert_eq!((slots[2].admission, slots[2].alive), (Admission::Maintenance, false));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        assert_eq!(parse("", ""), None);
        assert_eq!(parse("# srv_name\nweb1\n", "# svname\nweb1\n"), None);
    }
}
