//! Do logs, manifests, registers, snapshots and requests withstand the committed corpus and some thousand mutations of it? The
//! same on every run.
//!
//! `cargo fuzz` goes on from there (CONTRIBUTING.md). The index's files are tried in node/index/tests/fuzz.rs.

#[path = "../node/index/fuzz/replay.rs"]
mod replay;
#[path = "fuzz/targets.rs"]
mod targets;

use replay::check;
use targets::{disk, peers, requests};

const MUTATIONS: u64 = 4000;

#[test]
fn hostile_records_are_errors_or_read_back() {
    check("record", disk::record, MUTATIONS);
}

#[test]
fn hostile_logs_are_errors_or_open_again_as_they_were() {
    check("log", disk::log, MUTATIONS);
}

#[test]
fn hostile_commands_are_answered_alike_by_replicas() {
    check("command", disk::command, MUTATIONS);
}

#[test]
fn hostile_manifests_are_errors_or_read_back() {
    check("manifest", disk::manifest, MUTATIONS);
}

#[test]
fn hostile_registers_are_errors_or_open_again_as_they_were() {
    check("register", disk::register, MUTATIONS);
}

#[test]
fn hostile_snapshots_are_refused_or_taken_as_announced() {
    check("snapshot", peers::snapshot, MUTATIONS);
}

#[test]
fn any_text_is_an_error_or_a_filter_that_reads_back() {
    check("filter", requests::filter, MUTATIONS);
}

#[test]
fn any_body_is_refused_or_a_request_that_shards_take() {
    check("json", requests::json, MUTATIONS);
}

#[test]
fn any_message_is_refused_or_a_request_that_shards_take() {
    check("request", requests::request, MUTATIONS);
}
