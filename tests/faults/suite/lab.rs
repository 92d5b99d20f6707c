//! Hosts with addresses of their own: network namespaces, joined by a bridge.
//!
//! All of it is made inside namespaces that this process has entered first, of networks, mounts and processes: nothing of
//! the machine's own network is touched or even seen, names need no care, and however the suite ends, by a panic, a signal
//! or SIGKILL, the kernel takes away every process, host and filter with it.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command as StdCommand, Stdio};

use haulout::BoxError;
use rustix::process::geteuid;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Namespaces of its own, gone with the one process that is in them. The last words keep `ip netns` from leaving names on
/// the machine.
const UNSHARE: &[&str] = &["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const OWN_RUN: &str = "mount -t tmpfs none /run && exec \"$@\"";

/// What is done to find out whether anything can be done: the kinds of links and filters that hosts are made of.
const PROBE: &str = "ip netns add probe && ip link add probe-br type bridge \
    && ip link add probe-veth type veth peer name eth0 netns probe && ip netns exec probe iptables -A INPUT -p udp \
    -m statistic --mode random --probability 0.1 -j DROP && ip netns exec probe iptables -A INPUT -j NFQUEUE --queue-bypass";

const PORT: u16 = 7946;

/// This executable again, with these arguments, in namespaces of its own.
///
/// # Errors
/// Why it may not, or lacks what it needs.
pub(crate) fn enter(args: &[OsString]) -> Result<StdCommand, String> {
    let probed = unshare().args(["sh", "-c", PROBE]).stdin(Stdio::null()).output();
    let probed = probed.map_err(|error| format!("unshare can't be started: {error}"))?;
    if !probed.status.success() {
        let said = String::from_utf8_lossy(&probed.stderr);
        return Err(format!("network namespaces can't be made or filtered here: {}", said.trim().replace('\n', "; ")));
    }
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = unshare();
    command.arg(executable).args(args);
    Ok(command)
}

fn unshare() -> StdCommand {
    // However this process ends, it takes `unshare` with it, and that the rest.
    let mut command = StdCommand::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    // Whoever is not root is root in a namespace of users, where the kernel allows that.
    command.args((!geteuid().is_root()).then_some(["--user", "--map-root-user"]).into_iter().flatten());
    command.args(UNSHARE).args(["sh", "-c", OWN_RUN, "sh"]);
    command
}

/// The hosts of one cluster.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The third byte of all addresses, and what its names begin with.
    number: u8,
}

/// One host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// The name of its namespace.
    netns: String,
    /// The end of its cable at the bridge.
    port: String,
    pub(crate) addr: Ipv4Addr,
}

impl Lab {
    /// A bridge without hosts.
    pub(crate) async fn new(number: u8) -> Result<Lab, BoxError> {
        ip(&[], &format!("link add br{number} type bridge\nlink set br{number} up\n")).await?;
        Ok(Lab { number })
    }

    /// Connects another host, with the address of this number.
    pub(crate) async fn connect(&self, host: u8) -> Result<Host, BoxError> {
        let number = self.number;
        let (netns, port) = (format!("host{number}-{host}"), format!("port{number}-{host}"));
        let host = Host { addr: Ipv4Addr::new(10, 0, number, host), netns, port };
        let Host { netns, port, .. } = &host;
        let cable = format!(
            "netns add {netns}\nlink add {port} type veth peer name eth0 netns {netns}\n\
             link set {port} master br{number}\nlink set {port} up\n"
        );
        ip(&[], &cable).await?;
        host.ip(&format!("link set lo up\nlink set eth0 up\naddr add {}/24 dev eth0\n", host.addr)).await?;
        Ok(host)
    }
}

impl Host {
    /// Where its node listens.
    pub(crate) fn socket_addr(&self) -> SocketAddr {
        (self.addr, PORT).into()
    }

    /// A command that runs there; the process that is started becomes it.
    pub(crate) fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns]).arg(program);
        command
    }

    /// The file by which its namespace is entered.
    pub(crate) fn netns_path(&self) -> String {
        format!("/run/netns/{}", self.netns)
    }

    /// Pulls its cable, or plugs it in again.
    pub(crate) async fn plug(&self, plugged: bool) -> Result<(), BoxError> {
        let Host { port, .. } = self;
        ip(&[], &format!("link set {port} {}\n", if plugged { "up" } else { "down" })).await
    }

    /// Gives it another address instead of the one it has.
    pub(crate) async fn readdress(&mut self) -> Result<(), BoxError> {
        let [a, b, c, host] = self.addr.octets();
        let new = Ipv4Addr::new(a, b, c, host ^ 128);
        self.ip(&format!("addr del {}/24 dev eth0\naddr add {new}/24 dev eth0\n", self.addr)).await?;
        self.addr = new;
        Ok(())
    }

    /// Replaces its packet filter by these rules for what comes in.
    pub(crate) async fn filter(&self, rules: &str) -> Result<(), BoxError> {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n{rules}COMMIT\n");
        feed(self.command("iptables-restore".as_ref()), &text).await
    }

    async fn ip(&self, batch: &str) -> Result<(), BoxError> {
        ip(&["-n", &self.netns], batch).await
    }
}

async fn ip(options: &[&str], batch: &str) -> Result<(), BoxError> {
    let mut command = Command::new("ip");
    command.args(options).args(["-batch", "-"]);
    feed(command, batch).await
}

/// Runs a command that takes its orders from its stdin.
async fn feed(mut command: Command, text: &str) -> Result<(), BoxError> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().ok_or("it has no stdin")?;
    stdin.write_all(text.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}, asked for:\n{text}", String::from_utf8_lossy(&output.stderr).trim()).into()),
    }
}
