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

/// The whole of what a service is governed by: its method's policies, its budget, its balancing.
#[test]
fn explain_shows_what_the_methods_of_a_service_share() {
    let directory = directory();
    let file = directory.path().join("shared.yaml");
    let policies = "
defaults: {adaptive_limit: {max_limit: 200}}
services:
  shop.Cart:
    retry_budget: 20%
    methods: {Get: {adaptive_limit: {algorithm: aimd}}}
";
    std::fs::write(file, policies).expect("written");
    let explained = outrigger(directory.path(), &["explain", "shared.yaml", "shop.Cart/Get"]);
    let expected = "\
adaptive_limit.algorithm         aimd      shared.yaml:6:49 (shop.Cart/Get)
adaptive_limit.critical_reserve  0.1       built-in default
adaptive_limit.cut_short         ignored   built-in default
adaptive_limit.enforcement       enforced  built-in default
adaptive_limit.initial_limit     20        built-in default
adaptive_limit.max_limit         200       shared.yaml:2:40 (defaults)
adaptive_limit.max_wait          1s        built-in default
adaptive_limit.max_waiting       0         built-in default
adaptive_limit.max_window        30s       built-in default
adaptive_limit.min_limit         1         built-in default
adaptive_limit.min_samples       50        built-in default
adaptive_limit.min_window        250ms     built-in default
adaptive_limit.tolerated_drops   0.01      built-in default
retry_budget.ratio.ratio         0.2       shared.yaml:5:19 (shop.Cart)
retry_budget.ratio.reserve       1         built-in default
retry_budget.ratio.window        10s       built-in default
";
    assert_eq!(text(&explained.stdout), expected);
}

/// What a user meets who writes a file by hand: each mistake, in its line.
#[test]
fn check_shows_several_mistakes_each_in_its_line() {
    let directory = directory();
    let text = "\
[defaults]
timeout = \"500\"
retries = 3

[services.shop.Cart.methods.Get]
attempt_timeout = \"2s\"
";
    std::fs::write(directory.path().join("many.toml"), text).expect("written");
    let bad = outrigger(directory.path(), &["check", "many.toml"]);
    let expected = "\
error: `defaults.timeout` is \"500\"; it must be a duration with its unit, such as `250ms` or `5s`
 --> many.toml:2:11
  |
2 | timeout = \"500\"
  |           ^^^^^
error: `defaults.retries` is no setting here
 --> many.toml:3:1
  |
3 | retries = 3
  | ^^^^^^^
  |
  = help: did you mean `retry`?
error: `shop.Cart` is no setting here
 --> many.toml:5:16
  |
5 | [services.shop.Cart.methods.Get]
  |                ^^^^
  |
  = help: a service's name with dots in it must be quoted: `\"shop.Cart\"`
";
    assert_eq!(String::from_utf8_lossy(&bad.stderr), expected);
    assert!(!bad.status.success() && bad.stdout.is_empty());
}

#[test]
fn schema_prints_what_is_published() {
    let printed = outrigger(Path::new("."), &["schema"]);
    assert!(printed.status.success());
    assert!(text(&printed.stdout) == include_str!("../policies.schema.json"), "another schema");
}
