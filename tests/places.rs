//! Where agents run: the files under `deploy/` that put boundary there. Each has only fields that its
//! engine knows, only options and variables that boundary reads, and a policy without a fault; what can
//! run here is run as its file says, in what its engine puts around it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boundary::cli::{Request, settings};
use serde_json::Value;

use crate::world::container::{Container, Kind};
use crate::world::needs::needs;
use crate::world::{GUEST, Output, Run, World, binary};

/// The checkout.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A file's text.
fn text(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).expect("it is in the repository")
}

/// The documents in a file of YAML, or JSON, which is some.
fn documents(path: &str) -> Vec<Value> {
    let text = text(path);
    let all = serde_yaml::Deserializer::from_str(&text);
    all.map(|one| serde::Deserialize::deserialize(one).expect("it is YAML")).collect()
}

/// The document of a kind.
fn document(path: &str, kind: &str) -> Value {
    let found = documents(path).into_iter().find(|it| it["kind"] == kind);
    found.expect("it is in the file")
}

/// The words of a list.
fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|word| word.as_str().expect("text").to_owned()).collect()
}

/// A way to start boundary that a file names: the jail that `auto` has there, what the engine is told,
/// and whether the program is root.
struct Place {
    file: &'static str,
    jail: &'static str,
    kind: Kind,
    is_root: bool,
}

/// Every one that `runc` can stand in for.
const PLACES: &[Place] = &[
    Place { file: "docker/Dockerfile", jail: "landjail", kind: Kind::Default, is_root: false },
    Place { file: "docker/compose.yaml", jail: "landjail", kind: Kind::Default, is_root: false },
    Place {
        file: "kubernetes/restricted.yaml",
        jail: "landjail",
        kind: Kind::Restricted,
        is_root: false,
    },
    Place { file: "kubernetes/ebpf.yaml", jail: "ebpf", kind: Kind::Privileged, is_root: true },
    Place {
        file: "ecs/task-definition.json",
        jail: "landjail",
        kind: Kind::Restricted,
        is_root: false,
    },
];

/// The line that a file starts, boundary first, and the variables that it sets.
fn line(file: &str) -> (Vec<String>, Vec<(String, String)>) {
    let path = format!("deploy/{file}");
    let joined = |first: &Value, second: &Value| [words(first), words(second)].concat();
    match file {
        "docker/Dockerfile" => (entry_point(), Vec::new()),
        "docker/compose.yaml" => {
            let variables = &documents(&path)[0]["services"]["agent"]["environment"];
            let variables = variables.as_object().expect("names and values").iter();
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let variables = variables.map(|(name, value)| (name.clone(), text(value))).collect();
            (entry_point(), variables)
        }
        "ecs/task-definition.json" => {
            let container = &documents(&path)[0]["containerDefinitions"][0];
            let variables = container["environment"].as_array().expect("a list").iter();
            let text = |it: &Value, key: &str| it[key].as_str().expect("text").to_owned();
            let variables = variables.map(|it| (text(it, "name"), text(it, "value"))).collect();
            (joined(&container["entryPoint"], &container["command"]), variables)
        }
        _ => {
            let container = &document(&path, "Pod")["spec"]["containers"][0];
            (joined(&container["command"], &container["args"]), Vec::new())
        }
    }
}

/// What the image of the Dockerfile starts, with a command as somebody gives it one.
fn entry_point() -> Vec<String> {
    let text = text("deploy/docker/Dockerfile");
    let entry = text.lines().find_map(|line| line.strip_prefix("ENTRYPOINT "));
    let entry = serde_json::from_str(entry.expect("it has one")).expect("a list");
    let command = ["bash", "-c", "curl -sS https://example.com/"].map(str::to_owned);
    [words(&entry), command.to_vec()].concat()
}

#[test]
fn the_image_is_of_the_architecture_that_it_is_built_for() {
    let text = text("deploy/docker/Dockerfile");
    // A default is stronger than what the builder says of itself.
    assert!(text.lines().any(|line| line == "ARG TARGETARCH"), "{text}");
    assert!(!text.contains("ARG TARGETARCH="), "{text}");
}

/// The policy that the files of a place have: beside it, or in the `ConfigMap`.
fn policy(file: &str) -> String {
    if file.starts_with("kubernetes") {
        let map = document("deploy/kubernetes/restricted.yaml", "ConfigMap");
        return map["data"]["policy.yaml"].as_str().expect("text").to_owned();
    }
    text("deploy/docker/policy.yaml")
}

/// Runs what a file says, in what its engine makes, with the stage's name in place of the example's.
fn run(world: &World, place: &Place) -> Output {
    let here = |text: &str| text.replace("example.com", "allowed.test");
    let policy = world.file("policy.yaml", &here(&policy(place.file)));
    let policy = policy.to_str().expect("our own name");
    let here = |text: &str| here(text).replace("/etc/boundary/policy.yaml", policy);
    let (line, variables) = line(place.file);
    let line: Vec<String> = line.iter().map(|word| here(word)).collect();
    let dashes = line.iter().position(|word| word == "--").expect("the command follows them");
    let (options, command) = (&line[1..dashes], &line[dashes + 1..]);
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    if !options.contains(&"--jail-type") {
        options.extend(["--jail-type", "auto"]);
    }
    if place.file.ends_with("Dockerfile") {
        options.extend(["--allow", "domain=allowed.test"]);
    }
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let run = world.boundary(&options, &command);
    let run = variables.iter().fold(run, |run, (name, value)| run.env(name, &here(value)));
    run.contained(Container { kind: place.kind, is_root: place.is_root }).output()
}

#[test]
fn what_a_file_starts_runs_in_what_its_engine_makes_under_the_jail_that_it_names() {
    needs!(root, bpf, userns, runc, curl, privilege);
    let world = World::new();
    for place in PLACES {
        let out = run(&world, place);
        out.exits(0).says("this is allowed.test");
        out.record(&[("decision", "allow"), ("host", "allowed.test"), ("jail", place.jail)]);
    }
}

#[test]
fn the_document_says_of_each_place_which_jail_it_has() {
    let document = text("docs/installing.md");
    let files = PLACES.iter().map(|place| (place.file, place.jail));
    let others = [
        ("devcontainer/boundary", "landjail"),
        ("kubernetes/bottlerocket.toml", "landjail"),
        ("systemd/boundary@.service", "ebpf"),
        ("action/action.yml", "ebpf"),
        ("coder/main.tf", "landjail"),
    ];
    for (file, jail) in files.chain(others) {
        let row = document.lines().find(|line| line.contains(&format!("../deploy/{file}")));
        let row = row.unwrap_or_else(|| panic!("{file} has a row"));
        assert!(row.contains(&format!("`{jail}`")), "{file}: {row}");
    }
}

/// Every line of boundary in the files, its options first.
fn lines() -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> =
        PLACES.iter().map(|place| (place.file.to_owned(), line(place.file).0)).collect();
    // Where a shell or systemd reads the line.
    for file in ["systemd/boundary@.service", "action/action.yml", "coder/setup.sh"] {
        let text = text(&format!("deploy/{file}")).replace("\\\n", " ");
        for line in text.lines().filter(|line| line.contains("boundary")) {
            let Some((_, line)) = line.split_once("bin/boundary").or_else(|| {
                line.split_once("boundary/boundary\"").filter(|(before, _)| before.contains("sudo"))
            }) else {
                continue;
            };
            let words = line.trim_start_matches('"').split_whitespace().map(str::to_owned);
            let line: Vec<String> = std::iter::once("boundary".to_owned()).chain(words).collect();
            if line.iter().any(|word| word == "--") {
                all.push((file.to_owned(), line));
            }
        }
    }
    all
}

#[test]
fn every_option_in_a_file_is_one_of_boundarys() {
    let lines = lines();
    assert!(lines.len() >= PLACES.len() + 3, "{lines:?}");
    for (file, line) in lines {
        let parsed = boundary::cli::parse(line.iter().map(OsString::from));
        match parsed {
            Ok(Request::Run(args)) => assert!(!args.command.is_empty(), "{file}: {line:?}"),
            other => panic!("{file}: {line:?}: {other:?}"),
        }
    }
}

/// Every file below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it is there");
    let entries = entries.map(|entry| entry.expect("it can be read").path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn every_variable_in_a_file_is_one_that_boundary_reads() {
    let known: Vec<&str> = settings::ALL.iter().flat_map(|it| it.variables).copied().collect();
    // Of the installer, and of the pipeline.
    let others = ["BOUNDARY_RELEASES", "BOUNDARY_SIGNERS", "BOUNDARY_VERSION", "BOUNDARY_RECORDS"];
    let mut found = 0;
    for path in below(&Path::new(ROOT).join("deploy")) {
        let text = fs::read_to_string(&path).expect("text");
        for word in text.split(|c: char| !(c.is_ascii_uppercase() || c == '_')) {
            if word.starts_with("BOUNDARY_") {
                found += 1;
                let is_known = known.contains(&word) || others.contains(&word);
                assert!(is_known, "{word} in {}", path.display());
            }
        }
    }
    assert!(found > 10);
}

#[test]
fn every_policy_in_a_file_has_no_fault() {
    for file in ["docker/policy.yaml", "kubernetes/restricted.yaml"] {
        let path = std::env::temp_dir().join(format!("policy-{}.yaml", std::process::id()));
        fs::write(&path, policy(file)).expect("the temporary folder can be written");
        let out = Command::new(binary()).arg("check").arg("--config").arg(&path).output();
        fs::remove_file(&path).expect("it is ours");
        let out = out.expect("it starts");
        assert!(out.status.success(), "{file}: {}", String::from_utf8_lossy(&out.stdout));
    }
}

#[test]
fn systemd_takes_the_unit() {
    needs!(systemd_analyze);
    let folder = std::env::temp_dir().join(format!("unit-{}", std::process::id()));
    fs::create_dir(&folder).expect("the temporary folder can be written");
    let path = folder.join("boundary@.service");
    // The program lies elsewhere here.
    let unit = text("deploy/systemd/boundary@.service");
    let own = binary();
    let unit = unit.replace("/usr/bin/boundary", own.to_str().expect("text"));
    fs::write(&path, &unit).expect("the folder is ours");
    let verify = |path: &Path| {
        let out = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output();
        let out = out.expect("it starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let own: Vec<_> = said.lines().filter(|it| it.contains("boundary@")).collect();
        (out.status.success() && own.is_empty(), said)
    };
    let (is_fine, said) = verify(&path);
    fs::write(&path, unit.replace("KillMode", "KilMode")).expect("the folder is ours");
    let (is_wrong_fine, _) = verify(&path);
    fs::remove_dir_all(&folder).expect("it is ours");
    assert!(is_fine, "{said}");
    assert!(!is_wrong_fine, "a key that systemd does not know is noticed");
}

#[test]
fn terraform_takes_the_module() {
    needs!(terraform);
    let mut fmt = Command::new("terraform");
    fmt.args(["fmt", "-check", "-diff"]).current_dir(Path::new(ROOT).join("deploy/coder"));
    let out = fmt.env("CHECKPOINT_DISABLE", "1").output().expect("it starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// What an engine knows of a file: `path kind`, of the fields that people use, by its documentation. `*` is any name, `[]`
/// any element; a kind is `text`, `number`, `bool`, or the words that may stand there.
const FIELDS: &[(&str, &str, &str)] = &[
    // https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json
    (
        "deploy/docker/compose.yaml",
        "",
        "services.*.build.context text\n services.*.build.dockerfile text\n services.*.build.args.* text
        services.*.image text\n services.*.command.[] text\n services.*.entrypoint.[] text
        services.*.environment.* text\n services.*.volumes.[] text\n services.*.user text
        services.*.cap_add.[] text\n services.*.cap_drop.[] text\n services.*.security_opt.[] text
        services.*.privileged bool\n services.*.read_only bool\n services.*.init bool
        services.*.stdin_open bool\n services.*.tty bool",
    ),
    // https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/config-map-v1/
    (
        "deploy/kubernetes/restricted.yaml",
        "ConfigMap",
        "apiVersion v1\n kind ConfigMap\n metadata.name text\n metadata.namespace text\n data.* text",
    ),
    ("deploy/kubernetes/restricted.yaml", "Pod", POD),
    ("deploy/kubernetes/ebpf.yaml", "Pod", POD),
    // https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html
    (
        "deploy/ecs/task-definition.json",
        "",
        "family text\n requiresCompatibilities.[] EC2|FARGATE|EXTERNAL\n cpu text\n memory text
        networkMode bridge|host|awsvpc|none\n taskRoleArn text\n executionRoleArn text
        containerDefinitions.[].name text\n containerDefinitions.[].image text
        containerDefinitions.[].essential bool\n containerDefinitions.[].user text
        containerDefinitions.[].privileged bool
        containerDefinitions.[].readonlyRootFilesystem bool
        containerDefinitions.[].entryPoint.[] text\n containerDefinitions.[].command.[] text
        containerDefinitions.[].environment.[].name text
        containerDefinitions.[].environment.[].value text
        containerDefinitions.[].linuxParameters.initProcessEnabled bool
        containerDefinitions.[].linuxParameters.capabilities.add.[] text
        containerDefinitions.[].linuxParameters.capabilities.drop.[] text
        containerDefinitions.[].logConfiguration.logDriver awslogs|fluentd|json-file|syslog
        containerDefinitions.[].logConfiguration.options.* text",
    ),
    // https://containers.dev/implementors/features/
    (
        "deploy/devcontainer/boundary/devcontainer-feature.json",
        "",
        "id text\n version text\n name text\n description text\n documentationURL text
        options.*.type string|boolean\n options.*.default text\n options.*.description text
        options.*.proposals.[] text\n options.*.enum.[] text\n installsAfter.[] text
        capAdd.[] text\n securityOpt.[] text\n privileged bool\n init bool\n entrypoint text",
    ),
    // https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax
    (
        "deploy/action/action.yml",
        "",
        "name text\n description text\n author text\n inputs.*.description text
        inputs.*.required bool\n inputs.*.default text\n runs.using composite
        runs.steps.[].name text\n runs.steps.[].id text\n runs.steps.[].if text
        runs.steps.[].shell text\n runs.steps.[].run text\n runs.steps.[].env.* text
        runs.steps.[].working-directory text\n runs.steps.[].uses text\n runs.steps.[].with.* text",
    ),
];

/// <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>
const POD: &str = "apiVersion v1\n kind Pod\n metadata.name text\n metadata.labels.* text
    spec.restartPolicy Always|OnFailure|Never\n spec.nodeSelector.* text\n spec.runtimeClassName text
    spec.securityContext.runAsNonRoot bool\n spec.securityContext.runAsUser number
    spec.securityContext.runAsGroup number\n spec.securityContext.fsGroup number
    spec.securityContext.seccompProfile.type RuntimeDefault|Unconfined|Localhost
    spec.containers.[].name text\n spec.containers.[].image text
    spec.containers.[].command.[] text\n spec.containers.[].args.[] text
    spec.containers.[].env.[].name text\n spec.containers.[].env.[].value text
    spec.containers.[].securityContext.privileged bool
    spec.containers.[].securityContext.runAsUser number
    spec.containers.[].securityContext.runAsNonRoot bool
    spec.containers.[].securityContext.procMount Default|Unmasked
    spec.containers.[].securityContext.allowPrivilegeEscalation bool
    spec.containers.[].securityContext.readOnlyRootFilesystem bool
    spec.containers.[].securityContext.capabilities.add.[] text
    spec.containers.[].securityContext.capabilities.drop.[] text
    spec.containers.[].volumeMounts.[].name text\n spec.containers.[].volumeMounts.[].mountPath text
    spec.containers.[].volumeMounts.[].readOnly bool
    spec.volumes.[].name text\n spec.volumes.[].configMap.name text";

/// Every leaf of a document, by its path.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, &below(name), found));
        }
        Value::Array(elements) => elements.iter().for_each(|it| leaves(it, &below("[]"), found)),
        leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            found.push((path.to_owned(), leaf.clone()));
        }
    }
}

/// What is wrong with a document.
fn faults(document: &Value, known: &str) -> Vec<String> {
    let known: Vec<(&str, &str)> =
        known.lines().filter_map(|line| line.trim().split_once(' ')).collect();
    let fits = |pattern: &str, path: &str| {
        let (pattern, path) = (pattern.split('.'), path.split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern.zip(path).all(|(one, other)| one == "*" || one == other)
    };
    let is_of_kind = |kind: &str, value: &Value| match kind {
        "text" => value.is_string(),
        "number" => value.is_u64(),
        "bool" => value.is_boolean(),
        words => value.as_str().is_some_and(|value| words.split('|').any(|word| word == value)),
    };
    let mut found = Vec::new();
    leaves(document, "", &mut found);
    let wrong = found.into_iter().filter(|(path, value)| {
        !known.iter().any(|(pattern, kind)| fits(pattern, path) && is_of_kind(kind, value))
    });
    wrong.map(|(path, value)| format!("{path}: {value}")).collect()
}

#[test]
fn every_field_in_a_file_is_one_that_its_engine_knows() {
    for (path, kind, known) in FIELDS {
        let documents = documents(path);
        let meant = documents.iter().filter(|it| kind.is_empty() || it["kind"] == *kind);
        assert!(meant.clone().count() > 0, "{path} has a {kind}");
        for document in meant {
            assert_eq!(faults(document, known), [""; 0], "{path}");
        }
    }
    // A slip is noticed: of a name, of a kind, of a word.
    let mut pod = document("deploy/kubernetes/ebpf.yaml", "Pod");
    pod["spec"]["containers"][0]["securityContext"]["priviledged"] = true.into();
    pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = "0".into();
    pod["spec"]["restartPolicy"] = "never".into();
    assert_eq!(faults(&pod, POD).len(), 3, "{:?}", faults(&pod, POD));
}

/// Makes a release of the binary under test, and says where, as `file://` has it.
fn releases(world: &World) -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let script = format!(
        "mkdir -p releases/latest/download && cd releases/latest/download && \
         install -m 755 {} boundary-linux-{arch} && tar -czf boundary-linux-{arch}.tar.gz \
         boundary-linux-{arch} && sha256sum *.tar.gz >SHA256SUMS && cp {ROOT}/deploy/install.sh .",
        binary().display()
    );
    let made = Command::new("sh").args(["-ec", &script]).current_dir(world.folder()).status();
    assert!(made.expect("it starts").success());
    format!("file://{}/releases", world.folder().display())
}

#[test]
fn the_dev_containers_feature_installs_the_release_that_it_names() {
    needs!(root, curl);
    let world = World::new();
    let feature = "deploy/devcontainer/boundary";
    let options = &documents(&format!("{feature}/devcontainer-feature.json"))[0]["options"];
    let version = options["version"]["default"].as_str().expect("text");
    let bin = world.folder().join("bin").display().to_string();
    let run = world.bare(&["sh", &format!("{ROOT}/{feature}/install.sh")]).env("VERSION", version);
    let run = run.env("BOUNDARY_RELEASES", &releases(&world)).env("INSTALL_DIR", &bin);
    run.output().exits(0).says(&format!("as {bin}/boundary"));
    let installed = fs::read(format!("{bin}/boundary")).expect("it is there");
    assert!(installed == fs::read(binary()).expect("it is there"), "it is what was released");
}

#[test]
fn the_actions_steps_install_boundary_and_run_the_script_behind_it() {
    needs!(root, privilege, bpf, curl, sudo);
    let world = World::new();
    let text = |name: &str| world.folder().join(name).display().to_string();
    let script =
        "curl -sS https://allowed.test/ && curl -sS https://denied.test/; echo \"it's\" done";
    let inputs = [("version", "latest"), ("allow", "domain=allowed.test"), ("run", script)];
    let outer = [
        ("GITHUB_ACTION_PATH", format!("{ROOT}/deploy/action")),
        ("RUNNER_TEMP", text("runner")),
        ("BOUNDARY_RELEASES", releases(&world)),
        ("BOUNDARY_UPSTREAM_CA", text("ca.pem")),
        ("HOME", text("root")),
    ];
    let action = documents("deploy/action/action.yml").remove(0);
    let steps = action["runs"]["steps"].as_array().expect("a list");
    let outs: Vec<Output> = steps
        .iter()
        .map(|step| {
            // As the runner starts a step of bash.
            let line = step["run"].as_str().expect("text");
            let run = world.bare(&["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line]);
            let run = outer.iter().fold(run, |run, (name, value)| run.env(name, value));
            let variables = step["env"].as_object().expect("names and values").iter();
            let run = variables.fold(run, |run, (name, value)| {
                let value = value.as_str().expect("text");
                let given =
                    inputs.iter().find(|(it, _)| value == format!("${{{{ inputs.{it} }}}}"));
                run.env(name, given.expect("it is an input").1)
            });
            run.output()
        })
        .collect();
    let [installed, ran] = &outs[..] else { panic!("two steps") };
    installed.exits(0).says("installed ");
    ran.exits(0).says("this is allowed.test").says("Request Blocked by Boundary");
    ran.says("it's done");
}

/// Runs the setup of a workspace, as root or as its user, who has no sudo, into a place of the world's.
fn set_up(world: &World, policy: &str, place: &str, is_root: bool) -> Output {
    let releases = releases(world);
    let script = "POLICY=$(printf '%s' \"$0\" | base64 -w0) exec sh \"$1\"";
    let setup = format!("{ROOT}/deploy/coder/setup.sh");
    let setup = world.file("setup.sh", &fs::read_to_string(setup).expect("it is there"));
    let setup = setup.to_str().expect("our own name").to_owned();
    let line = ["sh", "-ec", script, policy, &setup];
    let run = if is_root { world.bare(&line) } else { as_guest(world, &line) };
    let text = |path: PathBuf| path.to_str().expect("our own name").to_owned();
    let run =
        run.env("HOME", &text(world.folder().join("home"))).env("BOUNDARY_RELEASES", &releases);
    run.env("PLACE", &text(world.folder().join(place))).output()
}

/// A run without boundary as the user of a workspace.
fn as_guest<'w>(world: &'w World, line: &[&str]) -> Run<'w> {
    let id = GUEST.to_string();
    let who = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"];
    world.bare(&[&who[..], line].concat())
}

/// A workspace's home, where root has set boundary up beside it.
fn workspace(world: &World, policy: &str) -> PathBuf {
    set_up(world, policy, "place", true).exits(0);
    world.folder().join("home")
}

/// The hosts in the records of a workspace, by file.
fn recorded(home: &Path) -> Vec<Vec<String>> {
    let files = below(&home.join(".boundary/records"));
    let hosts = |path: PathBuf| {
        let text = fs::read_to_string(path).expect("the record");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|record| Some(record["host"].as_str()?.to_owned())).collect()
    };
    files.into_iter().map(hosts).collect()
}

#[test]
fn in_a_workspace_of_coders_each_tool_call_is_a_session_of_its_own() {
    needs!(root, bpf, curl);
    let world = World::new();
    let home = workspace(&world, "allowlist: [domain=allowed.test]");
    let authority = world.folder().join("ca.pem");
    let call = |line: &str| {
        let tool = world.folder().join("place/bin/tool");
        // As Claude Code calls it: the whole line is one word.
        let run = world.bare(&[tool.to_str().expect("our own name"), line]);
        let run = run.env("HOME", home.to_str().expect("our own name"));
        run.env("BOUNDARY_UPSTREAM_CA", authority.to_str().expect("our own name")).output()
    };
    call("curl -sS https://allowed.test/a && echo \"it's\" done").exits(0).says("it's done");
    call("curl -sS https://denied.test/b").says("Request Blocked by Boundary");
    call("exit 7").exits(7);
    let mut recorded = recorded(&home);
    recorded.sort();
    assert_eq!(recorded.len(), 3, "a file for each: {recorded:?}");
    assert!(recorded.concat().contains(&"denied.test".to_owned()), "{recorded:?}");
}

#[test]
fn in_a_workspace_of_coders_the_whole_agent_runs_behind_boundary() {
    needs!(root, bpf, curl);
    let world = World::new();
    let home = workspace(&world, "{include: [claude-code], allowlist: [domain=allowed.test]}");
    let (bin, real) = (home.join(".local/bin"), home.join(".local/share/claude/versions/1.2.3"));
    let script = format!(
        "mkdir -p {bin} {versions} && printf '#!/bin/sh\\ncurl -sS https://denied.test/$1\\n' >{real} && \
         chmod 755 {real} && ln -s {real} {bin}/claude && for twice in 1 2; do \
         PATH={bin}:$PATH PLACE={place} sh {ROOT}/deploy/coder/wrap-agent.sh; done",
        place = world.folder().join("place").display(),
        bin = bin.display(),
        versions = real.parent().expect("it lies somewhere").display(),
        real = real.display(),
    );
    let wrapped = Command::new("sh").args(["-ec", &script]).env("HOME", &home).status();
    assert!(wrapped.expect("it starts").success());
    let claude = bin.join("claude");
    let run = world.bare(&[claude.to_str().expect("our own name"), "it's"]);
    let out = run.env("HOME", home.to_str().expect("our own name")).output();
    out.says("Request Blocked by Boundary").nothing_left();
    let mut recorded = recorded(&home).concat();
    recorded.dedup();
    assert_eq!(recorded, ["denied.test"]);
}

/// A line that undoes boundary for the sessions after it, where it may: in each of the places that a
/// session starts from.
const UNDO: &str = "cd /; mv $PLACE ~/gone; for place in $PLACE ~/.boundary; do mkdir -p $place/bin; for it in tool behind boundary; do \
    rm -f $place/bin/$it; mv $place/bin/$it $place/bin/old; \
    printf '#!/bin/sh\nexec bash -c \"$1\"\n' >$place/bin/$it; chmod 755 $place/bin/$it; done; \
    echo 'allowlist: [domain=denied.test]' >$place/policy.yaml; done; \
    mkdir -p ~/.config/coder_boundary; \
    echo 'allowlist: [domain=denied.test]' >~/.config/coder_boundary/config.yaml; echo tried";

/// What comes of a request that no policy permits, in the call after one that undoes what it can.
fn call_after_undoing(world: &World, place: &str, jail: &str) -> Output {
    let place = world.folder().join(place).display().to_string();
    let (home, tool) =
        (world.folder().join("home").display().to_string(), format!("{place}/bin/tool"));
    let authority = world.folder().join("ca.pem").display().to_string();
    let call = |line: &str| {
        let run = as_guest(world, &[&tool, line]).env("HOME", &home).env("PLACE", &place);
        run.env("BOUNDARY_UPSTREAM_CA", &authority).env("BOUNDARY_JAIL_TYPE", jail).output()
    };
    call(UNDO).says("tried");
    call("curl -sS https://denied.test/")
}

#[test]
fn in_a_workspace_of_coders_a_tool_call_cannot_undo_boundary_for_the_next() {
    needs!(root, privilege, userns, curl, setpriv);
    for jail in ["nsjail", "landjail"] {
        let world = World::new();
        workspace(&world, "allowlist: [domain=allowed.test]");
        call_after_undoing(&world, "place", jail).says("Request Blocked by Boundary");
    }
}

#[test]
fn in_a_workspace_of_coders_without_root_setup_says_that_a_call_can_undo_boundary() {
    needs!(root, privilege, userns, curl, setpriv);
    let world = World::new();
    let policy = "allowlist: [domain=allowed.test]";
    // A place that is root's is not had, and nothing falls back by itself.
    set_up(&world, policy, "place", false).exits(1).complains("put boundary into the image");
    let own = "home/.boundary";
    set_up(&world, policy, own, false).exits(0).complains("can undo it for the next session");
    call_after_undoing(&world, own, "landjail").says("this is denied.test");
    // What root has put into the image is taken as it is.
    set_up(&world, policy, "place", true).exits(0);
    set_up(&world, policy, "place", false).exits(0).complains("is the image's");
}

#[test]
fn in_a_workspace_of_coders_a_finding_in_the_policy_stops_nothing() {
    needs!(root, bpf, curl);
    let world = World::new();
    let policy = "allowlist: [domain=allowed.test, domain=a.allowed.test]";
    let out = set_up(&world, policy, "place", true);
    out.exits(0).complains("the policy has what is said above");
    let tool = world.folder().join("place/bin/tool");
    let run = world.bare(&[tool.to_str().expect("our own name"), "curl -sS https://denied.test/"]);
    let home = world.folder().join("home").display().to_string();
    run.env("HOME", &home).output().says("Request Blocked by Boundary");
}
