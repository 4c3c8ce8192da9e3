//! What does the binary say, and with which exit code, where no cluster is there and where it is asked wrongly?

use std::process::{Command, Output};

/// Runs `granum` without terminal and without settings of the surroundings.
fn granum(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_granum"));
    command.args(words).env_clear().stdin(std::process::Stdio::null());
    command.output().expect("the binary can be run")
}

#[track_caller]
fn ends(words: &[&str], code: i32, said: &[&str]) {
    let output = granum(words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
    for text in said {
        assert!(errors.contains(text), "{words:?} does not say {text:?}: {errors}");
    }
    assert!(
        !errors.contains("panicked") && !errors.contains("stack backtrace"),
        "{errors}"
    );
}

/// Nobody listens at the discard port of this machine.
const NOBODY: &str = "--url=http://127.0.0.1:9";

#[test]
fn help_and_version_are_no_failure() {
    for words in [["--help"], ["--version"]] {
        let output = granum(&words);
        assert!(output.status.success() && !output.stdout.is_empty());
    }
}

#[test]
fn asked_wrongly_it_says_so_with_exit_code_2() {
    ends(&[], 2, &["Usage"]);
    ends(&["serach"], 2, &["serach", "search"]);
    ends(&["search", "c"], 2, &["TEXT"]);
    ends(&["search", "c", "text", "--like", "x"], 2, &["cannot be used with"]);
    ends(
        &["search", "c", "text", "--filter", "section == games", NOBODY],
        2,
        &["column 10", "section == games\n         ^"],
    );
    ends(&["search", "c", "--vector", "[1, x]", NOBODY], 2, &["--vector"]);
    ends(
        &["search", "c", "text", "--read", "fresh"],
        2,
        &["linearizable, any or bounded:MS"],
    );
    ends(&["search", "c", "text", "--url", "https://a:1"], 2, &["TLS"]);
    ends(
        &["collection", "create", "c", NOBODY],
        2,
        &["--vector 384", "--embedder builtin"],
    );
    ends(
        &["collection", "create", "c", "--vector", "384:cosinus", NOBODY],
        2,
        &["cosinus"],
    );
    ends(&["delete", "c", "--filter", " ", NOBODY], 2, &["empty filter"]);
    ends(
        &["node", "--config", "/dev/null", "--seal-bytes", "many"],
        2,
        &["--seal-bytes"],
    );
    ends(&["node", "--log-format", "xml"], 2, &["text or json"]);
    ends(&["dev", "--port", "65534"], 2, &["65534"]);
}

#[test]
fn without_a_cluster_it_says_what_to_do_with_exit_code_1() {
    ends(
        &["status", NOBODY],
        1,
        &["http://127.0.0.1:9", "refused", "granum dev", "--url"],
    );
    ends(&["search", "c", "text", NOBODY], 1, &["refused"]);
    ends(&["count", "c", NOBODY], 1, &["refused"]);
    ends(
        &["cluster", "init", "--nodes", "127.0.0.1:9"],
        1,
        &["cannot reach 127.0.0.1:9"],
    );
}

#[test]
fn files_that_are_missing_or_wrong_are_named() {
    ends(
        &["import", "/nowhere.jsonl", "--collection", "c", NOBODY],
        1,
        &["/nowhere.jsonl"],
    );
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    ends(
        &["import", text, "--collection", "c", "--vectors", text, NOBODY],
        1,
        &["--vectors", "not a .npy file"],
    );
    ends(&["search", "c", "--vector", text, NOBODY], 1, &["not a .npy file"]);
    ends(&["verify", "/nowhere"], 1, &["/nowhere"]);
    ends(&["node", "--config", "/nowhere.toml"], 1, &["/nowhere.toml"]);
}

#[test]
fn an_unknown_setting_of_a_file_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(file.path(), "data_dri = \"x\"\n").expect("it can be written");
    let path = file.path().display().to_string();
    for role in ["node", "coordinator"] {
        ends(&[role, "--config", &path], 2, &["unknown setting \"data_dri\"", &path]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::io::Read;
    let mut child = Command::new(env!("CARGO_BIN_EXE_granum"))
        .args(["docs", "cli"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    drop(child.stdout.take());
    let mut errors = String::new();
    child
        .stderr
        .take()
        .expect("it is piped")
        .read_to_string(&mut errors)
        .expect("it can be read");
    assert!(child.wait().expect("it ends").success(), "{errors}");
    assert_eq!(errors, "");
}
