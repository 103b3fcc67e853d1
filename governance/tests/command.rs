//! What the program `outrigger` prints.

use std::{
    path::Path,
    process::{Command, Output},
};

fn outrigger(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("written");
    };
    write(
        "good.toml",
        r#"[defaults]
timeout = "1s"

[services."shop.Cart".methods.Get]
rate_limit = { rate = "100/s", burst = 10 }
"#,
    );
    write("bad.yaml", "defaults:\n  timeout: 1s\n  circuit_braker: {}\n");
    write("config.json", r#"{"methodConfig": [{"name": [{}], "waitForReady": true}]}"#);
    directory
}

#[test]
fn check_says_that_a_file_is_valid() {
    let directory = directory();
    let good = outrigger(directory.path(), &["check", "good.toml"]);
    assert_eq!(text(&good.stdout), "good.toml: valid, names 1 method\n");
    assert!(good.status.success());
    let config = outrigger(directory.path(), &["check", "config.json"]);
    let expected = "note: config.json:1:34: `wait_for_ready` is the channel's own affair; nothing \
                    here acts on it\nconfig.json: valid, names 0 methods\n";
    assert_eq!(text(&config.stdout), expected);
}

#[test]
fn check_shows_what_is_wrong_and_fails() {
    let directory = directory();
    let bad = outrigger(directory.path(), &["check", "bad.yaml"]);
    assert!(!bad.status.success());
    let expected = "error: `defaults.circuit_braker` is no setting here
 --> bad.yaml:3:3
  |
3 |   circuit_braker: {}
  |   ^^^^^^^^^^^^^^
  |
  = help: did you mean `circuit_breaker`?
";
    assert_eq!(text(&bad.stderr), expected);
    let none = outrigger(directory.path(), &["check", "none.yaml"]);
    assert!(text(&none.stderr).starts_with("none.yaml: "), "{}", text(&none.stderr));
    let other = outrigger(directory.path(), &["check", "good.ini"]);
    assert_eq!(text(&other.stderr), "good.ini: the extension must be json, yaml, yml or toml\n");
}

#[test]
fn explain_prints_every_value_with_its_origin() {
    let directory = directory();
    let explained = outrigger(directory.path(), &["explain", "good.toml", "shop.Cart/Get"]);
    let expected = "\
timeout.enforcement     enforced  built-in default
timeout.honour_request  true      built-in default
timeout.timeout         1s        good.toml:2:11 (defaults)
rate_limit.burst        10        good.toml:5:40 (shop.Cart/Get)
rate_limit.enforcement  enforced  built-in default
rate_limit.max_wait     1s        built-in default
rate_limit.max_waiting  0         built-in default
rate_limit.period       1s        good.toml:5:23 (shop.Cart/Get)
rate_limit.rate         100       good.toml:5:23 (shop.Cart/Get)
";
    assert_eq!(text(&explained.stdout), expected);
    let wrong = outrigger(directory.path(), &["explain", "good.toml", "Get"]);
    assert!(text(&wrong.stderr).contains("write SERVICE/METHOD"), "{}", text(&wrong.stderr));
}

#[test]
fn schema_prints_what_is_published() {
    let printed = outrigger(Path::new("."), &["schema"]);
    assert!(printed.status.success());
    assert!(text(&printed.stdout) == include_str!("../policies.schema.json"), "another schema");
}
