//! What a user may say about the record.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `key=value`, as Go's slog writes it.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Text that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log format: one of text, json")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// Where the log goes, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: tracing::Level,
    /// Whether somebody asked for that level: then lines are written whoever draws on the terminal.
    pub is_asked: bool,
    /// How lines look.
    pub format: Format,
    /// The folder for the log file; stderr without one.
    pub dir: Option<PathBuf>,
}

/// What happens to requests when the audit file cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// They go on, and the records that are lost are counted.
    #[default]
    Drop,
    /// They are refused until it can.
    Deny,
}

/// Text that names no way to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a way to go on: one of deny, drop")]
pub struct UnknownOnError;

impl FromStr for OnError {
    type Err = UnknownOnError;

    fn from_str(text: &str) -> Result<Self, UnknownOnError> {
        match text {
            "drop" => Ok(Self::Drop),
            "deny" => Ok(Self::Deny),
            _ => Err(UnknownOnError),
        }
    }
}

/// When the audit file is set aside for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// When it has so many bytes.
    pub size: u64,
    /// How many files there may be, the one that is written among them.
    pub files: u32,
}

/// Bytes, or so many `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Text that names no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a size: bytes, or so many KiB, MiB or GiB, from 1 on")]
pub struct UnknownSize;

impl FromStr for Size {
    type Err = UnknownSize;

    fn from_str(text: &str) -> Result<Self, UnknownSize> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
        let (digits, shift) = unit.unwrap_or((text, 0));
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|number| is_number && *number > 0);
        number.and_then(|number| number.checked_mul(1 << shift)).map(Self).ok_or(UnknownSize)
    }
}

/// The workspace agent that gets the record too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Where it listens, now or later.
    pub socket: PathBuf,
    /// Whether somebody named that place: then there is meant to be an agent.
    pub is_named: bool,
}

/// The collector that gets the record as logs too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Where logs are posted, the whole URL.
    pub endpoint: String,
    /// A PEM file with the roots to trust there instead of the system's.
    pub certificate: Option<PathBuf>,
}

/// What the workspace says of itself, in every record where it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Labels {
    /// The workspace's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// The workspace's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_name: Option<String>,
    /// Who owns the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The id of the template it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// The id of the template's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_version_id: Option<String>,
}
