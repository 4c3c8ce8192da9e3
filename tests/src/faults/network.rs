//! A network of namespaces: one for each node, joined to a bridge, where this process and the coordinators are. The link is a veth,
//! and nftables in a node's namespace drops what the fault says; or it is one of our own [`Wires`], which is slow where the
//! fault says so. All of it is gone when dropped.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::shell::{run, run_with_input};
use super::wires::{Manner, Wires};
use crate::processes::NODES;

/// Namespaces, links and a bridge, of a name that nobody else has.
pub struct Network {
    name: String,
    /// Namespace and address of each node.
    pub hosts: Vec<(String, Ipv4Addr)>,
    /// Each node's link, where it is not a veth.
    wires: Option<Wires>,
}

/// What joins a node to the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// One that carries what is not dropped.
    Veth,
    /// One that can be slow.
    Wire,
}

/// What does not get through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Nothing, from and to anybody.
    Alone,
    /// Nothing between it and the other nodes; coordinators reach it.
    FromNodes,
    /// It hears nothing from the other nodes; they hear it.
    Deaf,
    /// The other nodes hear nothing from it; it hears them.
    Mute,
    /// Nothing between it and one other; both reach the third.
    OnePair,
}

impl Network {
    /// Makes it; an error where this process may not, or a tool is missing. `seed` decides what wires do.
    pub fn make(link: Link, seed: u64) -> Result<Network> {
        let mark: u16 = rand::random();
        let [high, low] = mark.to_be_bytes();
        let (middle, name) = (128 + high % 100, format!("gf{mark:04x}"));
        let hosts = (0..NODES).map(|node| {
            (
                format!("{name}n{node}"),
                Ipv4Addr::new(10, middle, low, 10 + node as u8),
            )
        });
        // Dropped, and so undone, where a later step fails.
        let mut network = Network {
            hosts: hosts.collect(),
            wires: None,
            name,
        };
        if link == Link::Veth {
            run("nft", &["--version"]).context("nftables is not installed")?;
        } else {
            network.wires = Some(Wires::make((0..NODES).map(|node| network.ends(node)), seed)?);
        }
        let bridge = network.name.as_str();
        run("ip", &["link", "add", bridge, "type", "bridge"])?;
        run(
            "ip",
            &["addr", "add", &format!("10.{middle}.{low}.1/24"), "dev", bridge],
        )?;
        run("ip", &["link", "set", bridge, "up"])?;
        for node in 0..NODES {
            network.join(node)?;
            // Rules are loaded before they are needed: a kernel may know none.
            network.heal(node)?;
        }
        Ok(network)
    }

    /// The ends of a node's link, at the bridge and in the node's namespace.
    fn ends(&self, node: usize) -> (String, String) {
        (format!("{}v{node}", self.name), format!("{}w{node}", self.name))
    }

    /// Makes a node's namespace, and joins it to the bridge.
    fn join(&self, node: usize) -> Result<()> {
        let (outside, inside) = self.ends(node);
        let (namespace, address) = &self.hosts[node];
        run("ip", &["netns", "add", namespace])?;
        if self.wires.is_some() {
            run("ip", &["link", "set", &inside, "netns", namespace])?;
        } else {
            let peer = ["peer", "name", &inside, "netns", namespace];
            run("ip", &[&["link", "add", &outside, "type", "veth"][..], &peer].concat())?;
        }
        run("ip", &["link", "set", &outside, "master", &self.name, "up"])?;
        run(
            "ip",
            &["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", &inside],
        )?;
        run("ip", &["-n", namespace, "link", "set", &inside, "up"])?;
        run("ip", &["-n", namespace, "link", "set", "lo", "up"]).map(drop)
    }

    /// Cuts a node off.
    pub fn cut(&self, node: usize, shape: Shape) -> Result<()> {
        let others = (0..NODES).filter(|other| *other != node);
        let others: Vec<String> = others.map(|other| self.hosts[other].1.to_string()).collect();
        let (all, one) = (others.join(", "), &others[0]);
        let (hears, says) = match shape {
            Shape::Alone => ("drop".to_owned(), "drop".to_owned()),
            Shape::FromNodes => (
                format!("ip saddr {{ {all} }} drop"),
                format!("ip daddr {{ {all} }} drop"),
            ),
            Shape::Deaf => (format!("ip saddr {{ {all} }} drop"), String::new()),
            Shape::Mute => (String::new(), format!("ip daddr {{ {all} }} drop")),
            Shape::OnePair => (format!("ip saddr {one} drop"), format!("ip daddr {one} drop")),
        };
        self.rules(node, &hears, &says)
    }

    /// Loses so many of a hundred packets that a node is sent, from anybody.
    pub fn lose(&self, node: usize, percent: u32) -> Result<()> {
        self.rules(node, &format!("numgen random mod 100 < {percent} drop"), "")
    }

    /// A node's wire carries what it is sent and what it sends in this manner from now on.
    pub fn slow(&mut self, node: usize, manner: Manner) -> Result<()> {
        self.wires.as_mut().context("its links are wires")?.set(node, manner)
    }

    /// Everything gets through again, at once.
    pub fn heal(&mut self, node: usize) -> Result<()> {
        match &mut self.wires {
            Some(wires) => wires.set(node, Manner::NONE),
            None => self.rules(node, "", ""),
        }
    }

    fn rules(&self, node: usize, hears: &str, says: &str) -> Result<()> {
        let rules = format!(
            "flush ruleset\n\
             table inet faults {{\n\
             chain hears {{ type filter hook input priority 0; policy accept; iif != \"lo\" jump dropped_in; }}\n\
             chain says {{ type filter hook output priority 0; policy accept; oif != \"lo\" jump dropped_out; }}\n\
             chain dropped_in {{\n{hears}\n}}\n\
             chain dropped_out {{\n{says}\n}}\n\
             }}\n"
        );
        let namespace = &self.hosts[node].0;
        run_with_input("ip", &["netns", "exec", namespace, "nft", "-f", "-"], &rules).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The devices of wires go with what carries them, which must not meet their absence.
        self.wires = None;
        // What was not made can't be removed, and is not missed. A namespace takes its end of the link with it.
        for (namespace, _) in &self.hosts {
            let _ = run("ip", &["netns", "del", namespace]);
        }
        let _ = run("ip", &["link", "del", &self.name]);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    /// A port that nobody listens on refuses after one round trip.
    fn round_trip(network: &Network) -> Duration {
        let began = Instant::now();
        let refused = TcpStream::connect_timeout(&SocketAddr::from((network.hosts[0].1, 9)), Duration::from_secs(10));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        began.elapsed()
    }

    #[test]
    fn a_slow_wire_is_slow_both_ways_until_it_is_healed() {
        let mut network = match Network::make(Link::Wire, 1) {
            Ok(network) => network,
            Err(why) => return println!("skipped: no wires here: {why:#}"),
        };
        let delay_ms = 300;
        let late = Manner {
            delay_ms,
            ..Manner::NONE
        };
        network.slow(0, late).unwrap();
        assert!(round_trip(&network) >= Duration::from_millis(2 * u64::from(delay_ms)));
        network.heal(0).unwrap();
        // One of them is not held up by a busy machine.
        let is_fast = |_| round_trip(&network) < Duration::from_millis(2 * u64::from(delay_ms));
        assert!((0..20).any(is_fast));
    }
}
