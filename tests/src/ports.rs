//! Ports for processes that are killed and started again at the same ones.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Once;

/// Below the ports that the system hands out by itself (net.ipv4.ip_local_port_range begins at 32768): while a killed process
/// is down, no outgoing connection and no port 0 of anybody takes the port that it will listen at again.
const PORTS: Range<u16> = 15_000..32_000;

/// So many ports in a row that nobody listens on now; all are held until all are found.
pub fn free_ports(count: usize) -> Vec<u16> {
    warn_of_outgoing();
    let (random, rows) = (RandomState::new(), PORTS.len() / count);
    for attempt in 0..rows {
        let row = random.hash_one(attempt) as usize % rows;
        let first = PORTS.start + (row * count) as u16;
        let ports: Vec<u16> = (first..).take(count).collect();
        let held: Result<Vec<_>, _> = ports
            .iter()
            .map(|port| TcpListener::bind(("127.0.0.1", *port)))
            .collect();
        if held.is_ok() {
            return ports;
        }
    }
    panic!("no {count} ports in a row are free in {PORTS:?}")
}

/// Says so, once, where this machine hands out the same ports for outgoing connections.
fn warn_of_outgoing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let lowest: Option<u16> = range.split_whitespace().next().and_then(|number| number.parse().ok());
        if let Some(lowest) = lowest.filter(|lowest| *lowest < PORTS.end) {
            eprintln!("outgoing connections may take the ports of killed processes: net.ipv4.ip_local_port_range begins at {lowest}");
        }
    });
}
