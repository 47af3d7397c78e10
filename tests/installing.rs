//! The installer, against a release that a server of the stage has.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::world::needs::needs;
use crate::world::{Output, World};

/// The installer.
const INSTALLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/install.sh");

/// Where the stage's server has the releases.
const RELEASES: &str = "https://allowed.test/files";

/// A release on the stage, of a program that says only its version.
struct Release {
    world: World,
    /// Its files.
    folder: PathBuf,
    archive: String,
}

impl Release {
    fn make() -> Self {
        let world = World::new();
        let name = format!("boundary-linux-{}", debian_arch());
        let folder = world.folder().join("files/latest/download");
        let release = Self { archive: format!("{name}.tar.gz"), folder, world };
        fs::create_dir_all(&release.folder).unwrap();
        fs::write(release.folder.join(&name), "#!/bin/sh\necho boundary 1.2.3\n").unwrap();
        release.sh(&format!(
            "chmod 755 {name} && tar -czf {name}.tar.gz {name} && rm {name} && \
             sha256sum *.tar.gz >SHA256SUMS"
        ));
        release
    }

    /// Does something in its folder.
    fn sh(&self, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(&self.folder).status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// Makes two keys, and a file that trusts the first of them.
    fn keys(&self) {
        self.sh(
            "cd ../.. && for key in ours theirs; do ssh-keygen -q -t ed25519 -N '' -f $key; done; \
             echo \"releases@boundary.test namespaces=\\\"boundary\\\" $(cut -d' ' -f1-2 ours.pub)\" \
             >signers",
        );
    }

    /// Signs the sums.
    fn sign(&self, key: &str, namespace: &str) {
        self.sh(&format!(
            "rm -f SHA256SUMS.sig; ssh-keygen -q -Y sign -f ../../{key} -n {namespace} SHA256SUMS"
        ));
    }

    /// Where the program goes.
    fn installed(&self) -> PathBuf {
        self.world.folder().join("bin/boundary")
    }

    /// Runs the installer.
    fn install(&self, options: &[&str]) -> Output {
        let into = self.world.folder().join("bin");
        let words = ["sh", INSTALLER, "--install-dir", into.to_str().unwrap()];
        let run = self.world.bare(&[&words[..], options].concat());
        run.env("BOUNDARY_RELEASES", RELEASES).output()
    }

    /// Runs the installer, which has to install nothing and say why.
    fn refuses(&self, options: &[&str], why: &str) {
        let out = self.install(options);
        out.exits(1).complains(why);
        out.expect(!self.installed().exists(), "nothing was installed");
    }

    /// The file whose keys are trusted.
    fn signers(&self) -> String {
        self.world.folder().join("files/signers").display().to_string()
    }
}

/// This machine's architecture as archives name it.
fn debian_arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[test]
fn a_release_is_installed_and_replaces_the_one_before() {
    needs!(root, curl);
    let release = Release::make();
    for _ in 0..2 {
        let out = release.install(&[]);
        out.exits(0).says("installed boundary 1.2.3 as ");
    }
    let folder = release.installed().parent().unwrap().to_owned();
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["boundary"], "and nothing beside it");
}

#[test]
fn an_archive_that_is_not_what_its_sum_says_is_not_installed() {
    needs!(root, curl);
    let release = Release::make();
    release.sh(&format!("echo more >>{}", release.archive));
    release.refuses(&[], "is not what its sum says; nothing was installed");
}

#[test]
fn an_archive_without_a_sum_is_not_installed() {
    needs!(root, curl);
    let release = Release::make();
    // Of another archive whose name ends, or begins, with this one's.
    let archive = &release.archive;
    release.sh(&format!("sed 's/{archive}/other-{archive}/' -i SHA256SUMS"));
    release.refuses(&[], "has no sum for boundary-linux-");
    release.sh("rm SHA256SUMS");
    release.refuses(&[], "cannot download");
}

#[test]
fn a_version_that_is_a_path_is_none() {
    needs!(root, curl);
    let release = Release::make();
    for version in ["../latest/download", "", "v1 v2", "v1?x"] {
        let out = release.install(&["--version", version]);
        out.exits(1).expect(!release.installed().exists(), "nothing was installed");
    }
    assert!(release.world.requests().is_empty(), "nobody was asked");
}

#[test]
fn with_signers_only_what_one_of_them_has_signed_is_installed() {
    needs!(root, curl, ssh_keygen);
    let release = Release::make();
    release.keys();
    let signers = release.signers();
    let trusting = ["--signers", signers.as_str()];
    release.refuses(
        &trusting,
        "cannot download https://allowed.test/files/latest/download/SHA256SUMS.sig",
    );
    release.sign("theirs", "boundary");
    release.refuses(&trusting, "is signed by nobody in ");
    // A key that may sign letters, and did.
    release.sign("ours", "letters");
    release.refuses(&trusting, "nothing was installed");
    release.sign("ours", "boundary");
    release.sh("sed 's/^./0/' -i SHA256SUMS; echo >>SHA256SUMS");
    release.refuses(&trusting, "is not what was signed; nothing was installed");
    release.sh("sha256sum *.tar.gz >SHA256SUMS");
    release.install(&trusting).exits(0).says("installed boundary 1.2.3");
}
