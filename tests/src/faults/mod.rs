//! Does a cluster of real processes keep its promises under faults? A load of writes, reads and searches, a fault, healing,
//! and a verdict: nothing acknowledged is lost, each document's history has an order that explains it, searches found what they
//! had to. docs/operating/faults.md tells what the rows do and what they have shown.
//!
//! Reading order: [`rows`] is the table; [`run`] is one repeat of a row; [`stage`] the cluster and what is done to it, with
//! `network`, `wires`, `disks`, `clock` and `damage` for what the machine lends; [`load`] what happens meanwhile, in three streams (`hot`, `probes`,
//! `queries`); [`history`] the checker; [`figures`] and [`table`] what is told of it.

mod clock;
pub mod damage;
mod disks;
pub mod figures;
pub mod history;
mod hot;
pub mod load;
pub mod network;
mod probes;
pub mod queries;
pub mod rows;
pub mod run;
mod shell;
pub mod stage;
pub mod table;
pub mod wires;
