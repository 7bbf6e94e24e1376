//! The server's options.

use std::net::IpAddr;
use std::str::FromStr;

use super::Forward;

/// Who the server is, and where it listens.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The server's name in its answers: its container's
    #[arg(long)]
    pub name: String,
    /// The Pod's name
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod: String,
    /// The Pod's namespace
    #[arg(long, env = "POD_NAMESPACE", default_value = "")]
    pub namespace: String,
    /// Port to listen on, with the port's name if it has one; names that begin with `server-first`, `tls` or
    /// `https` choose the protocol, else the first bytes do (repeatable)
    #[arg(long = "port", value_name = "PORT[/NAME]")]
    pub ports: Vec<Port>,
    /// Port where the server speaks first (repeatable)
    #[arg(long, value_name = "PORT")]
    pub server_first: Vec<u16>,
    /// Port that takes TLS only (repeatable); others take it too when a client begins with it
    #[arg(long, value_name = "PORT")]
    pub tls: Vec<u16>,
    /// Address to listen on, instead of all
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Addresses to call for requests under a path: `/reviews=http://ratings:9080/ratings/0` (repeatable).
    /// Without any, the containers of Istio's Bookinfo sample call each other as there
    #[arg(long = "forward", alias = "calls", value_name = "PATH=URL[,URL]")]
    pub forwards: Vec<Forward>,
}

/// A port to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The number; 0 takes any free one.
    pub number: u16,
    /// What is spoken there.
    pub mode: Mode,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whatever the client's first bytes say.
    Detect,
    /// The server greets before the client speaks.
    ServerFirst,
    /// TLS only, and inside it whatever the client's first bytes say.
    Tls,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, name) = text.split_once('/').unwrap_or((text, ""));
        let number = number.parse().map_err(|_| format!("{text}: not a port such as 9080 or 9080/http"))?;
        let mode = match name {
            _ if name.starts_with("server-first") => Mode::ServerFirst,
            _ if name.starts_with("tls") || name.starts_with("https") => Mode::Tls,
            _ => Mode::Detect,
        };
        Ok(Self { number, mode })
    }
}

impl Options {
    /// All ports, those of the flags for one protocol included.
    pub(super) fn all_ports(&self) -> Vec<Port> {
        let first = self.server_first.iter().map(|number| (*number, Mode::ServerFirst));
        let special: Vec<_> = first.chain(self.tls.iter().map(|number| (*number, Mode::Tls))).collect();
        let plain = self.ports.iter().filter(|port| special.iter().all(|(number, _)| *number != port.number));
        let plain: Vec<_> = plain.cloned().collect();
        plain.into_iter().chain(special.into_iter().map(|(number, mode)| Port { number, mode })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, Port};

    #[test]
    fn port_names_choose_the_protocol() {
        let cases = [
            ("9080", Ok(Port { number: 9080, mode: Mode::Detect })),
            ("9080/http", Ok(Port { number: 9080, mode: Mode::Detect })),
            ("3306/server-first-mysql", Ok(Port { number: 3306, mode: Mode::ServerFirst })),
            ("443/https-web", Ok(Port { number: 443, mode: Mode::Tls })),
            ("443/tls", Ok(Port { number: 443, mode: Mode::Tls })),
            ("web", Err("web: not a port such as 9080 or 9080/http".to_owned())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Port>(), expected, "{text}");
        }
    }
}
