//! Checks what neither rustfmt nor clippy knows: the house's own rules. `.ci/run` compiles it.
//!
//! Looks at the text only. That is enough, since the rules are about how the text is laid out.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The longest a source file may be, its tests not counted.
const MOST_LINES: usize = 500;
/// Crates that are programs: they may box a future or unwrap.
const PROGRAMS: [&str; 3] = ["bench", "examples", "testing"];

fn main() -> ExitCode {
    let faults = match faults_of_workspace() {
        Ok(faults) => faults,
        Err(error) => {
            eprintln!("cannot read the workspace: {error}");
            return ExitCode::FAILURE;
        }
    };
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn faults_of_workspace() -> io::Result<Vec<String>> {
    let root = fs::read_to_string("Cargo.toml")?;
    let mut faults = faults_of_dependencies(&root);
    for member in members(&root) {
        let folder = Path::new(&member);
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        faults.extend(faults_of_manifest(&member, &manifest));
        for file in sources(folder)? {
            let text = fs::read_to_string(&file)?;
            let is_program = PROGRAMS.contains(&member.as_str());
            let told = faults_of_source(&file, &text, is_program);
            faults.extend(told.into_iter().map(|fault| format!("{}: {fault}", file.display())));
        }
    }
    Ok(faults)
}

fn members(root: &str) -> Vec<String> {
    let list = root.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let quoted = list.map_or("", |(list, _)| list).split(',');
    quoted
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|m| !m.is_empty())
        .collect()
}

/// What holds tests only, by the house's names.
const TESTS: [&str; 4] = ["benches", "loom.rs", "tests", "tests.rs"];

/// All Rust files of a member but its tests and benches.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if TESTS.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Every member takes the house's lints, and the arrows between the crates run one way.
fn faults_of_manifest(member: &str, manifest: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !manifest.contains("[lints]\nworkspace = true") {
        faults.push(format!("{member}/Cargo.toml: takes no workspace lints"));
    }
    let may_know = |name: &str| match member {
        "core" => false,
        "bench" | "examples" | "governance" => true,
        "observability" => name != "outrigger",
        _ => ["outrigger-core", "outrigger-testing"].contains(&name),
    };
    let names = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    for name in names.filter(|name| name.starts_with("outrigger")) {
        if !may_know(name) {
            faults.push(format!("{member}/Cargo.toml: must know nothing of `{name}`"));
        }
    }
    faults
}

/// Every dependency says why it is there. Neighbours of one family may share a reason.
fn faults_of_dependencies(root: &str) -> Vec<String> {
    let table = root.split_once("[workspace.dependencies]").map_or("", |(_, rest)| rest);
    let table = table.split_once("\n[").map_or(table, |(table, _)| table);
    let mut faults = Vec::new();
    let mut above = "";
    for line in table.lines() {
        let name = |line: &str| line.split([' ', '=']).next().unwrap_or_default().to_owned();
        let family =
            |line: &str| name(line).split(['-', '_']).next().unwrap_or_default().to_owned();
        let is_entry = line.contains(" = ") && !line.starts_with('#');
        let is_ours = line.contains("path = ");
        let has_reason = above.starts_with("# ") && !above.starts_with("# --");
        if is_entry && !is_ours && !has_reason && family(line) != family(above) {
            faults.push(format!("Cargo.toml: `{}` has no reason above it", name(line)));
        }
        above = line;
    }
    faults
}

fn faults_of_source(file: &Path, text: &str, is_program: bool) -> Vec<String> {
    let code = without_tests(text);
    let mut faults = Vec::new();
    let lines = code.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{lines} lines without tests; at most {MOST_LINES} are good to read"));
    }
    if file.ends_with("src/lib.rs") {
        faults.extend(faults_of_front_page(code));
    }
    if !is_program {
        faults.extend(faults_of_layer_code(code));
    }
    faults
}

fn without_tests(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]\nmod tests").or_else(|| text.find("#[cfg(all(test, "));
    &text[..tests.unwrap_or(text.len())]
}

/// `lib.rs` is a front page: docs, `mod` and `pub use`.
fn faults_of_front_page(code: &str) -> Vec<String> {
    const ITEMS: [&str; 10] = [
        "const",
        "enum",
        "fn",
        "impl",
        "macro_rules!",
        "static",
        "struct",
        "trait",
        "type",
        "union",
    ];
    let is_item = |line: &&str| {
        let mut words = line.split_whitespace();
        let words = words.by_ref().skip_while(|word| ["pub", "pub(crate)", "async"].contains(word));
        let first = words.map(|word| word.split('<').next().unwrap_or(word)).next();
        first.is_some_and(|word| ITEMS.contains(&word))
    };
    let mut faults: Vec<String> = code
        .lines()
        .filter(is_item)
        .map(|line| format!("code on the front page: {line}"))
        .collect();
    if !code.contains("#![forbid(unsafe_code)]") {
        faults.push("does not forbid unsafe code".to_owned());
    }
    faults
}

/// A layer neither boxes a future nor unwraps, unless an attribute just above gives a reason.
fn faults_of_layer_code(code: &str) -> Vec<String> {
    let lines: Vec<&str> = code.lines().collect();
    let mut faults = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let is_comment = line.trim_start().starts_with("//");
        // The compiler itself unwraps it, and says so.
        let is_constant = line.trim_start_matches("pub ").starts_with("const ");
        let word = ["Box::pin(", ".unwrap()"].into_iter().find(|word| line.contains(word));
        let has_reason =
            lines[index.saturating_sub(4)..index].iter().any(|l| {
                // Boxing breaks no lint that an `expect` could give its reason for.
                l.contains("reason = ") || l.trim_start().starts_with("// Boxed")
            });
        if let Some(word) = word
            && !is_comment
            && !is_constant
            && !has_reason
        {
            faults.push(format!("line {}: `{word}` without a reason", index + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_told() {
        let root = "[workspace.dependencies]\nours = { path = \"ours\" }\n\n# Why.\nhyper = \"1\"\n\
                    hyper-util = \"1\"\nserde = \"1\"\n\n# ---- tests ----\n\naxum = \"1\"\n[x]\nz = 1";
        let told = faults_of_dependencies(root);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("serde") && told[1].contains("axum"), "{told:?}");
    }

    #[test]
    fn the_members_are_found() {
        assert_eq!(members("members = [\"a\", \"b\",\n]\n"), ["a", "b"]);
    }

    #[test]
    fn code_on_a_front_page_is_told() {
        let page = "//! fn in docs\n#![forbid(unsafe_code)]\nmod a;\npub use a::A;\n";
        assert!(faults_of_front_page(page).is_empty());
        for item in
            ["pub fn f() {}", "impl<T> A for T {}", "pub(crate) const A: u8 = 1;", "fn f() {}"]
        {
            assert_eq!(faults_of_front_page(&format!("{page}{item}\n")).len(), 1, "{item}");
        }
        assert_eq!(faults_of_front_page("mod a;").len(), 1);
    }

    #[test]
    fn boxes_and_unwraps_are_told_outside_tests_only() {
        let file = Path::new("src/a.rs");
        let told = |text: &str| faults_of_source(file, text, false).len();
        assert_eq!(told("let a = b.unwrap();"), 1);
        assert_eq!(told("/// let a = b.unwrap();"), 0);
        assert_eq!(told("const A: u8 = b().unwrap();"), 0);
        assert_eq!(told("let a = Box::pin(b);"), 1);
        assert_eq!(told("#[expect(x, reason = \"y\")]\nlet a = Box::pin(b);"), 0);
        assert_eq!(told("#[cfg(test)]\nmod tests {\n    a.unwrap();\n}"), 0);
        assert_eq!(faults_of_source(file, "let a = b.unwrap();", true).len(), 0);
    }

    #[test]
    fn a_long_file_is_told_but_not_for_its_tests() {
        let long = "// x\n".repeat(MOST_LINES + 1);
        let file = Path::new("src/a.rs");
        assert_eq!(faults_of_source(file, &long, false).len(), 1);
        assert_eq!(
            faults_of_source(file, &format!("#[cfg(test)]\nmod tests {{\n{long}}}"), false).len(),
            0
        );
    }

    #[test]
    fn a_member_without_the_workspace_lints_is_told() {
        assert_eq!(faults_of_manifest("a", "[package]\n").len(), 1);
        assert_eq!(faults_of_manifest("a", "[lints]\nworkspace = true\n").len(), 0);
    }

    #[test]
    fn an_arrow_that_runs_the_wrong_way_is_told() {
        let told = |member: &str, dependency: &str| {
            let manifest = format!("{dependency}.workspace = true\n[lints]\nworkspace = true\n");
            faults_of_manifest(member, &manifest).len()
        };
        assert_eq!(told("retry", "outrigger-core"), 0);
        assert_eq!(told("retry", "outrigger-circuitbreak"), 1);
        assert_eq!(told("core", "outrigger-testing"), 1);
        assert_eq!(told("observability", "outrigger-retry"), 0);
        assert_eq!(told("observability", "outrigger"), 1);
        assert_eq!(told("governance", "outrigger-retry"), 0);
    }
}
