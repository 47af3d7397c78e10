//! Package managers that say where they get packages from, each with a stand-in configuration.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Account, Unasked};

/// A machine on which some programs are configured.
#[derive(Default)]
struct Machine {
    said: HashMap<String, String>,
    files: HashMap<PathBuf, String>,
}

impl Machine {
    /// One whose program says something, told in these words.
    fn says(mut self, asked: &str, said: &str) -> Self {
        self.said.insert(asked.to_owned(), said.to_owned());
        self
    }

    /// One with a file.
    fn has(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.to_owned());
        self
    }

    /// The rules of a manager.
    fn rules(&self, manager: Manager) -> Result<Vec<String>, String> {
        let user = Invoker {
            uid: 1,
            gid: 1,
            name: None,
            home: PathBuf::from("/home/ann"),
            shell: None,
            sudo: false,
        };
        let rules = manager.rules(self, &user)?;
        Ok(rules.iter().map(ToString::to_string).collect())
    }
}

impl System for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn account(&self, _uid: u32) -> Option<Account> {
        None
    }

    fn list(&self, path: &Path) -> Vec<PathBuf> {
        let parents = self.files.keys().filter_map(|file| file.parent());
        parents.filter(|parent| parent.parent() == Some(path)).map(Path::to_owned).collect()
    }

    fn ask(&self, question: &Question<'_>) -> Result<String, Unasked> {
        let asked = format!("{} {}", question.program, question.arguments.join(" "));
        let said = self.said.iter().find(|(begin, _)| asked.starts_with(begin.as_str()));
        let program = question.program.to_owned();
        said.map(|(_, said)| said.clone()).ok_or(Unasked::Missing { program })
    }
}

/// One registry's host name, for each rule that a list may be read by.
fn reads(places: &[&str]) -> Vec<String> {
    places.iter().map(|place| format!("method=GET,HEAD {place}")).collect()
}

#[test]
fn npm_names_its_registry_and_those_of_scopes() {
    let machine = Machine::default().says(
        "npm config list",
        r#"{"registry": "https://ann:secret@mirror.test:8443/npm/", "fetch-retries": 2,
            "@corp:registry": "http://corp.test", "replace-registry-host": "npm"}"#,
    );
    let expected =
        reads(&["host=corp.test port=80", "host=mirror.test port=8443 path=/npm,/npm/*"]);
    assert_eq!(machine.rules(Manager::Npm), Ok(expected));
}

#[test]
fn pip_names_its_indexes_and_what_lies_beside_them() {
    let machine = Machine::default()
        .says(
            "pip config",
            "global.index-url='https://mirror.test/pypi/simple'\nglobal.timeout='5'\n\
             install.extra-index-url='\\nhttps://one.test/simple/\\nhttps://two.test/x/simple'\n",
        )
        .says("python3 -I -c", "https://index.test/simple files.test\n");
    let expected = reads(&[
        "host=mirror.test port=443 path=/pypi,/pypi/*",
        "host=one.test port=443",
        "host=two.test port=443 path=/x,/x/*",
    ]);
    assert_eq!(machine.rules(Manager::Pip), Ok(expected));
}

#[test]
fn pip_that_is_not_configured_takes_its_own_index_and_the_host_of_its_files() {
    let machine = Machine::default().says("pip config", "global.timeout='5'\n");
    assert!(machine.rules(Manager::Pip).unwrap_err().contains("index-url"));
    let machine = machine.says("python3 -I -c", "https://index.test/simple files.test\n");
    let expected = reads(&["host=index.test port=443", "host=files.test port=443"]);
    assert_eq!(machine.rules(Manager::Pip), Ok(expected));
}

#[test]
fn cargo_takes_the_mirror_in_place_of_the_registry_and_those_beside_it() {
    let asked = "cargo -Zunstable-options config get";
    let machine = Machine::default()
        .says(
            asked,
            r#"{"source": {"crates-io": {"replace-with": "corp"},
                 "corp": {"registry": "sparse+https://mirror.test/index/"}},
                "registries": {"own": {"index": "sparse+https://own.test/"}}}"#,
        )
        .has("/home/ann/.cargo/registry/index/public.test-12/config.json", r#"{"dl": "https://x"}"#)
        .has(
            "/home/ann/.cargo/registry/index/mirror.test-34/config.json",
            r#"{"dl": "https://mirror.test/dl/{crate}/{version}"}"#,
        );
    let missing = machine.rules(Manager::Cargo).unwrap_err();
    assert!(missing.contains("has not used https://own.test/"), "{missing}");
    let machine = machine.has(
        "/home/ann/.cargo/registry/index/own.test-56/config.json",
        r#"{"dl": "https://crates.own.test"}"#,
    );
    let expected = reads(&[
        "host=mirror.test port=443 path=/index,/index/*",
        "host=mirror.test port=443 path=/dl,/dl/*",
        "host=own.test port=443",
        "host=crates.own.test port=443",
    ]);
    assert_eq!(machine.rules(Manager::Cargo), Ok(expected));
}

#[test]
fn cargo_that_is_not_configured_takes_the_registry_that_it_has_used() {
    let machine = Machine::default().says("cargo", "{}\n");
    assert!(machine.rules(Manager::Cargo).unwrap_err().contains("run cargo fetch once"));
    let machine = machine.has(
        "/home/ann/.cargo/registry/index/index.test-12/config.json",
        r#"{"dl": "https://crates.test/api", "api": "https://index.test"}"#,
    );
    let expected =
        reads(&["host=index.test port=443", "host=crates.test port=443 path=/api,/api/*"]);
    assert_eq!(machine.rules(Manager::Cargo), Ok(expected));
}

#[test]
fn which_of_the_registries_that_cargo_has_used_is_its_own_is_not_guessed() {
    let index = "/home/ann/.cargo/registry/index";
    let machine = Machine::default()
        .says("cargo", "{}\n")
        .has(&format!("{index}/index.test-12/config.json"), r#"{"dl": "https://crates.test"}"#)
        .has(&format!("{index}/other.test-34/config.json"), r#"{"dl": "https://files.test"}"#);
    let missing = machine.rules(Manager::Cargo).unwrap_err();
    assert!(missing.contains("has used index.test, other.test here"), "{missing}");
    // Named, it is no question any more.
    let machine = machine
        .says("cargo", r#"{"registries": {"own": {"index": "sparse+https://other.test/"}}}"#);
    let expected = reads(&[
        "host=other.test port=443",
        "host=files.test port=443",
        "host=index.test port=443",
        "host=crates.test port=443",
    ]);
    assert_eq!(machine.rules(Manager::Cargo), Ok(expected));
}

#[test]
fn a_registry_that_cargo_keeps_in_two_folders_is_one() {
    let index = "/home/ann/.cargo/registry/index";
    let machine = Machine::default()
        .says("cargo", "{}\n")
        .has(&format!("{index}/index.test-12/config.json"), r#"{"dl": "https://crates.test"}"#)
        .has(&format!("{index}/index.test-34/config.json"), r#"{"dl": "https://crates.test"}"#);
    let expected = reads(&["host=index.test port=443", "host=crates.test port=443"]);
    assert_eq!(machine.rules(Manager::Cargo), Ok(expected));
}

#[test]
fn an_index_in_a_git_repository_is_not_for_this_preset() {
    let said = r#"{"source": {"crates-io": {"replace-with": "corp"},
                    "corp": {"registry": "https://git.test/index"}}}"#;
    let machine = Machine::default().says("cargo", said);
    assert!(machine.rules(Manager::Cargo).unwrap_err().contains("git repository"));
}

#[test]
fn go_names_its_proxies_and_the_server_of_sums() {
    let go = |said: &str| Machine::default().says("go env", said).rules(Manager::Go);
    let expected = reads(&[
        "host=proxy.test port=443 path=/go,/go/*",
        "host=10.0.0.7 port=80",
        "host=sums.test port=443",
    ]);
    let said = "https://proxy.test/go,http://10.0.0.7|direct\nsums.test+033de0ae+Ac4zctda0e5eza+\n";
    assert_eq!(go(said), Ok(expected));
    let said = "https://proxy.test\nsums.test https://mirror.test/sums\n";
    let expected =
        reads(&["host=proxy.test port=443", "host=mirror.test port=443 path=/sums,/sums/*"]);
    assert_eq!(go(said), Ok(expected));
    assert!(go("direct\noff\n").unwrap_err().contains("not configured for any place"));
}

#[test]
fn apt_names_what_its_sources_files_name_but_no_disk() {
    let said = "http://mirror.test/debian/\ncdrom:[disk]/\nhttp://mirror.test/debian/\n\
                https://corp.test/apt/stable/\n";
    let machine = Machine::default().says("apt-get indextargets", said);
    let expected = reads(&[
        "host=mirror.test port=80 path=/debian,/debian/*",
        "host=corp.test port=443 path=/apt/stable,/apt/stable/*",
    ]);
    assert_eq!(machine.rules(Manager::Apt), Ok(expected));
}

#[test]
fn a_client_that_is_not_there_is_said_to_be_missing() {
    let all = [Manager::Apt, Manager::Cargo, Manager::Go, Manager::Npm, Manager::Pip];
    for manager in all {
        let missing = Machine::default().rules(manager).unwrap_err();
        assert!(missing.contains("not installed here"), "{missing}");
    }
}

/// Asks the package managers of this machine for a user whose home holds what a project left there.
#[test]
fn nothing_that_lies_in_the_home_runs_when_a_preset_asks() {
    let home = std::env::temp_dir().join(format!("boundary-home-{}", uuid::Uuid::new_v4()));
    let ran = home.join("ran");
    let planted = format!("open({:?}, 'a').write(__name__)\n", ran.display().to_string());
    for module in ["pip/__init__.py", "json/__init__.py", "platform.py"] {
        let file = home.join(module);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, &planted).unwrap();
    }
    let user = Invoker { uid: 1, gid: 1, name: None, home: home.clone(), shell: None, sudo: false };
    let asked = Asks { system: &crate::config::Host, user: &user };
    let folder = asked.ask("sh", &["-c", "pwd"]);
    // Where python3 is not installed this shows nothing more.
    let (own, all) = (asked.pips_own(), asked.pip());
    let ran = std::fs::read_to_string(&ran);
    std::fs::remove_dir_all(&home).unwrap();
    assert_eq!(folder.as_deref(), Ok("/\n"));
    assert!(ran.is_err(), "{ran:?}, and the answers were {own:?} {all:?}");
}
