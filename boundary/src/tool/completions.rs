//! Shell completions and manual pages, made from the grammar of the command line.

use std::fs;

use crate::cli::{Completions, Man, grammar};

use super::{Error, answer};

/// Prints what a shell needs.
pub(super) fn completions(asked: &Completions) -> Result<u8, Error> {
    let mut text = Vec::new();
    clap_complete::generate(asked.shell, &mut grammar(), "boundary", &mut text);
    answer(&text)?;
    Ok(0)
}

/// Writes `boundary.1` and a page for each tool.
pub(super) fn man(asked: &Man) -> Result<u8, Error> {
    let failed = |error| Error::Write { path: asked.directory.clone(), error };
    fs::metadata(&asked.directory).map_err(failed)?;
    clap_mangen::generate_to(grammar(), &asked.directory).map_err(failed)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_option_is_in_the_completions_of_every_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut grammar(), "boundary", &mut text);
            let text = String::from_utf8(text).unwrap();
            for option in ["jail-type", "domain-match", "upstream-proxy", "completions"] {
                assert!(text.contains(option), "{shell}: {option}");
            }
        }
    }

    #[test]
    fn there_is_a_page_for_boundary_and_one_for_each_tool() {
        let directory = std::env::temp_dir().join(format!("boundary-man-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        man(&Man { directory: directory.clone() }).unwrap();
        let page = fs::read_to_string(directory.join("boundary.1")).unwrap();
        let tool = directory.join("boundary-completions.1").exists();
        fs::remove_dir_all(&directory).unwrap();
        assert!(page.contains("jail\\-type"), "{page}");
        assert!(tool);
    }
}
