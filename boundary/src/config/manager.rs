//! Where package managers get packages from, as they themselves say.
//!
//! *Standing*: the presets `npm`, `pip`, `cargo`, `go` and `apt` ask here, through [`System`], before
//! anything of the command runs. *Never*: names a host by itself; asks in the folder that the command
//! works in, whose files may be somebody else's; asks once the command may have changed the answer.

use std::path::PathBuf;

use serde_json::Value;

use super::system::Question;
use super::{Invoker, System};
use crate::rules::{Host, Intent, Rule, Scheme, readable_below};

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// The debian package manager.
    Apt,
    /// Rust's.
    Cargo,
    /// Go's.
    Go,
    /// Node's.
    Npm,
    /// Python's.
    Pip,
}

/// Why a package manager's rules are not to be had: one line for the user.
type Missing = String;

impl Manager {
    /// What its preset is for, in a line.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Apt => "Packages for apt, read from where its sources files say",
            Self::Cargo => "Crates for cargo, read from the registries it is configured for",
            Self::Go => "Modules for go, read from the proxy and the sums it is configured for",
            Self::Npm => "Packages for npm, read from the registries it is configured for",
            Self::Pip => "Packages for pip, read from the indexes it is configured for",
        }
    }

    /// What is asked.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Apt => "asked at the start: apt-get indextargets",
            Self::Cargo => "asked at the start: cargo config get, and what its registries told it",
            Self::Go => "asked at the start: go env GOPROXY GOSUMDB",
            Self::Npm => "asked at the start: npm config list",
            Self::Pip => "asked at the start: pip config list, and pip's own default",
        }
    }

    /// The rules by which it can read packages, as it is configured here.
    pub(super) fn rules(self, system: &dyn System, user: &Invoker) -> Result<Vec<Rule>, Missing> {
        let asks = Asks { system, user };
        let places = match self {
            Self::Apt => asks.apt(),
            Self::Cargo => asks.cargo(),
            Self::Go => asks.go(),
            Self::Npm => asks.npm(),
            Self::Pip => asks.pip(),
        }?;
        let mut rules: Vec<Rule> = Vec::new();
        for rule in places.iter().filter_map(|place| readable(place)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        if rules.is_empty() { Err(self.without_place()) } else { Ok(rules) }
    }

    /// What is said of one that gets packages from nowhere that is on the network.
    fn without_place(self) -> Missing {
        let name = match self {
            Self::Apt => "apt",
            Self::Cargo => "cargo",
            Self::Go => "go",
            Self::Npm => "npm",
            Self::Pip => "pip",
        };
        format!("{name} is not configured for any place with an http or https URL")
    }
}

/// Whom to ask, and for whom.
struct Asks<'a> {
    system: &'a dyn System,
    user: &'a Invoker,
}

impl Asks<'_> {
    /// What a program says.
    fn ask(&self, program: &str, arguments: &[&str]) -> Result<String, Missing> {
        self.ask_with(program, arguments, &[])
    }

    /// What a program says that finds some variables besides.
    fn ask_with(
        &self,
        program: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<String, Missing> {
        let question = Question { program, arguments, variables, user: self.user };
        self.system.ask(&question).map_err(|error| error.to_string())
    }

    /// Every source of packages, but not those on disks.
    fn apt(&self) -> Result<Vec<String>, Missing> {
        let said = self.ask("apt-get", &["indextargets", "--format", "$(REPO_URI)"])?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// The module proxies, and the server of sums. What go gets from a repository itself (`direct`)
    /// is nobody's mirror, and left out.
    fn go(&self) -> Result<Vec<String>, Missing> {
        // By the installed one: `go env -w` may have named another that lies in the user's home.
        let own = [("GOTOOLCHAIN", "local")];
        let said = self.ask_with("go", &["env", "GOPROXY", "GOSUMDB"], &own)?;
        let mut lines = said.lines();
        let (proxies, sums) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut places: Vec<String> =
            proxies.split([',', '|']).map(|proxy| proxy.trim().to_owned()).collect();
        // `NAME[+KEY] [URL]`; without a URL it is asked at its name.
        let mut words = sums.split_ascii_whitespace();
        let name = words.next().and_then(|name| name.split('+').next());
        match (words.next(), name) {
            (Some(url), _) => places.push(url.to_owned()),
            (None, Some(name)) if name != "off" => places.push(format!("https://{name}")),
            (None, _) => {}
        }
        Ok(places)
    }

    /// The registry, and those of single scopes.
    fn npm(&self) -> Result<Vec<String>, Missing> {
        let said = self.ask("npm", &["config", "list", "--json"])?;
        let all: Value = serde_json::from_str(&said)
            .map_err(|error| format!("what npm said of its configuration: {error}"))?;
        let entries = all.as_object().into_iter().flatten();
        let is_registry = |key: &str| key == "registry" || key.ends_with(":registry");
        let registries = entries.filter(|(key, _)| is_registry(key));
        Ok(registries.filter_map(|(_, url)| Some(url.as_str()?.to_owned())).collect())
    }

    /// The indexes that are configured, else the one that pip itself names; with that one goes the
    /// host that it has its files on.
    fn pip(&self) -> Result<Vec<String>, Missing> {
        let said = self.ask("pip", &["config", "list"])?;
        let indexes = |wanted: &str| -> Vec<String> {
            let lines = said.lines().filter_map(|line| line.split_once('='));
            let named = lines.filter(|(key, _)| key.rsplit('.').next() == Some(wanted));
            named.flat_map(|(_, list)| elements(list)).collect()
        };
        let mut places = indexes("index-url");
        let own = self.pips_own();
        let own: Vec<&str> = own.split_ascii_whitespace().collect();
        match own.as_slice() {
            [index, files] => {
                let is_own = |place: &String| host_of(place) == host_of(index);
                if places.is_empty() || places.iter().any(is_own) {
                    places.push((*index).to_owned());
                    places.push(format!("https://{files}/x"));
                }
            }
            _ if places.is_empty() => return Err(NO_OWN.to_owned()),
            _ => {}
        }
        places.extend(indexes("extra-index-url"));
        // What an index leads to lies beside it: `/simple` and `/packages`.
        Ok(places.iter().map(|place| above(place)).collect())
    }

    /// What pip takes by itself, if it tells: python is isolated (`-I`), so that no package of the folder
    /// it runs in, of the user or of a variable answers.
    fn pips_own(&self) -> String {
        self.ask("python3", &["-I", "-c", PIPS_OWN]).unwrap_or_default()
    }

    /// The registries that are configured in the public one's place or beside it, and where each
    /// keeps its crates, which only the registry itself tells.
    fn cargo(&self) -> Result<Vec<String>, Missing> {
        let asked = ["-Zunstable-options", "config", "get", "--format", "json-value"];
        // The question is one of those that are not yet asked without.
        let said = self.ask_with("cargo", &asked, &[("RUSTC_BOOTSTRAP", "1")])?;
        let said: Value = serde_json::from_str(said.trim())
            .map_err(|error| format!("what cargo said of its configuration: {error}"))?;
        let known = self.registries_of_cargo();
        let configured = configured(&said)?;
        let is_replaced = said.pointer("/source/crates-io/replace-with").is_some();
        let mut places = Vec::new();
        for index in &configured {
            let kept = known.iter().find(|known| host_of(index) == Some(known.host.clone()));
            let kept = kept.ok_or_else(|| unused(index))?;
            places.extend([index.clone(), kept.crates.clone()]);
        }
        if !is_replaced {
            let is_configured = |known: &&Known| {
                configured.iter().any(|index| host_of(index).as_ref() == Some(&known.host))
            };
            let others: Vec<&Known> = known.iter().filter(|known| !is_configured(known)).collect();
            for known in only(&others)? {
                places.extend([format!("https://{}/", known.host), known.crates.clone()]);
            }
        }
        Ok(places)
    }

    /// The registries that cargo has used here, as it remembers them.
    fn registries_of_cargo(&self) -> Vec<Known> {
        let home = self.system.variable("CARGO_HOME").map(PathBuf::from);
        let home = home.filter(|home| home.is_absolute());
        let home = home.unwrap_or_else(|| self.user.home.join(".cargo"));
        let folders = self.system.list(&home.join("registry/index"));
        let known = folders.iter().filter_map(|folder| {
            let (host, _hash) = folder.file_name()?.to_str()?.rsplit_once('-')?;
            let told = self.system.read(&folder.join("config.json")).ok()?;
            let told: Value = serde_json::from_slice(&told).ok()?;
            let crates = told.get("dl")?.as_str()?.split('{').next()?.to_owned();
            Some(Known { host: Host::parse(host).ok()?, crates })
        });
        known.collect()
    }
}

/// What pip itself takes where nothing is configured: its index, and the host of its files.
const PIPS_OWN: &str =
    "from pip._internal.models.index import PyPI; print(PyPI.simple_url, PyPI.file_storage_domain)";
/// What is said where it does not tell.
const NO_OWN: &str = "pip has no index-url in its configuration, and python3 does not know pip's own: \
                      pip config set global.index-url URL";

/// A registry that cargo has used.
struct Known {
    /// The host of its index.
    host: Host,
    /// Where its crates are, up to what stands for one.
    crates: String,
}

/// Those of the one registry that cargo takes by itself. Which of several that is, it does not say:
/// another may be one that somebody else's project named.
fn only<'a>(used: &'a [&'a Known]) -> Result<&'a [&'a Known], Missing> {
    let first = used.first().ok_or_else(|| unused("its registry"))?;
    if used.iter().all(|known| known.host == first.host) {
        return Ok(used);
    }
    let mut hosts: Vec<String> = used.iter().map(|known| known.host.to_string()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    Err(format!(
        "cargo has used {} here, and does not say which is its own: name the others below \
         [registries] in its configuration if they are meant too, else remove their folders in \
         registry/index of cargo's home",
        hosts.join(", ")
    ))
}

/// What is said of a registry that cargo has not used here.
fn unused(index: &str) -> Missing {
    format!(
        "cargo has not used {index} here yet, so that nobody knows where its crates are: run cargo \
         fetch once without boundary"
    )
}

/// The indexes that stand in cargo's configuration: what is in the public one's place at the end, and
/// the registries beside it.
fn configured(said: &Value) -> Result<Vec<String>, Missing> {
    let text = |path: &str| said.pointer(path).and_then(Value::as_str);
    let mut all = Vec::new();
    let mut name = "crates-io";
    let mut seen = Vec::new();
    while let Some(next) = text(&format!("/source/{name}/replace-with")) {
        if seen.contains(&next) {
            break;
        }
        seen.push(next);
        name = next;
    }
    all.extend(text(&format!("/source/{name}/registry")).map(str::to_owned));
    // A source may be a registry by its name.
    let registries = said.get("registries").and_then(Value::as_object).into_iter().flatten();
    let indexes = registries.filter_map(|(_, registry)| registry.get("index")?.as_str());
    all.extend(indexes.map(str::to_owned));
    all.iter()
        .map(|index| {
            index.strip_prefix("sparse+").map(str::to_owned).ok_or_else(|| {
                "cargo's registry has its index in a git repository, which cannot be read by GET \
                 alone: permit it by rules of your own"
                    .to_owned()
            })
        })
        .collect()
}

/// The elements of a list as pip prints it: in quotes, with `\n` and blanks between them.
fn elements(list: &str) -> Vec<String> {
    let list = list.trim().trim_matches(['\'', '"']).replace("\\n", " ");
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

/// The host of a URL.
fn host_of(url: &str) -> Option<Host> {
    read(url).map(|intent| intent.host().clone())
}

/// A URL without the last part of its path.
fn above(url: &str) -> String {
    let url = url.trim_end_matches('/');
    url.rsplit_once('/').map_or_else(|| url.to_owned(), |(above, _)| above.to_owned())
}

/// The rule by which everything below a URL may be read; none for what is not on the network.
fn readable(url: &str) -> Option<Rule> {
    readable_below(&read(url)?)
}

/// A request for a URL. Who asks there, with which password, is not the policy's business.
fn read(url: &str) -> Option<Intent> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (authority, path) = match rest.find('/') {
        Some(end) => rest.split_at_checked(end)?,
        None => (rest, "/"),
    };
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = Host::parse_authority(authority).ok()?;
    Intent::http(scheme, "GET", host, port.or(scheme.default_port())?, path).ok()
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
