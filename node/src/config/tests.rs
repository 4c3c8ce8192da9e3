//! Every setting is listed, with the default that holds; what can't work is refused by its name.

use super::*;

#[test]
fn every_field_is_listed_with_its_default() {
    let fields = serde_json::to_value(Config::default()).unwrap();
    let fields = fields.as_object().unwrap();
    assert_eq!(fields.len(), SETTINGS.len());
    for setting in SETTINGS {
        let written = match &fields[setting.name] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(list) if list.is_empty() => String::new(),
            other => other.to_string(),
        };
        assert_eq!(written, setting.default, "{}", setting.name);
    }
}

#[test]
fn an_unknown_setting_is_refused_and_an_empty_file_is_all_defaults() {
    assert!(toml::from_str::<Config>("lisen_data = \"127.0.0.1:1\"").is_err());
    assert_eq!(toml::from_str::<Config>("# nothing\n").unwrap(), Config::default());
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut Config), setting: &str, problem: &str) {
    let mut config = Config::default();
    change(&mut config);
    let refused = config.check().unwrap_err();
    assert_eq!(refused.setting, setting);
    assert!(refused.problem.contains(problem), "{refused}");
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    assert!(Config::default().check().is_ok());
    check_refused(|c| c.listen_data = "localhost".into(), "listen_data", "no address");
    check_refused(|c| c.listen_raft = "0.0.0.0:6337".into(), "listen_raft", "`insecure`");
    check_refused(
        |c| c.election_timeout_ms = 400,
        "election_timeout_ms",
        "400, must be 500..=600000",
    );
    check_refused(
        |c| c.log_segment_bytes = 1 << 20,
        "log_segment_bytes",
        "1048576, must be 5242880",
    );
    check_refused(
        |c| c.log_budget_bytes = 1 << 20,
        "log_budget_bytes",
        "must be 134217728",
    );
    check_refused(
        |c| c.merge_bytes_per_second = 1,
        "merge_bytes_per_second",
        "1, must be 1048576",
    );
    let open = |c: &mut Config| (c.insecure, c.listen_data) = (true, "0.0.0.0:6335".into());
    check_refused(open, "advertise", "must name this node's host");
    check_refused(|c| c.advertise = "host:1".into(), "advertise", "is no host");
}

#[test]
fn the_advertised_address_has_the_bound_port() {
    let bound = "127.0.0.1:4711".parse().unwrap();
    let with = |advertise: &str| {
        Config {
            advertise: advertise.into(),
            ..Config::default()
        }
        .advertised(bound)
    };
    assert_eq!(with(""), "127.0.0.1:4711");
    assert_eq!(with("node-0.granum"), "node-0.granum:4711");
    assert_eq!(with("::1"), "[::1]:4711");
}
