//! Ports for processes that are killed and started again at the same ones.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::ops::Range;

/// Below the ports that the system hands out by itself (net.ipv4.ip_local_port_range begins at 32768): while a killed process
/// is down, no outgoing connection and no port 0 of anybody takes the port that it will listen at again.
const PORTS: Range<u16> = 15_000..32_000;

/// So many ports in a row that nobody listens on now; all are held until all are found.
pub fn free_ports(count: usize) -> Vec<u16> {
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
