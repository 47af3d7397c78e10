//! What the program is made from, in the words of `CycloneDX` 1.5.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Release;
use crate::arch::Arch;

/// Writes the list for an architecture.
pub(super) fn write(release: &Release<'_>, arch: Arch) -> Result<()> {
    let metadata = release.workspace.metadata(&["--locked", "--filter-platform", arch.triple()])?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("cargo metadata names no packages")?;
    let used = used(&metadata)?;
    let text = |package: &Value, field| Some(package.get(field)?.as_str()?.to_owned());
    let of_used = |package: &Value| text(package, "id").filter(|id| used.contains(id));
    let mut components: Vec<(String, Value)> = packages
        .iter()
        .filter_map(|package| {
            let id = of_used(package)?;
            let (name, version) = (text(package, "name")?, text(package, "version")?);
            let licence = text(package, "license").unwrap_or_default();
            let purl = format!("pkg:cargo/{name}@{version}");
            let component = json!({
                "type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version,
                "licenses": [{ "expression": licence.replace('/', " OR ") }],
            });
            Some((id, component))
        })
        .collect();
    components.sort_by(|one, other| one.0.cmp(&other.0));
    let components: Vec<Value> = components.into_iter().map(|(_, component)| component).collect();
    let list = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "boundary", "version": release.version,
        } },
        "components": components,
    });
    let text = serde_json::to_vec_pretty(&list).context("the list")?;
    release.put(&format!("boundary-linux-{}.cdx.json", arch.debian()), &text)
}

/// Every package that boundary is linked from or built with, itself left out; tests are not part of it.
fn used(metadata: &Value) -> Result<BTreeSet<String>> {
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    let nodes = nodes.context("cargo metadata resolves nothing")?;
    let id = |node: &Value| node.get("id").and_then(Value::as_str).map(str::to_owned);
    let is_boundary = |id: &String| id.contains("/boundary#");
    let start = nodes.iter().filter_map(id).find(is_boundary).context("boundary is not there")?;
    let (mut found, mut next) = (BTreeSet::new(), vec![start.clone()]);
    while let Some(package) = next.pop() {
        let node = nodes.iter().find(|node| id(node).as_ref() == Some(&package));
        let dependencies = node.and_then(|node| node.get("deps")).and_then(Value::as_array);
        let named = dependencies.into_iter().flatten().filter(|it| is_for_users(it));
        let named = named.filter_map(|it| it.get("pkg").and_then(Value::as_str));
        next.extend(named.filter(|it| !found.contains(*it)).map(str::to_owned));
        found.insert(package);
    }
    found.remove(&start);
    Ok(found)
}

/// Whether a dependency is more than one of tests.
fn is_for_users(dependency: &Value) -> bool {
    let kinds = dependency.get("dep_kinds").and_then(Value::as_array);
    kinds.into_iter().flatten().any(|kind| kind.get("kind").is_none_or(|it| it != "dev"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::used;

    #[test]
    fn what_only_tests_need_is_not_part_of_the_program() {
        let dependency = |package: &str, kind: serde_json::Value| json!({ "pkg": package, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({ "resolve": { "nodes": [
            { "id": "path+file:///x/boundary#0.1.0", "deps": [
                dependency("a", json!(null)), dependency("b", json!("build")),
                dependency("t", json!("dev")),
            ] },
            { "id": "a", "deps": [dependency("c", json!(null))] },
            { "id": "b", "deps": [] }, { "id": "c", "deps": [] }, { "id": "t", "deps": [] },
        ] } });
        let used: Vec<String> = used(&metadata).unwrap().into_iter().collect();
        assert_eq!(used, ["a", "b", "c"]);
    }
}
