# Claude Code in a Coder workspace behind boundary: the whole agent, or its tool calls alone. The record
# goes to Loki, for the dashboard in ../grafana. Put `deploy` into a template and name the agent:
#
#   module "boundary" {
#     source   = "./deploy/coder"
#     agent_id = coder_agent.main.id
#     wrap     = "tools"
#     loki_url = "https://loki.example.com/loki/api/v1/push"
#   }
#
# A workspace that is a container has the jail `landjail`: its engine lets no namespaces be made. One that
# is a machine of its own has `nsjail`.
#
# In every jail the command has its user's files, and so may write what is read outside of boundary later.
# Program, wrappers and policy are root's therefore, in `place`: setup.sh puts them there by `sudo -n`, or
# they are in the image, where root ran setup.sh. Without either the setup fails, unless `place` is a folder
# of the user's: then the command can undo boundary for the next session. Not held by that, wherever they are:
#
#   - with wrap = "agent", ~/.local/bin/claude: the module has Claude Code in the user's home, and so its
#     wrapper is there. It is put back when the workspace starts.
#   - with wrap = "tools", what Claude Code does by itself: its own requests, its edits of files, and what
#     its settings in the home have it run (hooks, variables). Its managed settings, root's, can forbid hooks.
#   - whatever else reads the home: the shells of people, git's hooks.

terraform {
  required_version = ">= 1.0"
  required_providers {
    coder = {
      source  = "coder/coder"
      version = ">= 2.12"
    }
  }
}

variable "agent_id" {
  type        = string
  description = "The agent of the workspace."
}

variable "wrap" {
  type        = string
  description = "What runs behind boundary: agent, with all that it starts, or tools, each call in a session of its own."
  default     = "agent"
  validation {
    condition     = contains(["agent", "tools"], var.wrap)
    error_message = "wrap is agent or tools."
  }
}

variable "boundary_version" {
  type        = string
  description = "The release to install."
  default     = "latest"
}

variable "boundary_releases" {
  type        = string
  description = "Where the releases are; a mirror, if you have one."
  default     = "https://github.com/coder/boundary/releases"
}

variable "rules" {
  type        = list(string)
  description = "What may be reached besides the agent's own API."
  default     = ["domain=example.com"]
}

variable "place" {
  type        = string
  description = "Where boundary, its policy and its wrappers go: a folder that only root may write."
  default     = "/usr/local/lib/boundary"
}

variable "workdir" {
  type        = string
  description = "The folder that Claude Code works in."
  default     = "/home/coder"
}

variable "loki_url" {
  type        = string
  description = "Where the record goes, by Grafana Alloy in the workspace's image; empty to leave it in ~/.boundary/records."
  default     = ""
}

data "coder_workspace" "me" {}

locals {
  deployment = regex("^https?://([^/:]+)", data.coder_workspace.me.access_url)[0]
  # Behind boundary as a whole, the agent needs its own API and the deployment; a tool call needs neither.
  own = var.wrap == "agent" ? {
    include   = ["claude-code"]
    allowlist = concat(["host=${local.deployment}"], var.rules)
    } : {
    include   = []
    allowlist = var.rules
  }
  # Nobody reads this file's log level at a terminal: the record has everything.
  policy = yamlencode(merge(local.own, { log_level = "error" }))
}

# Installs boundary, its policy and the wrappers, before anybody may use the workspace.
resource "coder_script" "boundary" {
  agent_id           = var.agent_id
  display_name       = "boundary"
  run_on_start       = true
  start_blocks_login = true
  script = join("\n", [
    "#!/bin/sh",
    "export BOUNDARY_RELEASES='${var.boundary_releases}' BOUNDARY_VERSION='${var.boundary_version}'",
    "export PLACE='${var.place}' POLICY='${base64encode(local.policy)}'",
    file("${path.module}/setup.sh"),
  ])
}

# Tool calls alone: Claude Code puts this in front of every line that it has a shell run.
resource "coder_env" "tools" {
  count    = var.wrap == "tools" ? 1 : 0
  agent_id = var.agent_id
  name     = "CLAUDE_CODE_SHELL_PREFIX"
  value    = "${var.place}/bin/tool"
}

module "claude-code" {
  source              = "registry.coder.com/coder/claude-code/coder"
  version             = "~> 4.0"
  agent_id            = var.agent_id
  workdir             = var.workdir
  disable_autoupdater = true
  post_install_script = var.wrap == "agent" ? join("\n", [
    "#!/bin/sh",
    "export PLACE='${var.place}'",
    file("${path.module}/wrap-agent.sh"),
  ]) : null
}

# The record on its way to Loki. What Alloy itself sends does not go through boundary.
resource "coder_script" "record" {
  count        = var.loki_url == "" ? 0 : 1
  agent_id     = var.agent_id
  display_name = "Record of boundary"
  run_on_start = true
  script = join("\n", [
    "#!/bin/sh",
    "export BOUNDARY_RECORDS=\"$HOME/.boundary/records/*.jsonl\" LOKI_URL='${var.loki_url}'",
    "mkdir -p \"$HOME/.boundary\"",
    "printf '%s' '${base64encode(file("${path.module}/../grafana/boundary.alloy"))}' | base64 -d >\"$HOME/.boundary/boundary.alloy\"",
    "exec alloy run --storage.path=\"$HOME/.boundary/alloy\" \"$HOME/.boundary/boundary.alloy\"",
  ])
}
